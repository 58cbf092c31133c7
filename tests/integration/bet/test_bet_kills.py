"""Bets by a real decider and a real sync process while Redis is killed: what was answered is in the books once."""

import asyncio
import os
import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import OutcomeUnknownError, TransientError
from core.hot import client, store
from core.hot.decider import Decider
from core.hot.script import Item, Script
from core.hot.settings import hot
from core.hot.store import StoreMode, StoreState
from core.ids import new_id
from domain.bet import comparing, loading, moving, service
from domain.bet.decisions import END, MOVE, PUT, RESERVE, Answer, End, Reserve, Verdict, answer
from domain.bet.players import Player, player
from domain.bet.states import BetState
from ledger import balances, chart
from ledger.assets import sync_assets
from ledger.invariants import verify
from ledger.posting import Journal, Posting, book
from local.valkey import Valkey
from tests.conftest import use
from tests.integration.bet.house import ASSET, FACTS, TENANT
from tests.support.fleet import Fleet, wait_until

V = Verdict
BEGAN_WITH = 100_000
LATER = 30.0
"""Seconds that a bet is asked for again and again."""


@dataclass
class Told:
    """What was answered."""

    stakes: dict[UUID, int] = field(default_factory=dict)
    ends: dict[UUID, int | None] = field(default_factory=dict)
    answers: list[tuple[Player, UUID, Answer]] = field(default_factory=list)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path / "hot") as made:
        yield made


@pytest.fixture
def turning(server: Valkey, fleet: Fleet) -> Iterator[Fleet]:
    """The sync process at work on a hot store of its own."""

    def forget() -> None:
        client.dispose()
        hot.cache_clear()

    back = use({"HOT_REDIS_URL": server.url, "HOT_LEASE": "2", "HOT_FALLBACK_AFTER": "0.5", "HOT_SHARDS": "2"})
    forget()
    with transaction() as session:
        sync_assets(session)
    fleet.start("sync", ["-m", "workers.sync"])
    wait_until(lambda: is_open(after=1))
    yield fleet
    fleet.kill("sync")
    back()
    forget()


def is_open(*, after: int) -> bool:
    with transaction() as session:
        now = store.current(session)
    return now.state is StoreState.OPEN and now.mode is StoreMode.REDIS and now.number > after


def read(work: Any, *arguments: Any) -> Any:
    with transaction() as session:
        return work(session, *arguments)


class Desk:
    """A handler in a few lines: ask, put who is absent, look into the books; and again until it is known."""

    def __init__(self, decider: Decider) -> None:
        self.decider = decider

    async def ask(self, script: Script, item: Item, ask: Reserve | End) -> Answer:
        ends = asyncio.get_running_loop().time() + LATER
        while asyncio.get_running_loop().time() < ends:
            try:
                found = answer(await self.decider.decide(script, item))
                if found.token is not None:
                    items = await asyncio.to_thread(read, loading.items, [(ask.player, found.token)])
                    await self.decider.decide(PUT, items[0])
                    continue
                if found.verdict in (V.STALE, V.UNKNOWN):
                    known = await asyncio.to_thread(read, service.known, [ask])
                    return service.first_answer(ask, known.get((ask.player.id, ask.id)))
            except (TransientError, OutcomeUnknownError):
                await asyncio.sleep(0.02)
            else:
                return found
        raise AssertionError(f"{ask.id} was not decided")

    async def load(self, who: Player, units: int) -> None:
        move = await asyncio.to_thread(read, moving.begin_load, new_id(), who, units)
        item, ends = move.item(), asyncio.get_running_loop().time() + LATER
        while asyncio.get_running_loop().time() < ends:
            try:
                found = answer(await self.decider.decide(MOVE, item))
                if found.token is None:
                    assert found.verdict is V.MOVED
                    return
                put, item = await asyncio.to_thread(read, moving.prepare_load, move.id, found.token)
                await self.decider.decide(PUT, put)
            except (TransientError, OutcomeUnknownError):
                await asyncio.sleep(0.02)
        raise AssertionError(f"{who.user} was not loaded")


