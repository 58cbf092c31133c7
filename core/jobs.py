"""Jobs: durable rows that ask for work, leased to one worker at a time.

A job is written in the same transaction as the change that asks for it, so the row is the outbox and the record at
once. Celery only wakes workers: `workers.relay` publishes ids, `tasks.base` takes the rows by `lease`, and whatever a
broker, a worker or a network loses, `workers.sweeper` rings for again. Statuses:

    queued -> running -> succeeded | dead          running -> queued   (retry, hand back, expired lease)
    queued -> cancelled                            dead -> queued | discarded   (a person decides)
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy import BigInteger, Connection, Index, Text, event, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from config import settings
from config.queues import QUEUES, queue_of
from core import clock, db, redis
from core.db import Base, IdColumn
from core.errors import ConflictError, InvalidRequestError, NotFoundError, TallyrailError
from core.ids import first_id_at, new_id

log = structlog.stdlib.get_logger(__name__)

SYSTEM_TENANT = "system"
BELL = "tallyrail:bell"
"""A Redis list of at most one element: there is news for the relay. Losing it costs one relay_poll."""


class JobStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    DISCARDED = "discarded"


class LeaseLostError(TallyrailError):
    """The lease of a run has been given to another: whatever it was about to commit must not be committed."""


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_due", "queue", "run_at", postgresql_where=text("status = 'queued' AND published_at IS NULL")),
        Index("ix_jobs_rung", "published_at", postgresql_where=text("status = 'queued' AND published_at IS NOT NULL")),
        Index("ix_jobs_leased", "lease_until", postgresql_where=text("status = 'running'")),
        Index("ix_jobs_dead", "tenant", "id", postgresql_where=text("status = 'dead'")),
        Index("ix_jobs_tenant", "tenant", "id"),
        Index("ix_jobs_subject", "subject", postgresql_where=text("subject IS NOT NULL")),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    queue: Mapped[str]
    task: Mapped[str]
    args: Mapped[dict[str, Any]]
    status: Mapped[str] = mapped_column(Text, default=JobStatus.QUEUED, server_default=JobStatus.QUEUED)
    run_at: Mapped[datetime] = mapped_column(server_default=func.now())
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    attempts_max: Mapped[int]
    fence: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    """Counts leases. A run may commit only while the row still has the fence of its lease."""
    lease_until: Mapped[datetime | None]
    worker: Mapped[str | None]
    published_at: Mapped[datetime | None]
    last_error: Mapped[dict[str, Any] | None]
    correlation_id: Mapped[str | None]
    subject: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    """When the last run took it."""
    finished_at: Mapped[datetime | None]

    @property
    def current(self) -> JobStatus:
        return JobStatus(self.status)


@dataclass(frozen=True, slots=True)
class NewJob:
    """What to do, for whom. `subject` names the thing it is about (`deposit:<id>`), to find its jobs by."""

    task: str
    args: Mapping[str, Any]
    tenant: str = SYSTEM_TENANT
    subject: str | None = None
    correlation_id: str | None = None
    run_at: datetime | None = None
    attempts_max: int | None = None
    id: UUID = field(default_factory=new_id)


@dataclass(frozen=True, slots=True)
class LeasedJob:
    id: UUID
    tenant: str
    task: str
    args: dict[str, Any]
    fence: int
    attempts: int
    attempts_max: int
    correlation_id: str | None
    subject: str | None


current: ContextVar[LeasedJob | None] = ContextVar("current_job", default=None)
"""The job that this code runs for, if it runs for one."""


# --- asking for work ---------------------------------------------------------------------------------------------

_INSERT = text(
    """
    INSERT INTO jobs (id, tenant, queue, task, args, attempts_max, correlation_id, subject, run_at)
    SELECT id, tenant, queue, task, args, attempts_max, correlation_id, subject, coalesce(run_at, now())
    FROM unnest(cast(:ids AS uuid[]), cast(:tenants AS text[]), cast(:queues AS text[]), cast(:tasks AS text[]),
                cast(:args AS jsonb[]), cast(:attempts_max AS int[]), cast(:correlation_ids AS text[]),
                cast(:subjects AS text[]), cast(:run_at AS timestamptz[]))
      AS new (id, tenant, queue, task, args, attempts_max, correlation_id, subject, run_at)
    """
)


def submit(session: Session, job: NewJob) -> UUID:
    """Write one job. It becomes visible, and the relay is rung, when the caller's transaction commits."""
    return submit_many(session, [job])[0]


