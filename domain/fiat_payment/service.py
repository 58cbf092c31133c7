"""Payments by card, bank and wallet: what other parts of the platform may ask for. The steps are beside this module."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from domain.fiat_payment import queries
from domain.fiat_payment.conversion import MomentRate, use_rates
from domain.fiat_payment.creating import Conversions, NewFiatPayment, create
from domain.fiat_payment.gateways import credentials_refused, is_down, is_refused
from domain.fiat_payment.gateways import refresh as refresh_gateways
from domain.fiat_payment.holding import let_through
from domain.fiat_payment.models import FiatPayment, FiatPaymentEvent, FiatRefund
from domain.fiat_payment.ordering import order
from domain.fiat_payment.polling import look, poll
from domain.fiat_payment.recording import record
from domain.fiat_payment.recording import settle as follow
from domain.fiat_payment.refunding import NewRefund, refund
from domain.fiat_payment.refunding import end as end_refund
from domain.fiat_payment.refunding import request as request_refund
from domain.fiat_payment.settling import settle
from domain.fiat_payment.states import HoldReason, PaymentState, RefundState, Source, Wait

__all__ = [
    "Conversions",
    "FiatPayment",
    "FiatPaymentEvent",
    "FiatRefund",
    "Figures",
    "HoldReason",
    "MomentRate",
    "NewFiatPayment",
    "NewRefund",
    "PaymentState",
    "RefundState",
    "Source",
    "Wait",
    "create",
    "credentials_refused",
    "end_refund",
    "figures",
    "find_payment",
    "get",
    "get_refund",
    "history",
    "look",
    "order",
    "page",
    "poll",
    "record",
    "refresh_gateways",
    "refund",
    "refunds",
    "release",
    "request_refund",
    "settle",
    "use_rates",
    "wanted",
]


def find_payment(
    session: Session, *, provider: str, reference: str | None, provider_ref: str | None
) -> FiatPayment | None:
    """The payment whose order at this provider that is, by our reference or by theirs. None: nobody knows it yet."""
    return queries.find(session, provider=provider, reference=queries.uuid_of(reference), provider_ref=provider_ref)


def get(session: Session, payment_id: UUID, *, tenant: str | None = None) -> FiatPayment | None:
    """The payment, or None if there is none or it is another tenant's."""
    return queries.get(session, payment_id, tenant=tenant)


def history(session: Session, payment_id: UUID) -> Sequence[FiatPaymentEvent]:
    """What happened to it, oldest first."""
    return queries.history(session, payment_id)


def refunds(session: Session, payment_id: UUID) -> Sequence[FiatRefund]:
    """Those that were asked for, oldest first."""
    return queries.refunds(session, payment_id)


def get_refund(session: Session, refund_id: UUID) -> FiatRefund | None:
    return queries.get_refund(session, refund_id)


def page(
    session: Session,
    *,
    tenant: str | None = None,
    state: PaymentState | None = None,
    account: str | None = None,
    held: bool = False,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[FiatPayment]:
    """Newest first. `before` is the id of the last of the page before. `held`: those that wait for a person."""
    return queries.page(session, tenant=tenant, state=state, account=account, held=held, before=before, limit=limit)


def release(session: Session, payment_id: UUID, *, actor: str, reason: str, at_moment: bool = False) -> FiatPayment:
    """Credit a held payment as it was paid, because a person decided so.

    Raises NotFoundError, and ConflictError if it isn't held.
    """
    payment = let_through(session, payment_id, actor=actor, reason=reason, at_moment=at_moment)
    follow(session, payment, now=clock.now())
    session.flush()
    return payment


def wanted(session: Session, now: datetime) -> bool:
    """Whether the poll has anything to do."""
    return queries.is_due(session, now=now)


@dataclass(frozen=True, slots=True)
class Figures:
    """For metrics and for people."""

    by_state: dict[str, int]
    """Of those that may still become something."""
    held: dict[str, int]
    """By reason: they wait for a person."""
    unknown_since: datetime | None
    """Since when it is not known whether a provider has an order or a refund; of the oldest."""
    waiting_since: datetime | None
    """Since when a paid one waits for a rate; of the oldest."""
    down: dict[str, bool]
    """By gateway."""
    refused: dict[str, bool]
    """By gateway: it refuses our credentials."""


def figures(session: Session) -> Figures:
    gateways = queries.gateways(session)
    return Figures(
        queries.count_live(session),
        queries.count_held(session),
        queries.oldest_unknown(session),
        queries.oldest_waiting(session),
        {gateway.name: is_down(gateway) for gateway in gateways},
        {gateway.name: is_refused(gateway) for gateway in gateways},
    )
