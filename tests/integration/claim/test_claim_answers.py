"""What a claim is answered, by Redis and by PostgreSQL alike, and what of it is in the books."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from core.db import transaction
from core.hot.store import StoreMode
from core.ids import new_id
from domain.claim import service
from domain.claim.service import Answer, Ask, ClaimResult, Packet, PacketState, Reason, Shares
from tests.integration.claim.desk import SENDER, Desk

R = ClaimResult
MODES = pytest.mark.parametrize("mode", StoreMode)


@pytest.fixture(autouse=True)
def _mode(request: pytest.FixtureRequest, desk: Desk) -> None:
    if "mode" in request.fixturenames:
        desk.turn(request.getfixturevalue("mode"))


@MODES
def test_each_gets_the_next_share_and_asked_again_the_first_answer(desk: Desk, mode: StoreMode) -> None:
    packet = desk.packet(units=100, count=3)
    first = desk.claim(packet, "ann")
    assert (first.result, first.place, first.units) == (R.WON, 1, packet.shares[0])
    second = desk.claim(packet, "bob")
    assert (second.result, second.place, second.units) == (R.WON, 2, packet.shares[1])
    again = desk.claim(packet, "ann")
    assert again == Answer(R.ALREADY, 1, packet.shares[0], first.at)
    assert first.at is not None
    assert abs(first.at - datetime.now(UTC)) < timedelta(seconds=10)
    desk.table.drain(again=True)
    assert desk.balance("user:ann:available") == first.units
    assert desk.balance(packet.account) == packet.shares[2]
    read = desk.read(packet)
    assert (read.claims, read.units_claimed, read.current) == (2, 100 - packet.shares[2], PacketState.OPEN)
    assert desk.table.refused == []
    desk.check_books()
    assert mode in StoreMode


@MODES
def test_the_last_share_closes_the_packet(desk: Desk, mode: StoreMode) -> None:
    packet = desk.packet(units=100, count=2)
    results = [desk.claim(packet, user).result for user in ("ann", "bob", "cid", "ann")]
    assert results == [R.WON, R.WON, R.EMPTY, R.ALREADY]
    desk.expire(packet)  # what was empty stays so
    assert desk.claim(packet, "cid").result is R.EMPTY
    desk.table.drain()
    read = desk.read(packet)
    assert (read.current, read.ended, read.units_refunded) == (PacketState.CLOSED, Reason.EMPTY, 0)
    assert read.revealed_seed == packet.seed.hex()
    assert desk.balance(packet.account) == 0
    assert [desk.claim(packet, user).result for user in ("cid", "ann")] == [R.EMPTY, R.ALREADY]
    assert mode in StoreMode


@MODES
def test_what_is_left_goes_back_when_the_time_is_up(desk: Desk, mode: StoreMode) -> None:
    before = desk.balance(SENDER)
    packet = desk.packet(units=100, count=4)
    won = desk.claim(packet, "ann")
    desk.expire(packet)
    assert desk.claim(packet, "bob").result is R.EXPIRED
    assert service.close_due() == 1
    desk.table.drain(again=True)
    read = desk.read(packet)
    assert won.units is not None
    assert (read.ended, read.units_refunded) == (Reason.EXPIRED, 100 - won.units)
    assert read.closed_at is not None
    assert desk.balance(SENDER) == before - won.units
    assert desk.balance(packet.account) == 0
    assert [desk.claim(packet, user).result for user in ("bob", "ann")] == [R.EXPIRED, R.ALREADY]
    assert service.close_due() == 0
    assert desk.table.drain() == 0
    desk.check_books()
    assert mode in StoreMode


@MODES
def test_a_packet_can_be_taken_back(desk: Desk, mode: StoreMode) -> None:
    packet = desk.packet(units=100, count=4)
    won = desk.claim(packet, "ann")
    service.cancel(desk.tenant, packet.id)
    service.cancel(desk.tenant, packet.id)
    assert [desk.claim(packet, user).result for user in ("bob", "ann")] == [R.CANCELLED, R.ALREADY]
    desk.table.drain(again=True)
    read = desk.read(packet)
    assert won.units is not None
    assert (read.ended, read.units_refunded) == (Reason.CANCELLED, 100 - won.units)
    assert [desk.claim(packet, user).result for user in ("bob", "ann")] == [R.CANCELLED, R.ALREADY]
    service.cancel(desk.tenant, packet.id)
    assert desk.table.drain() == 0
    assert mode in StoreMode


@MODES
def test_who_is_not_meant_gets_nothing(desk: Desk, mode: StoreMode) -> None:
    of_group = desk.packet(group="g1")
    assert desk.claim(of_group, "ann").result is R.NOT_ELIGIBLE
    assert desk.claim(of_group, "ann", "g2").result is R.NOT_ELIGIBLE
    assert desk.claim(of_group, "ann", "g1").result is R.WON
    assert desk.claim(of_group, "ann", "g2").result is R.ALREADY
    listed = desk.packet(allowed=("ann", "bob", "ann"))
    assert desk.claim(listed, "cid").result is R.NOT_ELIGIBLE
    assert desk.claim(listed, "ann", "g2").result is R.WON
    both = desk.packet(allowed=("ann",), group="g1")
    assert desk.claim(both, "ann").result is R.NOT_ELIGIBLE
    assert desk.claim(both, "bob", "g1").result is R.NOT_ELIGIBLE
    assert desk.claim(both, "ann", "g1").result is R.WON
    assert mode in StoreMode


@MODES
def test_what_is_not_there_is_unknown(desk: Desk, mode: StoreMode) -> None:
    funded = desk.create()
    assert desk.claim(funded, "ann").result is R.UNKNOWN
    with transaction() as session:
        service.open_packet(session, funded.id)
    assert desk.claim(funded, "ann").result is R.WON
    assert desk.claim(funded, "bob", tenant="another").result is R.UNKNOWN
    stranger = Packet(id=uuid4())
    assert desk.claim(stranger, "ann").result is R.UNKNOWN
    assert mode in StoreMode


@MODES
def test_a_batch_is_answered_in_order(desk: Desk, mode: StoreMode) -> None:
    one, two = desk.packet(units=7, count=2, kind=Shares.EQUAL), desk.packet(units=5, count=5, kind=Shares.EQUAL)
    asks = [
        desk.ask(one, "ann"),
        desk.ask(two, "ann"),
        desk.ask(one, "ann"),
        desk.ask(one, "bob"),
        desk.ask(one, "cid"),
    ]
    asks.append(Ask(desk.tenant, new_id(), "ann"))
    answers = desk.claim_all(asks)
    assert [answer.result for answer in answers] == [R.WON, R.WON, R.ALREADY, R.WON, R.EMPTY, R.UNKNOWN]
    assert [answer.units for answer in answers] == [4, 1, 4, 3, None, None]
    desk.table.drain()
    assert desk.balance("user:ann:available") == 5
    assert mode in StoreMode


def test_the_luckiest_come_first(desk: Desk) -> None:
    packet = desk.packet(units=10_000, count=6, kind=Shares.EQUAL)
    lucky = desk.packet(units=10_000, count=6)
    for user in ("a", "b", "c", "d", "e"):
        desk.claim(packet, user)
        desk.claim(lucky, user)
    desk.table.drain()
    with transaction() as session:
        assert [row.claimant for row in service.ranking(session, packet.id)] == ["a", "b", "c", "d", "e"]
        best = service.ranking(session, lucky.id, limit=2)
        won = service.claims(session, lucky.id)
        rest = service.claims(session, lucky.id, after=3)
    assert [row.units for row in best] == sorted((row.units for row in won), reverse=True)[:2]
    assert [row.place for row in won] == [1, 2, 3, 4, 5]
    assert [row.place for row in rest] == [4, 5]


def test_units_beyond_lua_s_numbers_are_exact(desk: Desk) -> None:
    units = 10**30 + 7
    desk.fund("user:rich:available", units)
    packet = desk.packet(sender="user:rich:available", units=units, count=2)
    answers = [desk.claim(packet, user) for user in ("ann", "bob")]
    assert sum(answer.units or 0 for answer in answers) == units
    desk.table.drain()
    assert desk.balance("user:ann:available") + desk.balance("user:bob:available") == units
    assert desk.table.refused == []
