from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
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
from domain.deposit.states import DepositState, Mode, Reason, Wait


class DepositAddress(Base):
    """An address of ours. Its key is kept elsewhere: this side can see money arrive and can't move it."""

    __tablename__ = "deposit_addresses"
    __table_args__ = (
        CheckConstraint("kind IN ('shared', 'allotted')", name="kind"),
        CheckConstraint("(owner_account IS NULL) = (allotted_at IS NULL)", name="allotment"),
        CheckConstraint("kind = 'allotted' OR owner_account IS NULL", name="shared_has_no_owner"),
        CheckConstraint("NOT tagged OR kind = 'shared'", name="tagged_is_shared"),
        CheckConstraint(
            "(wallet_id IS NULL) = (wallet_index IS NULL) AND (wallet_id IS NULL OR owner_account IS NOT NULL)",
            name="derived",
        ),
        Index(
            "ix_deposit_addresses_free",
            "tenant",
            "chain",
            "address",
            postgresql_where=text("kind = 'allotted' AND owner_account IS NULL"),
        ),
        Index(
            "ix_deposit_addresses_owner",
            "tenant",
            "owner_account",
            "chain",
            postgresql_where=text("owner_account IS NOT NULL"),
        ),
        Index("ix_deposit_addresses_address", "address"),
        Index("ix_deposit_addresses_watched", "chain", "address", postgresql_where=text("watched_at IS NOT NULL")),
        Index(
            "ix_deposit_addresses_watched_at", "chain", "watched_at", postgresql_where=text("watched_at IS NOT NULL")
        ),
        Index("ix_deposit_addresses_tagged", "tenant", "chain", "created_at", postgresql_where=text("tagged")),
        Index(
            "uq_deposit_addresses_wallet",
            "wallet_id",
            "wallet_index",
            unique=True,
            postgresql_where=text("wallet_id IS NOT NULL"),
        ),
    )

    chain: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    """In the chain's canonical spelling."""
    tenant: Mapped[str]
    kind: Mapped[str]
    """`shared`: many payers pay to it, each payment is claimed by its hash. `allotted`: one owner's, and scanned."""
    owner_account: Mapped[str | None]
    """None while the address is free in the tenant's pool. It never changes again."""
    allotted_at: Mapped[datetime | None]
    tagged: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """A shared one that is scanned: whose each payment is, its tag says."""
    wallet_id: Mapped[UUID | None] = mapped_column(ForeignKey("deposit_wallets.id"))
    wallet_index: Mapped[int | None] = mapped_column(BigInteger)
    """Which child of the wallet's key it is, if it was derived."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    watched_at: Mapped[datetime | None] = mapped_column(
        Computed("CASE WHEN kind = 'allotted' THEN allotted_at WHEN tagged THEN created_at END", persisted=True)
    )
    """Since when the chain is scanned for it; None: it is not."""


class DepositWallet(Base):
    """An extended public key of a tenant, from which addresses are derived. Its private key is kept elsewhere."""

    __tablename__ = "deposit_wallets"
    __table_args__ = (
        UniqueConstraint("tenant", "chain", "extended_key"),
        CheckConstraint("next_index BETWEEN 0 AND 2147483648", name="next_index"),
        CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name="closed"),
        Index("uq_deposit_wallets_open", "tenant", "chain", unique=True, postgresql_where=text("closed_at IS NULL")),
        Index("ix_deposit_wallets_extended_key", "extended_key"),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    chain: Mapped[str]
    extended_key: Mapped[str]
    """In the spelling of `chains.formats.check_extended_key`."""
    next_index: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """The same in all wallets of the tenant with this key: a child belongs to one owner on all of its chains."""
    added_by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    closed_by: Mapped[str | None]
    closed_at: Mapped[datetime | None]
    """When it stopped giving addresses; those that it gave stay. One open wallet a tenant and chain."""


class DepositTag(Base):
    """Whose the payments to a tagged address are that carry this tag. For ever, as an allotted address is."""

    __tablename__ = "deposit_tags"
    __table_args__ = (
        UniqueConstraint("chain", "address", "owner_account"),
        ForeignKeyConstraint(["chain", "address"], ["deposit_addresses.chain", "deposit_addresses.address"]),
        Index("ix_deposit_tags_owner", "tenant", "owner_account", "chain"),
    )

    chain: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    tag: Mapped[str] = mapped_column(primary_key=True)
    """In the chain's canonical spelling."""
    tenant: Mapped[str]
    owner_account: Mapped[str]
    allotted_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Deposit(Base):
    """A payment to watch for, and what became of it."""

    SUBJECT: ClassVar[str] = "deposit:"
    """How its subjects begin; its id follows."""

    __tablename__ = "deposits"
    __table_args__ = (
        CheckConstraint("mode IN ('tx', 'address', 'unexpected')", name="mode"),
        CheckConstraint("mode <> 'tx' OR chain_tx IS NOT NULL", name="tx_mode_names_one"),
        CheckConstraint("tolerance_bps BETWEEN 0 AND 10000", name="tolerance_bps"),
        CheckConstraint("units_expected > 0", name="units_expected"),
        CheckConstraint(
            "state NOT IN ('credited', 'suspended') OR (journal_id IS NOT NULL AND units_received > 0)",
            name="booked_has_journal",
        ),
        CheckConstraint(
            "state NOT IN ('pending', 'credited', 'suspended', 'rejected') OR block_hash IS NOT NULL",
            name="verdict_has_block",
        ),
        CheckConstraint("accepts <@ ARRAY['underpaid', 'overpaid', 'late', 'unexpected']", name="accepts"),
        CheckConstraint(
            "(value_currency IS NULL) = (value_units IS NULL) AND (value_units IS NULL OR units_expected IS NULL)"
            " AND value_units > 0",
            name="value",
        ),
        CheckConstraint(
            "state NOT IN ('credited', 'suspended') OR value_units IS NULL OR priced_at IS NOT NULL",
            name="booked_is_priced",
        ),
        CheckConstraint(
            "waits_for IN ('agreement', 'second_node', 'rate') AND (waits_for IS NULL) = (waits_since IS NULL)",
            name="waits",
        ),
        Index("ix_deposits_waits", "chain", "waits_for", "waits_since", postgresql_where=text("waits_for IS NOT NULL")),
        Index("ix_deposits_owed", "tenant", "account", postgresql_where=text("units_short > 0")),
        Index("ix_deposits_suspended", "state", postgresql_where=text("state = 'suspended' AND final_at IS NOT NULL")),
        Index("ix_deposits_due", "chain", "next_poll_at", postgresql_where=text("next_poll_at IS NOT NULL")),
        Index("ix_deposits_live", "state", postgresql_where=text("final_at IS NULL")),
        Index("ix_deposits_chain_tx", "chain", "chain_tx", postgresql_where=text("chain_tx IS NOT NULL")),
        Index(
            "ix_deposits_address",
            "chain",
            "address",
            text("coalesce(tag, '')"),
            postgresql_where=text("final_at IS NULL AND mode <> 'tx'"),
        ),
        Index("ix_deposits_tenant", "tenant", "id"),
        Index("ix_deposits_waiting", "chain", postgresql_where=text("mode <> 'tx' AND state = 'watching'")),
        Index("ix_deposits_tenant_state", "tenant", "state", "id"),
        Index("ix_deposits_state", "state", "id"),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    chain: Mapped[str]
    asset: Mapped[str]
    account: Mapped[str]
    """The ledger account to credit."""
    mode: Mapped[str]
    address: Mapped[str]
    tag: Mapped[str | None]
    """What a payment to a tagged address must carry to be this deposit's."""
    chain_tx: Mapped[str | None]
    """The transaction that is followed: named by the app (`tx`), or found by the scanner."""
    payer: Mapped[str | None]
    """If given, only a transfer from this address counts."""
    units_expected: Mapped[int | None] = mapped_column(UnitsType)
    """None: any amount from the asset's `units_min` up will do."""
    value_currency: Mapped[str | None]
    value_units: Mapped[int | None] = mapped_column(UnitsType)
    """Instead of `units_expected`: what it must be worth, at the rate of the time of its block."""
    tolerance_bps: Mapped[int] = mapped_column(SmallInteger, default=0)
    """By how many hundredths of a percent it may be off `units_expected` or `value_units`."""
    accepts: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list, server_default=text("'{}'"))
    """The reasons that don't keep it from being credited: policies of its asset, or of the request."""
    confirmations: Mapped[int | None] = mapped_column(Integer)
    """Blocks, instead of the rule of the asset or the chain."""
    deadline_at: Mapped[datetime]
    # `metadata` is taken in SQLAlchemy's classes.
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict)
    correlation_id: Mapped[str | None]
    look_job_id: Mapped[UUID | None]
    """The job of the first look."""

    state: Mapped[str] = mapped_column(default=DepositState.WATCHING)
    reason: Mapped[str | None]
    incarnation: Mapped[int] = mapped_column(Integer, default=0)
    """How often a reorg has sent it back."""
    reorged_at: Mapped[datetime | None]

    # The transfer found, in this incarnation.
    index: Mapped[int | None] = mapped_column(BigInteger)
    sender: Mapped[str | None]
    units_received: Mapped[int | None] = mapped_column(UnitsType)
    block_number: Mapped[int | None] = mapped_column(BigInteger)
    block_hash: Mapped[str | None]
    block_time: Mapped[datetime | None]
    confirmations_seen: Mapped[int] = mapped_column(Integer, default=0)
    depth_needed: Mapped[int | None] = mapped_column(Integer)
    """So many blocks must stand on it, as the rules were when it was found; 0: the finalized tag decides."""

    tx_inputs: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """What the transaction uses up, to notice that another took it (`chains.base.ChainTx.inputs`)."""

    tx_valid_until: Mapped[datetime | None]
    """After this time, by the chain's clock, no block can take the transaction in any more."""

    # What a booking waits for, in this incarnation.
    priced_at: Mapped[datetime | None]
    """When what arrived was weighed by its value."""
    agreed_at: Mapped[datetime | None]
    """When two endpoints told its transfer alike."""
    waits_for: Mapped[str | None]
    waits_since: Mapped[datetime | None]
    disputed_at: Mapped[datetime | None]
    """Two endpoints told its transaction otherwise than the one that was believed: from then on only two are."""

    journal_id: Mapped[UUID | None]
    """What booked the money in this incarnation: to its owner, or to suspense."""
    release_journal_id: Mapped[UUID | None]
    """What took it from suspense to its owner."""
    units_recovered: Mapped[int] = mapped_column(UnitsType, default=0)
    """How much of the credit paid off the debt that this deposit's last reversal had left."""
    units_short: Mapped[int] = mapped_column(UnitsType, default=0)
    """What its owner still owes because of this deposit's reversals."""

    next_poll_at: Mapped[datetime | None]
    """None: not polled. Either final, or the scanner's, or handed to a job of its own after an error."""
    final_at: Mapped[datetime | None]
    """Nothing can change it any more."""
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]

    @property
    def current(self) -> DepositState:
        return DepositState(self.state)

    @property
    def why(self) -> Reason | None:
        return None if self.reason is None else Reason(self.reason)

    @property
    def waiting_for(self) -> Wait | None:
        return None if self.waits_for is None else Wait(self.waits_for)

    @property
    def by(self) -> Mode:
        return Mode(self.mode)

    @property
    def subject(self) -> str:
        """How its jobs and journals are found, and how the ledger names it where it freezes an account."""
        return f"{self.SUBJECT}{self.id}"


