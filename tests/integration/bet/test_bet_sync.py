"""Events become journals once each, in order, and what does not fit is seen."""

import threading
from typing import Any

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import InvariantError
from core.hot.events import Event, parse
from core.hot.keys import STREAM, key
from core.ids import new_id
from domain.bet import comparing, service, sync
from domain.bet.decisions import FORGET, Facts, Reserve, Verdict, forget_item
from domain.bet.players import Player
from domain.bet.states import BetState
from ledger.invariants import verify
from tests.integration.bet.house import FACTS, House

V = Verdict


def apply(events: list[Event]) -> list[str]:
    with transaction() as session:
        return [f"{one.event.kind}: {one.why}" for one in sync.apply(session, events)]


def lose(house: House, who: Player, place: int) -> Event:
    """Take a decision out of what the table will drain: Redis lost it, and nobody remembered."""
    event = [one for one in house.table.waiting() if one.fields[0] == who.name][place]
    house.table.store.xdel(key(event.generation, event.shard, STREAM), f"{event.seq}-0")
    return event


def drain_with_gaps(house: House) -> list[str]:
    events = []
    for shard in range(house.table.shards):
        entries: Any = house.table.store.xrange(key(house.table.generation, shard, STREAM))
        for entry_id, fields in entries:
            seq = int(entry_id.partition("-")[0])
            events.append(parse(house.table.generation, shard, seq, fields["e"]))
    return apply(events)


def test_a_batch_may_begin_and_end_a_bet(house: House) -> None:
    who, other = house.player("ann", units=100), house.player("bob", units=100)
    names = [new_id() for _ in range(6)]
    for place, name in enumerate(names):
        house.reserve(who if place % 2 else other, 10, name, facts=Facts("dice", place, None))
    for name in names[1::2]:
        house.settle(who, name, 15)
    house.table.drain(again=True)
    for name in names[::2]:
        house.void(other, name)
    house.table.drain(again=True)
    with transaction() as session:
        ann, bob = service.bets_of(session, who), service.bets_of(session, other)
        assert [each.id for each in ann] == names[5::-2]
        assert {each.state for each in ann} == {BetState.SETTLED}
        assert {each.state for each in bob} == {BetState.VOIDED}
        assert [each.facts.edge_bps for each in bob] == [4, 2, 0]
        assert [each.id for each in service.bets_of(session, who, before=names[3], limit=1)] == [names[1]]
        assert service.bets_of(session, who, state=BetState.VOIDED) == []
        numbers = [each.settled_number or 0 for each in service.settled_since(session, 0)]
        assert numbers == sorted(set(numbers)) and len(numbers) == 3
        assert verify(session) == []
        facts = service.player_facts(session, who)
        assert (facts.free, facts.locked, facts.version) == (115, 0, 7)
    assert (house.books(who), house.books(other)) == ((0, 115, 0), (0, 100, 0))


def test_a_lost_decision_is_a_break_and_the_books_follow_what_was_acknowledged(house: House) -> None:
    who, lost, kept = house.player(units=100), new_id(), new_id()
    house.reserve(who, 60, lost)
    house.reserve(who, 30, kept)
    lose(house, who, 1)
    assert drain_with_gaps(house) == []
    assert house.books(who) == (0, 70, 30)
    assert house.breaks() == [("bet.player", "free 70, locked 30", "free 10, locked 90")]
    with transaction() as session:
        assert session.execute(text("SELECT detail ->> 'missing' FROM breaks")).scalar_one() == "1"
    house.table.turn()
    house.open()
    assert house.reserve(who, 1, kept).verdict is V.CONFLICT
    assert house.reserve(who, 60, lost).free == 10  # nobody was answered, so it is new
    house.table.drain(again=True)
    assert house.books(who) == (0, 10, 90)
    assert len(house.breaks()) == 1


def test_what_a_floor_refuses_is_handed_back_and_so_is_what_rests_on_it(house: House) -> None:
    who, name, small = house.player(units=100), new_id(), new_id()
    house.deposit(who, 50)
    house.load(who, 50)
    house.reserve(who, 120, name)  # rests on the second load
    house.reserve(who, 20, small)
    house.settle(who, name, 500)
    house.settle(who, small, 0)
    lose(house, who, 1)
    refused = drain_with_gaps(house)
    assert [each.partition(":")[0] for each in refused] == ["bet.reserved", "bet.settled"]
    assert house.books(who) == (50, 80, 0)
    assert house.won() == 20
    with transaction() as session:
        assert verify(session) == []
        assert session.execute(text("SELECT count(*) FROM bets")).scalar_one() == 1
        assert service.settled_since(session, 0)[0].id == small


def test_what_rests_on_a_refusal_is_not_booked_with_the_money_of_another_bet(house: House) -> None:
    """The stake of the refused bet's settlement would be found in `staked`: it is that of another bet."""
    who, other, name = house.player(units=100), new_id(), new_id()
    house.reserve(who, 60, other)
    house.table.drain()
    events = [
        _event(who, 1, "reserved", name, 60, facts="crash 300 agent-7"),
        _event(who, 2, "settled", name, 0),
        _event(who, 3, "settled", other, 10),
    ]
    refused = apply(events)
    assert [each.partition(":")[0] for each in refused] == ["bet.reserved", "bet.settled"]
    assert "no such bet" in refused[1]
    assert house.books(who) == (0, 50, 0)
    assert house.won() == 50
    with transaction() as session:
        assert verify(session) == []


