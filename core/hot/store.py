"""The one row that says who decides: read by all, changed by turns."""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.hot.errors import StoreAwayError


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


def open_next(
    session: Session, before: int, *, mode: StoreMode, shards: int, reason: str, number: int | None = None
) -> Generation | None:
    """End the turn out of generation `before`. None if somebody has already. `number`: a later one than the next."""
    made = Generation(number or before + 1, mode, StoreState.OPEN, shards)
    done = session.execute(
        _OPEN,
        {"generation": made.number, "before": before, "mode": mode, "shards": shards, "reason": reason[:500]},
    )
    if not done.rowcount:  # type: ignore[attr-defined]
        return None
    session.execute(_OPEN_SHARDS, {"generation": made.number, "shards": shards})
    return made


# One lock for all that PostgreSQL decides: shared by decisions, taken alone by the turn that ends them. Unlike a lock
# of the row, it is given in the order in which it was asked for, so that ever new decisions don't keep a turn waiting.
_DECIDING_HERE = 0x7472_0001
_SHARE = text("SELECT pg_advisory_xact_lock_shared(:lock)")
_ALONE = text("SELECT pg_advisory_xact_lock(:lock)")


def decide_here(session: Session) -> Generation:
    """To be called first in each transaction that decides in place of Redis: no turn ends before that transaction.

    Raises StoreAwayError if it is not PostgreSQL that decides now.
    """
    session.execute(_SHARE, {"lock": _DECIDING_HERE})
    found = current(session)
    if found.mode is not StoreMode.POSTGRES or found.state is not StoreState.OPEN:
        raise StoreAwayError("the hot store is turning" if found.state is StoreState.CLOSING else "Redis decides again")
    return found


def await_decisions(session: Session) -> None:
    """Once the generation is closing: when this returns, no transaction under `decide_here` is under way any more."""
    session.execute(_ALONE, {"lock": _DECIDING_HERE})
