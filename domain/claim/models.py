import hashlib
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn
from core.money import UnitsType
from domain.claim.draw import shares
from domain.claim.states import PacketState, Reason, Shares
from ledger import chart


class Packet(Base):
    """Money that a sender lets others claim."""

    __tablename__ = "packets"
    __table_args__ = (
        Index("ix_packets_tenant", "tenant", "id"),
        Index("ix_packets_due", "expires_at", postgresql_where=text("state <> 'closed'")),
        Index("ix_packets_open", "id", postgresql_where=text("state = 'open'")),
        Index("ix_packets_unforgotten", "id", postgresql_where=text("state = 'closed' AND forgotten_at IS NULL")),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    sender: Mapped[str]
    """The ledger account that pays, and gets back what is left."""
    asset: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    """All of it, in the asset's smallest unit."""
    count: Mapped[int]
    """How many shares it is split into."""
    kind: Mapped[str]
    units_min: Mapped[int] = mapped_column(UnitsType)
    """The least that a share can be."""
    seed: Mapped[bytes] = mapped_column(LargeBinary)
    """32 random bytes. Who knows them knows every share, so nobody outside may see them before the end."""
    group_name: Mapped[str | None]
    """Only who claims in this group may have a share."""
    allow_list: Mapped[bool]
    """Only who is in packet_allowed may have a share."""
    expires_at: Mapped[datetime]
    """A whole number of milliseconds, as Redis counts them."""
    hold_id: Mapped[UUID]
    details: Mapped[dict[str, Any]] = mapped_column("metadata", JSONB, default=dict, server_default="{}")
    correlation_id: Mapped[str | None]

    state: Mapped[str] = mapped_column(default=PacketState.FUNDED)
    reason: Mapped[str | None]
    claims: Mapped[int] = mapped_column(default=0, server_default="0")
    units_claimed: Mapped[int] = mapped_column(UnitsType, default=0, server_default="0")
    units_refunded: Mapped[int | None] = mapped_column(UnitsType)
    """What went back to the sender at the end. None before it."""
    refund_refused: Mapped[str | None]
    """Why the refund is not booked, such as that the sender's account is closed. It waits in the packet's account."""
    created_at: Mapped[datetime]
    opened_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    """When Redis, or in its place PostgreSQL, decided so."""
    forgotten_at: Mapped[datetime | None]
    """When Redis was told to forget it."""

    @property
    def current(self) -> PacketState:
        return PacketState(self.state)

    @property
    def ended(self) -> Reason | None:
        return None if self.reason is None else Reason(self.reason)

    @property
    def subject(self) -> str:
        return f"packet:{self.id}"

    @property
    def account(self) -> str:
        """In the ledger: what the packet still has to give."""
        return chart.packet(str(self.id))

    @property
    def seed_hash(self) -> str:
        """SHA-256 of the seed, in hex: what commits us to the shares before anybody claims."""
        return hashlib.sha256(self.seed).hexdigest()

    @property
    def revealed_seed(self) -> str | None:
        """The seed in hex, once the packet is over."""
        return self.seed.hex() if self.current is PacketState.CLOSED else None

    @property
    def shares(self) -> tuple[int, ...]:
        """Units of the shares, by place from 1: the first who claims has place 1. As secret as the seed."""
        return shares(Shares(self.kind), self.seed, self.units, self.count, self.units_min)


class PacketAllowed(Base):
    """One who may claim from a packet with an allow-list."""

    __tablename__ = "packet_allowed"

    packet_id: Mapped[UUID] = mapped_column(ForeignKey("packets.id"), primary_key=True)
    claimant: Mapped[str] = mapped_column(primary_key=True)


class PacketClaim(Base):
    """A share that was won, and by whom. Never changed but for `refused`."""

    __tablename__ = "packet_claims"
    __table_args__ = (UniqueConstraint("packet_id", "place"),)

    packet_id: Mapped[UUID] = mapped_column(primary_key=True)
    claimant: Mapped[str] = mapped_column(primary_key=True)
    """The user: `42` of `user:42:available`."""
    place: Mapped[int]
    """Which share it was, from 1. The ledger's reference is `claim:<packet>:<place>`."""
    units: Mapped[int] = mapped_column(UnitsType)
    claimed_at: Mapped[datetime]
    generation: Mapped[int] = mapped_column(BigInteger)
    seq: Mapped[int | None] = mapped_column(BigInteger)
    """Of the event in its shard. None: PostgreSQL decided."""
    refused: Mapped[str | None]
    """Why it is not booked, such as that the account is closed. The units wait in the packet's account."""
