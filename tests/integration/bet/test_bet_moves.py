"""Loads and unloads: once each, whoever asks, and never lost between the hot store and the books."""

from uuid import UUID

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.ids import new_id
from domain.bet import moving
from domain.bet.decisions import MOVE, Verdict, answer
from domain.bet.players import player
from domain.bet.states import LoadState, UnloadState
from ledger import accounts, holds
from ledger.errors import InsufficientFundsError
from ledger.holds import HoldState
from tasks import claim_sync
from tasks.base import TASKS
from tests.integration.bet.house import ASSET, House

V = Verdict


def jobs_of(task: str) -> int:
    with transaction() as session:
        return int(session.execute(text("SELECT count(*) FROM jobs WHERE task = :t"), {"t": task}).scalar_one())


def postgres_decides(house: House) -> None:
    house.table.drain()
    house.table.turn()
    with transaction() as session:
        wanted = {"g": house.table.generation}
        session.execute(text("UPDATE hot_store SET generation = :g, mode = 'postgres', state = 'open'"), wanted)


def test_a_load_is_held_until_the_books_have_it(house: House) -> None:
    who, load_id = house.player(units=1_000, loaded=0), new_id()
    with transaction() as session:
        moving.begin_load(session, load_id, who, 400)
        assert moving.load(session, house.tenant, load_id).state == LoadState.HELD
        [hold] = holds.holds(session, house.tenant).rows
        assert (hold.units, hold.state) == (400, HoldState.PENDING)
    assert house.books(who) == (1_000, 0, 0)
    moving.settle_load(load_id, 0)
    house.table.drain(again=True)
    assert house.books(who) == (600, 400, 0)
    with transaction() as session:
        assert moving.load(session, house.tenant, load_id).state == LoadState.LOADED
        assert holds.hold(session, house.tenant, hold.id).state is HoldState.POSTED
        with pytest.raises(NotFoundError):
            moving.load(session, "other", load_id)


def test_a_load_counts_once_however_often_it_is_decided(house: House) -> None:
    who, load_id = house.player(units=1_000, loaded=0), new_id()
    first = house.load(who, 400, load_id)
    assert (first.verdict, first.units, first.free) == (V.MOVED, 400, 400)
    for _ in range(2):
        assert house.load(who, 400, load_id) == first
        moving.settle_load(load_id, 0)
    house.turn()
    with transaction() as session:
        move = moving.begin_load(session, load_id, who, 400)
    assert moving.decide(house.table.hand, move) is None  # the books say that it is over
    house.table.drain()
    assert house.books(who) == (600, 400, 0)
    with transaction() as session, pytest.raises(ConflictError):
        moving.begin_load(session, load_id, who, 401)


def test_a_load_that_redis_lost_is_decided_again(house: House) -> None:
    who, load_id = house.player(units=1_000, loaded=0), new_id()
    house.load(who, 400, load_id)
    house.table.turn()  # what was decided is gone, and nobody remembered it
    house.open()
    assert house.books(who) == (1_000, 0, 0)
    moving.settle_load(load_id, 3)
    house.table.drain(again=True)
    assert house.books(who) == (600, 400, 0)
    moving.settle_load(load_id, 4)
    assert house.table.waiting() == []


def test_a_late_try_does_not_load_twice(house: House) -> None:
    """Somebody asked the books before the load was decided, and asks the hot store after the player was forgotten."""
    who, load_id = house.player(units=1_000, loaded=0), new_id()
    with transaction() as session:
        move = moving.begin_load(session, load_id, who, 400)
    token = answer(house.table.hand.decide(MOVE, [move.item()])[0]).token
    assert token is not None
    with transaction() as session:
        prepared = moving.prepare_load(session, load_id, token)
    assert prepared is not None
    assert house.decide(move).verdict is V.MOVED
    assert house.unload(who).units == 400
    house.table.drain()
    [name] = house.table.store.keys("*:bet:player:*")
    house.table.store.delete(name)  # as `forget` does, a minute later
    assert answer(house.table.hand.decide(MOVE, [prepared[1]])[0]).verdict is V.ABSENT
    house.reserve(who, 1)  # somebody has him put there again
    assert answer(house.table.hand.decide(MOVE, [prepared[1]])[0]).verdict is V.ABSENT
    assert house.table.waiting() == []


