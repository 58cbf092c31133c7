"""What the hot store answers, and what the books make of it."""

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import ConflictError, InvalidRequestError
from core.hot.errors import UndecidedError
from core.ids import new_id
from domain.bet import service
from domain.bet.decisions import END, RESERVE, Answer, End, Facts, Reserve, Verdict, answer
from domain.bet.players import player
from domain.bet.states import BetState
from ledger.invariants import verify
from tests.integration.bet.house import ASSET, FACTS, House, bet_id

V = Verdict


def test_a_bet_is_reserved_settled_and_booked(house: House) -> None:
    who, won, lost = house.player(units=1_000), new_id(), new_id()
    first = house.reserve(who, 100, won)
    assert (first.verdict, first.free, first.locked) == (V.RESERVED, 900, 100)
    house.reserve(who, 300, lost)
    assert house.settle(who, won, 250).free == 850
    assert house.settle(who, lost, 0).free == 850
    assert house.table.drain(again=True) == 5
    assert house.books(who) == (0, 850, 0)
    assert house.won() == 150
    seen = house.here(who)
    assert seen is not None
    assert (seen.free, seen.locked, dict(seen.bets)) == (850, 0, {})
    with transaction() as session:
        row = service.bet(session, house.tenant, won)
        assert (row.state, row.payout, row.stake, row.facts) == (BetState.SETTLED, 250, 100, FACTS)
        assert [each.id for each in service.settled_since(session, 0)] == [won, lost]
        assert service.settled_since(session, 2) == []
        assert verify(session) == []
    assert house.breaks() == []
    assert house.table.refused == []


def test_a_void_gives_the_stake_back(house: House) -> None:
    who, name = house.player(units=500), new_id()
    house.reserve(who, 500, name)
    found = house.void(who, name)
    assert (found.verdict, found.units, found.free) == (V.VOIDED, 500, 500)
    house.table.drain(again=True)
    assert house.books(who) == (0, 500, 0)
    assert house.won() == 0


def test_a_refusal_names_the_balance_and_changes_nothing(house: House) -> None:
    who = house.player(units=99)
    found = house.reserve(who, 100)
    assert (found.verdict, found.free) == (V.LOW, 99)
    assert house.table.drain() == 1  # the load
    assert house.books(who) == (0, 99, 0)


def test_amounts_are_exact_far_above_what_a_number_of_lua_holds(house: House) -> None:
    most = 10**37 + 12_345_678_901_234_567
    who, name = house.player(units=most), new_id()
    stake = 9_007_199_254_740_993
    assert house.reserve(who, stake, name).free == most - stake
    assert house.settle(who, name, stake + 2).free == most + 2
    house.table.drain()
    assert house.books(who) == (0, most + 2, 0)
    again = new_id()
    house.reserve(who, 1, again)
    too_much = house.settle(who, again, 10**38 - 1)
    assert (too_much.verdict, too_much.free) == (V.TOO_LARGE, most + 1)
    assert house.settle(who, again, 5).free == most + 6


@pytest.mark.parametrize("turned", ["not at all", "after it was reserved", "after it was settled"])
def test_every_replay_gets_the_first_answer(house: House, turned: str) -> None:
    who, name, other = house.player(units=1_000), new_id(), new_id()
    first = house.reserve(who, 100, name)
    house.reserve(who, 50, other)
    if turned == "after it was reserved":
        house.turn()
    assert house.reserve(who, 100, name) == first
    settled = house.settle(who, name, 70)
    voided = house.void(who, other)
    if turned == "after it was settled":
        house.turn()
    for _ in range(2):
        assert house.reserve(who, 100, name) == first
        assert house.settle(who, name, 70) == settled
        assert house.void(who, other) == voided
    for conflict, state in (
        (house.reserve(who, 101, name), "reserved"),
        (house.reserve(who, 100, name, facts=Facts("dice", 300, "agent-7")), "reserved"),
        (house.settle(who, name, 71), "settled"),
        (house.void(who, name), "settled"),
        (house.settle(who, other, 0), "voided"),
    ):
        assert conflict == Answer(V.CONFLICT, state=state)
    house.table.drain()
    assert house.books(who) == (0, 970, 0)
    assert house.table.refused == [] and house.breaks() == []


def test_a_user_may_try_so_many_bets_in_a_second_over_all_his_assets(house: House) -> None:
    who, other = house.player(units=1_000), house.player("bob", units=10)
    coin = player(house.tenant, who.user, "eip155:1/slip44:60")
    house.deposit(coin, 10)
    assert house.load(coin, 10).verdict is V.MOVED
    names = [new_id() for _ in range(5)]
    assert [house.reserve(who, 1, name, per_second=5).verdict for name in names] == [V.RESERVED] * 5
    refused = house.reserve(coin, 1, per_second=5)
    assert refused.verdict is V.TOO_MANY
    assert refused.wait_ms is not None and 0 < refused.wait_ms <= 1_000
    assert house.reserve(who, 1, names[0], per_second=5).verdict is V.RESERVED  # a replay is no try
    assert house.reserve(other, 1, per_second=5).verdict is V.RESERVED
    time.sleep(refused.wait_ms / 1_000 + 0.01)
    assert house.reserve(coin, 1, per_second=5).verdict is V.RESERVED


