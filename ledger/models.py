"""The ledger's tables. Only this package reads them; only the functions of the migrations write them.

They have triggers instead of CHECKs and of foreign keys where each post would pay for them (migration 0004, ADR 13).

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
    """One row for each stripe of an account: its balance, held, limits and state are those of the row.

    An account with bounds, holds or a customer has one stripe. The stripes of one account are opened together.
    """

    __tablename__ = "ledger_accounts"
    __table_args__ = (
        UniqueConstraint("tenant", "code", "asset", "stripe"),
        # Room on each page, so that a new balance is written beside the old one and touches no index.
        {"postgresql_with": {"fillfactor": 70}},
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant: Mapped[str]
    # "C", so that a prefix of codes is a range of the index and the order is the same on every machine.
    code: Mapped[str] = mapped_column(Text(collation="C"))
    asset: Mapped[str] = mapped_column(ForeignKey("ledger_assets.id"))
    stripe: Mapped[int] = mapped_column(SmallInteger, server_default=text("0"))
    stripes: Mapped[int] = mapped_column(SmallInteger, server_default=text("1"))
    kind: Mapped[str]
    normal_side: Mapped[str]
    floor: Mapped[int | None] = mapped_column(UnitsType)
    ceiling: Mapped[int | None] = mapped_column(UnitsType)
    balance: Mapped[int] = mapped_column(UnitsType, server_default=text("0"))
    held: Mapped[int] = mapped_column(UnitsType, server_default=text("0"))
    """What pending holds may still take out, on the normal side."""
    version: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    state: Mapped[str] = mapped_column(server_default="open")
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))
    booked_at: Mapped[datetime | None]
    """When its last entry was booked."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class LedgerJournal(Base):
    __tablename__ = "ledger_journals"
    __table_args__ = (
        UniqueConstraint("tenant", "reference"),
        Index(None, "tenant", "subject", postgresql_where=text("subject IS NOT NULL")),
        # A journal is reversed at most once. Partial: most journals reverse nothing and needn't pay for the index.
        Index("uq_ledger_journals_reverses", "reverses", unique=True, postgresql_where=text("reverses IS NOT NULL")),
        # Which journals had happened but weren't booked at a moment, or the other way round. The range is made of both
        # times, in order, so it holds exactly the moments at which the two clocks disagree about the journal.
        Index(
            "ix_ledger_journals_dated",
            text("tstzrange(LEAST(effective_at, booked_at), GREATEST(effective_at, booked_at))"),
            postgresql_using="gist",
            postgresql_where=text("effective_at <> booked_at"),
        ),
    )

    id: Mapped[IdColumn]
    number: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    """Its place in the books. Taken under the locks of its accounts, so it grows along each account's versions; a post
    that was rolled back leaves a gap."""
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
    """No foreign keys: a statement's trigger checks its entries' journals and accounts at once (ADR 13)."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        # Also how a statement is read: an account's newest entries first.
        UniqueConstraint("account_id", "version"),
    )

    journal_number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    """Within the journal: posting i is the entries 2i (its source) and 2i + 1 (its destination)."""
    account_id: Mapped[int] = mapped_column(BigInteger)
    version: Mapped[int] = mapped_column(BigInteger)
    """Counts the account's entries from 1 without gaps."""
    units: Mapped[int] = mapped_column(UnitsType)
    balance: Mapped[int] = mapped_column(UnitsType)
    """The account's raw balance after this entry."""
    booked_at: Mapped[datetime]
    """Its journal's, so that an account's balance as of a time is found by its own index. Never falls as the version
    grows."""