def test_what_was_read_long_ago_or_in_another_generation_is_not_put(house: House) -> None:
    who = house.player(units=10)
    house.table.drain()
    [old] = [answer(each).token for each in house.table.hand.decide(MOVE, [moving.Move(new_id(), who, None).item()])]
    assert old is not None
    generation, ms = old.split(":")
    house.turn()
    for token in (old, f"{house.table.generation}:{int(ms) - 10_001}"):
        house.put({who: token})
        assert house.here(who) is None
    house.put({who: f"{house.table.generation}:{ms}"})
    assert house.here(who) is not None
    assert int(generation) == house.table.generation - 1


def test_more_than_there_is_can_not_be_loaded(house: House) -> None:
    who = house.player(units=100, loaded=0)
    with transaction() as session, pytest.raises(InsufficientFundsError):
        moving.begin_load(session, new_id(), who, 101)
    for units in (0, -1, True, 10**38):
        with transaction() as session, pytest.raises(InvalidRequestError):
            moving.begin_load(session, new_id(), who, units)
    assert jobs_of("claim_sync.settle_load") == 0


def test_a_load_is_voided_only_while_postgresql_decides(house: House) -> None:
    who, load_id = house.player(units=1_000, loaded=0), new_id()
    with transaction() as session:
        moving.begin_load(session, load_id, who, 400)
        session.execute(text("UPDATE hot_store SET state = 'closing'"))
    moving.settle_load(load_id, 0)
    with transaction() as session:
        assert moving.load(session, house.tenant, load_id).state == LoadState.HELD
    assert jobs_of("claim_sync.settle_load") == 2  # it looks again
    postgres_decides(house)
    moving.settle_load(load_id, 1)
    moving.settle_load(load_id, 1)
    with transaction() as session:
        assert moving.load(session, house.tenant, load_id).state == LoadState.VOIDED
        [hold] = holds.holds(session, house.tenant).rows
        assert hold.state is HoldState.VOIDED
    assert jobs_of("claim_sync.settle_load") == 2
    house.open()
    with transaction() as session:
        move = moving.begin_load(session, load_id, who, 400)
    assert moving.decide(house.table.hand, move) is None
    assert house.table.waiting() == []


def test_a_load_that_the_books_refuse_is_never_voided(house: House) -> None:
    who, load_id = house.player(units=1_000, loaded=0), new_id()
    house.load(who, 400, load_id)
    account = {"tenant": house.tenant, "code": f"user:{who.user}:available", "asset": ASSET, "actor": "ops"}
    with transaction() as session:
        accounts.freeze(session, reason="asked by the police", **account)
    house.reserve(who, 100)
    house.table.drain()
    assert [(one.event.kind, "frozen" in one.why) for one in house.table.refused] == [
        ("bet.loaded", True),
        ("bet.reserved", False),
    ]
    assert house.books(who) == (1_000, 0, 0)
    postgres_decides(house)
    moving.settle_load(load_id, 0)
    with transaction() as session:
        row = moving.load(session, house.tenant, load_id)
        assert row.state == LoadState.HELD and row.refused is not None and "frozen" in row.refused
        accounts.unfreeze(session, reason="it was a mistake", **account)
    for refused in house.table.refused:  # what the job of a parked event does, once somebody replays it
        with transaction() as session:
            assert house.table.appliers["bet"](session, [refused.event]) == []
    assert house.books(who) == (600, 300, 100)


@pytest.mark.parametrize(("units", "left"), [(None, 0), (70, 630)])
def test_an_unload_gives_back_what_is_free(house: House, units: int | None, left: int) -> None:
    who, name, unload_id = house.player(units=1_000), new_id(), new_id()
    house.reserve(who, 300, name)
    first = house.unload(who, units, unload_id)
    assert (first.verdict, first.free) == (V.MOVED, left)
    assert house.unload(who, units, unload_id) == first
    house.table.drain(again=True)
    assert house.books(who) == (700 - left, left, 300)
    with transaction() as session:
        row = moving.unload(session, house.tenant, unload_id)
        assert (row.state, row.moved) == (UnloadState.UNLOADED, 700 - left)
        with pytest.raises(ConflictError):
            moving.begin_unload(session, unload_id, who, 1)
        with pytest.raises(NotFoundError):
            moving.unload(session, "other", unload_id)
        with pytest.raises(NotFoundError):
            moving.begin_unload(session, new_id(), player(house.tenant, "nobody", ASSET), 1)
    assert house.settle(who, name, 0).verdict is V.SETTLED


