"""Housekeeping."""

from datetime import timedelta

from sqlalchemy.orm import Session

from core import jobs
from domain.timetable import service as timetable
from tasks.base import task


@task("maintenance.remove_finished_jobs")
def remove_finished_jobs(session: Session) -> None:
    """Remove succeeded, cancelled and discarded jobs past their time. Dead letters stay until somebody decides."""
    jobs.remove_finished(session)


@task("maintenance.remove_old_periods")
def remove_old_periods(session: Session) -> None:
    """Remove periods of schedules that are long past; the last of each stays."""
    timetable.remove_old(session, keep=timedelta(days=7))
