"""The way of a claim through a process that answers many people at once."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from sqlalchemy.orm import Session

from core.hot.errors import StoreAwayError
from core.hot.hand import Hand
from core.hot.script import Item, Reply, Script
from domain.claim import claiming, loading, service
from domain.claim.hot import LOAD
from domain.claim.service import ClaimResult, Claims
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
