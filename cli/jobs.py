"""`tallyrail jobs`."""

from typing import Annotated
from uuid import UUID

import typer

from cli import values
from cli.nouns import noun
from cli.output import AsJson, Column, details, document, listing, pretty, say, section
from core import db, jobs
from core.errors import NotFoundError
from core.jobs import Job, JobStatus

app = noun()
COLUMNS = (
    Column("Job", "id"),
    Column("Task", "task"),
    Column("Status", "status"),
    Column("Tries", lambda row: f"{row['attempts']}/{row['attempts_max']}", right=True),
    Column("Tenant", "tenant"),
    Column("Run at", "run_at"),
    Column("Ended", "finished_at"),
    Column("Subject", "subject"),
)
JobId = Annotated[UUID, typer.Argument(metavar="JOB", help="The job's id.")]


def row_of(job: Job) -> dict[str, object]:
    """All of a job but its traceback, which `show` gives."""
    error = job.last_error or {}
    return {
        "id": job.id,
        "task": job.task,
        "tenant": job.tenant,
        "queue": job.queue,
        "status": job.status,
        "subject": job.subject,
        "args": job.args,
        "attempts": job.attempts,
        "attempts_max": job.attempts_max,
        "run_at": job.run_at,
        "created_at": job.created_at,
        "published_at": job.published_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "lease_until": job.lease_until,
        "worker": job.worker,
        "correlation_id": job.correlation_id,
        "error_kind": error.get("kind"),
        "error": error.get("message"),
    }


def show_job(job: Job) -> None:
    """One job for people, with all that is known of its last error."""
    details(
        {
            "Job": job.id,
            "Task": job.task,
            "Tenant": job.tenant,
            "Status": job.status,
            "Subject": job.subject,
            "Tries": f"{job.attempts} of {job.attempts_max}",
            "Run at": job.run_at,
            "Created": job.created_at,
            "Last begun": job.started_at,
            "Ended": job.finished_at,
            "Worker": job.worker,
            "Lease until": job.lease_until,
            "Correlation": job.correlation_id,
        }
    )
    section("Arguments", pretty(job.args))
    if job.last_error is not None:
        error = job.last_error
        section("Last error", f"{error.get('kind')}: {error.get('message')}\nat {error.get('at')}")
        if error.get("traceback"):
            section("Traceback", str(error["traceback"]))


@app.command("list")
def list_jobs(
    *,
    tenant: Annotated[str | None, typer.Option()] = None,
    status: Annotated[JobStatus | None, typer.Option()] = None,
    task: Annotated[str | None, typer.Option(help="Its whole name, such as tx_monitor.poll.")] = None,
    subject: Annotated[str | None, typer.Option(help="What it is about, such as deposit:<id>.")] = None,
    limit: values.Limit = 50,
    cursor: Annotated[UUID | None, typer.Option(help="Go on after the page that named this cursor.")] = None,
    as_json: AsJson = False,
) -> None:
    """Jobs, newest first."""
    with db.transaction() as session:
        found = jobs.page(
            session, tenant=tenant, status=status, task=task, subject=subject, before=cursor, limit=limit + 1
        )
    listing(
        "jobs",
        [row_of(job) for job in found[:limit]],
        COLUMNS,
        as_json=as_json,
        empty="There are no such jobs.",
        paged=True,
        next_cursor=str(found[limit - 1].id) if len(found) > limit else None,
    )


@app.command()
def show(job: JobId, *, as_json: AsJson = False) -> None:
    """One job, with its arguments and its last error."""
    with db.transaction() as session:
        found = jobs.get(session, job)
    if found is None:
        raise NotFoundError(f"there is no job {job}")
    if as_json:
        document({**row_of(found), "last_error": found.last_error})
    else:
        show_job(found)


@app.command()
def cancel(job: JobId) -> None:
    """Cancel a job that has not begun. Doing it twice is doing it once."""
    with db.transaction() as session:
        jobs.cancel(session, job)
    say(f"The job {job} is cancelled.")
