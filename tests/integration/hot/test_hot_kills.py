"""Real sync processes and deciders, killed, frozen and cut off while decisions are acknowledged."""

import signal
import time

import pytest

from core.hot.client import client
from core.hot.store import StoreMode
from local.postgres import Postgres
from tests.support.fleet import wait_until
from tests.support.hot_lab import Lab


@pytest.fixture
def busy(lab: Lab) -> Lab:
    """Decisions are being acknowledged."""
    lab.sync()
    lab.loader()
    lab.await_more()
    return lab


def finish(lab: Lab) -> None:
    lab.await_more()
    for name in [each for each in lab.fleet.processes if each.startswith("loader")]:
        lab.fleet.kill(name)
    lab.check()


def test_a_first_start(busy: Lab) -> None:
    assert busy.now().number == 2
    finish(busy)
    assert busy.breaks() == {}


def test_sync_killed(busy: Lab) -> None:
    busy.fleet.kill("sync")
    busy.await_more()
    busy.sync()
    finish(busy)
    assert busy.now().number == 2


def test_two_sync_processes_share_the_shards(busy: Lab) -> None:
    busy.sync("other")
    busy.await_more(200)
    busy.fleet.kill("sync")
    busy.await_more(200)
    finish(busy)
    assert busy.now().number == 2


def test_a_frozen_sync_process_does_no_harm(busy: Lab) -> None:
    busy.sync("other")
    busy.await_more()
    busy.freeze("sync")
    time.sleep(1.0)  # longer than it owns its shards
    busy.await_more(200)
    busy.thaw("sync")
    busy.await_more(200)
    finish(busy)


def test_redis_killed_and_back_with_its_file(busy: Lab) -> None:
    busy.kill_redis()
    busy.start_redis()
    busy.await_open(after=2)
    finish(busy)


def test_redis_killed_and_back_without_its_file(busy: Lab) -> None:
    busy.kill_redis()
    busy.lose_files()
    busy.start_redis()
    busy.await_open(after=2)
    finish(busy)


def test_redis_emptied(busy: Lab) -> None:
    client().flushall()
    busy.await_open(after=2)
    finish(busy)


def test_scripts_flushed(busy: Lab) -> None:
    client().script_flush()
    busy.await_open(after=2)
    finish(busy)


def test_redis_away_for_long_and_back(busy: Lab) -> None:
    busy.kill_redis()
    busy.await_open(StoreMode.POSTGRES, after=2)
    busy.await_more()  # decided by PostgreSQL
    busy.start_redis()
    busy.await_open(after=3)
    finish(busy)
    assert {row.shard for row in busy.rows()} >= {None, 0}


def test_postgresql_killed(busy: Lab, postgres: Postgres) -> None:
    assert postgres.process is not None
    assert postgres.process.pid is not None
    postgres.process.kill() if hasattr(postgres.process, "kill") else postgres.stop()
    postgres.stop()
    time.sleep(0.3)
    postgres.start()
    finish(busy)


def test_a_decider_killed(busy: Lab) -> None:
    busy.loader("loader2")
    busy.await_more()
    busy.fleet.kill("loader")
    finish(busy)


def test_a_decider_killed_amid_a_turn(busy: Lab) -> None:
    busy.loader("loader2")
    busy.await_more()
    client().script_flush()
    busy.fleet.kill("loader")
    busy.await_open(after=2)
    finish(busy)


def test_a_frozen_decider_decides_nothing_when_it_wakes(busy: Lab) -> None:
    busy.loader("loader2")
    busy.await_more()
    busy.freeze("loader")
    before = busy.now().number
    client().script_flush()
    busy.await_open(after=before)
    after = (busy.folder / "loader.ids").read_text()
    busy.await_more()
    assert (busy.folder / "loader.ids").read_text() == after
    busy.thaw("loader")
    wait_until(lambda: (busy.folder / "loader.ids").read_text() != after)  # in the new generation
    finish(busy)
    assert busy.breaks()["hot.orphan"] == 0


def test_sync_ends_in_good_order(busy: Lab) -> None:
    busy.sync("other")
    assert busy.fleet.kill("sync", signal.SIGTERM, timeout=5) == 0
    finish(busy)
