"""Giving money back to payers, because somebody asked for it.

What the owner was credited with is held from the moment of the request, so that it can't be spent while the provider is
asked. The books change when the provider's totals say that it is refunded, like for any other refund (recording).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import (
    ConflictError,
    InvalidRequestError,
    InvariantError,
    NotFoundError,
    OutcomeUnknownError,
    TransientError,
)
from core.ids import new_id
from core.jobs import NewJob, transaction
from domain.fiat_payment import books, postings, queries
from domain.fiat_payment import gateways as known
from domain.fiat_payment.history import note
from domain.fiat_payment.models import FiatPayment, FiatRefund
from domain.fiat_payment.recording import record
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import FIAT_REFUND, RefundState, Source
from ledger import chart, holds
from ledger.errors import AccountClosedError, AccountFrozenError, InsufficientFundsError
from ledger.holds import NewHold
from providers.fiat.base import Gateway, Refund, Refunded, RefundRequest, Standing
from providers.fiat.base import RefundState as TheirState

log = structlog.stdlib.get_logger(__name__)

REFUND = "fiat_webhook.refund"
ATTEMPTS_MAX = 60
REASON_LENGTH_MAX = 200
WHY_LENGTH_MAX = 200
R = RefundState
_EVENTS = {TheirState.PENDING: "accept", TheirState.DONE: "finish", TheirState.FAILED: "fail"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRefund:
    payment_id: UUID
    units: int
    """Of the payment's currency."""
    reason: str
    actor: str
    tenant: str | None = None
    """If given, the payment must be this tenant's."""
    may_owe: bool = False
    """Also where the owner no longer has the money: the rest is what he owes."""


def request(session: Session, new: NewRefund) -> FiatRefund:
    """Write a refund, hold its money and ask for it.

    Raises NotFoundError, InvalidRequestError, ConflictError (another is under way, the gateway can't), and
    InsufficientFundsError where the owner has spent the money.
    """
    if not new.reason.strip() or len(new.reason) > REASON_LENGTH_MAX or not new.reason.isprintable():
        raise InvalidRequestError(
            f"a refund has a reason of at most {REASON_LENGTH_MAX} printable characters", field="reason"
        )
    payment = queries.lock(session, new.payment_id)
    if payment is None or new.tenant not in (None, payment.tenant):
        raise NotFoundError(f"there is no fiat payment {new.payment_id}")
    _check(session, payment, new)
    now = clock.now()
    refund = FiatRefund(
        id=new_id(),
        payment_id=payment.id,
        tenant=payment.tenant,
        units=new.units,
        reason=new.reason,
        actor=new.actor,
        state=FIAT_REFUND.initial,
        refunded_before=payment.refunded_units,
        created_at=now,
        updated_at=now,
    )
    refund.hold_id = _hold(session, payment, refund, may_owe=new.may_owe)
    session.add(refund)
    note(session, payment, "refund_requested", now=now, refund=str(refund.id), units=str(new.units), actor=new.actor)
    jobs.submit(
        session,
        NewJob(
            REFUND,
            {"refund_id": str(refund.id)},
            tenant=payment.tenant,
            subject=payment.subject,
            correlation_id=payment.correlation_id,
            attempts_max=ATTEMPTS_MAX,
        ),
    )
    session.flush()
    return refund


def _check(session: Session, payment: FiatPayment, new: NewRefund) -> None:
    if payment.provider is None or payment.provider_ref is None or not payment.paid_units:
        raise ConflictError(f"the fiat payment {payment.id} is {payment.state}: there is nothing to refund")
    left = payment.paid_units - payment.gone_units
    if not 0 < new.units <= left:
        raise InvalidRequestError(f"units are above zero and at most {left}, which is left of it", field="units")
    if queries.open_refunds(session, payment.id):
        raise ConflictError(f"another refund of the fiat payment {payment.id} is under way")
    able = {gateway.name: gateway.refunds for gateway in queries.gateways(session)}
    if not able.get(payment.provider, False):
        raise ConflictError(f"{payment.provider} makes no refunds for us: refund it there by hand")


