"""What is written, what is left out, and what happens to an event that can't be written."""

import threading
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import breaks, db
from core.errors import InvariantError
from core.hot import books, hand, store
from core.hot.books import Books, GenerationOverError, HoleError, NothingAppliesError
from core.hot.client import client
from core.hot.drain import Drain
from core.hot.events import Applier, Event, Refused, parse, read
from core.hot.hand import Hand
from core.hot.keys import SEQUENCE, STREAM, key
from core.hot.leftovers import Leftovers
from core.hot.presence import Presence
from core.hot.rest import Rest
from core.hot.store import Generation, StoreMode, StoreState
from tests.support import hot_toy
from tests.support.hot_toy import ADD, item

pytestmark = pytest.mark.usefixtures("toy")
NOW = Generation(2, StoreMode.REDIS, StoreState.OPEN, 3)


@pytest.fixture(autouse=True)
def _open(toy: None) -> None:
    hand.prepare(client(), 2, 3, [ADD])
    with db.transaction() as session:
        store.open_next(session, 1, mode=StoreMode.REDIS, shards=3, reason="test")


@pytest.fixture
def books_() -> Books:
    return Books({"toy": hot_toy.apply})


def events(*labels: str, shard: int = 0, first: int = 1) -> list[Event]:
    return [Event(2, shard, seq, "toy.added", (label, "1")) for seq, label in enumerate(labels, first)]


def column(query: str) -> list[Any]:
    with db.transaction() as session:
        return list(session.scalars(text(query)))


def parked() -> list[Any]:
    return column("SELECT args FROM jobs WHERE task = 'claim_sync.apply_parked' ORDER BY id")


def test_what_was_written_before_is_left_out(books_: Books) -> None:
    some = [*events("a", "b"), *events("c", shard=1)]
    assert books_.advance(2, some) == {0: 2, 1: 1}
    assert books_.advance(2, [*some[:2], *events("d", first=3), *some[2:]]) == {0: 3, 1: 1}
    assert column("SELECT id FROM toy_rows ORDER BY id") == ["a", "b", "c", "d"]
    assert parked() == []


def test_two_lanes_that_wait_for_each_other_both_go_on() -> None:
    """PostgreSQL ends one of the two transactions. It goes again at once, and each event is written once."""
    met = threading.Barrier(2)
    tries: list[str] = []

    def locking(mine: int, theirs: int) -> Applier:
        def apply(session: Session, given: Sequence[Event]) -> Sequence[Refused]:
            tries.append(given[0].fields[0])
            session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": mine})
            if len(tries) <= 2:
                met.wait(10)
            session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": theirs})
            return hot_toy.apply(session, given)

        return apply

    lanes = [Books({"toy": locking(71, 72)}), Books({"toy": locking(72, 71)})]
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(lane.advance, 2, events(f"lane{n}", shard=n)) for n, lane in enumerate(lanes)]
        assert [each.result() for each in done] == [{0: 1}, {1: 1}]
    assert len(tries) == 3, "one deadlock"
    assert column("SELECT id FROM toy_rows ORDER BY id") == ["lane0", "lane1"]
    assert parked() == []


