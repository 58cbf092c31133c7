"""One decider, on real servers: what goes out together, what is refused, and what is remembered."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator

import pytest
from sqlalchemy import text

from core import db
from core.errors import InvariantError
from core.hot import hand, store
from core.hot.client import client
from core.hot.decider import Decider
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.keys import STREAM, key
from core.hot.script import Item, Script
from core.hot.store import StoreMode
from local.valkey import Valkey
from tests.integration.hot.conftest import hot_settings
from tests.support.hot_toy import ADD, item

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture(autouse=True)
def _open(toy: None, server: Valkey) -> Iterator[None]:
    open_next(1)
    with hot_settings(server.url, HOT_LEASE="8"):  # patience with a busy machine
        yield


def open_next(before: int) -> None:
    """What a turn does last."""
    hand.prepare(client(), before + 1, 3, [ADD])
    with db.transaction() as session:
        store.close(session, before, reason="test")
        assert store.open_next(session, before, mode=StoreMode.REDIS, shards=3, reason="test")


def decide(work: Callable[[Decider], Awaitable[None]]) -> None:
    async def run() -> None:
        decider = Decider("test")
        await decider.start()
        assert decider.is_deciding
        try:
            await work(decider)
        finally:
            await decider.stop()

    asyncio.run(run())


async def until(holds: Callable[[], bool], within: float = 5.0) -> None:
    ends = time.monotonic() + within
    while not holds():
        assert time.monotonic() < ends
        await asyncio.sleep(0.01)


def one(query: str) -> object:
    with db.transaction() as session:
        return session.scalar(text(query))


def test_decisions_in_flight_go_out_together_and_each_gets_its_own_answer() -> None:
    async def work(decider: Decider) -> None:
        before = client().info("stats")["total_commands_processed"]
        replies = await asyncio.gather(*(decider.decide(ADD, item("a", f"l{n}")) for n in range(1_200)))
        assert [reply.answer for reply in replies] == [f"{n}" for n in range(1, 1_201)]
        assert [reply.event for reply in replies] == [f"toy.added l{n} {n + 1}" for n in range(1_200)]
        assert [reply.seq for reply in replies] == list(range(1, 1_201))
        # Three calls, and what they do within Redis.
        assert client().info("commandstats")["cmdstat_evalsha"]["calls"] == 3
        assert client().info("stats")["total_commands_processed"] > before
        assert decider.remembered == 1_200

    decide(work)
    assert one("SELECT count(*) FROM hot_events") == 1_200  # it left, and the books had none of them
    assert one("SELECT count(*) FROM hot_deciders") == 0


def test_a_batch_over_all_shards_keeps_its_order() -> None:
    async def work(decider: Decider) -> None:
        items = [item(f"{n % 11}", f"{n}") for n in range(200)]
        replies = await decider.decide_all(ADD, items)
        assert [getattr(each, "answer", each) for each in replies] == [f"{n // 11 + 1}" for n in range(200)]
        assert await decider.decide_all(ADD, []) == []
        look = await decider.decide(ADD, item("0", "look"))
        assert (look.seq, look.event) == (None, None)

    decide(work)


def test_words_of_any_alphabet_arrive_whole() -> None:
    async def work(decider: Decider) -> None:
        strange = Item(0, ("n:schlüssel 猫\r\n",), ("a\u00e9\U0001f600",))
        assert (await decider.decide(ADD, strange)).event == "toy.added a\u00e9\U0001f600 1"
        assert client().hget(key(2, 0, strange.keys[0]), "n") == "1"

    decide(work)


def test_what_the_books_have_is_forgotten() -> None:
    async def work(decider: Decider) -> None:
        await decider.decide_all(ADD, [item("a") for _ in range(10)])
        assert decider.remembered == 10
        with db.transaction() as session:
            session.execute(text("UPDATE hot_shards SET applied_seq = 7"))
        await until(lambda: decider.remembered == 3)

    decide(work)
    assert one("SELECT count(*) FROM hot_events") == 3


def test_an_item_that_breaks_the_script_harms_no_neighbour() -> None:
    async def work(decider: Decider) -> None:
        items = [item("a", "one"), item("a", "broken"), item("a", "two")]
        first, broken, last = await decider.decide_all(ADD, items)
        assert isinstance(broken, InvariantError)
        assert "WRONGTYPE" in str(broken)
        assert [getattr(each, "seq", each) for each in (first, last)] == [1, 2]
        assert (await decider.decide(ADD, item("a", "three"))).seq == 3
        assert one("SELECT state FROM hot_store") == "open"

    decide(work)


def test_a_script_that_breaks_off_ends_the_generation() -> None:
    """Its events may stand in the stream without their sequence: nothing more must be decided beside them."""

    async def work(decider: Decider) -> None:
        client().xadd(key(2, item("a").shard, STREAM), {"e": "toy.none"}, id="9-0")
        with pytest.raises(UndecidedError):
            await decider.decide(ADD, item("a"))
        with pytest.raises(StoreAwayError):
            await decider.decide(ADD, item("a"))
        await until(lambda: one("SELECT state FROM hot_store") == "closing")
        await until(lambda: one("SELECT left_generation FROM hot_deciders") == 2)

    decide(work)


@pytest.mark.parametrize("lose", [lambda: client().flushall(), lambda: client().script_flush()], ids=["all", "scripts"])
def test_what_was_lost_is_noticed_by_the_next_decision(lose: Callable[[], object]) -> None:
    async def work(decider: Decider) -> None:
        await decider.decide(ADD, item("a", "x"))
        lose()
        waiting = [asyncio.create_task(decider.decide(ADD, item("a"), patient=True)) for _ in range(3)]
        with pytest.raises(StoreAwayError):
            await decider.decide(ADD, item("a"))
        await until(lambda: one("SELECT state FROM hot_store") == "closing")
        await until(lambda: one("SELECT left_generation FROM hot_deciders") == 2)
        assert one("SELECT event FROM hot_events") == "toy.added x 1"
        open_next(2)
        assert [reply.seq for reply in await asyncio.gather(*waiting)] == [1, 2, 3]
        assert decider.remembered == 3

    decide(work)


def test_a_turn_that_takes_too_long_is_waited_for_no_longer() -> None:
    async def work(decider: Decider) -> None:
        with db.transaction() as session:
            store.close(session, 2, reason="test")
        await until(lambda: not decider.is_deciding)
        began = time.monotonic()
        with pytest.raises(StoreAwayError):
            await decider.decide(ADD, item("a"), patient=True)
        assert 0.9 < time.monotonic() - began < 1.5

    decide(work)


def test_redis_away_is_refused_at_once_and_waited_for_by_the_patient(server: Valkey) -> None:
    async def work(decider: Decider) -> None:
        await asyncio.to_thread(server.stop)
        await until(lambda: decider._links.nodes[0].wire is None)
        began = time.monotonic()
        for _ in range(100):
            with pytest.raises(StoreAwayError):
                await decider.decide(ADD, item("a"))
        assert time.monotonic() - began < 0.2
        patient = asyncio.create_task(decider.decide(ADD, item("a"), patient=True))
        await asyncio.to_thread(server.start)
        with pytest.raises(StoreAwayError):  # it is back, without its scripts
            await patient

    decide(work)


def test_an_answer_that_does_not_come_is_undecided(server: Valkey) -> None:
    async def work(decider: Decider) -> None:
        client().client_pause(1600)
        with pytest.raises(UndecidedError):
            await decider.decide(ADD, item("a"))

    decide(work)


def test_a_connection_that_is_lost_just_before_it_is_written_to() -> None:
    async def work(decider: Decider) -> None:
        task = asyncio.create_task(decider.decide(ADD, item("a")))
        await asyncio.sleep(0)  # it is queued, and goes out next
        wire = decider._links.nodes[0].wire
        assert wire is not None
        transport = wire._transport
        assert transport is not None
        wire.connection_lost(None)
        transport.abort()
        with pytest.raises(StoreAwayError):
            async with asyncio.timeout(3):
                await task
        await until(lambda: decider._links.nodes[0].is_up)
        assert (await decider.decide(ADD, item("a"))).seq == 1

    decide(work)


def test_a_caller_who_goes_does_not_take_his_decision_along() -> None:
    async def work(decider: Decider) -> None:
        task = asyncio.create_task(decider.decide(ADD, item("a")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        assert (await decider.decide(ADD, item("a", "next"))).seq in {1, 2}
        assert decider.remembered in {1, 2}
        assert decider.remembered == client().xlen(key(2, item("a").shard, STREAM))

    decide(work)


def test_items_that_don_t_fit_the_script_are_a_mistake() -> None:
    async def work(decider: Decider) -> None:
        for wrong in (Item(0, ("a", "b"), ("x",)), Item(0, ("a",), ())):
            with pytest.raises(InvariantError):
                await decider.decide(ADD, wrong)

    decide(work)


def test_a_decider_that_remembers_too_much_decides_nothing_more(server: Valkey) -> None:
    async def work(decider: Decider) -> None:
        await decider.decide_all(ADD, [item("a") for _ in range(1_000)])
        with pytest.raises(StoreAwayError, match="behind"):
            await decider.decide(ADD, item("a"))
        with db.transaction() as session:
            session.execute(text("UPDATE hot_shards SET applied_seq = 500"))
        await until(lambda: decider.is_deciding)

    with hot_settings(server.url, HOT_REMEMBER_MAX="1000"):
        decide(work)


def test_a_decider_with_other_shards_decides_nothing(server: Valkey) -> None:
    async def work() -> None:
        decider = Decider("test")
        await decider.start()
        assert not decider.is_deciding
        await decider.stop()

    with hot_settings(server.url, HOT_SHARDS="5"):
        asyncio.run(work())


def test_without_postgresql_it_fences_itself(server: Valkey) -> None:
    """Half a lease after the last heartbeat that was sent: the turn takes it for dead after a whole one."""

    async def work(decider: Decider) -> None:
        with db.transaction() as session:
            session.execute(text("LOCK hot_deciders IN EXCLUSIVE MODE"))
            began = time.monotonic()
            await until(lambda: not decider.is_deciding)
            assert time.monotonic() - began < 0.75 + 0.3
            with pytest.raises(StoreAwayError):
                await decider.decide(ADD, item("a"))
        await until(lambda: decider.is_deciding)

    with hot_settings(server.url, HOT_LEASE="1.5"):
        decide(work)


def test_one_that_was_taken_for_dead_tells_what_it_had_answered() -> None:
    """And the generation ended without it: an orphan, if the books don't have it."""

    async def work(decider: Decider) -> None:
        await decider.decide_all(ADD, [item("a", "known"), item("a", "unknown")])
        with db.transaction() as session:
            session.execute(text("UPDATE hot_deciders SET left_generation = 2, lost_generation = 2"))
            session.execute(text("UPDATE hot_shards SET applied_seq = 1"))
        open_next(2)
        await until(lambda: one("SELECT count(*) FROM breaks") == 1)
        assert one("SELECT kind FROM breaks") == "hot.orphan"
        assert one("SELECT detail ->> 'events' FROM breaks") == '["toy.added unknown 2"]'
        await until(lambda: decider.is_deciding)
        assert (await decider.decide(ADD, item("a"))).seq == 1

    decide(work)


