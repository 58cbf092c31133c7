"""Tasks that only tests know. They leave a mark in the table `probe_marks`, so that what ran can be counted."""

import os
import signal
import time
from collections.abc import Callable
from typing import Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.errors import ConflictError, InvariantError, OutcomeUnknownError, PermanentError, TransientError
from core.jobs import current
from tasks.base import task, transaction

TABLE = "CREATE TABLE probe_marks (id bigserial PRIMARY KEY, label text NOT NULL, job_id uuid)"

ERRORS: dict[str, Callable[[str], Exception]] = {
    "transient": TransientError,
    "permanent": PermanentError,
    "unknown": OutcomeUnknownError,
    "invariant": InvariantError,
    "conflict": ConflictError,
    "bug": ZeroDivisionError,
    "quoting": lambda _: ValueError("\x00 and \udc80"),
}


def mark(session: Session, label: str) -> None:
    job = current.get()
    session.execute(
        text("INSERT INTO probe_marks (label, job_id) VALUES (:label, :job_id)"),
        {"label": label, "job_id": job.id if job else None},
    )


@task("maintenance.probe")
def probe(session: Session, label: str) -> None:
    """A local step: one mark."""
    mark(session, label)


@task("maintenance.probe_fail")
def probe_fail(session: Session, label: str, error: str, until_attempt: int = 1_000) -> None:
    """Marks, then fails, until the attempt with this number."""
    mark(session, label)
    job = current.get()
    assert job is not None
    if job.attempts < until_attempt:
        raise ERRORS[error](f"asked to fail with {error}")


@task("maintenance.probe_slow")
def probe_slow(session: Session, label: str, seconds: int) -> None:
    """Works for a while inside its transaction."""
    mark(session, f"{label}:begun")
    time.sleep(seconds)
    mark(session, label)


@task("maintenance.probe_poison")
def probe_poison(session: Session, label: str) -> None:
    """Kills its process, as an out-of-memory killer would, unless its label is fine."""
    if label != "fine":
        os.kill(os.getpid(), signal.SIGKILL)
    mark(session, label)


@task("maintenance.probe_steps")
def probe_steps(label: str, die_after: Literal["", "intent", "call", "record"] = "") -> None:
    """A step with an outside call, which stands here as a mark committed by another connection."""
    from sqlalchemy import create_engine

    from config import settings

    def die(at: str) -> None:
        job = current.get()
        if die_after == at and job is not None and job.attempts == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with transaction() as session:
        seen = session.scalar(text("SELECT count(*) FROM probe_marks WHERE label = :l"), {"l": f"{label}:intent"})
        if not seen:
            mark(session, f"{label}:intent")
    die("intent")
    outside = create_engine(str(settings.servers().database_url))
    with outside.begin() as connection:  # idempotent by our key, as a good provider is
        connection.execute(
            text(
                "INSERT INTO probe_marks (label) SELECT :l WHERE NOT EXISTS"
                " (SELECT 1 FROM probe_marks WHERE label = :l)"
            ),
            {"l": f"{label}:effect"},
        )
    outside.dispose()
    die("call")
    with transaction() as session:
        if not session.scalar(text("SELECT count(*) FROM probe_marks WHERE label = :l"), {"l": f"{label}:record"}):
            mark(session, f"{label}:record")
    die("record")


@task("maintenance.probe_typed")
def probe_typed(session: Session, deposit_id: UUID, count: int) -> None:
    """Has arguments that can be wrong."""
    mark(session, f"{deposit_id}:{count}")