async def play(desk: Desk, who: Player, told: Told, stop: asyncio.Event, chance: random.Random) -> None:
    while not stop.is_set():
        bet = Reserve(who, new_id(), chance.randint(1, 50), FACTS)
        found = await desk.ask(RESERVE, bet.item(per_second=1_000_000), bet)
        if found.verdict is V.LOW:
            continue
        assert found.verdict is V.RESERVED
        told.stakes[bet.id] = stake = bet.stake
        told.answers.append((who, bet.id, found))
        if chance.random() < 0.1:
            continue  # it stays open
        end = End(who, bet.id, chance.choice([None, 0, stake * 2, stake]))
        found = await desk.ask(END, end.item(), end)
        assert found.verdict in (V.SETTLED, V.VOIDED)
        told.ends[bet.id] = end.payout
        await asyncio.sleep(0)


async def more(told: Told) -> None:
    wanted = len(told.stakes) + 200
    await asyncio.to_thread(wait_until, lambda: len(told.stakes) >= wanted)


async def campaign(server: Valkey, players: Sequence[Player], told: Told, how: str) -> None:
    decider, stop, chance = Decider(), asyncio.Event(), random.Random(5)
    await decider.start()
    desk = Desk(decider)
    for who in players:
        await desk.load(who, BEGAN_WITH)
    async with asyncio.TaskGroup() as group:
        for who in players:
            for _ in range(3):
                group.create_task(play(desk, who, told, stop, chance))
        for _ in range(2):
            await more(told)
            generation = decider.generation
            assert generation is not None
            await asyncio.to_thread(harm, server, how)
            await asyncio.to_thread(wait_until, partial(is_open, after=generation.number))
        await more(told)
        stop.set()
    await decider.stop()


def harm(server: Valkey, how: str) -> None:
    if how == "flushall":
        client.client().flushall()
        return
    assert server.process is not None and server.process.pid is not None
    os.kill(server.process.pid, signal.SIGKILL)
    wait_until(lambda: not server.alive())
    server.stop()
    if how == "killed and its files lost":
        for file in (server.data_dir / "files").rglob("*"):
            if file.is_file():
                file.unlink()
    server.start()


def drained() -> bool:
    """Nothing is left in the streams, by the books."""
    with transaction() as session:
        rows = session.execute(text("SELECT version, id FROM bet_players")).all()
        now = store.current(session)
        done = session.execute(
            text("SELECT shard, applied_seq FROM hot_shards WHERE generation = :g"), {"g": now.number}
        ).all()
    found = [client.client().get(f"tr:{{h{row.shard}}}:{now.number}:seq") for row in done]
    return bool(rows) and [int(str(each)) for each in found] == [row.applied_seq for row in done]


@pytest.mark.parametrize("how", ["killed", "killed and its files lost", "flushall"])
def test_what_was_answered_is_in_the_books_once(turning: Fleet, server: Valkey, how: str) -> None:
    players = [player(TENANT, name, ASSET) for name in ("ann", "bob", "cleo", "dora")]
    for who in players:
        into = chart.user_available(who.user)
        move = Posting(source=chart.custody("eip155:1"), destination=into, asset=ASSET, units=BEGAN_WITH)
        book(Journal(tenant=TENANT, reference=f"deposit:{who.user}", category="test", postings=[move]))
    told = Told()
    asyncio.run(campaign(server, players, told, how))
    wait_until(drained)
    with transaction() as session:
        rows = {row.id: row for who in players for row in service.bets_of(session, who, limit=1_000_000)}
        for who, name, found in told.answers:
            row = rows[name]
            assert (row.player, row.stake) == (who, told.stakes[name])
            assert (row.reserved_free, row.reserved_locked) == (found.free, found.locked)
        for name, payout in told.ends.items():
            state = BetState.VOIDED if payout is None else BetState.SETTLED
            assert (rows[name].state, rows[name].payout) == (state, payout)
        for who in players:
            mine = [row for row in rows.values() if row.player == who]
            staked = sum(row.stake for row in mine if row.state is BetState.RESERVED)
            settled = [row for row in mine if row.state is BetState.SETTLED]
            won = sum((row.payout or 0) - row.stake for row in settled)
            codes = chart.playing(who.user), chart.staked(who.user)
            assert [balances.balance(session, TENANT, code, ASSET) for code in codes] == [
                BEGAN_WITH + won - staked,
                staked,
            ]
        assert verify(session) == []
        assert session.execute(text("SELECT count(*) FROM jobs WHERE task = 'claim_sync.apply_parked'")).scalar() == 0
        assert session.execute(text("SELECT count(*) FROM breaks WHERE kind LIKE 'bet.%'")).scalar() == 0
    assert comparing.compare().differing == 0