def submit_many(session: Session, new: Sequence[NewJob]) -> list[UUID]:
    """Write many jobs in one statement. Raises InvalidRequestError if a task's prefix names no queue."""
    if not new:
        return []
    queues = []
    for job in new:
        queue = queue_of(job.task)
        if queue is None:
            raise InvalidRequestError(f"the task {job.task!r} names no queue", field="task")
        queues.append(queue.name)
    default = settings.jobs().attempts_max
    cause = current.get()
    correlation = cause.correlation_id if cause else None
    session.execute(
        _INSERT,
        {
            "ids": [job.id for job in new],
            "tenants": [job.tenant for job in new],
            "queues": queues,
            "tasks": [job.task for job in new],
            "args": [json.dumps(dict(job.args), separators=(",", ":")) for job in new],
            "attempts_max": [job.attempts_max or default for job in new],
            "correlation_ids": [job.correlation_id or correlation for job in new],
            "subjects": [job.subject for job in new],
            "run_at": [job.run_at for job in new],
        },
    )
    session.info["ring"] = True
    return [job.id for job in new]


@event.listens_for(Session, "after_commit")
def _ring_after_commit(session: Session) -> None:
    # A released savepoint calls this too, and nobody can see its rows yet.
    if not session.in_nested_transaction() and session.info.pop("ring", False):
        ring()


_silent_until = 0.0


def ring() -> None:
    """Wake the relay. Never fails and never waits long: a bell that isn't heard costs one relay_poll, no more."""
    global _silent_until  # noqa: PLW0603  # one circuit a process
    if time.monotonic() < _silent_until:
        return
    try:
        with redis.client(timeout=0.1, attempts=1).pipeline(transaction=False) as pipe:
            pipe.lpush(BELL, "1")
            pipe.ltrim(BELL, 0, 0)
            pipe.execute()
    except (RedisError, OSError):
        _silent_until = time.monotonic() + 1.0
        log.warning("bell.unheard", exc_info=False)


# --- taking work -------------------------------------------------------------------------------------------------

# The lease, like the relay's mark, is committed without waiting for the disk. A crash of PostgreSQL may forget it, but
# only together with everything committed after it: a later commit that waits flushes this one too. The fence takes the
# clock along so that it is not given out twice even then.
# Said in RETURNING, it holds for the statement's own transaction and costs no round trip.
ASYNC_COMMIT = "set_config('synchronous_commit', 'off', true)"

_LEASE = text(
    f"""
    UPDATE jobs SET status = 'running', attempts = attempts + 1, worker = :worker,
                    fence = greatest(fence + 1, (extract(epoch FROM clock_timestamp()) * 1000)::bigint),
                    started_at = now(), lease_until = now() + :lease
    WHERE id IN (SELECT id FROM jobs WHERE id = ANY(:ids) ORDER BY id FOR UPDATE)
      AND status = 'queued' AND task = :task AND run_at <= now()
    RETURNING id, tenant, task, args, fence, attempts, attempts_max, correlation_id, subject, {ASYNC_COMMIT}
    """  # noqa: S608  # a constant of ours
)


def lease(connection: Connection, *, task: str, ids: Sequence[UUID], worker: str) -> list[LeasedJob]:
    """Take what is still to be taken of these jobs, in one statement and in the order given.

    A job that another run has, or that is over, is simply not among the answers: that is what makes a message
    that arrives twice harmless.
    """
    rows = connection.execute(
        _LEASE, {"worker": worker, "lease": settings.jobs().lease, "ids": list(ids), "task": task}
    ).all()
    taken = {row.id: LeasedJob(*row[:-1]) for row in rows}
    return [taken[job_id] for job_id in dict.fromkeys(ids) if job_id in taken]


_RENEW = text(
    f"""
    UPDATE jobs SET lease_until = now() + :lease
    FROM unnest(cast(:ids AS uuid[]), cast(:fences AS bigint[])) AS held (id, fence)
    WHERE jobs.id = held.id AND jobs.fence = held.fence AND status = 'running'
    RETURNING {ASYNC_COMMIT}
    """  # noqa: S608  # a constant of ours
)


