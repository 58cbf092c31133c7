"""The sweep of holds as beat and a worker run it."""

from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db, jobs
from core.jobs import NewJob
from schedules import beat
from tasks import maintenance
from tasks.base import TASKS, run_jobs
from tests.integration.ledger import books as b
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, CUSTODY, book

EXPIRE = "maintenance.expire_holds"


def run_what_waits() -> int:
    """Run the jobs that are queued now, as a worker would. Says how many."""
    with db.transaction() as session:
        waiting = session.execute(text("SELECT id, task FROM jobs WHERE status = 'queued'")).all()
    for row in waiting:
        run_jobs(TASKS[row.task], [row.id])
    return len(waiting)


def test_the_job_goes_on_until_every_due_hold_is_let_go(
    books: str, session: Session, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "EXPIRE_LIMIT", 2)
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    made = [h.place(books, f"hold:{number}", 10, expires_at=h.LATER).id for number in range(6)]
    h.pass_deadline(superuser_url, *made[:5])
    with db.transaction() as own:
        jobs.submit(own, NewJob(EXPIRE, {}))
    assert [run_what_waits() for _ in range(4)] == [1, 1, 1, 0]
    assert session.scalars(text("SELECT DISTINCT status FROM jobs")).all() == ["succeeded"]
    assert h.account(session, books) == (100, 10)
    assert [h.hold(books, one).state for one in made] == ["expired"] * 5 + ["pending"]
    b.assert_sound()


def test_the_sweep_is_on_the_timetable() -> None:
    [schedule] = [one for one in beat.timetable() if one.task == EXPIRE]
    assert schedule.every == timedelta(seconds=10)
    TASKS[EXPIRE].validate(schedule.args)
