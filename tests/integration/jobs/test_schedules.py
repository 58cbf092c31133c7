"""Periods are rows: whoever asks, and however often, each is done once."""

import threading
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from core import db
from domain.timetable import service
from domain.timetable.service import CATCH_UP_MAX, EPOCH, Schedule

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 21, 12, 0, 30, tzinfo=UTC)
POLL = Schedule("poll", "maintenance.heartbeat", every=MINUTE)
DAILY = Schedule("close", "maintenance.heartbeat", every=timedelta(days=1), offset=timedelta(hours=2), catch_up=True)


def ask(*schedules: Schedule, now: datetime) -> int:
    with db.transaction() as session:
        return service.ask(session, schedules, now)


def end_jobs() -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET status = 'succeeded'"))


def test_two_beats_at_once_do_each_period_once(database_url: str) -> None:
    counts: list[int] = []
    barrier = threading.Barrier(4)

    def beat() -> None:
        barrier.wait()
        counts.append(ask(POLL, DAILY, now=NOON))

    threads = [threading.Thread(target=beat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(counts) == 2


def test_a_poll_that_was_missed_for_hours_is_done_once(database_url: str) -> None:
    assert ask(POLL, now=NOON) == 1
    end_jobs()
    assert ask(POLL, now=NOON + timedelta(hours=3)) == 1


def test_a_poll_waits_for_the_one_before(database_url: str) -> None:
    assert ask(POLL, now=NOON) == 1
    assert ask(POLL, now=NOON + MINUTE) == 0
    end_jobs()
    assert ask(POLL, now=NOON + MINUTE) == 1


def test_what_nobody_wants_leaves_nothing_and_what_somebody_wants_is_done_once_a_period(database_url: str) -> None:
    wish = Schedule("wish", "maintenance.heartbeat", every=MINUTE, on_demand=True)

    def asked(now: datetime, *wanted: str) -> int:
        with db.transaction() as session:
            return service.ask(session, [wish], now, wanted=wanted)

    assert asked(NOON) == asked(NOON, "another") == 0
    with db.transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM schedule_periods")) == 0
    assert asked(NOON, "wish") == 1
    end_jobs()
    assert asked(NOON + timedelta(seconds=20), "wish") == 0  # the same period
    assert asked(NOON + MINUTE, "wish") == 1
    assert asked(NOON + 2 * MINUTE, "wish") == 0  # the one before is not over
    end_jobs()
    assert asked(NOON + 3 * MINUTE) == 0


def test_missed_days_are_made_up_for(database_url: str) -> None:
    assert ask(DAILY, now=NOON) == 1
    assert ask(DAILY, now=NOON + timedelta(days=3)) == 3
    assert ask(DAILY, now=NOON + timedelta(days=3)) == 0


def test_old_periods_go_but_each_schedules_last_stays(database_url: str) -> None:
    for minute in range(3):
        ask(POLL, now=NOON + minute * MINUTE)
        end_jobs()
    with db.transaction() as session:
        session.execute(text("UPDATE schedule_periods SET created_at = now() - interval '8 days'"))
        assert service.remove_old(session, keep=timedelta(days=7)) == 2
    assert ask(POLL, now=NOON + 2 * MINUTE) == 0


@given(
    every=st.integers(1, 100_000),
    offset=st.integers(0, 100_000),
    last=st.integers(0, 10**9),
    passed=st.integers(0, 10**6),
    catch_up=st.booleans(),
)
def test_periods_are_aligned_in_order_and_bounded(
    every: int, offset: int, last: int, passed: int, catch_up: bool
) -> None:
    schedule = Schedule(
        "s", "maintenance.x", every=timedelta(seconds=every), offset=timedelta(seconds=offset), catch_up=catch_up
    )
    before = schedule.period_at(EPOCH + timedelta(seconds=last))
    now = EPOCH + timedelta(seconds=last + passed)
    found = schedule.periods_since(before, now)
    assert found == sorted(set(found))
    assert len(found) <= (CATCH_UP_MAX if catch_up else 1)
    assert all((period - EPOCH - schedule.offset) % schedule.every == timedelta(0) for period in found)
    assert all(before < period <= now for period in found)
    assert not found or found[-1] == schedule.period_at(now)
