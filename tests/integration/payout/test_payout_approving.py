"""Maker and checker: who may let a payout go, how many it takes, and what they must have seen."""

import re
from functools import partial
from uuid import uuid4

import pytest
from sqlalchemy import text

from core import clock
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from core.ids import new_id
from domain.payout import approving, stopping
from domain.payout.models import PayoutAttempt
from domain.payout.states import PayoutState
from tests.integration.payout.counter import (
    ADA,
    APP,
    BOB,
    EVE,
    SHOP,
    after,
    asked_for,
    at_once,
    events,
    fund,
    held,
    read,
    said,
    seen,
    waiting,
)

pytestmark = pytest.mark.usefixtures("funded")


@pytest.fixture
def funded(database_url: str) -> None:
    fund(100_000)


def approve(payout: object, who: str, hash_: bytes, **given: object) -> None:
    with transaction() as session:
        approving.approve(session, payout, approver=who, seen_hash=hash_, **given)  # type: ignore[arg-type]


def test_the_last_of_those_it_needs_lets_it_go(database_url: str) -> None:
    payout = waiting(needed=2)
    hash_ = seen(payout)
    approve(payout, ADA, hash_)
    approve(payout, "person:Ada ", hash_)  # the same, said again
    assert read(payout).state == "awaiting_approval" and asked_for(payout) == []
    approve(payout, BOB, hash_, reason="called the customer")
    approve(payout, BOB, hash_)
    assert read(payout).state == "approved" and asked_for(payout) == ["payout.submit"]
    assert said(payout) == [(1, ADA, "approve"), (1, BOB, "approve")]
    assert events(payout)[-2:] == [("approval", "awaiting_approval", ADA), ("approve", "approved", BOB)]
    with pytest.raises(ConflictError, match="is approved"):
        approve(payout, EVE, hash_)
    assert held() == (1_010, 98_990)


@pytest.mark.parametrize("who", ["person:maker", "person:MAKER", " person:maker"])
def test_the_maker_never_decides(database_url: str, who: str) -> None:
    payout = waiting(maker="person:maker")
    with pytest.raises(ConflictError, match="another person decides"):
        approve(payout, who, seen(payout))
    with transaction() as session, pytest.raises(ConflictError, match="another person decides"):
        approving.reject(session, payout, approver=who, seen_hash=seen(payout), reason="no")
    assert read(payout).state == "awaiting_approval" and said(payout) == []


def test_what_was_not_seen_is_not_decided(database_url: str) -> None:
    payout = waiting()
    other = waiting()
    for hash_ in (b"", b"\0" * 32, seen(other)):
        with pytest.raises(ConflictError, match="has changed since you saw it"):
            approve(payout, ADA, hash_)
    with transaction() as session:
        session.execute(text("UPDATE payouts SET units = 2000, payout_units = 2000 WHERE id = :id"), {"id": payout})
    with pytest.raises(InvariantError, match="not what its hash says"):
        approve(payout, ADA, seen(payout))
    assert said(payout) == [] and read(payout).state == "awaiting_approval"


def test_nobody_decides_without_a_name_nor_rejects_without_a_reason(database_url: str) -> None:
    payout = waiting()
    for who in ("", "ada", "person:", "person: ", "robot:x", "person:a\x00b", "person:" + "x" * 90):
        with pytest.raises(InvalidRequestError, match="names nobody"):
            approve(payout, who, seen(payout))
    for reason in ("", " ", "a\nb", "x" * 501):
        with transaction() as session, pytest.raises(InvalidRequestError, match="say why"):
            approving.reject(session, payout, approver=ADA, seen_hash=seen(payout), reason=reason)
    with pytest.raises(NotFoundError):
        approve(uuid4(), ADA, seen(payout))
    with pytest.raises(NotFoundError):
        approve(payout, ADA, seen(payout), tenant="casino")
    assert said(payout) == []


def test_one_no_is_enough_and_gives_the_money_back(database_url: str) -> None:
    payout = waiting(needed=2)
    hash_ = seen(payout)
    approve(payout, ADA, hash_)
    for _ in range(2):
        with transaction() as session:
            approving.reject(session, payout, approver=BOB, seen_hash=hash_, reason="not their account", tenant=SHOP)
    found = read(payout)
    assert (found.state, found.failure, found.hold_id) == ("rejected", "rejected_by_hand", None)
    assert held() == (0, 100_000) and asked_for(payout) == []
    assert said(payout) == [(1, ADA, "approve"), (1, BOB, "reject")]
    approve(payout, ADA, hash_)  # the same, said again: it changes nothing
    for who, match in ((BOB, "has decided"), (EVE, "is rejected")):
        with pytest.raises(ConflictError, match=match):
            approve(payout, who, hash_)
    assert read(payout).state == "rejected"


