"""Real sync processes and deciders, killed, frozen and cut off while decisions are acknowledged.

The fixture `busy` holds the promise against what happened, after each test.
"""

import signal
import time

import pytest

from core.hot.client import client
from core.hot.store import StoreMode
from local.postgres import Postgres
from tests.support.fleet import wait_until
from tests.support.hot_lab import Lab


def test_a_first_start(busy: Lab) -> None:
    assert busy.now().number == 2
    assert busy.breaks() == {}


def test_sync_killed(busy: Lab) -> None:
    before = busy.now()
    busy.fleet.kill("sync")
    busy.await_more()
    busy.sync()
    assert busy.now() == before


@pytest.mark.faults
def test_two_sync_processes_share_the_shards(busy: Lab) -> None:
    before = busy.now()
    busy.sync("other")
    wait_until(lambda: len(busy.owners()) == 2)
    busy.fleet.kill("sync")
    wait_until(lambda: len(busy.owners()) == 1)
    busy.await_more(200)
    assert busy.now() == before


@pytest.mark.faults
def test_a_frozen_sync_process_does_no_harm(busy: Lab) -> None:
    before = busy.now()
    busy.sync("other")
    wait_until(lambda: len(busy.owners()) == 2)
    busy.freeze("sync")
    try:
        wait_until(lambda: len(busy.owners()) == 1)
    finally:
        busy.thaw("sync")
    busy.await_more(200)
    assert busy.now() == before


@pytest.mark.faults
def test_sync_ends_in_good_order(busy: Lab) -> None:
    busy.sync("other")
    assert busy.fleet.kill("sync", signal.SIGTERM, timeout=5) == 0
    wait_until(lambda: len(busy.owners()) == 1)


@pytest.mark.faults
def test_redis_killed_and_back_with_its_file(busy: Lab) -> None:
    before = busy.now().number
    busy.kill_redis()
    busy.start_redis()
    busy.await_open(after=before)


def test_redis_killed_and_back_without_its_file(busy: Lab) -> None:
    before = busy.now().number
    busy.kill_redis()
    busy.lose_files()
    busy.start_redis()
    busy.await_open(after=before)


def test_redis_emptied(busy: Lab) -> None:
    before = busy.now().number
    client().flushall()
    busy.await_open(after=before)


@pytest.mark.faults
def test_scripts_flushed(busy: Lab) -> None:
    before = busy.now().number
    client().script_flush()
    busy.await_open(after=before)


def test_redis_away_for_long_and_back(busy: Lab) -> None:
    before = busy.now().number
    busy.kill_redis()
    busy.await_open(StoreMode.POSTGRES, after=before)
    busy.await_more()  # decided by PostgreSQL
    busy.start_redis()
    busy.await_open(after=before + 1)
    assert None in {row.shard for row in busy.rows()}


def test_postgresql_killed(busy: Lab, postgres: Postgres) -> None:
    busy.restart_postgres(postgres)


def test_a_decider_killed(busy: Lab) -> None:
    busy.loader("second")
    busy.await_more_of("second")
    busy.fleet.kill("loader")


def test_a_decider_killed_amid_a_turn(busy: Lab) -> None:
    """The turn waits for its lease, and finds in Redis what it had answered."""
    before = busy.now().number
    busy.loader("second")
    busy.await_more_of("second")
    client().script_flush()
    busy.fleet.kill("loader")
    busy.await_open(after=before)


def test_redis_is_waited_for_while_a_dead_decider_may_have_answered(busy: Lab) -> None:
    """A decider and Redis die together: PostgreSQL must not decide again what the one answered and the other knows."""
    before = busy.now().number
    busy.freeze("sync")
    busy.await_more()
    busy.fleet.kill("loader")
    busy.kill_redis()
    busy.thaw("sync")
    time.sleep(3.0)  # twice the lease, and long beyond HOT_FALLBACK_AFTER
    assert busy.now().number == before
    busy.start_redis()
    busy.await_open(after=before)
    busy.loader()


def test_a_frozen_decider_decides_nothing_when_it_wakes(busy: Lab) -> None:
    before = busy.now().number
    busy.loader("second")
    busy.await_more_of("second")
    busy.freeze("second")
    client().script_flush()
    busy.await_open(after=before)
    silent = busy.ids_of("second")
    busy.await_more()
    assert busy.ids_of("second") == silent
    busy.thaw("second")
    busy.await_more_of("second")  # in the new generation
    wait_until(lambda: "decider.was_taken_for_dead" in busy.fleet.log("second"))
    assert busy.breaks()["hot.orphan"] == 0