def test_an_unload_of_more_than_is_free_is_refused_and_names_it(house: House) -> None:
    who, unload_id = house.player(units=100), new_id()
    with transaction() as session:
        moving.begin_unload(session, unload_id, who, 101)
    moving.settle_unload(unload_id, 0)
    moving.settle_unload(unload_id, 1)
    with transaction() as session:
        row = moving.unload(session, house.tenant, unload_id)
        assert (row.state, row.why) == (UnloadState.REFUSED, "100 units are free")
    assert house.table.drain() == 1
    assert house.books(who) == (0, 100, 0)


def unloads(who_id: UUID) -> list[tuple[UUID, str]]:
    with transaction() as session:
        rows = session.execute(text("SELECT id, state FROM hot_unloads WHERE player = :p ORDER BY id"), {"p": who_id})
        return [(row.id, row.state) for row in rows]


def test_idle_players_are_unloaded_and_busy_ones_are_not(house: House) -> None:
    idle, staked, busy = (house.player(name, units=100) for name in ("idle", "staked", "busy"))
    house.reserve(staked, 1)
    house.turn()
    with transaction() as session:
        session.execute(text("UPDATE bet_players SET last_active_at = now() - interval '31 minutes'"))
    assert house.reserve(busy, 1).verdict is V.RESERVED  # not in the books yet
    with transaction() as session:
        assert moving.unload_idle(session) == 2
    with transaction() as session:
        assert moving.unload_idle(session) == 0  # asked for already
    for who in (idle, busy):
        [(unload_id, _)] = unloads(who.id)
        moving.settle_unload(unload_id, 0)
    house.table.drain()
    assert house.books(idle) == (100, 0, 0)
    assert house.books(busy) == (0, 99, 1)
    assert [state for _, state in unloads(idle.id)] == ["unloaded"]
    assert [state for _, state in unloads(busy.id)] == ["refused"]
    assert unloads(staked.id) == []


def test_a_player_with_money_never_expires_and_one_without_does(house: House) -> None:
    rich, poor, spent = house.player("rich"), player(house.tenant, "poor", ASSET), house.player("spent", units=5)
    house.reserve(spent, 5)
    assert house.reserve(poor, 1).verdict is V.LOW
    house.turn()
    for who in (rich, poor, spent):
        house.reserve(who, 1)
    lives = {
        who.user: house.table.store.pttl(f"tr:{{h{who.shard}}}:{house.table.generation}:{who.key}")
        for who in (rich, poor, spent)
    }
    assert (lives["rich"], lives["spent"]) == (-1, -1)
    assert 0 < lives["poor"] <= 10_000
    house.deposit(poor, 50)
    house.load(poor, 50)
    assert house.table.store.pttl(f"tr:{{h{poor.shard}}}:{house.table.generation}:{poor.key}") == -1


def test_only_the_newest_ended_bets_are_put_and_older_ids_are_not_decided(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.bet.loading.RECENT_MAX", 3)
    who, names = house.player(units=1_000), [UUID(int=new_id().int - ((10_000 - n) << 80)) for n in range(6)]
    answers = {name: house.reserve(who, 1, name) for name in names}
    ends = {name: house.settle(who, name, 2) for name in names}
    house.turn()
    between = UUID(int=names[1].int + 1)
    assert house.reserve(who, 1, between).verdict is V.STALE
    assert {name: house.reserve(who, 1, name) for name in names} == answers
    assert {name: house.settle(who, name, 2) for name in names} == ends
    assert house.reserve(who, 1).verdict is V.RESERVED
    assert house.table.drain() == 1


def test_every_job_of_a_move_is_one_that_a_worker_understands(house: House) -> None:
    """From the row that was written to the task that is run by it."""
    idle, who = house.player("idle", units=10), house.player("ann", units=100, loaded=0)
    house.table.drain()
    with transaction() as session:
        moving.begin_load(session, new_id(), who, 60)
        session.execute(
            text("UPDATE bet_players SET last_active_at = now() - interval '31 minutes', created_at = now()")
        )
        assert moving.unload_idle(session) == 1
        moving.begin_unload(session, new_id(), idle, 4)
        rows = session.execute(text("SELECT task, args FROM jobs WHERE subject LIKE 'hot-%' ORDER BY id")).all()
    assert {row.task for row in rows} == {"claim_sync.settle_load", "claim_sync.settle_unload"}
    for row in rows:
        TASKS[row.task].function(**TASKS[row.task].validate(row.args))
    claim_sync.compare_bets()
    house.table.drain()
    assert house.books(who) == (40, 60, 0)
    assert house.books(idle) == (4, 6, 0)  # he is not idle by the hot store's clock