def test_who_said_yes_does_not_say_no_as_well(database_url: str) -> None:
    payout = waiting(needed=2)
    approve(payout, ADA, seen(payout))
    with transaction() as session, pytest.raises(ConflictError, match="has decided"):
        approving.reject(session, payout, approver=ADA, seen_hash=seen(payout), reason="changed my mind")
    assert read(payout).state == "awaiting_approval"


def test_what_nobody_approves_in_time_is_rejected(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    late, decided = waiting(needed=2), waiting()
    approve(late, ADA, seen(late))
    approve(decided, ADA, seen(decided))
    monkeypatch.setattr(clock, "now", after(71))
    assert approving.expire_approvals() == 0
    monkeypatch.setattr(clock, "now", after(72))
    with pytest.raises(ConflictError, match="time to approve"):
        approve(late, BOB, seen(late))
    assert approving.expire_approvals() == 1
    assert approving.expire_approvals() == 0
    assert (read(late).state, read(late).failure) == ("rejected", "approval_expired")
    with transaction() as session:
        why = session.scalar(
            text("SELECT reason FROM payout_events WHERE payout_id = :id ORDER BY id DESC LIMIT 1"), {"id": late}
        )
    assert re.fullmatch(r"not approved until \d{4}-\d\d-\d\d \d\d:\d\d UTC", str(why))
    assert read(decided).state == "approved" and held() == (1_010, 98_990)


def test_what_a_provider_has_after_all_does_not_expire_and_keeps_no_other_waiting(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, other = waiting(), waiting()
    now = clock.now()
    with transaction() as session:
        session.add(
            PayoutAttempt(
                id=new_id(), payout_id=there, number=1, provider="acme", request_hash=b"x", state="accepted",
                first_sent_at=now, last_sent_at=now,
            )
        )  # fmt: skip
    monkeypatch.setattr(clock, "now", after(72))
    assert approving.expire_approvals() == 1
    assert (read(there).state, read(other).state) == ("awaiting_approval", "rejected")


def test_a_payout_that_people_pay_is_asked_of_no_provider(database_url: str) -> None:
    payout = waiting(by_hand=True)
    approve(payout, ADA, seen(payout))
    assert read(payout).state == "approved" and asked_for(payout) == []


# --- at the same moment ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", [1, 2])
def test_two_approvers_at_once_are_one_transition(database_url: str, needed: int) -> None:
    for _ in range(5):
        payout = waiting(needed=needed)
        hash_ = seen(payout)
        steps = [partial(approving.approve, payout_id=payout, approver=who, seen_hash=hash_) for who in (ADA, BOB)]
        answers = at_once(*steps)
        refused = [answer for answer in answers if isinstance(answer, ConflictError)]
        assert len(refused) == 2 - needed
        assert len(said(payout)) == needed
        assert [event for event, _, _ in events(payout)].count("approve") == 1
        assert asked_for(payout) == ["payout.submit"]


def test_one_person_who_clicks_twice_is_one_approval(database_url: str) -> None:
    payout = waiting(needed=2)
    step = partial(approving.approve, payout_id=payout, approver=ADA, seen_hash=seen(payout))
    at_once(step, step, step)
    assert said(payout) == [(1, ADA, "approve")] and read(payout).state == "awaiting_approval"


def test_approved_or_cancelled_or_both_in_that_order_but_never_sent_without_money(database_url: str) -> None:
    seen_orders = set()
    for _ in range(10):
        payout = waiting()
        hash_ = seen(payout)
        answers = at_once(
            partial(approving.approve, payout_id=payout, approver=ADA, seen_hash=hash_),
            partial(stopping.cancel, payout_id=payout, actor=APP, reason="the user changed his mind"),
        )
        assert not isinstance(answers[1], Exception)  # approved or not, nothing was sent yet
        assert read(payout).current is PayoutState.CANCELLED
        assert read(payout).hold_id is None
        names = [event for event, _, _ in events(payout)][3:]
        assert names in (["cancel"], ["approve", "cancel"])
        assert isinstance(answers[0], ConflictError) == (names == ["cancel"])
        seen_orders.add(tuple(names))
    assert held() == (0, 100_000)
    assert seen_orders
