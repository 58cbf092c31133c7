"""Dead letters: jobs that can't be finished. They wait for a person, who replays or discards them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core.errors import ConflictError, NotFoundError
from core.jobs import SYSTEM_TENANT, Job, JobStatus
from domain.dead_letter.models import DeadLetterAction


def keep_message(session: Session, *, task: str, raw: str, error: Mapping[str, Any]) -> None:
    """Keep a message that names no job as a dead letter of its own, so that it can be read."""
    session.add(
        Job(
            tenant=SYSTEM_TENANT,
            queue="unreadable",
            task=task,
            args={"message": raw[:8_000].replace("\x00", "\\x00").encode(errors="backslashreplace").decode()},
            status=JobStatus.DEAD,
            attempts_max=1,
            last_error=dict(error),
            finished_at=func.now(),
        )
    )


def find(
    session: Session,
    *,
    tenant: str | None = None,
    task: str | None = None,
    kind: str | None = None,
    since: datetime | None = None,
    limit: int = 100,
) -> Sequence[Job]:
    """Dead letters, oldest first. `kind` is the error's: transient, permanent, outcome_unknown, invariant, ..."""
    query = select(Job).where(Job.status == JobStatus.DEAD).order_by(Job.id).limit(limit)
    if tenant is not None:
        query = query.where(Job.tenant == tenant)
    if task is not None:
        query = query.where(Job.task == task)
    if kind is not None:
        query = query.where(Job.last_error["kind"].astext == kind)
    if since is not None:
        query = query.where(Job.finished_at >= since)
    return session.scalars(query).all()


def actions(session: Session, job_id: UUID) -> Sequence[DeadLetterAction]:
    """What was done with this dead letter, oldest first."""
    return session.scalars(
        select(DeadLetterAction).where(DeadLetterAction.job_id == job_id).order_by(DeadLetterAction.id)
    ).all()


def replay(
    session: Session,
    job_id: UUID,
    *,
    actor: str,
    reason: str | None = None,
    args: Mapping[str, Any] | None = None,
    delay: timedelta = timedelta(0),
) -> Job:
    """Queue a dead letter again with a full set of attempts, and record who did it.

    Replaying twice queues once. `args` replaces the arguments; the caller has checked them against the task.
    Raises NotFoundError if there is no such job, ConflictError if it isn't dead or names no task.
    """
    job = _lock(session, job_id)
    if job.queue == "unreadable":
        raise ConflictError(f"{job_id} is a message without a job: there is nothing to run")
    _record(session, job, "replay", actor=actor, reason=reason, args_after=job.args if args is None else dict(args))
    job.status = JobStatus.QUEUED
    if args is not None:
        job.args = dict(args)
    job.attempts = 0
    job.published_at = job.finished_at = job.lease_until = None
    job.run_at = session.scalar(select(func.now() + delay))  # type: ignore[assignment]  # now() is never null
    session.info["ring"] = True
    return job


def discard(session: Session, job_id: UUID, *, actor: str, reason: str) -> Job:
    """Give a dead letter up for good, and record who did it and why. Raises as `replay` does."""
    job = _lock(session, job_id)
    _record(session, job, "discard", actor=actor, reason=reason, args_after=job.args)
    job.status = JobStatus.DISCARDED
    return job


def _lock(session: Session, job_id: UUID) -> Job:
    job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one_or_none()
    if job is None:
        raise NotFoundError(f"there is no job {job_id}")
    if job.current is not JobStatus.DEAD:
        raise ConflictError(f"the job {job_id} is {job.status}, not dead")
    return job


def _record(
    session: Session, job: Job, action: str, *, actor: str, reason: str | None, args_after: dict[str, Any]
) -> None:
    session.add(
        DeadLetterAction(
            job_id=job.id, action=action, actor=actor, reason=reason, args_before=job.args, args_after=args_after
        )
    )
