from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, LargeBinary, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn
from domain.beneficiary.states import BeneficiaryState


class Beneficiary(Base):
    """A destination in an account's book. What identifies it is sealed (core.vault); `masked` is what people see."""

    __tablename__ = "beneficiaries"
    __table_args__ = (
        # One live entry for a destination in a book: asking for it again finds it.
        Index(
            "uq_beneficiaries_live",
            "tenant",
            "account",
            "fingerprint",
            unique=True,
            postgresql_where=text("removed_at IS NULL"),
        ),
        Index("ix_beneficiaries_tenant", "tenant", "id"),
        Index("ix_beneficiaries_account", "tenant", "account", "id"),
        Index("ix_beneficiaries_fingerprint", "fingerprint"),
        Index("ix_beneficiaries_sealed_by", "sealed_by", "id"),
        Index("ix_beneficiaries_pending", "id", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    account: Mapped[str]
    """Whose book it is in, such as `user:42:available`."""
    kind: Mapped[str]
    """See providers.payout.base.Kind."""
    chain: Mapped[str | None]
    """Of an address: which chain's, in CAIP-2."""
    bank: Mapped[str | None]
    """Its bank in the bank lists; of an IFSC its first four letters. By itself it identifies nobody."""
    fingerprint: Mapped[str]
    """HMAC-SHA256 of the destination: the same for the same one, whoever names it, and tells nothing of it."""
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """The destination as JSON, encrypted for this row alone."""
    sealed_by: Mapped[str]
    """The key's id."""
    masked: Mapped[str]
    """`058 ******7890`."""
    label: Mapped[str]
    state: Mapped[str] = mapped_column(default=BeneficiaryState.PENDING)
    failure: Mapped[str | None]
    holder_matches: Mapped[bool | None]
    """Whether the name that its bank tells is the one that was given; None: no bank was asked."""
    verified_by: Mapped[str | None]
    """The provider that told its holder, or `person:<name>`."""
    verified_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]

    @property
    def current(self) -> BeneficiaryState:
        return BeneficiaryState(self.state)

    @property
    def subject(self) -> str:
        return f"beneficiary:{self.id}"


class BeneficiaryEvent(Base):
    """The history. Rows are only ever added, and hold nothing of the destination."""

    __tablename__ = "beneficiary_events"
    __table_args__ = (Index("ix_beneficiary_events_beneficiary_id", "beneficiary_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    beneficiary_id: Mapped[UUID] = mapped_column(ForeignKey("beneficiaries.id"))
    at: Mapped[datetime]
    event: Mapped[str]
    state_after: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)


class BankList(Base):
    """The banks that a provider sends to, as it told them last."""

    __tablename__ = "bank_lists"

    provider: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    banks: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """Code -> name."""
    read_at: Mapped[datetime]