@pytest.mark.parametrize("age_ms", [301_000, -62_000])
def test_an_id_that_is_too_old_or_too_new_is_never_decided(house: House, age_ms: int) -> None:
    who = house.player()
    assert house.reserve(who, 1, bet_id(age_ms=age_ms)).verdict is V.STALE
    assert house.table.drain() == 1
    assert house.books(who) == (0, 1_000, 0)


def test_an_old_id_is_answered_from_the_books(house: House) -> None:
    who, name = house.player(), bet_id(age_ms=290_000)
    first = house.reserve(who, 10, name)
    settled = house.settle(who, name, 20)
    house.turn()
    assert house.reserve(who, 1).verdict is V.RESERVED  # the player is here
    house.table.store.delete(*house.table.store.keys("*:bet:ended:*"))  # as if their time had passed
    ask = Reserve(who, name, 10, FACTS)
    raw = house.table.hand.decide(END, [End(who, name, 20).item()])[0]
    assert answer(raw).verdict is V.UNKNOWN
    with transaction() as session:
        known = service.known(session, [ask])[who.id, name]
    assert service.first_answer(ask, known) == first
    assert house.settle(who, name, 20) == settled
    assert house.settle(who, new_id(), 20).verdict is V.UNKNOWN


def test_the_end_of_a_bet_is_not_denied_while_the_books_are_behind(house: House) -> None:
    who, name = house.player(), new_id()
    house.reserve(who, 10, name)
    house.table.drain()
    house.settle(who, name, 20)
    house.table.store.delete(*house.table.store.keys("*:bet:ended:*"))
    with pytest.raises(UndecidedError):
        house.settle(who, name, 20)
    house.table.drain()
    assert house.settle(who, name, 20).units == 20


def test_two_players_may_name_a_bet_alike(house: House) -> None:
    ann, bob, name = house.player("ann"), house.player("bob"), new_id()
    house.reserve(ann, 10, name)
    house.reserve(bob, 20, name)
    house.settle(ann, name, 30)
    house.void(bob, name)
    house.table.drain(again=True)
    assert (house.books(ann), house.books(bob)) == ((0, 1_020, 0), (0, 1_000, 0))
    with transaction() as session:
        assert service.bet(session, house.tenant, name, user="bob").state is BetState.VOIDED
        with pytest.raises(ConflictError):
            service.bet(session, house.tenant, name)


def test_threads_can_not_spend_the_same_money(house: House) -> None:
    who = house.player(units=100)
    asks = [Reserve(who, new_id(), 7, FACTS) for _ in range(60)]

    def one(ask: Reserve) -> Answer:
        return answer(house.table.hand.decide(RESERVE, [ask.item(per_second=1_000)])[0])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, asks))
    assert sum(found.verdict is V.RESERVED for found in answers) == 14
    assert all(found.free is not None and found.free < 7 for found in answers if found.verdict is V.LOW)
    house.table.drain()
    assert house.books(who) == (0, 2, 98)


def test_one_call_decides_in_order(house: House) -> None:
    who = house.player(units=10)
    same = new_id()
    asks = [Reserve(who, same, 6, FACTS), Reserve(who, new_id(), 6, FACTS), Reserve(who, same, 6, FACTS)]
    replies = house.table.hand.decide(RESERVE, [ask.item(per_second=100) for ask in asks])
    assert [answer(reply).verdict for reply in replies] == [V.RESERVED, V.LOW, V.RESERVED]
    assert [reply.event is not None for reply in replies] == [True, False, False]


@pytest.mark.parametrize(
    ("field", "ask"),
    [
        ("id", Reserve(player("t", "u", ASSET), uuid4(), 1, FACTS)),
        ("stake", Reserve(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), 0, FACTS)),
        ("stake", Reserve(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), 10**38, FACTS)),
        ("stake", Reserve(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), True, FACTS)),
        ("game", Reserve(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), 1, Facts("a b"))),
        ("edge_bps", Reserve(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), 1, Facts("a", -1))),
        (
            "agent",
            Reserve(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), 1, Facts("a", 0, "-")),
        ),
        ("payout", End(player("t", "u", ASSET), UUID("01890000-0000-7000-8000-000000000000"), -1)),
        ("id", End(player("t", "u", ASSET), uuid4(), 1)),
    ],
)
def test_what_can_not_be_is_refused_before_anybody_is_asked(field: str, ask: Reserve | End) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ask.check()
    assert caught.value.field == field


def test_a_game_may_be_called_null(house: House) -> None:
    who, name = house.player(), new_id()
    house.reserve(who, 1, name, facts=Facts("NULL", 0, None))
    house.table.drain()
    with transaction() as session:
        assert service.bet(session, house.tenant, name).facts == Facts("NULL", 0, None)
        assert session.execute(text("SELECT count(*) FROM bets WHERE agent IS NULL")).scalar_one() == 1
