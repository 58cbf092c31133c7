"""Whether a chain can be read, noted where operators look: failures of nodes are weather, not dead letters."""

from datetime import datetime

from sqlalchemy import func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from domain.deposit.models import ChainCursor


def note_failure(session: Session, chain: str, error: Exception, *, now: datetime) -> None:
    statement = insert(ChainCursor).values(
        chain=chain, last_error=str(error)[:2_000], failing_since=now, updated_at=now
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={
                "last_error": statement.excluded.last_error,
                "failing_since": func.coalesce(ChainCursor.failing_since, statement.excluded.failing_since),
                "updated_at": now,
            },
            where=ChainCursor.status == "running",  # why it was stopped must not be overwritten
        )
    )


def note_read(session: Session, chain: str, *, now: datetime) -> None:
    statement = insert(ChainCursor).values(chain=chain, last_read_at=now, updated_at=now)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={"last_read_at": now, "failing_since": None, "last_error": None, "updated_at": now},
            where=ChainCursor.status == "running",
        )
    )
