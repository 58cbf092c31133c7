from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, SmallInteger, func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class HotStore(Base):
    """The one row that says who decides."""

    __tablename__ = "hot_store"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, default=1, autoincrement=False)
    generation: Mapped[int] = mapped_column(BigInteger)
    mode: Mapped[str]
    """redis or postgres: where this generation is decided."""
    state: Mapped[str]
    """open, or closing: a turn is under way."""
    shards: Mapped[int]
    """How many this generation has."""
    reason: Mapped[str]
    """Of the last change, for people."""
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HotShard(Base):
    """How far the books have come."""

    __tablename__ = "hot_shards"

    generation: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    applied_seq: Mapped[int] = mapped_column(BigInteger)
    """Every event up to this one is in PostgreSQL, for ever."""
    owner: Mapped[str | None]
    """The sync process that drains it."""
    owned_until: Mapped[datetime | None]
    applied_at: Mapped[datetime | None]


class HotDecider(Base):
    """A process that decides. Its row goes when it says good-bye, or long after it fell silent."""

    __tablename__ = "hot_deciders"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    """Host and process, for people."""
    left_generation: Mapped[int] = mapped_column(BigInteger)
    """It decides nothing any more in this one and those before, and has written down what it remembered of them."""
    lost_generation: Mapped[int] = mapped_column(BigInteger, server_default="0")
    """The last one of which it did not say so: it was taken for dead. What it answered then is in Redis alone."""
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())


class HotEvent(Base):
    """What a decider remembered when its generation ended. Applied by the turn; kept, like every word of a quarrel."""

    __tablename__ = "hot_events"

    generation: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    event: Mapped[str]
    decider: Mapped[UUID]
    written_at: Mapped[datetime] = mapped_column(server_default=func.now())
