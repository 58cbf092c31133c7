"""The jobs of statements: each day's round, day by day, and once more when looks were answered."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import select

from core.db import transaction
from core.jobs import Job
from domain.payout import service
from schedules.beat import timetable
from tasks import payout_statements
from tasks.base import TASKS
from tests.integration.payout_statements.counter import Counter

READ, MATCH = payout_statements.READ, payout_statements.MATCH


@pytest.fixture
def tasks(counter: Counter, monkeypatch: pytest.MonkeyPatch) -> Counter:
    monkeypatch.setattr(payout_statements, "providers", lambda: counter.providers)
    return counter


def run(task: str) -> list[dict[str, object]]:
    """All jobs of the task that are queued. Returns what each was given."""
    with transaction() as session:
        found = session.scalars(select(Job).where(Job.task == task, Job.status == "queued").order_by(Job.id)).all()
        told = [job.args for job in found]
        for job in found:
            job.status = "succeeded"
    spec = TASKS[task]
    for args in told:
        spec.function(**spec.validate(args))
    return told


def test_each_day_all_is_read_and_matched_by_days_and_once_more(tasks: Counter) -> None:
    assert "payout.read_statements" in {schedule.task for schedule in timetable()}
    payout_id = tasks.out()
    tasks.double.pay(tasks.reference(payout_id))  # and its webhook is lost
    tasks.later(seconds=5)
    with transaction() as session:
        payout_statements.read_statements(session)
    (asked,) = run(READ)
    assert asked["provider"] == "razorpayx"
    pieces = run(MATCH)
    assert [pieces[0]["since"], pieces[-1]["until"]] == [asked["since"], asked["until"]]
    assert all(one["until"] == next_["since"] for one, next_ in pairwise(pieces))
    assert [piece["rest"] for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    tasks.work()
    once_more = run(MATCH)  # of the day that waited for the look, and of the rest
    assert 1 <= len(once_more) <= 2 and not any("again" in each for each in once_more)
    assert [line.state for line in tasks.lines()] == ["matched"]
    assert run(MATCH) == []


def test_one_without_a_statement_of_all_its_time_has_it_read(tasks: Counter) -> None:
    payout_id = tasks.out()
    tasks.later(days=10)
    tasks.double.pay(tasks.reference(payout_id))
    tasks.look(payout_id)
    tasks.later(days=3)
    with transaction() as session:
        payout_statements.read_statements(session)
    for _ in range(2):
        assert len(run(READ)) == 1
        run(MATCH)
    assert (run(READ), tasks.kinds()) == ([], [])
    assert [line.state for line in tasks.lines()] == ["matched"]


@pytest.mark.parametrize(("hours", "days"), [(1, 1), (24, 2), (25, 2), (48, 3), (12, 1), (12.5, 2)])
def test_days_are_all_that_a_time_is_of(hours: float, days: int) -> None:
    noon = datetime(2026, 1, 31, 12, tzinfo=UTC)
    found = service.days_of(noon, noon + timedelta(hours=hours))
    assert found == [datetime(2026, 1, 31, tzinfo=UTC) + timedelta(days=number) for number in range(days)]
