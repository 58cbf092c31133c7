"""Redis may forget everything, at any time: what was answered stays, and nothing is given out twice."""

import pytest

from core.db import transaction
from core.hot.store import StoreMode
from domain.claim import service
from domain.claim.service import ClaimResult, Reason
from tests.integration.claim.desk import SENDER, Desk

R = ClaimResult


@pytest.mark.parametrize("mode", StoreMode)
def test_a_claim_replayed_after_a_turn_gets_its_first_answer(desk: Desk, mode: StoreMode) -> None:
    packet = desk.packet(units=1_000, count=6, group="g", allowed=("a", "b", "c", "d"))
    first = {user: desk.claim(packet, user, "g") for user in ("a", "b")}
    desk.turn(mode)
    for user, answer in first.items():
        assert desk.claim(packet, user) == service.Answer(R.ALREADY, answer.place, answer.units, answer.at)
    third = desk.claim(packet, "c", "g")
    assert (third.result, third.place, third.units) == (R.WON, 3, packet.shares[2])
    assert desk.claim(packet, "e", "g").result is R.NOT_ELIGIBLE
    desk.turn()
    fourth = desk.claim(packet, "d", "g")
    assert (fourth.result, fourth.place) == (R.WON, 4)
    assert desk.claim(packet, "c").place == 3
    desk.table.drain()
    assert desk.read(packet).claims == 4
    assert desk.table.refused == []
    desk.check_books()


def test_a_share_that_nobody_was_told_of_is_given_out_again(desk: Desk) -> None:
    """Redis decided and was lost before it answered: the event is a gap, and others have places after it."""
    packet = desk.packet(units=1_000, count=4)
    for user in ("a", "b", "c"):
        desk.claim(packet, user)
    events = desk.table.waiting()
    with transaction() as session:
        assert service.apply(session, [event for event in events if event.fields[1] != "b"]) == []
    for event in events:
        desk.store.delete(f"tr:{{h{event.shard}}}:{desk.table.generation}:events")
    for mode in (StoreMode.POSTGRES, StoreMode.REDIS):
        desk.turn(mode)
        user = f"late-{mode}"
        answer = desk.claim(packet, user)
        expected = 2 if mode is StoreMode.POSTGRES else 4
        assert (answer.result, answer.place, answer.units) == (R.WON, expected, packet.shares[expected - 1])
    assert desk.claim(packet, "b").result is R.EMPTY
    desk.table.drain()
    assert desk.read(packet).ended is Reason.EMPTY
    assert desk.balance(packet.account) == 0
    assert desk.balance("user:b:available") == 0


def test_the_gap_goes_back_to_the_sender(desk: Desk) -> None:
    packet = desk.packet(units=1_000, count=4)
    desk.claim(packet, "a")
    desk.claim(packet, "b")
    desk.expire(packet)
    service.close_due()
    events = desk.table.waiting()
    assert [event.kind for event in events] == ["claim.won", "claim.won", "claim.closed"]
    with transaction() as session:
        assert service.apply(session, [events[0], events[2]]) == []
    assert desk.read(packet).units_refunded == 1_000 - packet.shares[0]
    assert desk.balance(SENDER) == 10**12 - packet.shares[0]
    with transaction() as session:
        [refused] = service.apply(session, [events[1]])  # too late: its units are gone
    assert "which is closed" in refused.why
    assert desk.balance("user:b:available") == 0
