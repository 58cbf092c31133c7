"""Taking in what a provider says of a payment, from wherever it came: webhook, poll or the answer to our own call.

All amounts are totals, so what is told twice, late or in another order changes nothing that was not to be changed.
What was paid only grows. Of what went back, what the newest question was answered holds, since disputes are won and
refunds fail; an older answer and a webhook can only add to the refunds, and the provider is asked at once.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from config.assets import registry
from core import clock
from core.errors import InvariantError, NotFoundError, PermanentError
from domain.fiat_payment import books, elsewhere, pace, queries
from domain.fiat_payment.conversion import Credit, credit_of
from domain.fiat_payment.history import move, note
from domain.fiat_payment.holding import difference, excess, explain_all, hold
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import ORDERED, UNPAID, AttemptState, HoldReason, PaymentState, Source, Wait
from ledger.errors import AccountClosedError, CeilingExceededError
from providers.fiat.base import Order, OrderState

log = structlog.stdlib.get_logger(__name__)

S = PaymentState
TOLD = ("bank", "account_number", "account_name", "expires_at", "note")
"""Of the instructions for a bank transfer. Nothing else of them is kept."""


@dataclass(frozen=True, slots=True)
class _Said:
    """What a snapshot's place among the others makes of it."""

    newest: bool
    """No later question has been answered."""


def record(
    session: Session,
    payment_id: UUID,
    order: Order,
    *,
    asked_at: datetime,
    source: str = Source.FIND,
    provider: str | None = None,
) -> FiatPayment:
    """Take in what the provider says of the payment, and do what follows, in the caller's transaction.

    `asked_at`: when the question was asked, or when the webhook came. `source`: see `Source`; of a webhook only what
    grows is believed, and the provider is asked about the rest at once. Any order, any number of times: the same books.
    `provider`: who said so; None: the one whose payment it is now. Returns the payment that took it in.
    Raises NotFoundError if there is no such payment, InvariantError if the order is another's, PermanentError for
    amounts that can't be.
    """
    payment = queries.lock(session, payment_id)
    if payment is None:
        raise NotFoundError(f"there is no fiat payment {payment_id}")
    if order.reference != payment.reference:
        raise InvariantError(f"{payment.subject} was told of the order {order.reference[:64]!r}")
    if payment.provider is None:
        raise InvariantError(f"{payment.subject} was told of an order that nobody asked for")
    if min(order.paid_units, order.refunded_units, order.disputed_units, order.charged_back_units) < 0:
        raise PermanentError(f"{payment.subject} was told of an amount below zero")
    now = clock.now()
    if provider not in (None, payment.provider):
        found = elsewhere.payment_of(session, payment, order, provider or "", now=now)
        if found is None:
            return payment
        payment = found
    said = _Said(newest=payment.asked_at is None or asked_at >= payment.asked_at)
    before = payment.current
    _identify(session, payment, order, said)
    if _is_of_its_currency(session, payment, order):
        _merge(session, payment, order, said, now=now, hint=source == Source.WEBHOOK)
    if said.newest:
        payment.asked_at = asked_at
    _follow(session, payment, order, said, now=now)
    settle(session, payment, now=now)
    if payment.current is not before:
        payment.looks = 0
        payment.next_look_at = pace.next_look(payment, now=now)
    payment.updated_at = now
    session.flush()
    return payment


# --- merging ---------------------------------------------------------------------------------------------------------


def _identify(session: Session, payment: FiatPayment, order: Order, said: _Said) -> None:
    if payment.provider_ref is None or said.newest:
        payment.provider_ref = order.provider_ref
    payment.page_url = order.page_url or payment.page_url
    if order.instructions:
        payment.instructions = {key: str(order.instructions[key]) for key in TOLD if key in order.instructions}
    # It is there, so nobody needs to ask for it any more.
    payment.payer_sealed = None
    for attempt in queries.attempts(session, payment.id):
        if attempt.provider == payment.provider:
            attempt.provider_ref = payment.provider_ref
            if attempt.state in (AttemptState.ASKING, AttemptState.UNKNOWN):
                attempt.state, attempt.answered_at = AttemptState.ACCEPTED, clock.now()


def _is_of_its_currency(session: Session, payment: FiatPayment, order: Order) -> bool:
    """Whether its amounts can be taken over. In another currency only from the start, and if we know it."""
    if order.currency == payment.paid_currency:
        return True
    difference(session, payment, HoldReason.CURRENCY, expected=payment.currency, found=order.currency[:64])
    if payment.paid_units or not order.paid_units or order.currency not in registry().assets:
        log.error("fiat_payment.currency", payment_id=str(payment.id), found=order.currency[:64])
        if order.paid_units and not payment.paid_units:
            hold(session, payment, HoldReason.CURRENCY, now=clock.now())
        return False
    payment.paid_currency = order.currency
    return True