def _event(who: Player, seq: int, what: str, name: object, units: int, *, facts: str = "") -> Event:
    text_ = f"{who.name} {name} {seq + 2} 0 0 1763744000000 {units} {facts}".strip()
    return Event(9, who.shard, seq, f"bet.{what}", tuple(text_.split(" ")))


def test_the_same_bet_told_otherwise_is_refused(house: House) -> None:
    who, name = house.player(units=100), new_id()
    house.reserve(who, 10, name)
    house.settle(who, name, 5)
    house.table.drain()
    facts = FACTS.text
    assert apply([_event(who, 1, "reserved", name, 10, facts=facts), _event(who, 2, "settled", name, 5)]) == []
    refused = apply(
        [
            _event(who, 3, "reserved", name, 11, facts=facts),
            _event(who, 4, "settled", name, 6),
            _event(who, 5, "voided", name, 10),
            _event(who, 6, "loaded", new_id(), 10),
            _event(who, 7, "unloaded", new_id(), 10),
            _event(who, 8, "voided", name, 10)._replace(fields=(str(new_id()), str(name), *("1",) * 5)),
        ]
    )
    assert len(refused) == 6
    assert house.books(who) == (0, 95, 0)


@pytest.mark.parametrize("words", ["x y", "a b 1 2 3 4 5", "a b 1 2 3 4 5 crash 300", "a b 1 2 3 4 five crash 300 -"])
def test_what_is_no_event_stops_everything(house: House, words: str) -> None:
    kind = "bet.settled" if words.endswith("y") else "bet.reserved"
    with pytest.raises(InvariantError):
        apply([Event(9, 0, 1, kind, tuple(words.split(" ")))])
    with pytest.raises(InvariantError):
        apply([Event(9, 0, 1, "bet.invented", ("a", "b", "1", "2", "3", "4", "5"))])


def test_a_reader_of_numbers_misses_none(house: House) -> None:
    """Two batches at once: the second waits with its number until the first is committed."""
    ann, bob, names = house.player("ann"), house.player("bob"), [new_id(), new_id()]
    house.reserve(ann, 1, names[0])
    house.reserve(bob, 1, names[1])
    before = new_id()
    house.reserve(ann, 1, before)
    house.settle(ann, before, 0)  # the house's account is there, so that nobody waits for its making
    house.table.drain()
    house.settle(ann, names[0], 0)
    house.settle(bob, names[1], 0)
    first, second = ([one for one in house.table.waiting() if one.fields[0] == who.name] for who in (ann, bob))
    with transaction() as session:
        sync.apply(session, first)
        thread = threading.Thread(target=apply, args=(second,))
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()
        with transaction() as reader:
            assert [each.id for each in service.settled_since(reader, 0)] == [before]
    thread.join(10)
    with transaction() as session:
        assert [each.id for each in service.settled_since(session, 0)] == [before, *names]


def test_the_comparison_finds_what_differs_and_changes_nothing(house: House) -> None:
    ann, bob, cleo, dora = (house.player(name, units=100) for name in ("ann", "bob", "cleo", "dora"))
    for who in (ann, bob, cleo, dora):
        house.reserve(who, 10)
    house.table.drain()
    assert comparing.compare() == comparing.Result(4, 0, 0)
    assert house.breaks() == []

    def name_of(who: Player, name: str) -> str:
        return key(house.table.generation, who.shard, name)

    house.table.store.hset(name_of(ann, ann.key), "free", "91")
    house.table.store.hset(name_of(bob, bob.key), f"b:{new_id()}", "1 00 0 0 0")
    house.reserve(cleo, 1)  # not in the books yet
    before = house.here(ann), house.here(bob)
    for _ in range(2):
        assert comparing.compare() == comparing.Result(4, 1, 2)
    assert (house.here(ann), house.here(bob)) == before
    assert sorted(house.breaks()) == [
        ("bet.balance", "free 90, locked 10, 1 open bets", "free 90, locked 10, 2 open bets"),
        ("bet.balance", "free 90, locked 10, 1 open bets", "free 91, locked 10, 1 open bets"),
    ]
    with transaction() as session:
        assert session.execute(text("SELECT array_agg(times) FROM breaks")).scalar_one() == [2, 2]
        session.execute(text("UPDATE hot_store SET mode = 'postgres'"))
    assert comparing.compare() == comparing.Result(0, 0, 0)


def test_a_player_with_nothing_left_is_forgotten_once_it_is_in_the_books(house: House) -> None:
    who = house.player(units=100)
    house.unload(who)
    name = key(house.table.generation, who.shard, who.key)
    comparing.compare()
    house.table.drain()
    comparing.compare()
    assert house.here(who) is not None  # it was only now
    house.table.store.hset(name, mapping={"at": "1", "put": "1"})
    assert house.table.hand.decide(FORGET, [forget_item(who, 1)])[0].answer == "K"  # version 2 is not in those books
    assert house.here(who) is not None
    comparing.compare()
    assert house.here(who) is None
    assert house.breaks() == []
    assert house.reserve_all([Reserve(who, new_id(), 1, FACTS)])[0].verdict is V.LOW
