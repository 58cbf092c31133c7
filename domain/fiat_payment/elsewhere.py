"""Orders at gateways that their payment had left: they refused it or were not reached, and have it after all.

A payer can pay there like anywhere else, and that is money of the payment. If its own gateway has taken none, the
payment goes to where the money is. If it has, the payer paid twice: what the second gateway took is then a payment of
its own, held for a person. So an order at a gateway is always one row's, and what it does to the books, its refunds and
its settlement need to know nothing of this.
"""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from core.errors import InvariantError
from core.ids import new_id
from domain.fiat_payment import queries
from domain.fiat_payment.history import note
from domain.fiat_payment.models import FiatAttempt, FiatPayment
from domain.fiat_payment.states import FIAT_PAYMENT, MAY_BE_THERE, AttemptState, PaymentState
from providers.fiat.base import Order, OrderState

log = structlog.stdlib.get_logger(__name__)

_SHARED = (
    "tenant",
    "account",
    "currency",
    "units",
    "credit_asset",
    "fee_bps",
    "spread_bps",
    "method",
    "description",
    "details",
    "correlation_id",
    "expires_at",
    "created_at",
)
"""What a second payment has of the first. A quote is used once, so it is converted at the rate of the moment."""


def payment_of(
    session: Session, payment: FiatPayment, order: Order, provider: str, *, now: datetime
) -> FiatPayment | None:
    """Whose order that is, locked and at this gateway. None: nothing follows from it. The payment is locked.

    Raises InvariantError if nobody asked that gateway.
    """
    attempts = queries.attempts(session, payment.id)
    there = next((attempt for attempt in reversed(attempts) if attempt.provider == provider), None)
    if there is None:
        raise InvariantError(f"{payment.subject} was told of an order at {provider}, which nobody asked for")
    there.provider_ref = order.provider_ref
    second = queries.lock_second(session, payment.id, provider=provider)
    if second is not None:
        return second
    log.error("fiat_payment.there_after_all", payment_id=str(payment.id), provider=provider, at=payment.provider)
    if payment.paid_units:
        return _second(session, payment, order, provider, now=now) if order.paid_units else None
    others = [attempt for attempt in attempts if attempt is not there and attempt.state in MAY_BE_THERE]
    is_first = payment.current is PaymentState.CREATED and order.state is OrderState.OPEN and not others
    if not order.paid_units and not is_first:
        return None
    _go(session, payment, there, others, now=now)
    return payment


def _go(
    session: Session, payment: FiatPayment, there: FiatAttempt, others: list[FiatAttempt], *, now: datetime
) -> None:
    """The payment is at this gateway from now on. What the one that it leaves has said of it was no money."""
    for attempt in others:
        attempt.state, attempt.answered_at = AttemptState.LEFT, now
    session.flush()  # one at a time is open
    there.state, there.answered_at = AttemptState.ACCEPTED, now
    note(session, payment, "went", now=now, provider=there.provider, left=payment.provider)
    payment.provider, payment.provider_ref = there.provider, None
    payment.page_url, payment.instructions, payment.closed = None, {}, False
    payment.provider_fee_units, payment.asked_at = None, None
    payment.refunded_units = payment.disputed_units = payment.charged_back_units = 0


def _second(session: Session, payment: FiatPayment, order: Order, provider: str, *, now: datetime) -> FiatPayment:
    second = FiatPayment(
        id=new_id(),
        duplicate_of=payment.id,
        provider=provider,
        paid_currency=payment.currency,
        automatic=False,
        state=FIAT_PAYMENT.initial,
        instructions={},
        updated_at=now,
        **{name: getattr(payment, name) for name in _SHARED},
    )
    session.add(second)
    session.flush()
    note(session, second, "created", now=now, duplicate_of=str(payment.id))
    note(session, payment, "paid_twice", now=now, provider=provider, second=str(second.id))
    log.error("fiat_payment.paid_twice", payment_id=str(payment.id), second=str(second.id), paid=str(order.paid_units))
    return second