def test_a_process_ends_with_the_first_lane_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor starts it anew; going on with the other lanes alone would leave shards to nobody."""

    def fail(*, block: float) -> int:
        raise InvariantError("a mistake of ours")

    runner = hot_toy.sync()
    monkeypatch.setattr(runner._lanes[-1]._drain, "step", fail)
    with pytest.raises(InvariantError, match="a mistake of ours"):
        runner.run()
    assert not any(lane.is_alive() for lane in runner._lanes)


def test_a_hole_writes_nothing_unless_it_may_be_skipped(books_: Books) -> None:
    some = [*events("a"), *events("d", first=4)]
    with pytest.raises(HoleError, match="no event 2"):
        books_.advance(2, some)
    assert column("SELECT id FROM toy_rows") == []
    assert books_.advance(2, some, may_skip=True) == {0: 4}
    with db.transaction() as session:
        (gap,) = breaks.page(session)
    assert (gap.kind, gap.subject, gap.expected) == ("hot.gap", "2:0:2", "2 events")


def test_a_poisoned_event_is_parked_and_its_neighbours_are_written(books_: Books) -> None:
    labels = [f"{n}" for n in range(40)]
    labels[17] = "poison"
    labels[23] = "refused"
    assert books_.advance(2, events(*labels)) == {0: 40}
    assert len(column("SELECT id FROM toy_rows")) == 38
    first, second = sorted(parked(), key=lambda each: each["seq"])
    assert first["why"] == "InvariantError: a poisoned event"
    assert (first["generation"], first["shard"], first["seq"], first["event"]) == (2, 0, 18, "toy.added poison 1")
    assert (second["seq"], second["why"]) == (24, "told to")
    assert parse(2, 0, 18, first["event"]) == events(*labels)[17]


def test_what_no_slice_knows_and_what_is_no_event_is_parked(books_: Books) -> None:
    strange = [Event(2, 0, 1, "other.thing", ()), read(2, 0, 2, "no event\n")]
    assert books_.advance(2, strange) == {0: 2}
    assert [each["event"].split(" ")[0] for each in parked()] == ["other.thing", "unreadable.entry"]


def test_when_nothing_applies_the_drain_stops_and_parks_no_more(books_: Books) -> None:
    with pytest.raises(NothingAppliesError):
        books_.advance(2, events(*[f"poison{n}" for n in range(60)]))
    assert len(parked()) == books.PARKED_IN_A_ROW_MAX
    assert column("SELECT applied_seq FROM hot_shards WHERE shard = 0") == [books.PARKED_IN_A_ROW_MAX]
    with pytest.raises(NothingAppliesError):
        books_.advance(2, events(*[f"poison{n}" for n in range(60)]))
    assert len(parked()) == books.PARKED_IN_A_ROW_MAX


def test_a_server_that_fails_is_no_fault_of_the_event() -> None:
    def lost(session: Session, some: Sequence[Event]) -> list[Refused]:
        raise OperationalError("x", None, Exception("the connection was lost"))

    with pytest.raises(OperationalError):
        Books({"toy": lost}).advance(2, events("a", "b"))
    assert parked() == []


def test_only_shards_of_the_owner_are_written(books_: Books) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE hot_shards SET owner = 'me' WHERE shard = 1"))
    assert books_.advance(2, [*events("a"), *events("b", shard=1)], owner="me") == {1: 1}
    assert column("SELECT id FROM toy_rows") == ["b"]


def test_a_generation_that_is_over_is_not_written_to(books_: Books) -> None:
    with db.transaction() as session:
        store.close(session, 2, reason="test")
    assert books_.advance(2, events("a")) == {0: 1}  # closing: its turn may still be on
    with db.transaction() as session:
        store.open_next(session, 2, mode=StoreMode.POSTGRES, shards=3, reason="test")
    with pytest.raises(GenerationOverError):
        books_.advance(2, events("b", first=2))
    assert column("SELECT id FROM toy_rows") == ["a"]


def test_the_drain_acknowledges_and_trims_what_is_committed(books_: Books) -> None:
    drain = Drain(client(), books_, owner="me")
    drain.follow(2)
    Hand(client(), 2).decide(ADD, [item(f"{n % 5}") for n in range(50)])
    assert sum(drain.step(block=0.01) for _ in range(5)) == 50
    for shard in range(3):
        stream = key(2, shard, STREAM)
        assert client().xlen(stream) == 0
        pending: Any = client().xpending(stream, hand.GROUP)
        assert pending["pending"] == 0


def test_the_drain_takes_over_what_another_left_pending(books_: Books) -> None:
    Hand(client(), 2).decide(ADD, [item("a") for _ in range(10)])
    stream = key(2, item("a").shard, STREAM)
    client().xreadgroup(hand.GROUP, "the dead", {stream: ">"}, count=7)
    drain = Drain(client(), books_, owner="me")
    drain.follow(2)
    assert sum(drain.step(block=0.01) for _ in range(3)) == 10
    # And while it drains: another that was frozen wakes up and takes some.
    Hand(client(), 2).decide(ADD, [item("a") for _ in range(10)])
    client().xreadgroup(hand.GROUP, "the dead", {stream: ">"}, count=5)
    assert sum(drain.step(block=0.01) for _ in range(4)) == 10
    pending: Any = client().xpending(stream, hand.GROUP)
    assert pending["pending"] == 0
    assert len(column("SELECT id FROM toy_rows")) == 20


def test_a_true_hole_ends_the_generation(books_: Books) -> None:
    Hand(client(), 2).decide(ADD, [item("a") for _ in range(5)])
    shard = item("a").shard
    client().xdel(key(2, shard, STREAM), "3-0")
    drain = Drain(client(), books_, owner="me")
    drain.follow(2)
    for _ in range(3):
        drain.step(block=0.01)
    assert column("SELECT state || ' ' || reason FROM hot_store") == [f"closing shard {shard} has no event 3"]
    assert column("SELECT max(seq) FROM toy_rows") == [None]
    # A decider remembered it: the turn finds all five.
    with db.transaction() as session:
        session.execute(
            text("INSERT INTO hot_events VALUES (2, :shard, 3, 'toy.added third 3', :id)"),
            {"shard": shard, "id": uuid.uuid4()},
        )
    Rest(client(), books_).settle(NOW, with_redis=True)
    assert column("SELECT seq FROM toy_rows ORDER BY seq") == [1, 2, 3, 4, 5]
    assert column("SELECT kind FROM breaks") == []


def test_the_rest_is_the_union_in_order_page_after_page(books_: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten events of one shard: Redis knows 1 to 6 but for 2, deciders know 4 to 10 but for 9, pages are of three."""
    shard, name = item("a").shard, "a"
    Hand(client(), 2).decide(ADD, [item(name, f"e{n}") for n in range(1, 7)])
    client().xdel(key(2, shard, STREAM), "2-0")
    told = {seq: f"toy.added e{seq} {seq}" for seq in (4, 5, 6, 7, 8, 10)}
    told[5] = "toy.added other 5"
    presence = Presence("one")
    presence.register()
    assert presence.leave(2, {shard: list(told.items())})
    presence.dispose()
    rest = Rest(client(), books_)
    monkeypatch.setattr(rest, "_limit", 3)
    for _ in range(2):
        rest.settle(NOW, with_redis=True)
    assert client().get(key(2, shard, SEQUENCE)) is None
    assert column("SELECT id FROM toy_rows ORDER BY seq") == ["e1", "e3", "e4", "e5", "e6", "e7", "e8", "e10"]
    with db.transaction() as session:
        found = {(each.kind, each.subject) for each in breaks.page(session)}
    assert found == {("hot.gap", f"2:{shard}:2"), ("hot.gap", f"2:{shard}:9"), ("hot.conflict", f"2:{shard}:5")}


