"""What was decided and can't be booked stays decided, and is booked once it can be."""

from collections.abc import Callable

import pytest

from core import jobs
from core.db import transaction
from core.errors import PermanentError
from core.hot.books import park
from core.hot.events import parse
from core.hot.store import StoreMode
from domain.claim import service
from domain.claim.service import ClaimResult, Reason
from ledger.accounts import close, reopen
from ledger.balances import balance
from tasks import claim_sync
from tasks.base import TASKS
from tests.integration.claim.desk import Desk
from tests.integration.ledger.books import CUSTODY, EUR, book, move

R = ClaimResult


@pytest.mark.parametrize("mode", StoreMode)
def test_a_win_that_can_not_be_booked_stays_won_and_is_booked_later(desk: Desk, mode: StoreMode) -> None:
    desk.turn(mode)
    desk.fund("user:ann:available", 1)
    move_out(desk, "ann")
    change(desk, close, "user:ann:available")
    packet = desk.packet(units=100, count=4)
    won = desk.claim(packet, "ann")
    desk.claim(packet, "bob")
    assert won.result is R.WON
    assert won.units is not None
    desk.table.drain(again=True)
    if mode is StoreMode.REDIS:
        assert {refused.event.fields[1] for refused in desk.table.refused} == {"ann"}
        assert "closed" in desk.table.refused[0].why
        with transaction() as session:
            park(session, desk.table.refused[:1])
    with transaction() as session:
        [job] = jobs.page(session, task="claim_sync.apply_parked")
    assert "closed" in job.args["why"]
    parked = TASKS[job.task].validate(job.args)
    desk.turn()
    assert desk.claim(packet, "ann") == service.Answer(R.ALREADY, 1, won.units, won.at)
    assert desk.claim(packet, "cid").place == 3
    desk.expire(packet)
    service.close_due()
    desk.table.drain()
    read = desk.read(packet)
    assert read.units_refunded == packet.shares[3]
    assert desk.balance(packet.account) == won.units
    with pytest.raises(PermanentError, match="closed"), transaction() as session:
        claim_sync.apply_parked(session, **parked)
    change(desk, reopen, "user:ann:available")
    for _ in range(2):
        with transaction() as session:
            claim_sync.apply_parked(session, **parked)
    assert desk.balance(packet.account) == 0
    assert desk.balance("user:ann:available") == won.units
    desk.check_books()


def move_out(desk: Desk, user: str) -> None:
    book(desk.tenant, f"out:{user}", move(f"user:{user}:available", CUSTODY, 1, EUR))


def change(desk: Desk, act: Callable[..., object], code: str) -> None:
    with transaction() as session:
        act(session, tenant=desk.tenant, code=code, asset=EUR, reason="test", actor="test")


@pytest.mark.parametrize("mode", StoreMode)
def test_a_refund_that_can_not_be_booked_is_booked_later(desk: Desk, mode: StoreMode) -> None:
    desk.turn(mode)
    sender = "user:leaver:available"
    desk.fund(sender, 100)
    packet = desk.packet(sender=sender, units=100, count=4)
    change(desk, close, sender)
    desk.expire(packet)
    service.close_due()
    desk.table.drain(again=True)
    read = desk.read(packet)
    assert (read.ended, read.units_refunded) == (Reason.EXPIRED, 100)
    assert "closed" in (read.refund_refused or "")
    assert desk.balance(packet.account) == 100
    if mode is StoreMode.REDIS:
        event = desk.table.refused[-1].event
        text = event.text
    else:
        with transaction() as session:
            [job] = jobs.page(session, task="claim_sync.apply_parked")
        text = job.args["event"]
    change(desk, reopen, sender)
    for _ in range(2):
        with transaction() as session:
            claim_sync.apply_parked(session, generation=desk.table.generation, shard=0, seq=0, event=text)
    assert desk.balance(sender) == 100
    assert desk.read(packet).refund_refused is None
    desk.check_books()


WRONG = [
    "claim.won",
    "claim.won x ann 1 1 1",
    "claim.won {packet} a:b 1 1 1",
    "claim.won {packet} ann 0 1 1",
    "claim.won {packet} ann 1 -5 1",
    "claim.won {packet} ann 1 1 99999999999999999999",
    "claim.won {packet} ann 1 1 1",
    "claim.won {packet} ann 11 100 1",
    "claim.won 0190f000-0000-7000-8000-000000000000 ann 1 100 1",
    "claim.closed {packet} 1 empty-ish 1",
    "claim.closed {packet} 1 expired x",
    "claim.closed 0190f000-0000-7000-8000-000000000000 1 expired 1",
    "claim.moved {packet} 1",
]


@pytest.mark.parametrize("words", WRONG)
def test_an_event_that_can_not_be_so_is_refused_and_the_others_are_not(desk: Desk, words: str) -> None:
    packet = desk.packet(units=1_000, count=10)
    good = parse(2, 0, 2, f"claim.won {packet.id} bob 1 {packet.shares[0]} 1700000000000")
    bad = parse(2, 0, 1, words.format(packet=packet.id))
    with transaction() as session:
        [refused] = service.apply(session, [bad, good])
    assert refused.event is bad
    read = desk.read(packet)
    assert (read.claims, read.units_claimed, read.current) == (1, packet.shares[0], "open")


def test_no_place_and_no_user_is_paid_twice(desk: Desk) -> None:
    packet = desk.packet(units=1_000, count=10)
    one, two = packet.shares[:2]

    def won(user: str, place: int, units: int, seq: int) -> str:
        return f"claim.won {packet.id} {user} {place} {units} 170000000000{seq}"

    words = [won("ann", 1, one, 1), won("bob", 1, one, 2), won("ann", 2, two, 3), won("ann", 1, one, 4)]
    events = [parse(2, 0, seq, text) for seq, text in enumerate(words, 1)]
    with transaction() as session:
        refused = service.apply(session, events)
    assert [each.event.seq for each in refused] == [2, 3]
    assert (desk.balance("user:ann:available"), desk.balance("user:bob:available")) == (one, 0)
    assert desk.read(packet).claims == 1
    with transaction() as session:
        assert balance(session, desk.tenant, packet.account, EUR) == 1_000 - one
