"""Periods of schedules: each is a row, written with its job in one transaction, so that it is asked for once."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import jobs
from core.jobs import NewJob

CATCH_UP_MAX = 48
"""Missed periods that are made up for after a pause, at most."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Schedule:
    """Work that comes back. Periods are aligned to the epoch plus `offset`, in UTC."""

    name: str
    task: str
    every: timedelta
    offset: timedelta = timedelta(0)
    args: dict[str, Any] = field(default_factory=dict)
    first: bool = False
    """Goes before whatever waits in its queue."""
    catch_up: bool = False
    """True: each missed period is made up for (a daily reconciliation). False: only the present one matters (a poll),
    and it waits until the job of the one before is over, so that slow polls don't pile up."""
    on_demand: bool = False
    """True: a period is asked for only if somebody wants it by then. Unwanted, it leaves nothing behind."""

    def period_at(self, now: datetime) -> datetime:
        """When the period that holds `now` began."""
        return now - (now - EPOCH - self.offset) % self.every

    def periods_since(self, last: datetime | None, now: datetime) -> list[datetime]:
        """The periods to ask for, oldest first, given the last that was."""
        present = self.period_at(now)
        if last is not None and last >= present:
            return []
        if not self.catch_up or last is None:
            return [present]
        missed = min((present - last) // self.every, CATCH_UP_MAX)
        return [present - self.every * behind for behind in reversed(range(missed))]


_LAST = text(
    """
    SELECT name, last.period, coalesce(jobs.status IN ('queued', 'running'), false) AS busy
    FROM unnest(cast(:names AS text[])) AS schedules (name)
    CROSS JOIN LATERAL (
      SELECT period, job_id FROM schedule_periods WHERE schedule = name ORDER BY period DESC LIMIT 1
    ) AS last
    LEFT JOIN jobs ON jobs.id = last.job_id
    """
)
_CLAIM = text(
    """
    INSERT INTO schedule_periods (schedule, period, job_id) VALUES (:schedule, :period, :job_id)
    ON CONFLICT DO NOTHING RETURNING job_id
    """
)
_REMOVE_OLD = text(
    """
    DELETE FROM schedule_periods AS old WHERE created_at < now() - :keep AND EXISTS (
      SELECT 1 FROM schedule_periods AS newer WHERE newer.schedule = old.schedule AND newer.period > old.period)
    """
)


def ask(session: Session, schedules: Iterable[Schedule], now: datetime, *, wanted: Collection[str] = ()) -> int:
    """Write the jobs of every period that has begun and was not asked for. Returns how many jobs were written.

    `wanted` names the schedules on demand that somebody wants now.
    """
    schedules = [schedule for schedule in schedules if not schedule.on_demand or schedule.name in wanted]
    last = {row.name: row for row in session.execute(_LAST, {"names": [schedule.name for schedule in schedules]})}
    written = []
    for schedule in schedules:
        before = last.get(schedule.name)
        if before is not None and before.busy and not schedule.catch_up:
            continue
        for period in schedule.periods_since(before.period if before else None, now):
            job = NewJob(
                schedule.task,
                schedule.args,
                subject=f"schedule:{schedule.name}",
                run_at=EPOCH if schedule.first else None,
            )
            claim = {"schedule": schedule.name, "period": period, "job_id": job.id}
            if session.execute(_CLAIM, claim).first() is not None:
                written.append(job)
    jobs.submit_many(session, written)
    return len(written)


def remove_old(session: Session, *, keep: timedelta) -> int:
    """Delete periods older than `keep`, but never a schedule's last one: it says where to go on."""
    return int(session.execute(_REMOVE_OLD, {"keep": keep}).rowcount)  # type: ignore[attr-defined]  # has a count