def test_two_deciders_that_tell_differently_are_a_break() -> None:
    for name, label in (("one", "x"), ("two", "y"), ("three", "x")):
        presence = Presence(name)
        presence.register()
        assert presence.leave(2, {1: [(1, f"toy.added {label} 1")]})
        assert not presence.leave(2, {})  # it has left already
        presence.dispose()
    with db.transaction() as session:
        (found,) = breaks.page(session)
    assert (found.kind, found.expected, found.found) == ("hot.conflict", "toy.added x 1", "toy.added y 1")


def test_what_redis_brings_back_is_kept_and_not_applied(books_: Books) -> None:
    """The generation ended while Redis was away, and so without the last two of these."""
    shard = item("a").shard
    Hand(client(), 2).decide(ADD, [item("a", f"e{n}") for n in range(1, 4)])
    books_.advance(2, [Event(2, shard, 1, "toy.added", ("e1", "1"))])
    with db.transaction() as session:
        store.close(session, 2, reason="test")
        opened = store.open_next(session, 2, mode=StoreMode.REDIS, shards=3, reason="test")
    assert opened is not None
    hand.prepare(client(), 3, 3, [ADD])
    leftovers = Leftovers(client())
    for _ in range(3):
        leftovers.clear(opened)
    with db.transaction() as session:
        (found,) = breaks.page(session)
    assert (found.kind, found.subject) == ("hot.orphan", f"2:{shard}:2")
    assert found.detail["events"] == ["toy.added e2 2", "toy.added e3 3"]
    assert column("SELECT event FROM hot_events ORDER BY seq") == ["toy.added e2 2", "toy.added e3 3"]
    assert column("SELECT id FROM toy_rows") == ["e1"]
    assert client().keys("tr:{h*}:2:*") == []
    assert hand.is_ready(client(), 3, 3, [ADD])


def test_the_dead_are_crossed_off_once_the_books_have_everything(books_: Books) -> None:
    presence = Presence("dead")
    presence.register()
    presence.dispose()
    with db.transaction() as session:
        session.execute(text("UPDATE hot_deciders SET seen_at = now() - interval '1 minute'"))
    Hand(client(), 2).decide(ADD, [item("a", "x")])
    Leftovers(client()).clear(NOW)
    assert column("SELECT name FROM hot_deciders") == ["dead"]
    books_.advance(2, [Event(2, item("a").shard, 1, "toy.added", ("x", "1"))])
    Leftovers(client()).clear(NOW)
    assert column("SELECT name FROM hot_deciders") == []


def test_a_number_that_was_used_before_is_not_pristine() -> None:
    assert hand.is_pristine(client(), 3, 3)
    hand.prepare(client(), 3, 3, [ADD])
    hand.prepare(client(), 3, 3, [ADD])
    assert hand.is_pristine(client(), 3, 3)
    Hand(client(), 3).decide(ADD, [item("a")])
    assert not hand.is_pristine(client(), 3, 3)
    client().delete(key(3, item("a").shard, SEQUENCE))
    assert not hand.is_pristine(client(), 3, 3)


def test_a_server_that_may_drop_keys_is_not_decided_in() -> None:
    assert hand.unfit(client(), 3) is None
    client().config_set("maxmemory-policy", "allkeys-lru")
    assert "allkeys-lru" in str(hand.unfit(client(), 3))
    runner = hot_toy.sync()
    ends = time.monotonic() + 10
    while column("SELECT mode FROM hot_store") == ["redis"]:
        assert time.monotonic() < ends
        hot_toy.go_round(runner)
    client().config_set("maxmemory-policy", "noeviction")
    while column("SELECT mode FROM hot_store") == ["postgres"]:
        assert time.monotonic() < ends
        hot_toy.go_round(runner)
    runner._disconnect()