def test_one_that_was_crossed_off_comes_back() -> None:
    async def work(decider: Decider) -> None:
        await decider.decide(ADD, item("a"))
        with db.transaction() as session:
            session.execute(text("DELETE FROM hot_deciders"))
        await until(lambda: one("SELECT count(*) FROM hot_deciders") == 1)
        assert (await decider.decide(ADD, item("a"))).seq == 2
        assert decider.remembered == 2

    decide(work)


def test_in_mode_postgres_the_caller_is_told_at_once() -> None:
    async def work(decider: Decider) -> None:
        with db.transaction() as session:
            store.close(session, 2, reason="test")
        waiting = asyncio.create_task(decider.decide(ADD, item("a"), patient=True))
        await until(lambda: one("SELECT left_generation FROM hot_deciders") == 2)
        with db.transaction() as session:
            store.open_next(session, 2, mode=StoreMode.POSTGRES, shards=3, reason="test")
        await until(lambda: decider.generation is not None and decider.generation.mode is StoreMode.POSTGRES)
        began = time.monotonic()
        with pytest.raises(StoreAwayError):
            await decider.decide(ADD, item("a"), patient=True)
        assert time.monotonic() - began < 0.2
        # The one that was asked before the turn may have been decided before it.
        await asyncio.gather(waiting, return_exceptions=True)

    decide(work)


def test_two_scripts_in_one_pipeline() -> None:
    other = Script(name="toy.other", body=ADD.body, keys=1, args=1)
    for shard in range(3):
        client().script_load(other.text(2))
        assert shard < 3

    async def work(decider: Decider) -> None:
        both = await asyncio.gather(*(decider.decide(script, item("a")) for script in (ADD, other, ADD)))
        assert sorted(reply.answer for reply in both) == ["1", "2", "3"]

    decide(work)