def _hold(session: Session, payment: FiatPayment, refund: FiatRefund, *, may_owe: bool) -> UUID | None:
    """Keep what will be taken of the owner. None: nobody was credited with it, or he may owe it."""
    of_credit = refund.units - min(refund.units, payment.suspended_units)
    share = postings.parts_of(payment, payment.returned_units + of_credit)
    units = share.minus(postings.parts_returned(payment)).out
    if units <= 0 or payment.credited_asset is None:
        return None
    converted = payment.credited_asset != payment.paid_currency
    new = NewHold(
        tenant=payment.tenant,
        reference=f"fiat:refund:{refund.id}",
        source=payment.account,
        destination=chart.fx_clearing() if converted else chart.gateway(payment.provider or ""),
        asset=payment.credited_asset,
        units=units,
        subject=payment.subject,
    )
    try:
        return holds.place(session, new).id
    except (InsufficientFundsError, AccountFrozenError, AccountClosedError):
        if may_owe:
            return None
        raise


# --- asking the provider ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Step:
    provider: str
    request: RefundRequest
    refund_ref: str | None
    asked_at: datetime
    payment_id: UUID
    made_at: datetime
    """When the payment was."""
    is_new: bool
    """Ask for it. Otherwise it may be there: look it up."""


def refund(refund_id: UUID, gateways: Mapping[str, Gateway]) -> None:
    """See to it that the provider has the refund. Safe to run any number of times.

    Raises TransientError and OutcomeUnknownError while that can't be said.
    """
    while True:
        with transaction() as session:
            step = _begin(session, refund_id)
        if step is None:
            return
        gateway = gateways.get(step.provider)
        if gateway is None:
            raise TransientError(f"this process has no gateway {step.provider}")
        if step.is_new:
            answer = gateway.refund(step.request)
            with transaction() as session:
                standing = _answer(session, refund_id, answer, step.provider)
            if standing is Standing.NOT_SENT:
                raise TransientError(f"{step.provider} can't be reached")
            if standing is Standing.UNKNOWN:
                raise OutcomeUnknownError(f"whether {step.provider} has the refund {refund_id} is not known")
        elif not _look_up(refund_id, gateway, step):
            continue
        _ask_for_totals(gateway, step)
        return


def _begin(session: Session, refund_id: UUID) -> _Step | None:
    found = queries.lock_refund(session, refund_id)
    if found is None:
        return None
    payment, refund = found
    if refund.current not in (R.REQUESTED, R.ASKING, R.UNKNOWN):
        return None
    if payment.provider is None or payment.provider_ref is None:
        raise InvariantError(f"{payment.subject} has a refund and no order")
    now = queries.now(session)
    is_new = refund.current is R.REQUESTED
    if is_new:
        _move(refund, "ask", now=now)
        refund.asked_at = now
    elif refund.current is R.ASKING:
        _move(refund, "lose", now=now)  # the run that asked died before or after the call
    return _Step(
        provider=payment.provider,
        request=_request(payment, refund),
        refund_ref=refund.provider_ref,
        asked_at=refund.asked_at or now,
        payment_id=payment.id,
        made_at=payment.created_at,
        is_new=is_new,
    )


def _request(payment: FiatPayment, refund: FiatRefund) -> RefundRequest:
    return RefundRequest(
        reference=refund.reference,
        order_reference=payment.reference,
        provider_ref=payment.provider_ref or "",
        currency=payment.paid_currency,
        units=refund.units,
        reason=refund.reason,
    )


def _answer(session: Session, refund_id: UUID, answer: Refunded, provider: str) -> Standing:
    found = queries.lock_refund(session, refund_id)
    if found is None:
        raise InvariantError(f"the refund {refund_id} is gone")
    refund, now = found[1], queries.now(session)
    standing = answer.standing
    if standing is Standing.ACCEPTED and answer.refund is None:
        standing = Standing.UNKNOWN
    known.answered(session, provider, ok=standing in (Standing.ACCEPTED, Standing.REJECTED))
    if refund.current is not R.ASKING:
        return Standing.ACCEPTED  # a look was there first
    refund.why = answer.why[:WHY_LENGTH_MAX] if answer.why else None
    if standing is Standing.REJECTED and refund.lost:
        # That this try was refused says nothing of the one before: its money stays held, and nobody asks for another.
        log.error("fiat_payment.refund_unknown", refund_id=str(refund_id), provider=provider)
        standing = Standing.UNKNOWN
    match standing:
        case Standing.ACCEPTED if answer.refund is not None:
            _take_in(session, refund, answer.refund, now=now)
        case Standing.REJECTED:
            _fail(session, refund, now=now)
        case Standing.NOT_SENT:
            _move(refund, "not_sent", now=now)
        case _:
            _move(refund, "lose", now=now)
    return standing