class LedgerHold(Base):
    """Units of an account that are bound for another until the hold is settled, once. Its account's row is its lock."""

    __tablename__ = "ledger_holds"
    __table_args__ = (
        UniqueConstraint("tenant", "reference"),
        CheckConstraint("units > 0", name="units"),
        CheckConstraint("state IN ('pending', 'posted', 'voided', 'expired')", name="state"),
        CheckConstraint(
            "(state = 'pending') = (settled_at IS NULL) AND (state = 'posted') = (journal_id IS NOT NULL)"
            " AND (state = 'posted') = (posted_units IS NOT NULL) AND posted_units BETWEEN 1 AND units"
            " AND (state <> 'expired' OR expires_at <= settled_at)",
            name="settled",
        ),
        Index("ix_ledger_holds_tenant_id", "tenant", "id"),
        Index("ix_ledger_holds_account_id_id", "account_id", "id"),
        Index(
            "ix_ledger_holds_tenant_subject", "tenant", "subject", "id", postgresql_where=text("subject IS NOT NULL")
        ),
        # What may still be let go: of an account that lacks funds, and of all by the sweep.
        Index("ix_ledger_holds_pending", "account_id", "expires_at", postgresql_where=text("state = 'pending'")),
        Index(
            "ix_ledger_holds_due", "expires_at", postgresql_where=text("state = 'pending' AND expires_at IS NOT NULL")
        ),
        # Of all that was ever held, the few that people ask for most.
        Index("ix_ledger_holds_tenant_pending", "tenant", "id", postgresql_where=text("state = 'pending'")),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    reference: Mapped[str]
    content_hash: Mapped[bytes] = mapped_column(LargeBinary)
    account_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ledger_accounts.id"))
    """The source's row."""
    destination: Mapped[str] = mapped_column(Text(collation="C"))
    units: Mapped[int] = mapped_column(UnitsType)
    state: Mapped[str]
    posted_units: Mapped[int | None] = mapped_column(UnitsType)
    expires_at: Mapped[datetime | None]
    journal_id: Mapped[UUID | None] = mapped_column(ForeignKey("ledger_journals.id"))
    """The capture's."""
    subject: Mapped[str | None]
    correlation_id: Mapped[str | None]
    job_id: Mapped[UUID | None]
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime]
    settled_at: Mapped[datetime | None]


class LedgerAccountChange(Base):
    """What was done to an account, by whom and why. Written beside the change, for ever."""

    __tablename__ = "ledger_account_changes"
    __table_args__ = (Index(None, "tenant", "code", "asset", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    tenant: Mapped[str]
    code: Mapped[str] = mapped_column(Text(collation="C"))
    asset: Mapped[str]
    change: Mapped[str]
    before: Mapped[dict[str, Any]]
    after: Mapped[dict[str, Any]]
    reason: Mapped[str]
    actor: Mapped[str]
    at: Mapped[datetime]


class LedgerFreeze(Base):
    """A holder wants an account frozen: the row is there as long as it does. The account's rows are its lock."""

    __tablename__ = "ledger_freezes"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    asset: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    """Its subject, or `person:` and a name."""
    change_id: Mapped[int] = mapped_column(BigInteger, ForeignKey("ledger_account_changes.id"))
    """What placed it: who, when and why."""


class LedgerLink(Base):
    """A journal's link in the hash chain of its shard, which is `number % 4` (ADR 12)."""

    __tablename__ = "ledger_links"

    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)
    """sha256(the shard's link before this one, sha256(the journal's form))."""


class LedgerSeal(Base):
    """One run of the sealer over one shard."""

    __tablename__ = "ledger_seals"
    __table_args__ = (UniqueConstraint("shard", "last_number"),)

    shard: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    ordinal: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """Counts the shard's seals from 1 without gaps."""
    first_number: Mapped[int] = mapped_column(BigInteger)
    last_number: Mapped[int] = mapped_column(BigInteger)
    journals: Mapped[int] = mapped_column(BigInteger)
    """How many journals the shard's chain has up to here."""
    head: Mapped[bytes] = mapped_column(LargeBinary)
    """The link of the last."""
    sealed_at: Mapped[datetime]


class LedgerAudit(Base):
    """What one audit found among the journals with `after_number < number <= upto_number`, and if full, everywhere."""

    __tablename__ = "ledger_audits"
    __table_args__ = (
        CheckConstraint("kind IN ('incremental', 'full')", name="kind"),
        Index(None, "kind", "id"),
        Index("ix_ledger_audits_wrong", "id", postgresql_where=text("violations <> '[]'::jsonb")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    kind: Mapped[str]
    after_number: Mapped[int] = mapped_column(BigInteger)
    upto_number: Mapped[int] = mapped_column(BigInteger)
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    reached_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When its last step ended."""
    finished_at: Mapped[datetime | None]
    violations: Mapped[list[dict[str, Any]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
