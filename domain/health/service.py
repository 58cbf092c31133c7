"""Heartbeats: proof that each part did its work lately. Times are PostgreSQL's."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import func, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from domain.health.models import Heartbeat


def beat(session: Session, name: str) -> None:
    """Record that this part works now."""
    statement = insert(Heartbeat).values(name=name, beat_at=func.now())
    session.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"beat_at": func.now()}))


_AGES = text("SELECT name, now() - beat_at AS age FROM heartbeats WHERE name = ANY(:names)")


def ages(session: Session, names: Sequence[str]) -> dict[str, timedelta | None]:
    """How long ago each part last beat; None if it never did."""
    rows = session.execute(_AGES, {"names": list(names)})
    found: dict[str, timedelta] = {row.name: row.age for row in rows}
    return {name: found.get(name) for name in names}


def stale(session: Session, names: Sequence[str], *, after: timedelta) -> list[str]:
    """Those that have not beaten within `after`."""
    return [name for name, age in ages(session, names).items() if age is None or age > after]
