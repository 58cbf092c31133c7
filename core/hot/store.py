"""The one row that says who decides: read by all, changed by turns."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session


class StoreMode(StrEnum):
    REDIS = "redis"
    POSTGRES = "postgres"
    """Redis is away: claims are decided here, bets are not."""


class StoreState(StrEnum):
    OPEN = "open"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class Generation:
    number: int
    mode: StoreMode
    state: StoreState
    shards: int

    @property
    def is_decided_by_redis(self) -> bool:
        return self.mode is StoreMode.REDIS and self.state is StoreState.OPEN


_CURRENT = text("SELECT generation, mode, state, shards FROM hot_store WHERE id = 1")
_CLOSE = text(
    """
    UPDATE hot_store SET state = 'closing', reason = :reason, changed_at = now()
    WHERE id = 1 AND generation = :generation AND state = 'open'
    """
)
_OPEN = text(
    """
    UPDATE hot_store SET generation = :generation, mode = :mode, state = 'open', shards = :shards, reason = :reason,
                         changed_at = now()
    WHERE id = 1 AND generation = :before AND state = 'closing'
    """
)
_OPEN_SHARDS = text(
    """
    INSERT INTO hot_shards (generation, shard, applied_seq)
    SELECT :generation, shard, 0 FROM generate_series(0, :shards - 1) AS shard ON CONFLICT DO NOTHING
    """
)


def current(session: Session) -> Generation:
    row = session.execute(_CURRENT).one()
    return Generation(row.generation, StoreMode(row.mode), StoreState(row.state), row.shards)


def close(session: Session, generation: int, *, reason: str) -> bool:
    """Begin the turn out of this generation. False if somebody has already."""
    done = session.execute(_CLOSE, {"generation": generation, "reason": reason[:500]})
    return bool(done.rowcount)  # type: ignore[attr-defined]  # has a count


def open_next(session: Session, before: int, *, mode: StoreMode, shards: int, reason: str) -> Generation | None:
    """End the turn out of generation `before`. None if somebody has already."""
    made = Generation(before + 1, mode, StoreState.OPEN, shards)
    done = session.execute(
        _OPEN,
        {"generation": made.number, "before": before, "mode": mode, "shards": shards, "reason": reason[:500]},
    )
    if not done.rowcount:  # type: ignore[attr-defined]
        return None
    session.execute(_OPEN_SHARDS, {"generation": made.number, "shards": shards})
    return made
