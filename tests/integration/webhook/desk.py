"""A gateway and payments in memory, to see what the handling of webhooks asks of them and tells them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import QueuePool, text
from sqlalchemy.orm import Session

from core import db
from core.ids import new_id
from domain.webhook import service
from domain.webhook.models import WebhookReceipt
from domain.webhook.service import Arrived, Kept
from providers.fiat.base import Notice, Order, OrderState


def arrived(body: bytes = b"{}", **changed: Any) -> Arrived:
    parts: dict[str, Any] = {
        "provider": "stripe", "event_id": None, "body": body, "headers": {"content-type": "application/json"},
        "secret": 0, "remote": "203.0.113.7", "correlation_id": "corr-1",
    }  # fmt: skip
    return Arrived(**parts | changed)


def keep(*webhooks: Arrived) -> list[Kept]:
    with db.transaction() as session:
        return service.keep(session, webhooks)


def receipts() -> list[WebhookReceipt]:
    """Oldest first."""
    with db.transaction() as session:
        return list(reversed(service.page(session, limit=1_000)))


def kept(body: bytes = b"{}", **changed: Any) -> UUID:
    keep(arrived(body, **changed))
    return receipts()[-1].id


def receipt(receipt_id: UUID) -> WebhookReceipt:
    with db.transaction() as session:
        return service.get(session, receipt_id)


def age(receipt_id: UUID, hours: int) -> None:
    """As if it had come, waited and ended so much earlier."""
    with db.transaction() as session:
        session.execute(
            text(
                "UPDATE webhook_receipts SET received_at = received_at - make_interval(hours => :hours),"
                " waiting_at = waiting_at - make_interval(hours => :hours),"
                " settled_at = settled_at - make_interval(hours => :hours) WHERE id = :id"
            ),
            {"id": receipt_id, "hours": hours},
        )


def order(payment: UUID, **changed: Any) -> Order:
    parts: dict[str, Any] = {
        "reference": str(payment), "provider_ref": "pi_1", "state": OrderState.PAID, "currency": "iso4217:EUR",
        "units": 500, "paid_units": 500,
    }  # fmt: skip
    return Order(**parts | changed)


def notice(payment: UUID | None = None, **changed: Any) -> Notice:
    parts: dict[str, Any] = {"reference": str(payment) if payment else None, "provider_ref": "pi_1", "kind": "paid"}
    return Notice(**parts | changed)


@dataclass
class Payment:
    id: UUID = field(default_factory=new_id)
    state: str = "pending"
    provider_ref: str | None = "pi_1"
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    provider: str | None = "stripe"

    @property
    def reference(self) -> str:
        return str(self.id)


def is_in_transaction() -> bool:
    pool = db.engine().pool
    assert isinstance(pool, QueuePool)
    return pool.checkedout() > 0


@dataclass
class Gateway:
    """Only what the handling uses."""

    said: Sequence[Notice] = ()
    known: dict[str, Order] = field(default_factory=dict)
    name: str = "stripe"
    finds: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:
        assert not is_in_transaction()
        self.bodies.append(body)
        return self.said

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:
        assert not is_in_transaction(), "a call outside while a transaction is open"
        self.finds.append(reference)
        return self.known.get(reference)


@dataclass
class Payments:
    rows: list[Payment] = field(default_factory=list)
    recorded: list[tuple[UUID, Order, datetime, str]] = field(default_factory=list)

    def find_payment(
        self, session: Session, *, provider: str, reference: str | None, provider_ref: str | None
    ) -> Payment | None:
        assert provider == "stripe" and session.in_transaction()
        for row in self.rows:
            if reference == str(row.id) or (provider_ref is not None and provider_ref == row.provider_ref):
                return row
        return None

    def record(
        self, session: Session, payment_id: UUID, order: Order, *, asked_at: datetime, source: str, provider: str
    ) -> None:
        assert session.in_transaction() and provider == "stripe"
        self.recorded.append((payment_id, order, asked_at, source))
