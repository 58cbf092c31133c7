"""Jobs: what was asked for, and how far it came."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, Field

from api.auth import needs
from api.paging import Cursor, Limit, opened, seal
from api.responses import json_response
from core import db, jobs
from core.errors import NotFoundError
from core.jobs import Job, JobStatus
from domain.access.service import Principal, Scope

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

TOLD = frozenset({"transient", "permanent", "outcome_unknown"})
"""Kinds of error whose message is a sentence of ours. The others may quote SQL or code, and are for operators."""


class JobErrorView(BaseModel):
    kind: str
    message: str | None = Field(description="Only of foreseen errors")


class JobView(BaseModel):
    """One piece of durable work."""

    id: UUID
    task: str
    status: JobStatus
    subject: str | None = Field(description="What it is about, such as deposit:<id>")
    attempts: int
    attempts_max: int
    run_at: datetime = Field(description="Not begun before this time")
    created_at: datetime
    finished_at: datetime | None
    error: JobErrorView | None = Field(description="Why the last attempt failed")
    correlation_id: str | None


class JobPage(BaseModel):
    jobs: list[JobView]
    next_cursor: str | None = Field(description="Give it back as `cursor`; null on the last page")


def _view(job: Job) -> JobView:
    return JobView.model_construct(
        id=job.id,
        task=job.task,
        status=job.current,
        subject=job.subject,
        attempts=job.attempts,
        attempts_max=job.attempts_max,
        run_at=job.run_at,
        created_at=job.created_at,
        finished_at=job.finished_at,
        error=_error(job.last_error),
        correlation_id=job.correlation_id,
    )


def _error(last: dict[str, Any] | None) -> JobErrorView | None:
    if last is None:
        return None
    kind = str(last.get("kind", "unexpected"))
    return JobErrorView(kind=kind, message=last.get("message") if kind in TOLD else None)


Word = Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$")]


@router.get("", summary="List jobs, newest first", responses={200: {"model": JobPage}})
def list_jobs(  # noqa: PLR0917  # FastAPI names them at the call
    caller: Annotated[Principal, needs(Scope.JOBS_READ)],
    status: JobStatus | None = None,
    task: Word = None,
    subject: Word = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Pages stay put while jobs are added: what is newer than the first page appears on no later one."""
    with db.transaction() as session:
        rows = jobs.page(
            session,
            tenant=caller.tenant,
            status=status,
            task=task,
            subject=subject,
            before=opened("jobs", cursor),
            limit=limit + 1,
        )
    more = seal("jobs", rows[limit - 1].id) if len(rows) > limit else None
    return json_response(JobPage.model_construct(jobs=[_view(job) for job in rows[:limit]], next_cursor=more))


@router.get("/{job_id}", summary="Read a job", responses={200: {"model": JobView}})
def read_job(job_id: UUID, caller: Annotated[Principal, needs(Scope.JOBS_READ)]) -> Response:
    with db.transaction() as session:
        job = jobs.get(session, job_id, tenant=caller.tenant)
    if job is None:
        raise NotFoundError(f"there is no job {job_id}")
    return json_response(_view(job))


@router.post("/{job_id}/cancel", summary="Cancel a job that has not begun", responses={200: {"model": JobView}})
def cancel_job(job_id: UUID, caller: Annotated[Principal, needs(Scope.JOBS_WRITE)]) -> Response:
    """Cancelling twice is once, so no idempotency key is needed. A job that has begun answers 409."""
    with db.transaction() as session:
        job = jobs.cancel(session, job_id, tenant=caller.tenant)
    return json_response(_view(job))