def _merge(session: Session, payment: FiatPayment, order: Order, said: _Said, *, now: datetime, hint: bool) -> None:
    if order.paid_units > payment.paid_units:
        payment.paid_units = order.paid_units
        payment.paid_at = payment.paid_at or now
        if queries.tells_settlements(session, payment.provider):
            payment.settle_by = now + settings().settled_after
    if said.newest and order.fee_units is not None:
        payment.provider_fee_units = order.fee_units
    told = (order.refunded_units, order.disputed_units, order.charged_back_units)
    if told != (payment.refunded_units, payment.disputed_units, payment.charged_back_units):
        if said.newest and not hint:
            payment.refunded_units, payment.disputed_units, payment.charged_back_units = told
        else:
            payment.refunded_units = max(payment.refunded_units, order.refunded_units)
            payment.next_look_at = now  # whether that still holds, the provider knows
        excess(session, payment)
    if order.state is OrderState.PAID and not order.paid_units:
        difference(session, payment, HoldReason.AMOUNT, expected=str(payment.units), found="0")
        log.error("fiat_payment.paid_nothing", payment_id=str(payment.id))
    if payment.paid_units and (order.state is not OrderState.OPEN or now >= payment.expires_at):
        payment.closed = True


def _follow(session: Session, payment: FiatPayment, order: Order, said: _Said, *, now: datetime) -> None:
    """The states before anything is paid."""
    if payment.current not in UNPAID:
        return
    if payment.closed and payment.paid_units:
        move(session, payment, "pay", now=now, units=str(payment.paid_units), currency=payment.paid_currency)
    elif payment.current not in ORDERED or payment.paid_units or not said.newest:
        return
    elif order.state is OrderState.FAILED:
        move(session, payment, "fail", now=now)
    elif order.state is OrderState.EXPIRED or (order.state is OrderState.OPEN and now >= payment.expires_at):
        move(session, payment, "expire", now=now)
    elif order.state is OrderState.OPEN and payment.current is S.CREATED:
        move(session, payment, "order", now=now, provider=payment.provider)


# --- what follows ----------------------------------------------------------------------------------------------------


def settle(session: Session, payment: FiatPayment, *, now: datetime) -> None:
    """Book what is missing, credit what may be credited, and be in the state that the amounts say. Safe to repeat.

    The payment is locked, and the journals and the row are one commit.
    """
    if payment.provider is None or not payment.paid_units:
        return
    # Straight from the gateway where nothing keeps it: one journal instead of two.
    if not payment.suspended_units and payment.gone_units < payment.paid_units and books.fresh(payment):
        _credit_if_due(session, payment, books.fresh(payment), now=now)
    books.suspend(session, payment)
    books.align_returns(session, payment, now=now)
    if payment.suspended_units:
        _credit_if_due(session, payment, payment.suspended_units, now=now)
    books.fee(session, payment)
    if not payment.suspended_units:
        payment.waits_for = payment.waits_since = None
        if payment.hold_reason is not None:
            payment.hold_reason = None
            explain_all(session, payment, actor="fiat_webhook", explanation="none of it waits any more")
    _reach(session, payment, now=now)


def _credit_if_due(session: Session, payment: FiatPayment, units: int, *, now: datetime) -> None:
    if payment.current in UNPAID:
        return
    judged = _judged(payment)
    if payment.held_for is HoldReason.AMOUNT and judged is None:
        payment.hold_reason = None
        explain_all(session, payment, actor="fiat_webhook", explanation="the rest of it was paid")
    if payment.hold_reason is not None:
        return
    found = judged or credit_of(session, payment, units)
    if isinstance(found, Credit):
        try:
            books.credit(session, payment, found)
        except (AccountClosedError, CeilingExceededError):
            found = HoldReason.ACCOUNT
    match found:
        case HoldReason():
            hold(session, payment, found, now=now)
        case Wait():
            if payment.waits_for is None:
                payment.waits_for, payment.waits_since = found, now
                note(session, payment, "waits", now=now, **{"for": found})
                log.warning("fiat_payment.waits", payment_id=str(payment.id), waits_for=found)
        case Credit():
            payment.waits_for = payment.waits_since = None


def _judged(payment: FiatPayment) -> HoldReason | None:
    """Why what was paid is not what was asked for, unless a person said that it may be credited."""
    if payment.paid_units <= payment.released_units:
        return None
    if payment.duplicate_of is not None:
        return HoldReason.DUPLICATE
    if payment.paid_currency != payment.currency:
        return HoldReason.CURRENCY
    return HoldReason.AMOUNT if payment.paid_units != payment.units else None


def _reach(session: Session, payment: FiatPayment, *, now: datetime) -> None:
    state = payment.current
    wanted = _state_of(payment)
    if state in UNPAID or state is wanted:
        return
    event = {
        S.REFUNDED: "refund",
        S.DISPUTED: "dispute",
        S.CHARGED_BACK: "charge_back",
        S.CREDITED: "credit" if state is S.PAID else "win",
        S.PAID: "reopen",
    }[wanted]
    move(
        session,
        payment,
        event,
        now=now,
        paid=str(payment.paid_units),
        refunded=str(payment.refunded_units),
        disputed=str(payment.disputed_units),
        charged_back=str(payment.charged_back_units),
        credited=str(payment.credited_out - payment.returned_out),
    )


def _state_of(payment: FiatPayment) -> PaymentState:
    if payment.disputed_units:
        return S.DISPUTED
    if payment.charged_back_units:
        return S.CHARGED_BACK
    if payment.refunded_units >= payment.paid_units:
        return S.REFUNDED
    return S.CREDITED if payment.credited_units else S.PAID
