"""The way of a claim through a process that answers many people at once."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy.orm import Session

from core.hot.errors import StoreAwayError
from core.hot.hand import Hand
from core.hot.script import Item, Reply, Script
from core.hot.store import StoreMode
from domain.claim import claiming, loading, service
from domain.claim.hot import LOAD
from domain.claim.service import Ask, ClaimResult, Claims, Here
from tests.integration.claim.desk import Desk

R = ClaimResult


def load(desk: Desk, item: Item) -> str:
    return desk.table.hand.decide(LOAD, [item])[0].answer


class Spy:
    """A decider that only asks."""

    def __init__(self, desk: Desk) -> None:
        self.hand = Hand(desk.store, desk.table.generation)
        self.calls: list[tuple[str, int]] = []

    async def decide(self, script: Script, items: Sequence[Item]) -> Sequence[Reply]:
        self.calls.append((script.name, len(items)))
        return await asyncio.to_thread(self.hand.decide, script, items)


def test_many_who_miss_the_same_packets_read_them_once(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = [desk.packet(count=5, units=50) for _ in range(3)]
    spy = Spy(desk)
    looks: list[int] = []

    def counted(session: Session, missed: Mapping[loading.Key, str]) -> dict[loading.Key, Item | loading.Over]:
        looks.append(len(missed))
        return loading.look(session, missed)

    monkeypatch.setattr(claiming, "look", counted)

    async def storm() -> list[list[service.Answer]]:
        claims = Claims(spy.decide)
        asks = [[desk.ask(packet, f"u{number}") for packet in packets] for number in range(20)]
        return await asyncio.gather(*(claims.claim(each) for each in asks))

    answers = [answer for each in asyncio.run(storm()) for answer in each]
    assert sum(answer.result is R.WON for answer in answers) == 15
    assert sum(answer.units or 0 for answer in answers) == 150
    assert sum(looks) <= 6
    assert sum(count for name, count in spy.calls if name == "claim-load") <= 6


def test_what_goes_wrong_while_loading_is_told_to_all_who_wait(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    packet = desk.packet()
    spy = Spy(desk)

    def away(*_: object) -> None:
        raise StoreAwayError("PostgreSQL is away as well")

    monkeypatch.setattr(claiming, "look", away)

    async def ask() -> list[object]:
        claims = Claims(spy.decide)
        given_up = asyncio.ensure_future(claims.claim([desk.ask(packet, "gone")]))
        waiting = [asyncio.ensure_future(claims.claim([desk.ask(packet, f"u{number}")])) for number in range(3)]
        await asyncio.sleep(0)
        given_up.cancel()
        first = await asyncio.gather(*waiting, return_exceptions=True)
        monkeypatch.undo()
        return [*first, *(await claims.claim([desk.ask(packet, "later")]))]

    *failed, answer = asyncio.run(ask())
    assert [type(each) for each in failed] == [StoreAwayError] * 3
    assert isinstance(answer, service.Answer)
    assert answer.result is R.WON


def test_a_packet_that_can_never_be_loaded_ends_in_an_error(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    packet = desk.packet()
    old = desk.loads(packet)
    stale = Item(old.shard, old.keys, ("1.1", *old.args[1:]))
    monkeypatch.setattr(claiming, "look", lambda *_: {(desk.tenant, packet.id): stale})
    with pytest.raises(StoreAwayError):
        desk.claim(packet, "ann")
    with pytest.raises(StoreAwayError):
        asyncio.run(Claims(Spy(desk).decide).claim([desk.ask(packet, "ann")]))


def test_postgresql_decides_about_all_who_wait_in_one_transaction(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    packets = [desk.packet(count=5, units=50) for _ in range(3)]
    desk.turn(StoreMode.POSTGRES)
    calls: list[int] = []

    def counted(session: Session, asks: Sequence[Ask]) -> list[service.Answer]:
        calls.append(len(asks))
        return service.claim_many(session, asks)

    monkeypatch.setattr(claiming, "claim_many", counted)

    async def storm() -> list[list[service.Answer]]:
        here = Here()
        gone = asyncio.ensure_future(here.claim([desk.ask(packets[0], "gone")]))
        asks = [[desk.ask(packet, f"u{number}") for packet in packets] for number in range(20)]
        waiting = [asyncio.ensure_future(here.claim(each)) for each in asks]
        await asyncio.sleep(0)
        gone.cancel()
        return await asyncio.gather(*waiting)

    found = asyncio.run(storm())
    assert {len(each) for each in found} == {3}
    for place, packet in enumerate(packets):
        mine = [each[place] for each in found]
        assert sum(answer.result is R.WON for answer in mine) == desk.read(packet).claims - (place == 0)
        assert [number for number, answer in enumerate(mine) if answer.result is R.WON] == list(range(5 - (place == 0)))
    assert calls == [61]
    desk.check_books()


def test_who_asks_postgresql_while_redis_decides_is_sent_back(desk: Desk) -> None:
    packet = desk.packet()

    async def ask() -> None:
        here = Here()
        for _ in range(2):
            with pytest.raises(StoreAwayError):
                await here.claim([desk.ask(packet, "ann")])

    asyncio.run(ask())
    assert desk.read(packet).claims == 0
