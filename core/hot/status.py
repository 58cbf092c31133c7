"""How the hot store is, for metrics and for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from redis import Redis
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.hot.keys import STREAM, key
from core.hot.presence import CONFLICT, GAP, ORPHAN
from core.hot.store import Generation, StoreMode, StoreState

_READ = text(
    """
    SELECT generation, mode, state, shards, clock_timestamp() - changed_at AS since_change,
           (SELECT count(*) FROM hot_deciders) AS deciders
    FROM hot_store WHERE id = 1
    """
)
_SHARDS = text(
    """
    SELECT shard, clock_timestamp() - coalesce(applied_at, hot_store.changed_at) AS since_applied
    FROM hot_shards JOIN hot_store USING (generation) ORDER BY shard
    """
)


@dataclass(frozen=True, slots=True)
class Status:
    generation: Generation
    since_change: timedelta
    """Since its turn ended, or the next began."""
    deciders: int
    since_applied: Mapping[int, timedelta]
    """By shard: since an event of it was written into the books."""

    @property
    def open_by_mode(self) -> dict[str, bool]:
        is_open = self.generation.state is StoreState.OPEN
        return {str(mode): is_open and self.generation.mode is mode for mode in StoreMode}


def read(session: Session) -> Status:
    row = session.execute(_READ).one()
    generation = Generation(row.generation, StoreMode(row.mode), StoreState(row.state), row.shards)
    applied = {each.shard: each.since_applied for each in session.execute(_SHARDS)}
    return Status(generation, row.since_change, row.deciders, applied)


def waiting(store: Redis, status: Status) -> dict[int, int]:
    """By shard: events in its stream. What is in the books is trimmed at once. Raises RedisError."""
    if status.generation.mode is not StoreMode.REDIS:
        return {}
    return {shard: int(store.xlen(key(status.generation.number, shard, STREAM))) for shard in status.since_applied}


__all__ = ["CONFLICT", "GAP", "ORPHAN", "Status", "read", "waiting"]