class DepositEvent(Base):
    """The history of a deposit. Rows are only ever added."""

    __tablename__ = "deposit_events"
    __table_args__ = (Index("ix_deposit_events_deposit_id", "deposit_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    deposit_id: Mapped[UUID] = mapped_column(ForeignKey("deposits.id"))
    at: Mapped[datetime]
    event: Mapped[str]
    state_before: Mapped[str | None]
    state_after: Mapped[str]
    """The same as before for what is worth noting and changes nothing, such as a sighting in the mempool."""
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)


class DepositTransfer(Base):
    """A transfer and the deposit it was attributed to. At most one living row a transfer: nothing is credited twice."""

    __tablename__ = "deposit_transfers"
    __table_args__ = (
        Index(
            "uq_deposit_transfers_living",
            "chain",
            "chain_tx",
            "index",
            unique=True,
            postgresql_where=text("orphaned_at IS NULL"),
        ),
        Index("ix_deposit_transfers_block", "chain", "block_hash", postgresql_where=text("orphaned_at IS NULL")),
        Index("ix_deposit_transfers_deposit_id", "deposit_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    chain: Mapped[str]
    chain_tx: Mapped[str]
    index: Mapped[int] = mapped_column(BigInteger)
    block_hash: Mapped[str]
    block_number: Mapped[int] = mapped_column(BigInteger)
    deposit_id: Mapped[UUID] = mapped_column(ForeignKey("deposits.id"))
    units: Mapped[int] = mapped_column(UnitsType)
    attributed_at: Mapped[datetime]
    orphaned_at: Mapped[datetime | None]
    """When its block was found to be no part of the chain any more."""
