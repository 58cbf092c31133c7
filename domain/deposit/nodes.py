"""Whether a chain can be read, noted where operators look: failures of nodes are weather, not dead letters."""

from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, case, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from domain.deposit.models import ChainCursor

Reading = Literal["poll", "scan"]
"""They ask a node for different things: one may fail for days while the other goes on, and must not hide it."""


def note_failure(session: Session, chain: str, error: Exception, *, by: Reading, now: datetime) -> None:
    """The first of the two to fail stands there until it has read again."""
    statement = insert(ChainCursor).values(
        chain=chain, last_error=f"{by}: {error}"[:2_000], failing_since=now, updated_at=now
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={
                "last_error": statement.excluded.last_error,
                "failing_since": func.coalesce(ChainCursor.failing_since, statement.excluded.failing_since),
                "updated_at": now,
            },
            # Why it was stopped must not be overwritten.
            where=(ChainCursor.status == "running") & _is_own(by),
        )
    )


def note_read(session: Session, chain: str, *, by: Reading, now: datetime) -> None:
    statement = insert(ChainCursor).values(chain=chain, last_read_at=now, updated_at=now)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={
                "last_read_at": now,
                "failing_since": case((_is_own(by), None), else_=ChainCursor.failing_since),
                "last_error": case((_is_own(by), None), else_=ChainCursor.last_error),
                "updated_at": now,
            },
            where=ChainCursor.status == "running",
        )
    )


def _is_own(by: Reading) -> ColumnElement[bool]:
    return ChainCursor.last_error.is_(None) | ChainCursor.last_error.startswith(f"{by}: ")
