"""The ledger's tables. Only this package reads them; the database itself refuses what must not be (migration 0001).

Units are signed: a source has less by them (a debit, negative), a destination more (a credit, positive). Balances are
the raw sums of units; on the normal side, as people read them, debit-normal accounts show the negated sum.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn
from core.money import UnitsType


class LedgerAsset(Base):
    """What can be posted. The scale never changes: it says what every unit ever booked means."""

    __tablename__ = "ledger_assets"
    __table_args__ = (CheckConstraint("scale BETWEEN 0 AND 36", name="scale"),)

    id: Mapped[str] = mapped_column(primary_key=True)
    scale: Mapped[int] = mapped_column(SmallInteger)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerAccount(Base):
    __tablename__ = "ledger_accounts"
    __table_args__ = (
        UniqueConstraint("tenant", "code", "asset"),
        # The target of the entries' foreign key, which is how an entry can't be in another asset than its account.
        UniqueConstraint("id", "asset"),
        CheckConstraint("kind IN ('asset', 'liability', 'equity', 'income', 'expense')", name="kind"),
        CheckConstraint("normal_side IN ('debit', 'credit')", name="normal_side"),
        CheckConstraint(
            "floor IS NULL OR CASE normal_side WHEN 'credit' THEN balance ELSE -balance END >= floor", name="floor"
        ),
        CheckConstraint("version >= 0", name="version"),
        # Room on each page, so that a new balance is written beside the old one and touches no index.
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant: Mapped[str]
    # "C", so that a prefix of codes is a range of the index and the order is the same on every machine.
    code: Mapped[str] = mapped_column(Text(collation="C"))
    asset: Mapped[str] = mapped_column(ForeignKey("ledger_assets.id"))
    kind: Mapped[str]
    normal_side: Mapped[str]
    floor: Mapped[int | None] = mapped_column(UnitsType)
    balance: Mapped[int] = mapped_column(UnitsType, server_default=text("0"))
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerJournal(Base):
    __tablename__ = "ledger_journals"
    __table_args__ = (
        UniqueConstraint("tenant", "reference"),
        Index(None, "tenant", "subject", postgresql_where=text("subject IS NOT NULL")),
        # A journal is reversed at most once. Partial: most journals reverse nothing and needn't pay for the index.
        Index("uq_ledger_journals_reverses", "reverses", unique=True, postgresql_where=text("reverses IS NOT NULL")),
        CheckConstraint("length(reference) BETWEEN 1 AND 300", name="reference"),
        CheckConstraint("reverses <> id", name="reverses"),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    reference: Mapped[str]
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    category: Mapped[str]
    effective_at: Mapped[datetime]
    booked_at: Mapped[datetime]
    correlation_id: Mapped[str | None]
    job_id: Mapped[UUID | None]
    subject: Mapped[str | None]
    # `metadata` is taken in SQLAlchemy's classes.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))
    reverses: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_journals.id"))


class LedgerEntry(Base):
    __tablename__ = "ledger_entries"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "asset"], ["ledger_accounts.id", "ledger_accounts.asset"]),
        # Also how a statement is read: an account's newest entries first.
        UniqueConstraint("account_id", "version"),
        # Also what makes a journal be written once and whole: the trigger wants every insert to start at position 0.
        UniqueConstraint("journal_id", "position"),
        CheckConstraint("units <> 0", name="units"),
        CheckConstraint("version > 0", name="version"),
        CheckConstraint("position >= 0", name="position"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    journal_id: Mapped[UUID] = mapped_column(ForeignKey("ledger_journals.id"))
    account_id: Mapped[int] = mapped_column(BigInteger)
    asset: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    balance: Mapped[int] = mapped_column(UnitsType)
    """The account's raw balance after this entry."""
    version: Mapped[int] = mapped_column(BigInteger)
    """Counts the account's entries from 1 without gaps."""
    position: Mapped[int] = mapped_column(Integer)
    """Within the journal: posting i is the entries 2i (its source) and 2i + 1 (its destination)."""
