"""Transfers that we send, their versions, what these use up, and the wallets that pay."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Identity, Index, Integer, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from chains.sending import Order, Terms, Version
from chains.signing import terms_of
from core.db import Base, IdColumn
from core.errors import InvariantError
from core.money import UnitsType
from domain.onchain.states import TransferState


class OnchainTransfer(Base):
    """An order, and how far it has come. What it says never changes: a chain shows it to everybody anyway."""

    __tablename__ = "onchain_transfers"
    __table_args__ = (
        UniqueConstraint("reference"),
        CheckConstraint("units > 0", name="units"),
        Index("ix_onchain_transfers_due", "chain", "next_look_at", postgresql_where=text("next_look_at IS NOT NULL")),
        Index(
            "ix_onchain_transfers_open",
            "chain",
            "state",
            "created_at",
            postgresql_where=text("state IN ('planned', 'signed', 'sent', 'mined')"),
        ),
        Index("ix_onchain_transfers_chain", "chain", "id"),
    )

    # What was asked for.
    id: Mapped[IdColumn]
    """Our name for it, which whoever asked for it is told."""
    reference: Mapped[str]
    """Theirs, unique for ever: of a payout its attempt's id."""
    tenant: Mapped[str]
    """In whose books the chain's fee is."""
    chain: Mapped[str]
    wallet: Mapped[str]
    asset: Mapped[str]
    recipient: Mapped[str]
    tag: Mapped[str | None]
    units: Mapped[int] = mapped_column(UnitsType)
    created_at: Mapped[datetime]

    # Where it is.
    state: Mapped[str] = mapped_column(default=TransferState.PLANNED)
    failure: Mapped[str | None]
    """Why it did not pay, as a payout's Refusal."""
    why: Mapped[str | None]
    cancel_asked_at: Mapped[datetime | None]
    """A person wants it to pay nobody, if that can still be had."""
    version: Mapped[int | None] = mapped_column(Integer)
    """The version that is in a block."""
    block_number: Mapped[int | None] = mapped_column(BigInteger)
    block_hash: Mapped[str | None]
    looks: Mapped[int] = mapped_column(Integer, default=0)
    """Since its state last changed, or a version was added."""
    next_look_at: Mapped[datetime | None]
    """None: never again."""
    sent_at: Mapped[datetime | None]
    """When the first version was first given to a node."""
    waits_since: Mapped[datetime | None]
    """Since when the newest version has been waiting for a block."""
    ended_at: Mapped[datetime | None]
    final_at: Mapped[datetime | None]
    """When what became of it was so deep that nothing can change it."""
    updated_at: Mapped[datetime]

    @property
    def current(self) -> TransferState:
        return TransferState(self.state)

    @property
    def subject(self) -> str:
        """How its jobs, journals and breaks are found."""
        return f"onchain:{self.id}"

    @property
    def order(self) -> Order:
        return Order(
            reference=self.reference,
            chain=self.chain,
            wallet=self.wallet,
            asset=self.asset,
            to=self.recipient,
            units=self.units,
            tag=self.tag,
        )


