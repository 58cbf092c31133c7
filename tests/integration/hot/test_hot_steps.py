"""The sync process dies at every step, one after the other, of draining and of turning."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from uuid import uuid4

import pytest
from sqlalchemy import text

from core import breaks, db
from core.hot import hand, store
from core.hot.client import client
from core.hot.decider import Decider
from core.hot.hand import Hand
from core.hot.store import StoreMode
from local.valkey import Valkey
from tests.support import hot_toy
from tests.support.fleet import ROOT
from tests.support.hot_toy import ADD, item

EVENTS = 60
pytestmark = pytest.mark.usefixtures("toy")


def open_first() -> None:
    """What the first sync process would do."""
    hand.prepare(client(), 2, 3, [ADD])
    with db.transaction() as session:
        store.open_next(session, 1, mode=StoreMode.REDIS, shards=3, reason="test")


def decide(*, remember: bool) -> list[str]:
    """Labels of what was decided. To `remember` them is to write them down as a decider does that leaves."""
    labels = [uuid4().hex for _ in range(EVENTS)]
    items = [item(f"{number % 7}", label) for number, label in enumerate(labels)]
    if not remember:
        Hand(client(), 2).decide(ADD, items)
        return labels

    async def answer() -> None:
        decider = Decider()
        await decider.start()
        replies = await decider.decide_all(ADD, items, patient=True)
        assert [each for each in replies if isinstance(each, Exception)] == []
        await decider.stop()

    asyncio.run(answer())
    return labels


def die_until_done(rows: int, *, stride: int) -> int:
    db.dispose()
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.hot_toy", "doomed", str(stride), str(rows)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    return int(done.stdout.splitlines()[-1])


def labels_in_the_books() -> list[str]:
    with db.transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM jobs WHERE task = 'claim_sync.apply_parked'")) == 0
        return list(session.scalars(text("SELECT id FROM toy_rows")))


def nothing() -> None:
    pass


@pytest.mark.parametrize(
    "lose", [nothing, lambda: client().script_flush(), lambda: client().flushall()], ids=["drain", "turn", "emptied"]
)
def test_each_event_is_written_once_wherever_sync_dies(lose: Callable[[], object]) -> None:
    open_first()
    labels = decide(remember=True)
    lose()
    died = die_until_done(EVENTS, stride=7)
    assert died > 2
    assert sorted(labels_in_the_books()) == sorted(labels)
    with db.transaction() as session:
        assert breaks.count_open(session) == {}


def test_a_turn_that_starts_with_nothing(server: Valkey) -> None:
    died = die_until_done(0, stride=5)
    assert died > 4
    with db.transaction() as session:
        now = store.current(session)
    assert now.mode is StoreMode.REDIS
    assert hand.is_ready(client(), now.number, now.shards, [ADD])


def test_what_was_promised_to_nobody_is_a_gap() -> None:
    """Decided, answered to nobody that remembers it, and lost: between what is known, it is a break."""
    open_first()
    Hand(client(), 2).decide(ADD, [item("a", "first")])
    shard = item("a").shard
    asyncio.run(_lose_amid("a"))
    die_until_done(1, stride=100_000)
    assert labels_in_the_books() == ["third"]
    with db.transaction() as session:
        (found,) = breaks.page(session)
    assert (found.kind, found.subject) == ("hot.gap", f"2:{shard}:1")
    assert found.detail == {"generation": 2, "shard": shard, "first": 1, "last": 2}


async def _lose_amid(name: str) -> None:
    Hand(client(), 2).decide(ADD, [item(name, "second")])
    decider = Decider()
    await decider.start()
    await decider.decide(ADD, item(name, "third"))
    client().flushall()
    await decider.stop()


def test_the_toy_minds_duplicates() -> None:
    """Or else the tests above would prove nothing."""
    open_first()
    decide(remember=False)
    die_until_done(EVENTS, stride=100_000)
    with db.transaction() as session:
        session.execute(text("UPDATE hot_shards SET applied_seq = applied_seq - 1 WHERE applied_seq > 0"))
        session.execute(
            text(
                "INSERT INTO hot_events (generation, shard, seq, event, decider) "
                "SELECT generation, shard, seq, 'toy.added ' || id || ' ' || n, gen_random_uuid() FROM toy_rows"
            )
        )
        store.close(session, 2, reason="test")
    runner = hot_toy.sync()
    while store_generation() == 2:
        hot_toy.go_round(runner)
    runner._disconnect()
    with db.transaction() as session:
        parked = session.scalar(text("SELECT count(*) FROM jobs WHERE task = 'claim_sync.apply_parked'"))
        assert parked == session.scalar(text("SELECT count(DISTINCT shard) FROM toy_rows"))
        assert parked


def store_generation() -> int:
    with db.transaction() as session:
        return store.current(session).number