def renew(connection: Connection, held: Iterable[LeasedJob]) -> None:
    """Say that these runs are alive. A lease already lost stays lost."""
    held = sorted(held, key=lambda job: job.id)
    connection.execute(
        _RENEW,
        {"lease": settings.jobs().lease, "ids": [job.id for job in held], "fences": [job.fence for job in held]},
    )


_HOLD = text("SELECT 1 FROM jobs WHERE id = :id AND fence = :fence AND status = 'running' FOR SHARE")


def hold(session: Session, job: LeasedJob) -> None:
    """Keep the lease until the caller's transaction ends. Raises LeaseLostError if it is gone already."""
    if session.execute(_HOLD, {"id": job.id, "fence": job.fence}).first() is None:
        raise LeaseLostError(f"job {job.id} was given to another worker")


@contextmanager
def transaction() -> Iterator[Session]:
    """A transaction that commits only while the current job's lease still holds: the second copy of a run is fenced."""
    job = current.get()
    with db.transaction() as session:
        yield session
        if job is not None:
            hold(session, job)


# --- ending work -------------------------------------------------------------------------------------------------

_FINISH = text(
    """
    UPDATE jobs SET status = 'succeeded', finished_at = now(), lease_until = NULL
    WHERE id = :id AND fence = :fence AND status = 'running'
    """
)
_RETRY = text(
    """
    UPDATE jobs SET status = 'queued', run_at = now() + :delay, lease_until = NULL, published_at = NULL,
                    last_error = cast(:error AS jsonb)
    WHERE id = :id AND fence = :fence AND status = 'running'
    """
)
_BURY = text(
    """
    UPDATE jobs SET status = 'dead', finished_at = now(), lease_until = NULL, last_error = cast(:error AS jsonb)
    WHERE id = :id AND fence = :fence AND status = 'running'
    """
)
_HAND_BACK = text(
    """
    UPDATE jobs SET status = 'queued', lease_until = NULL, published_at = NULL, attempts = attempts - 1
    FROM unnest(cast(:ids AS uuid[]), cast(:fences AS bigint[])) AS held (id, fence)
    WHERE jobs.id = held.id AND jobs.fence = held.fence AND status = 'running'
    """
)


def finish(session: Session, job: LeasedJob) -> None:
    """Record success in the caller's transaction. Raises LeaseLostError if the lease is gone: nothing is committed."""
    done = session.execute(_FINISH, {"id": job.id, "fence": job.fence})
    if done.rowcount != 1:  # type: ignore[attr-defined]  # an UPDATE's result has a count
        raise LeaseLostError(f"job {job.id} was given to another worker")


def retry(session: Session, job: LeasedJob, *, delay: timedelta, error: Mapping[str, Any]) -> None:
    """Put the job back, to run again after the delay. Nothing happens if the lease is gone, or the job is over."""
    session.execute(_RETRY, {"id": job.id, "fence": job.fence, "delay": delay, "error": json.dumps(error)})
    session.info["ring"] = session.info.get("ring", False) or delay <= timedelta(0)


def bury(session: Session, job: LeasedJob, *, error: Mapping[str, Any]) -> None:
    """Make the job a dead letter: it waits for a person."""
    session.execute(_BURY, {"id": job.id, "fence": job.fence, "error": json.dumps(error)})


def hand_back(session: Session, unstarted: Sequence[LeasedJob]) -> None:
    """Return jobs that were leased but not begun, as if they had not been: the attempt is not counted."""
    session.execute(_HAND_BACK, {"ids": [job.id for job in unstarted], "fences": [job.fence for job in unstarted]})
    session.info["ring"] = True


_BURY_UNREADABLE = text(
    """
    UPDATE jobs SET status = 'dead', finished_at = now(), last_error = cast(:error AS jsonb)
    WHERE id = ANY(:ids) AND status = 'queued'
    """
)


def bury_unreadable(session: Session, ids: Sequence[UUID], *, error: Mapping[str, Any]) -> None:
    """Make dead letters of queued jobs that no worker understands, such as those of a task that doesn't exist."""
    session.execute(_BURY_UNREADABLE, {"ids": list(ids), "error": json.dumps(error)})