class OnchainVersion(Base):
    """One way to carry a transfer. Stored before it is signed, and signed before any node hears of it."""

    __tablename__ = "onchain_versions"
    __table_args__ = (
        UniqueConstraint("transfer_id", "number"),
        UniqueConstraint("chain", "chain_tx"),
        CheckConstraint("(raw IS NULL) = (chain_tx IS NULL) AND (raw IS NULL OR refused_at IS NULL)", name="signed"),
        # Whatever follows takes what is free after this one. If this were refused then, a gap would be left.
        Index(
            "uq_onchain_versions_unsigned",
            "chain",
            "wallet",
            unique=True,
            postgresql_where=text("raw IS NULL AND refused_at IS NULL"),
        ),
    )

    id: Mapped[IdColumn]
    transfer_id: Mapped[UUID] = mapped_column(ForeignKey("onchain_transfers.id"))
    number: Mapped[int] = mapped_column(Integer)
    """From 1, within the transfer. One that was refused keeps its number."""
    chain: Mapped[str]
    wallet: Mapped[str]
    terms: Mapped[dict[str, Any]] = mapped_column(JSONB)
    """As `chains.signing.terms_body` spells them."""
    fee_max: Mapped[int] = mapped_column(UnitsType)
    """Of the chain's coin."""
    created_at: Mapped[datetime]

    asks: Mapped[int] = mapped_column(Integer, default=0)
    """How often the signer was asked."""
    asked_at: Mapped[datetime | None]
    """When it was last asked; committed before the call."""
    raw: Mapped[str | None]
    chain_tx: Mapped[str | None]
    signed_at: Mapped[datetime | None]
    refused_at: Mapped[datetime | None]
    refusal: Mapped[str | None]
    """The signer's word for why. Without `refused_at` it doesn't count yet: another question was open."""

    broadcasts: Mapped[int] = mapped_column(Integer, default=0)
    broadcast_at: Mapped[datetime | None]
    """The last time."""
    reception: Mapped[str | None]
    """What the nodes made of it then. Proves nothing."""
    reception_why: Mapped[str | None]
    cost_units: Mapped[int | None] = mapped_column(UnitsType)
    """Of the chain's coin: what it cost in the final block that it is in."""
    cost_journal_id: Mapped[UUID | None]

    @property
    def decoded(self) -> Terms:
        return terms_of(self.terms)

    @property
    def cancels(self) -> bool:
        return bool(self.terms["cancels"])

    @property
    def is_unsigned(self) -> bool:
        """It is with the signer, or on its way there."""
        return self.raw is None and self.refused_at is None

    @property
    def signed(self) -> Version:
        """Raises InvariantError if it isn't."""
        if self.raw is None or self.chain_tx is None:
            raise InvariantError(f"version {self.number} of onchain:{self.transfer_id} is not signed")
        return Version(number=self.number, terms=self.decoded, chain_tx=self.chain_tx, raw=self.raw)


class OnchainInput(Base):
    """What a transfer may use up: no other may have it until it is released."""

    __tablename__ = "onchain_inputs"
    __table_args__ = (
        Index("uq_onchain_inputs_held", "chain", "input", unique=True, postgresql_where=text("released_at IS NULL")),
        Index("ix_onchain_inputs_held", "chain", "wallet", postgresql_where=text("released_at IS NULL")),
        Index("ix_onchain_inputs_transfer_id", "transfer_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    chain: Mapped[str]
    wallet: Mapped[str]
    input: Mapped[str]
    transfer_id: Mapped[UUID] = mapped_column(ForeignKey("onchain_transfers.id"))
    reserved_at: Mapped[datetime]
    released_at: Mapped[datetime | None]


class OnchainWallet(Base):
    """An address of ours that pays. Its row is the lock under which inputs are taken."""

    __tablename__ = "onchain_wallets"

    chain: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    takes: Mapped[int] = mapped_column(BigInteger, default=0)
    """Counts changes of what is reserved: terms that were asked for before one are not taken after it."""
    fee_units: Mapped[int | None] = mapped_column(UnitsType)
    """What the last version costs at most, in the chain's coin."""
    coin_units: Mapped[int | None] = mapped_column(UnitsType)
    """What it had of the coin when it was last asked."""
    coin_at: Mapped[datetime | None]


class OnchainEvent(Base):
    """The history: who, when, why. Rows are only ever added."""

    __tablename__ = "onchain_events"
    __table_args__ = (Index("ix_onchain_events_transfer_id", "transfer_id", "id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    transfer_id: Mapped[UUID] = mapped_column(ForeignKey("onchain_transfers.id"))
    at: Mapped[datetime]
    event: Mapped[str]
    state_before: Mapped[str]
    state_after: Mapped[str]
    actor: Mapped[str]
    """`onchain` (we), or `person:<name>`."""
    reason: Mapped[str | None]
    detail: Mapped[dict[str, Any]] = mapped_column(JSONB, default=dict)
