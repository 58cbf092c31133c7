"""Two thousand at once on a hundred shares, ten times over."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import text

from core.db import transaction
from core.hot.script import Item
from core.hot.store import StoreMode
from domain.claim import hot, service
from domain.claim.service import Answer, Ask, ClaimResult, Packet, Reason
from tests.integration.claim.desk import SENDER, Desk

USERS, SHARES, TIMES, THREADS = 2_000, 100, 10, 8


def race(desk: Desk, packet: Packet, users: Sequence[str], *, batch: int) -> dict[str, Answer]:
    """Everybody claims at once, in batches from several threads that begin together."""
    gate = Barrier(THREADS)

    def claim(mine: Sequence[str]) -> list[tuple[str, Answer]]:
        gate.wait()
        found: list[tuple[str, Answer]] = []
        for first in range(0, len(mine), batch):
            part = mine[first : first + batch]
            asks = [Ask(desk.tenant, packet.id, user) for user in part]
            found += zip(part, desk.claim_all(asks), strict=True)
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(pool.map(claim, [users[each::THREADS] for each in range(THREADS)]))
    return dict(each for part in parts for each in part)


def check(desk: Desk, packet: Packet, answers: dict[str, Answer]) -> None:
    won = {user: answer for user, answer in answers.items() if answer.result is ClaimResult.WON}
    assert Counter(answer.result for answer in answers.values()) == {
        ClaimResult.WON: SHARES,
        ClaimResult.EMPTY: USERS - SHARES,
    }
    assert sorted(answer.place or 0 for answer in won.values()) == list(range(1, SHARES + 1))
    assert sum(answer.units or 0 for answer in won.values()) == packet.units
    with transaction() as session:
        claims = service.claims(session, packet.id, limit=1_000)
    assert {claim.claimant: (claim.place, claim.units, claim.claimed_at) for claim in claims} == {
        user: (answer.place, answer.units, answer.at) for user, answer in won.items()
    }
    assert desk.read(packet).ended is Reason.EMPTY
    assert desk.balance(packet.account) == 0


def test_exactly_as_many_win_as_there_are_shares(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    users = [f"u{number}" for number in range(USERS)]
    packets = [desk.packet(units=1_000_000, count=SHARES) for _ in range(TIMES)]
    for place, packet in enumerate(packets):
        answers = race(desk, packet, users, batch=1 if place == 0 else 50)
        desk.table.drain(again=place == 0)
        check(desk, packet, answers)
    assert desk.table.refused == []
    with transaction() as session:
        paid = session.execute(text("SELECT sum(units) FROM packet_claims")).scalar_one()
    assert paid == TIMES * 1_000_000
    assert desk.balance(SENDER) == 10**12 - TIMES * 1_000_000
    desk.check_books()
    assert desk.keys_of(packets[0])
    monkeypatch.setattr("domain.claim.ending.forget_item", at_once)
    assert service.forget_closed() == TIMES
    assert service.forget_closed() == 0
    assert [desk.keys_of(packet) for packet in packets] == [[]] * TIMES
    assert desk.claim(packets[0], users[0]).result in {ClaimResult.ALREADY, ClaimResult.EMPTY}


def at_once(tenant: str, packet_id: UUID) -> Item:
    """Redis forgets a key whose time to live is 0 in the same moment."""
    item = hot.forget_item(tenant, packet_id)
    assert int(item.args[0]) >= 30
    return Item(item.shard, item.keys, ("0",))


def test_postgresql_alone_lets_no_more_win_either(desk: Desk) -> None:
    desk.turn(StoreMode.POSTGRES)
    users = [f"u{number}" for number in range(USERS)]
    packet = desk.packet(units=1_000_000, count=SHARES)
    answers = race(desk, packet, users, batch=50)
    check(desk, packet, answers)
    desk.check_books()
