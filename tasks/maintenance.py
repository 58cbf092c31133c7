"""Housekeeping."""

from datetime import timedelta

from sqlalchemy.orm import Session

from core import jobs
from core.jobs import NewJob
from domain.timetable import service as timetable
from tasks.base import task

REMOVE_LIMIT = 10_000
"""Rows one transaction deletes."""


@task("maintenance.remove_finished_jobs")
def remove_finished_jobs(session: Session) -> None:
    """Remove succeeded, cancelled and discarded jobs past their time. Dead letters stay until somebody decides."""
    if jobs.remove_finished(session, limit=REMOVE_LIMIT) == REMOVE_LIMIT:  # there is more
        jobs.submit(session, NewJob("maintenance.remove_finished_jobs", {}))


@task("maintenance.remove_old_periods")
def remove_old_periods(session: Session) -> None:
    """Remove periods of schedules that are long past; the last of each stays."""
    timetable.remove_old(session, keep=timedelta(days=7))
