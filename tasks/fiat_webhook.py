"""Webhooks that came in: what they say is looked at, and the payments they are about learn of it."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import jobs
from core.errors import PermanentError, TransientError
from core.jobs import NewJob
from domain.fiat_payment import service as payments
from domain.fiat_payment.service import Source
from domain.webhook import service
from domain.webhook.models import WebhookReceipt
from domain.webhook.settings import webhook
from providers.fiat import registry
from providers.fiat.base import Gateway, Notice, Order
from providers.payout.base import Notice as PayoutNotice
from providers.webhooks.registry import schemes
from tasks import payout_webhook
from tasks.base import task, transaction

log = structlog.stdlib.get_logger(__name__)

PAUSE_MIN, PAUSE_MAX = timedelta(seconds=5), timedelta(hours=1)
"""Between two looks for an unknown reference: half of the time that it has been waited for already."""
UNSETTLED = frozenset({"created", "pending"})
"""States of a payment of which nothing is known that could be taken back."""
REMOVE_LIMIT = 1_000
"""Receipts that one transaction empties."""


class Payment(Protocol):
    """What is needed of a payment."""

    @property
    def id(self) -> UUID: ...
    @property
    def reference(self) -> str:
        """Ours, at the provider."""

    @property
    def provider(self) -> str | None:
        """Where it is now; another provider may have an order of it too."""

    @property
    def state(self) -> str: ...
    @property
    def provider_ref(self) -> str | None: ...
    @property
    def created_at(self) -> datetime: ...


class Payments(Protocol):
    """What is needed of domain.fiat_payment.service."""

    def find_payment(
        self, session: Session, *, provider: str, reference: str | None, provider_ref: str | None
    ) -> Payment | None: ...
    def record(
        self, session: Session, payment_id: UUID, order: Order, *, asked_at: datetime, source: str, provider: str
    ) -> object: ...


class Told(NamedTuple):
    """What is known of a payment now, by whom, and when the provider was asked or told us."""

    payment: Payment
    order: Order
    asked_at: datetime
    source: Source


@task("fiat_webhook.handle")
def handle(receipt_id: UUID) -> None:
    """Look at what one webhook is about. Safe to run any number of times, and in any order with others."""
    follow(receipt_id, payments, registry.get, payout_webhook.notices)


def follow(
    receipt_id: UUID,
    known: Payments,
    gateway_of: Callable[[str], Gateway],
    payouts_of: payout_webhook.Notices = payout_webhook.none,
) -> None:
    """Raises TransientError while a reference is unknown, PermanentError once it was for too long."""
    with transaction() as session:
        receipt = service.get(session, receipt_id)
    if receipt.settled_at is not None or receipt.body is None:
        return  # another run has done it
    of_payouts = payouts_of(receipt.provider, receipt.body, receipt.headers)
    gateway = _gateway(receipt.provider, gateway_of, of_payouts)
    notices = () if gateway is None else gateway.notices(receipt.body, receipt.headers)
    if not notices:
        payout_webhook.need_answer(of_payouts)
    found: list[Told] = []
    unknown: list[Notice | PayoutNotice] = []
    for notice in notices:
        assert gateway is not None  # noqa: S101  # whose notices these are
        with transaction() as session:
            payment = known.find_payment(
                session, provider=gateway.name, reference=notice.reference, provider_ref=notice.provider_ref
            )
        if payment is None:
            unknown.append(notice)
        else:
            found.append(_told(gateway, receipt, payment, notice))
    with transaction() as session:
        # In one order, so that two webhooks about the same payments don't wait for each other in a circle.
        for told in sorted(found, key=lambda one: one.payment.id):
            known.record(
                session,
                told.payment.id,
                told.order,
                asked_at=told.asked_at,
                source=told.source,
                provider=receipt.provider if gateway is None else gateway.name,
            )
        unknown += payout_webhook.hear(session, receipt.provider, of_payouts)
        if not unknown:
            event, note = (
                ("handle", None) if notices or of_payouts.notices else ("ignore", "it is about nothing of ours")
            )
            service.settle(session, receipt_id, event, note=note)
    if unknown:
        _wait(receipt_id, unknown)


def _gateway(provider: str, gateway_of: Callable[[str], Gateway], of_payouts: payout_webhook.Spoken) -> Gateway | None:
    """None: it is a payout provider's alone, or speaks of payouts, and there is no such gateway here.

    Of payouts or of payments, never of both: each adapter answers only of its own events.
    """
    try:
        return gateway_of(provider)
    except TransientError:
        if of_payouts.notices:
            return None
        raise
    except PermanentError:
        if of_payouts.provider is None:
            raise
        return None


def _told(gateway: Gateway, receipt: WebhookReceipt, payment: Payment, notice: Notice) -> Told:
    """The order as the webhook has it or, where that isn't to be relied on, as the provider says now."""
    if not is_reliable(schemes()[receipt.provider].signs_body, payment, notice.order):
        return _asked(gateway, payment, notice)
    assert notice.order is not None  # noqa: S101  # is_reliable says so
    return _checked(Told(payment, notice.order, receipt.received_at, Source.WEBHOOK))


def is_reliable(signs_body: bool, payment: Payment, order: Order | None) -> bool:  # noqa: FBT001  # a fact of a scheme
    """Whether what a webhook says of an order may be recorded without asking the provider.

    Not if the body isn't signed, if it says too little, if much money depends on it, or if anything went back. Nor if
    the payment was paid or ended before: webhooks come in any order, and an old one would undo newer news.
    """
    if not signs_body or order is None or payment.state not in UNSETTLED:
        return False
    if order.refunded_units or order.disputed_units or order.charged_back_units:
        return False
    return order.paid_units < webhook().refetch_units.get(order.currency, 1)


def _asked(gateway: Gateway, payment: Payment, notice: Notice) -> Told:
    """Asks the provider: no transaction is open. Raises TransientError if it doesn't know the order."""
    with transaction() as session:
        asked_at = service.now(session)
    order = gateway.find(
        reference=payment.reference,
        provider_ref=(payment.provider_ref if payment.provider == gateway.name else None) or notice.provider_ref,
        made_at=payment.created_at,
    )
    if order is None:
        raise TransientError(f"{gateway.name} sent a webhook about payment {payment.id} and doesn't know its order")
    return _checked(Told(payment, order, asked_at, Source.FIND))


def _checked(told: Told) -> Told:
    if told.order.reference != told.payment.reference:
        raise PermanentError(f"what was told of payment {told.payment.id} is another order")
    return told


def _wait(receipt_id: UUID, unknown: Sequence[Notice | PayoutNotice]) -> None:
    note = f"unknown: {'; '.join(_named(notice) for notice in unknown[:5])}"
    with transaction() as session:
        waited = service.wait(session, receipt_id, note=note)
    if waited >= webhook().wait:
        raise PermanentError(f"{note}, for {webhook().wait}")
    raise TransientError(note, retry_after=min(max(waited / 2, PAUSE_MIN), PAUSE_MAX))


def _named(notice: Notice | PayoutNotice) -> str:
    """Only names: what a payer wrote is in none of them."""
    return f"{notice.kind[:40]} reference {(notice.reference or '-')[:64]}, theirs {(notice.provider_ref or '-')[:64]}"


@task("fiat_webhook.remove_old_receipts")
def remove_old_receipts(session: Session) -> None:
    """Delete what webhooks said that were handled long ago. That they came stays known."""
    if service.remove_old(session, keep=webhook().keep, limit=REMOVE_LIMIT) == REMOVE_LIMIT:  # there is more
        jobs.submit(session, NewJob("fiat_webhook.remove_old_receipts", {}))
