"""Posting for a payment, inside the transaction that changes its row, so that the one is never without the other.

The row says how much of each was booked, and only what is missing is: however often and in whatever order a provider
tells its totals, each unit is booked once.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import jobs
from core.errors import TransientError
from domain.fiat_payment import freezing, postings, queries
from domain.fiat_payment.conversion import Credit
from domain.fiat_payment.models import FiatPayment, FiatRefund
from domain.fiat_payment.states import RefundState
from ledger import chart, holds, posting
from ledger.errors import AccountClosedError, AccountFrozenError, HoldSettledError, InsufficientFundsError
from ledger.posting import Journal

_ATTEMPTS = 4
"""A refused posting leaves its accounts locked, so the second attempt knows what there is; more if they were opened."""


def fresh(payment: FiatPayment) -> int:
    """What was paid and is not in the books yet."""
    return payment.paid_units - payment.booked_units


def suspend(session: Session, payment: FiatPayment) -> None:
    """Book what is new to suspense: the gateway has it, and nobody is credited with it yet."""
    units = fresh(payment)
    if not units:
        return
    _post(session, payment, postings.hold(payment, units))
    payment.booked_units += units
    payment.suspended_units += units


def credit(session: Session, payment: FiatPayment, made: Credit) -> None:
    """Book the credit: of what is in suspense, or straight from the gateway. Raises what the ledger refuses."""
    suspended = payment.suspended_units
    if made.units != (suspended or fresh(payment)):
        raise ValueError(f"{payment.subject} has other money than {made.units}")
    source = chart.payment_suspense() if suspended else chart.gateway(payment.provider or "")
    _post(session, payment, postings.credit(payment, made, source=source))
    if suspended:
        payment.suspended_units = 0
    else:
        payment.booked_units += made.units
    payment.credited_asset = made.asset
    payment.credited_units += made.units
    payment.credited_fee += made.fee
    payment.credited_spread += made.spread
    payment.credited_remainder += made.remainder
    payment.credited_out += made.out


def fee(session: Session, payment: FiatPayment) -> None:
    """Book what the provider keeps, as far as there is anything that it could keep it of."""
    units = (payment.provider_fee_units or 0) - payment.fee_units
    if not units or not payment.booked_units:
        return
    _post(session, payment, postings.fee(payment, units))
    payment.fee_units += units


def align_returns(session: Session, payment: FiatPayment, *, now: datetime) -> None:
    """Take back what went back to the payer, or give again what came to us again. Never refused.

    What went is taken from suspense first, as no owner was credited with that. What comes back goes the other way.
    """
    of_suspense_so_far = payment.booked_units - payment.credited_units - payment.suspended_units
    if payment.refunded_units or payment.returned_units or of_suspense_so_far:
        _let_refunds_go(session, payment)  # also if a bank has taken all of it meanwhile, and there is no more to take
    units = payment.gone_units - of_suspense_so_far - payment.returned_units
    if not units:
        return
    of_suspense = min(units, payment.suspended_units) if units > 0 else units + min(-units, payment.returned_units)
    of_credit = payment.returned_units + units - of_suspense
    change = postings.parts_of(payment, of_credit).minus(postings.parts_returned(payment))
    if change.out > 0:
        short = _take(session, payment, change, of_suspense)
    else:
        short = -min(payment.short_units, -change.out)
        _post(session, payment, postings.returned(payment, change, of_suspense=of_suspense, of_debt=short))
    payment.short_units += short
    payment.suspended_units -= of_suspense
    payment.returned_units += change.units
    payment.returned_fee += change.fee
    payment.returned_spread += change.spread
    payment.returned_remainder += change.remainder
    payment.returned_out += change.out
    if short > 0:
        freezing.freeze(session, payment, owed=short, now=now)
    elif units < 0:
        freezing.lift(session, payment, now=now)


def _take(session: Session, payment: FiatPayment, change: postings.Parts, of_suspense: int) -> int:
    """As much as there is; returns what its owner owes for the rest."""

    def journal(taken: int) -> Journal:
        return postings.returned(payment, change, of_suspense=of_suspense, of_debt=change.out - taken)

    return change.out - _up_to(session, payment, change.out, journal)


def _let_refunds_go(session: Session, payment: FiatPayment) -> None:
    """What was held for a refund that has happened is taken now, in the same commit: nobody spends it between."""
    for refund in queries.holding_refunds(session, payment.id):
        # An earlier refund may come back meanwhile: this one adds to what is left of them.
        refund.refunded_before = min(refund.refunded_before, payment.refunded_units)
        has_grown = payment.refunded_units - refund.refunded_before >= refund.units
        if (has_grown or _is_told(payment, refund)) and refund.hold_id is not None:
            let_go(session, payment.tenant, refund.hold_id)
            refund.hold_id = None


def _is_told(payment: FiatPayment, refund: FiatRefund) -> bool:
    """It is done, and the totals are of later: what they say is with it, whatever became of those before it."""
    if refund.current is not RefundState.DONE or payment.asked_at is None:
        return False
    return payment.asked_at >= refund.updated_at and payment.refunded_units >= refund.units


def let_go(session: Session, tenant: str, hold_id: UUID) -> None:
    """Void a hold, whatever became of it."""
    try:
        holds.void(session, tenant=tenant, hold_id=hold_id)
    except HoldSettledError:
        return


def _up_to(session: Session, payment: FiatPayment, most: int, journal: Callable[[int], Journal]) -> int:
    """Post with as much as the account with the floor allows, `most` at most. Returns how much that was."""
    units = most
    for _ in range(_ATTEMPTS):
        try:
            _post(session, payment, journal(units))
        except InsufficientFundsError as error:
            units = max(min(units, error.available), 0)
        except (AccountFrozenError, AccountClosedError):
            if not units:
                raise
            units = 0  # nothing can be taken out of it, so all of it is owed
        else:
            return units
    raise TransientError("the accounts of a payment changed under every attempt to book it")


def _post(session: Session, payment: FiatPayment, journal: Journal) -> None:
    job = jobs.current.get()
    posting.post(session, replace(journal, job_id=job.id if job else None))
    payment.journals += 1
