"""With the real sync process and a real decider: Redis is emptied, and goes away, while people claim."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from core.db import transaction
from core.hot import client, store
from core.hot.decider import Decider
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.script import Item, Reply, Script
from core.hot.settings import hot
from core.hot.store import StoreMode, StoreState
from domain.claim import service
from domain.claim.loading import remembered
from domain.claim.service import Answer, Ask, ClaimResult, Claims, Here, NewPacket, Packet, Shares
from ledger import invariants
from ledger.assets import sync_assets
from ledger.balances import balance
from local.valkey import Valkey
from tests.conftest import use
from tests.integration.claim.desk import SENDER, in_an_hour
from tests.integration.ledger.books import CUSTODY, EUR, book, move, new_tenant
from tests.support.fleet import Fleet, wait_until

PACE = {"HOT_LEASE": "1.5", "HOT_FALLBACK_AFTER": "0.4", "HOT_WAIT": "1", "HOT_SHARDS": "3"}
SHARES = 270
USERS = [f"u{number}" for number in range(300)]


@pytest.fixture
def server(fleet: Fleet, tmp_path: Path) -> Iterator[Valkey]:
    """A hot store of its own, drained by a sync process."""
    with Valkey(tmp_path / "hot") as made:
        back = use({"HOT_REDIS_URL": made.url, **PACE})
        forget()
        fleet.start("sync", ["-m", "workers.sync"])
        wait_until(lambda: is_open(StoreMode.REDIS))
        yield made
        fleet.kill("sync")
        back()
        forget()


def forget() -> None:
    client.dispose()
    hot.cache_clear()
    remembered.clear()


def is_open(mode: StoreMode, *, after: int = 1) -> bool:
    with transaction() as session:
        now = store.current(session)
    return now.state is StoreState.OPEN and now.mode is mode and now.number > after


class Office:
    """Redis decides or, while it is away, PostgreSQL."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._claims, self._here = Claims(self._decide), Here()

    async def claim(self, asks: list[Ask]) -> list[Answer]:
        try:
            return await self._claims.claim(asks)
        except StoreAwayError:
            return await self._here.claim(asks)

    async def _decide(self, script: Script, items: Sequence[Item]) -> list[Reply]:
        replies: list[Reply] = []
        for reply in await self._decider.decide_all(script, items, patient=True):
            if isinstance(reply, Exception):
                raise reply
            replies.append(reply)
        return replies


async def insist(desk: Office, asks: list[Ask]) -> list[Answer]:
    """As people do who want to know."""
    while True:
        try:
            return await desk.claim(asks)
        except (StoreAwayError, UndecidedError):
            await asyncio.sleep(0.2 + random.random() / 5)


async def storm(server: Valkey, tenant: str, packets: list[Packet]) -> dict[Ask, Answer]:
    """Everybody claims on every packet, at some moment; meanwhile Redis forgets all, goes away and comes back."""
    decider = Decider("test")
    await decider.start()
    desk = Office(decider)
    asks = [Ask(tenant, packet.id, user) for packet in packets for user in USERS]
    random.Random(7).shuffle(asks)
    first: dict[Ask, Answer] = {}

    async def claim(ask: Ask) -> None:
        await asyncio.sleep(random.Random(ask.claimant).random() * 4)
        [first[ask]] = await insist(desk, [ask])

    everybody = asyncio.gather(*map(claim, asks))
    await asyncio.sleep(0.7)
    await asyncio.to_thread(client.client().flushall)
    await asyncio.sleep(1)
    await asyncio.to_thread(server.stop)
    await until_open(StoreMode.POSTGRES)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(server.start)
    await until_open(StoreMode.REDIS)
    await everybody
    for again, answer in zip(await insist(desk, list(first)), first.values(), strict=True):
        assert (again.place, again.units, again.at) == (answer.place, answer.units, answer.at)
        assert again.result is (ClaimResult.ALREADY if answer.place else ClaimResult.EMPTY)
    await decider.stop()
    return first


async def until_open(mode: StoreMode) -> None:
    await asyncio.to_thread(wait_until, lambda: is_open(mode))


def test_nothing_that_was_answered_is_lost_and_nothing_is_given_twice(server: Valkey) -> None:
    tenant = new_tenant()
    with transaction() as session:
        sync_assets(session)
    book(tenant, "fund", move(CUSTODY, SENDER, 10**9, EUR))
    packets = [make(tenant) for _ in range(3)]
    first = asyncio.run(storm(server, tenant, packets))
    with transaction() as session:
        modes = {row.seq is None for packet in packets for row in service.claims(session, packet.id, limit=1_000)}
    assert modes == {True, False}, "PostgreSQL has decided some, Redis the others"
    for packet in packets:
        won = {ask.claimant: answer for ask, answer in first.items() if ask.packet_id == packet.id and answer.place}
        assert all(answer.result in {ClaimResult.WON, ClaimResult.ALREADY} for answer in won.values())
        assert sorted(answer.place or 0 for answer in won.values()) == list(range(1, SHARES + 1))
        assert sum(answer.units or 0 for answer in won.values()) == packet.units
        wait_until(lambda made=packet: is_over(made))  # type: ignore[misc]
        with transaction() as session:
            rows = service.claims(session, packet.id, limit=1_000)
            assert balance(session, tenant, packet.account, EUR) == 0
        assert {row.claimant: (row.place, row.units, row.claimed_at, row.refused) for row in rows} == {
            user: (answer.place, answer.units, answer.at, None) for user, answer in won.items()
        }
    with transaction() as session:
        assert invariants.verify(session) == []
        assert balance(session, tenant, SENDER, EUR) == 10**9 - sum(packet.units for packet in packets)


def make(tenant: str) -> Packet:
    new = NewPacket(
        tenant=tenant, sender=SENDER, asset=EUR, units=1_000_000, count=SHARES, kind=Shares.RANDOM,
        expires_at=in_an_hour(),
    )  # fmt: skip
    with transaction() as session:
        made = service.create(session, new)
        return service.open_packet(session, made.id)


def is_over(packet: Packet) -> bool:
    with transaction() as session:
        found = service.get(session, packet.id)
    return found is not None and found.ended is not None