def _look_up(refund_id: UUID, gateway: Gateway, step: _Step) -> bool:
    """False: it is not there, and may be asked for again, as the provider makes none twice."""
    with transaction() as session:
        asked_at = queries.now(session)
    found = gateway.find_refund(step.request, refund_ref=step.refund_ref)
    with transaction() as session:
        locked = queries.lock_refund(session, refund_id)
        if locked is None or locked[1].current is not R.UNKNOWN:
            return True
        refund, now = locked[1], queries.now(session)
        if found is not None:
            _take_in(session, refund, found, now=now)
            return True
        is_late = asked_at >= step.asked_at + settings().unknown_window
        if is_late and not gateway.abilities.refunds_once:
            log.error("fiat_payment.refund_unknown", refund_id=str(refund_id), provider=step.provider)
        elif is_late:
            _move(refund, "not_found", now=now)
            refund.lost = True
            return False
    raise OutcomeUnknownError(f"{step.provider} does not know the refund {refund_id} yet")


def _ask_for_totals(gateway: Gateway, step: _Step) -> None:
    """What the refund does to the payment, at once instead of at the next look. If it can't be had now, then."""
    with transaction() as session:
        asked_at = queries.now(session)
    try:
        found = gateway.find(
            reference=step.request.order_reference, provider_ref=step.request.provider_ref, made_at=step.made_at
        )
    except TransientError:
        found = None
    with transaction() as session:
        if found is not None:
            record(session, step.payment_id, found, asked_at=asked_at, source=Source.FIND, provider=step.provider)
        payment = queries.lock(session, step.payment_id)
        if payment is not None and queries.open_refunds(session, step.payment_id):
            payment.looks, payment.next_look_at = 0, clock.now()


def look(payment_id: UUID, gateway: Gateway) -> None:
    """Ask what has become of the payment's refunds that the provider has under way. Raises TransientError."""
    with transaction() as session:
        payment = queries.get(session, payment_id)
        pending = [one for one in queries.open_refunds(session, payment_id) if one.current is R.PENDING]
    if payment is None:
        return
    for refund in pending:
        found = gateway.find_refund(_request(payment, refund), refund_ref=refund.provider_ref)
        if found is None or found.state is TheirState.PENDING:
            continue
        with transaction() as session:
            locked = queries.lock_refund(session, refund.id)
            if locked is not None and locked[1].current is R.PENDING:
                _take_in(session, locked[1], found, now=queries.now(session))


def _take_in(session: Session, refund: FiatRefund, found: Refund, *, now: datetime) -> None:
    if found.units != refund.units:
        log.error("fiat_payment.other_refund", refund_id=str(refund.id), found=str(found.units))
    refund.provider_ref = found.provider_ref
    if found.state is TheirState.FAILED:
        _fail(session, refund, now=now)
    else:
        _move(refund, _EVENTS[found.state], now=now)


def end(session: Session, refund_id: UUID, *, was_made: bool, actor: str, reason: str) -> FiatRefund:
    """Say what became of a refund of which its gateway says nothing, because a person has found out.

    `was_made`: the payer has the money, or will. It stays held until the gateway's totals have it too, which are asked
    for at once. If not, nobody asks for it any more and its money is the owner's. Raises NotFoundError, and
    ConflictError where the gateway knows, or is being asked.
    """
    if not actor.strip() or not reason.strip():
        raise InvalidRequestError("an end says who decided it and why", field="reason")
    found = queries.lock_refund(session, refund_id)
    if found is None:
        raise NotFoundError(f"there is no refund {refund_id}")
    payment, refund = found
    if refund.current is not R.UNKNOWN:
        raise ConflictError(f"the refund {refund_id} is {refund.state}: only of an unknown one a person says the end")
    now = queries.now(session)
    outcome = "made" if was_made else "not_made"
    note(session, payment, "refund_ended", now=now, refund=str(refund_id), outcome=outcome, actor=actor, note=reason)
    refund.why = f"{outcome}: {actor}: {reason}"[:WHY_LENGTH_MAX]
    if was_made:
        _move(refund, "finish", now=now)
        payment.next_look_at = now
    else:
        _fail(session, refund, now=now)
    session.flush()
    return refund


def _fail(session: Session, refund: FiatRefund, *, now: datetime) -> None:
    """The money stays ours, and its owner's."""
    _move(refund, "fail", now=now)
    if refund.hold_id is not None:
        books.let_go(session, refund.tenant, refund.hold_id)
        refund.hold_id = None
    log.error("fiat_payment.refund_failed", refund_id=str(refund.id), payment_id=str(refund.payment_id))


def _move(refund: FiatRefund, event: str, *, now: datetime) -> None:
    """The only way a refund's state changes."""
    refund.state = FIAT_REFUND.then(refund.current, event)
    refund.updated_at = now
