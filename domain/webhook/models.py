from datetime import datetime
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from sqlalchemy import CheckConstraint, Index, LargeBinary, UniqueConstraint, func, text
from sqlalchemy.dialects.postgresql import INET
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn
from domain.webhook.states import ReceiptState


class WebhookReceipt(Base):
    """One webhook, as it came.

    Its row stays for ever, so that a repeat is known. What may hold a payer's data doesn't.
    """

    __tablename__ = "webhook_receipts"
    __table_args__ = (
        UniqueConstraint("provider", "dedupe_key"),
        CheckConstraint("state IN ('received', 'waiting', 'handled', 'ignored')", name="state"),
        CheckConstraint("(state IN ('handled', 'ignored')) = (settled_at IS NOT NULL)", name="settled"),
        CheckConstraint("state <> 'waiting' OR waiting_at IS NOT NULL", name="waiting"),
        CheckConstraint("body IS NOT NULL OR settled_at IS NOT NULL", name="body"),
        Index("ix_webhook_receipts_open", "received_at", postgresql_where=text("settled_at IS NULL")),
        Index("ix_webhook_receipts_kept", "settled_at", postgresql_where=text("body IS NOT NULL")),
        Index("ix_webhook_receipts_provider", "provider", "id"),
    )

    id: Mapped[IdColumn]
    provider: Mapped[str]
    dedupe_key: Mapped[str]
    """`event:<the provider's id>`, or `sha256:<hex of the body>`."""
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    """None: its time was over."""
    bytes: Mapped[int]
    headers: Mapped[dict[str, Any]]
    """Those that adapters may need. No signature is among them: it was checked, and might be a secret."""
    secret: Mapped[int]
    """Which of the secrets fitted, counted from 0."""
    remote: Mapped[IPv4Address | IPv6Address | None] = mapped_column(INET)
    correlation_id: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=ReceiptState.RECEIVED)
    note: Mapped[str | None]
    """Why it waits or was ignored, for people."""
    repeats: Mapped[int] = mapped_column(server_default="0")
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    repeated_at: Mapped[datetime | None]
    waiting_at: Mapped[datetime | None]
    """Since when it has been waiting."""
    settled_at: Mapped[datetime | None]

    @property
    def current(self) -> ReceiptState:
        return ReceiptState(self.state)
