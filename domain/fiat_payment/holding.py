"""Payments that a person has to decide about, and what that person may decide."""

from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import breaks, clock
from core.breaks import Difference
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from domain.fiat_payment import queries
from domain.fiat_payment.history import note
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.states import HoldReason

log = structlog.stdlib.get_logger(__name__)

BREAKS = {
    HoldReason.AMOUNT: "fiat.amount",
    HoldReason.CURRENCY: "fiat.currency",
    HoldReason.DUPLICATE: "fiat.duplicate",
}
"""Kinds of breaks: the provider says other than what was asked."""
EXCESS = "fiat.excess"
"""Of one of which more was taken back than was paid."""


def difference(session: Session, payment: FiatPayment, reason: HoldReason, *, expected: str, found: str) -> None:
    """Put what differs on the list of breaks."""
    note_break(session, payment, BREAKS[reason], expected=expected, found=found)


def note_break(
    session: Session, payment: FiatPayment, kind: str, *, expected: str, found: str, **detail: str | None
) -> None:
    """One about this payment."""
    breaks.note(
        session,
        Difference(
            kind=kind,
            subject=payment.subject,
            expected=expected,
            found=found,
            tenant=payment.tenant,
            asset=payment.currency,
            detail={"provider": payment.provider, "provider_ref": payment.provider_ref, **detail},
        ),
    )


def excess(session: Session, payment: FiatPayment) -> None:
    """More was taken back than was paid, such as by a refund and a chargeback of the same money; or no more it is.

    The books have what was paid of it. Whether the rest is lost, a person finds out.
    """
    if payment.taken_units > payment.paid_units:
        log.error("fiat_payment.taken_twice", payment_id=str(payment.id), taken=str(payment.taken_units))
        parts = {
            "refunded": str(payment.refunded_units),
            "disputed": str(payment.disputed_units),
            "charged_back": str(payment.charged_back_units),
        }
        note_break(
            session,
            payment,
            EXCESS,
            expected=f"at most {payment.paid_units} taken back",
            found=str(payment.taken_units),
            **parts,
        )
        return
    for break_id in queries.open_breaks(session, payment.subject, (EXCESS,)):
        breaks.explain(session, break_id, actor="fiat_webhook", explanation="no more than was paid is taken back now")


def hold(session: Session, payment: FiatPayment, reason: HoldReason, *, now: datetime) -> None:
    """It waits for a person from now on."""
    if reason is HoldReason.AMOUNT:
        difference(session, payment, reason, expected=str(payment.units), found=str(payment.paid_units))
    elif reason is HoldReason.CURRENCY:
        difference(session, payment, reason, expected=payment.currency, found=payment.paid_currency)
    elif reason is HoldReason.DUPLICATE:
        found = str(payment.paid_units)
        difference(session, payment, reason, expected=f"nothing: {payment.duplicate_of} is paid", found=found)
    payment.waits_for = payment.waits_since = None
    if payment.held_for is reason:
        return
    payment.hold_reason = reason
    note(session, payment, "held", now=now, reason=reason, paid=str(payment.paid_units), asked=str(payment.units))
    log.error("fiat_payment.held", payment_id=str(payment.id), reason=reason)


def explain_all(session: Session, payment: FiatPayment, *, actor: str, explanation: str) -> None:
    """Take this payment's differences off the list: somebody has decided."""
    for break_id in queries.open_breaks(session, payment.subject, BREAKS.values()):
        breaks.explain(session, break_id, actor=actor, explanation=explanation)


def let_through(session: Session, payment_id: UUID, *, actor: str, reason: str, at_moment: bool = False) -> FiatPayment:
    """Say that a held payment may be credited as it was paid. What books it is `recording.settle`, by the caller.

    `at_moment`: at the rate of the moment, whatever was quoted. Without, a quote is honoured if the amount is the one
    that was quoted. Raises NotFoundError, and ConflictError if it isn't held.
    """
    if not actor.strip() or not reason.strip():
        raise InvalidRequestError("a release says who decided it and why", field="reason")
    payment = queries.lock(session, payment_id)
    if payment is None:
        raise NotFoundError(f"there is no fiat payment {payment_id}")
    if payment.hold_reason is None:
        raise ConflictError(
            f"the fiat payment {payment_id} is {payment.state} and not held: there is nothing to release"
        )
    now = clock.now()
    note(session, payment, "released", now=now, actor=actor, note=reason, reason=payment.hold_reason)
    payment.hold_reason = None
    payment.released_units = payment.paid_units
    payment.slippage_accepted, payment.at_moment = not at_moment, at_moment
    explain_all(session, payment, actor=actor, explanation=reason)
    return payment
