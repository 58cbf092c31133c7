"""A hundred rounds: something happens to the hot store at a random moment, under load, and nothing that was answered is
lost or written twice.
"""

import random
import signal
import time
from collections.abc import Callable

import pytest

from core.hot.client import client
from local.postgres import Postgres
from tests.integration.hot.conftest import lab
from tests.support.fleet import wait_until
from tests.support.hot_lab import Lab

__all__ = ["lab"]
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
ROUNDS = 10

Fault = Callable[[Lab, random.Random], None]


def redis_restarts(lab: Lab, chance: random.Random) -> None:
    lab.kill_redis()
    time.sleep(chance.choice([0.0, 0.2, 1.5]))  # up to where PostgreSQL takes over
    lab.start_redis()


def redis_loses_its_files(lab: Lab, chance: random.Random) -> None:
    lab.kill_redis()
    lab.lose_files()
    time.sleep(chance.choice([0.0, 1.5]))
    lab.start_redis()


def redis_loses_the_tail_of_its_file(lab: Lab, chance: random.Random) -> None:
    lab.kill_redis()
    last = max((lab.server.data_dir / "files").rglob("*.incr.aof"), key=lambda file: int(file.name.split(".")[-3]))
    content = last.read_bytes()
    last.write_bytes(content[: int(len(content) * chance.random())])
    lab.start_redis()


def redis_is_emptied(lab: Lab, _: random.Random) -> None:
    client().flushall()


def redis_forgets_its_scripts(lab: Lab, _: random.Random) -> None:
    client().script_flush()


def redis_hangs(lab: Lab, chance: random.Random) -> None:
    client().client_pause(chance.choice([300, 1_300, 3_000]))
    time.sleep(3.0)


def sync_is_killed(lab: Lab, chance: random.Random) -> None:
    lab.fleet.kill(chance.choice(["sync", "sync2"]))


def sync_is_killed_amid_a_turn(lab: Lab, chance: random.Random) -> None:
    client().script_flush()
    time.sleep(chance.random() * 0.6)
    lab.fleet.kill("sync")
    time.sleep(chance.random() * 0.3)
    lab.fleet.kill("sync2")


def sync_ends(lab: Lab, chance: random.Random) -> None:
    assert lab.fleet.kill(chance.choice(["sync", "sync2"]), signal.SIGTERM) == 0


def sync_is_frozen(lab: Lab, chance: random.Random) -> None:
    name = chance.choice(["sync", "sync2"])
    lab.freeze(name)
    if chance.random() < 0.5:
        client().script_flush()
    time.sleep(chance.random() * 3)
    lab.thaw(name)


def a_decider_is_killed(lab: Lab, chance: random.Random) -> None:
    lab.fleet.kill(chance.choice(["loader", "loader2"]))
    if chance.random() < 0.5:
        client().script_flush()


def a_decider_is_frozen(lab: Lab, chance: random.Random) -> None:
    lab.freeze("loader2")
    if chance.random() < 0.5:
        client().script_flush()
    time.sleep(chance.random() * 4)
    lab.thaw("loader2")


FAULTS: list[Fault] = [
    redis_restarts,
    redis_loses_its_files,
    redis_loses_the_tail_of_its_file,
    redis_is_emptied,
    redis_forgets_its_scripts,
    redis_hangs,
    sync_is_killed,
    sync_is_killed_amid_a_turn,
    sync_ends,
    sync_is_frozen,
    a_decider_is_killed,
    a_decider_is_frozen,
]


@pytest.mark.parametrize("seed", range(10))
def test_rounds(lab: Lab, postgres: Postgres, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(ROUNDS):
        lab.settle_down(pairs=True)
        lab.await_more(chance.randrange(400))
        if number == 0:
            print("postgresql ends at once")
            lab.restart_postgres(postgres)
        else:
            fault = chance.choice(FAULTS)
            print(seed, number, fault.__name__)
            fault(lab, chance)
        lab.settle_down(pairs=True)
        lab.check()
    wait_until(lambda: lab.breaks()["hot.orphan"] == 0 or lab.orphans_are_unanswered())