def cancel(session: Session, job_id: UUID, *, tenant: str | None = None) -> Job:
    """Cancel a job that has not begun; cancelling twice is once.

    Raises NotFoundError if there is no such job, ConflictError if it has begun or is over.
    """
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None or tenant not in (None, job.tenant):
        raise NotFoundError(f"there is no job {job_id}")
    if job.current is JobStatus.QUEUED:
        job.status = JobStatus.CANCELLED
        job.finished_at = session.scalar(select(func.now()))
    elif job.current is not JobStatus.CANCELLED:
        raise ConflictError(f"the job {job_id} is {job.status}; only a queued job can be cancelled")
    return job


# --- reading -----------------------------------------------------------------------------------------------------


def get(session: Session, job_id: UUID, *, tenant: str | None = None) -> Job | None:
    """The job, or None if there is none or it is another tenant's."""
    job = session.get(Job, job_id)
    return job if job is not None and tenant in (None, job.tenant) else None


def page(
    session: Session,
    *,
    tenant: str | None = None,
    status: JobStatus | None = None,
    task: str | None = None,
    subject: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[Job]:
    """Newest first. `before` is the id of the last job of the page before."""
    query = select(Job).order_by(Job.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(Job.tenant == tenant)
    if status is not None:
        query = query.where(Job.status == status)
    if task is not None:
        query = query.where(Job.task == task)
    if subject is not None:
        query = query.where(Job.subject == subject)
    if before is not None:
        query = query.where(Job.id < before)
    return session.scalars(query).all()


@dataclass(frozen=True)
class QueueDepth:
    queue: str
    waiting: int
    """Due and not yet begun."""
    running: int
    dead: int
    oldest_due: timedelta
    """How long the oldest due job has waited."""


_DEPTHS = text(
    """
    SELECT queue, sum(waiting)::bigint, sum(running)::bigint, sum(dead)::bigint, max(oldest)
    FROM (
      SELECT queue, count(*) AS waiting, 0 AS running, 0 AS dead,
             now() - min(greatest(run_at, created_at)) AS oldest FROM jobs
      WHERE status = 'queued' AND published_at IS NULL AND run_at <= now() GROUP BY queue
      UNION ALL
      SELECT queue, count(*), 0, 0, now() - min(greatest(run_at, created_at)) FROM jobs
      WHERE status = 'queued' AND published_at IS NOT NULL GROUP BY queue
      UNION ALL
      SELECT queue, 0, count(*), 0, interval '0' FROM jobs WHERE status = 'running' GROUP BY queue
      UNION ALL
      SELECT queue, 0, 0, count(*), interval '0' FROM jobs WHERE status = 'dead' GROUP BY queue
    ) AS each GROUP BY queue
    """
)


def depths(session: Session) -> list[QueueDepth]:
    """How far behind each queue is, for metrics. Each part reads one partial index, never the history.

    Every queue of config.queues is there, and any other that has jobs: those would wait for ever, and must be seen.
    """
    found = {row[0]: QueueDepth(*row) for row in session.execute(_DEPTHS)}
    return [found.get(name, QueueDepth(name, 0, 0, 0, timedelta(0))) for name in {**QUEUES, **found}]


# --- keeping the table small -------------------------------------------------------------------------------------

_REMOVE_FINISHED = text(
    """
    DELETE FROM jobs WHERE id IN (
      SELECT id FROM jobs
      WHERE id < :made_before AND status IN ('succeeded', 'cancelled', 'discarded') AND finished_at < :ended_before
      ORDER BY id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    """
)


def remove_finished(session: Session, *, limit: int = 10_000) -> int:
    """Delete jobs that ended longer ago than JOBS_KEEP_FINISHED, oldest first. Returns how many."""
    cutoff = clock.now() - settings.jobs().keep_finished
    # What ended before was made before: with that the primary key bounds the search.
    bounds = {"made_before": first_id_at(cutoff), "ended_before": cutoff, "limit": limit}
    return int(session.execute(_REMOVE_FINISHED, bounds).rowcount)  # type: ignore[attr-defined]  # a DELETE has a count
