from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Sequence, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base
from core.money import UnitsType

SETTLED_NUMBERS = Sequence("bets_settled_number_seq", data_type=BigInteger, metadata=Base.metadata)


class BetPlayer(Base):
    """A user in one asset, as the books know him: `free` and `locked` are the balances of playing and staked."""

    __tablename__ = "bet_players"
    __table_args__ = (
        UniqueConstraint("tenant", "user_id", "asset"),
        CheckConstraint("free >= 0 AND locked >= 0 AND version >= 0", name="balances"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    """Made from the three names (domain.bet.players)."""
    tenant: Mapped[str]
    user_id: Mapped[str]
    asset: Mapped[str]
    version: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """Counts his decisions: that of the last one seen by `sync.apply`."""
    free: Mapped[int] = mapped_column(UnitsType, server_default="0")
    locked: Mapped[int] = mapped_column(UnitsType, server_default="0")
    last_active_at: Mapped[datetime] = mapped_column(server_default=func.now())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HotLoad(Base):
    """Money on its way from a user's available balance into his hands as a player."""

    __tablename__ = "hot_loads"
    __table_args__ = (
        CheckConstraint("units > 0", name="units"),
        CheckConstraint("state IN ('held', 'loaded', 'voided')", name="state"),
        CheckConstraint("(state = 'held') = (settled_at IS NULL)", name="settled"),
        Index("ix_hot_loads_player", "player", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    player: Mapped[UUID] = mapped_column(ForeignKey("bet_players.id"))
    units: Mapped[int] = mapped_column(UnitsType)
    hold_id: Mapped[UUID]
    state: Mapped[str]
    refused: Mapped[str | None]
    """Why the books did not take the hot store's word that it is loaded. A person decides; it is never voided."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]


class HotUnload(Base):
    """Money on its way back. What is moved, the hot store says."""

    __tablename__ = "hot_unloads"
    __table_args__ = (
        CheckConstraint("units > 0", name="units"),
        CheckConstraint("state IN ('asked', 'unloaded', 'refused')", name="state"),
        CheckConstraint("(state = 'unloaded') = (moved IS NOT NULL)", name="moved"),
        CheckConstraint("(state = 'asked') = (settled_at IS NULL)", name="settled"),
        Index("ix_hot_unloads_player", "player", "id"),
        Index("uq_hot_unloads_idle", "player", unique=True, postgresql_where=text("idle AND state = 'asked'")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    player: Mapped[UUID] = mapped_column(ForeignKey("bet_players.id"))
    units: Mapped[int | None] = mapped_column(UnitsType)
    """None: all that is free."""
    idle: Mapped[bool]
    """Nobody asked for it: only if the player is still idle."""
    moved: Mapped[int | None] = mapped_column(UnitsType)
    state: Mapped[str]
    why: Mapped[str | None]
    """Of a refusal."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    settled_at: Mapped[datetime | None]


class Bet(Base):
    """Of one player, who names it. Written by `sync.apply` alone, from what the hot store decided.

    No foreign key to the player, which would lock his row for each bet: the row is written by whoever found him.
    """

    __tablename__ = "bets"
    __table_args__ = (
        CheckConstraint("stake > 0 AND edge_bps BETWEEN 0 AND 10000", name="facts"),
        CheckConstraint("state IN ('reserved', 'settled', 'voided')", name="state"),
        CheckConstraint(
            "(state = 'reserved') = (ended_at IS NULL) AND (state = 'reserved') = (ended_free IS NULL)", name="ended"
        ),
        CheckConstraint(
            "(state = 'settled') = (payout IS NOT NULL) AND (state = 'settled') = (settled_number IS NOT NULL)",
            name="settled",
        ),
        Index("ix_bets_id", "id"),
        Index("ix_bets_open", "player", postgresql_where=text("state = 'reserved'")),
        Index("uq_bets_settled_number", "settled_number", unique=True, postgresql_where=text("state = 'settled'")),
    )

    player: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    game: Mapped[str]
    stake: Mapped[int] = mapped_column(UnitsType)
    edge_bps: Mapped[int]
    """What the house expects to keep of the stake, in hundredths of a percent."""
    agent: Mapped[str | None]
    state: Mapped[str]
    payout: Mapped[int | None] = mapped_column(UnitsType)
    reserved_at: Mapped[datetime]
    reserved_free: Mapped[int] = mapped_column(UnitsType)
    reserved_locked: Mapped[int] = mapped_column(UnitsType)
    """What the player had after it: the first answer, which every replay gets."""
    reserved_generation: Mapped[int] = mapped_column(BigInteger)
    reserved_seq: Mapped[int] = mapped_column(BigInteger)
    ended_at: Mapped[datetime | None]
    ended_free: Mapped[int | None] = mapped_column(UnitsType)
    ended_generation: Mapped[int | None] = mapped_column(BigInteger)
    ended_seq: Mapped[int | None] = mapped_column(BigInteger)
    settled_number: Mapped[int | None] = mapped_column(BigInteger)
    """Counts settled bets in the order in which they were committed: a reader who has seen one has seen all before."""
