"""What nobody knows: only the provider's word, proof that there is none, or two people end it (ADR 25)."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core.db import transaction
from core.errors import ConflictError, InvalidRequestError
from core.ids import new_id
from domain.payout import looking, resolving, sending_queries, submitting
from domain.payout.models import PayoutAttempt, PayoutProviderRow
from domain.payout.states import AttemptState, PayoutState
from ledger import accounts
from providers.payout.base import Refusal, RemittanceState, Standing
from tests.integration.payout_sending.desk import FEE, RICH, SHOP, TRANSIT, UNITS, USER, Desk
from tests.integration.payout_sending.scripted import NGN

S = PayoutState
A = AttemptState
ANN, BOB = "person:ann", "person:bob"
HOUR = timedelta(hours=1)


def lost(desk: Desk, *, made: bool) -> UUID:
    """One of which nobody knows, and whether there is one."""
    desk.provider.answers = [Standing.UNKNOWN]
    desk.provider.makes_unknown = made
    payout_id = desk.sent()
    assert desk.state(payout_id) is S.UNKNOWN
    return payout_id


def wait(desk: Desk, **passed: float) -> None:
    desk.later(**passed)
    desk.poll()


@pytest.mark.parametrize("key_window", [timedelta(hours=24), timedelta(0), None])
def test_one_that_is_there_is_found_and_not_sent_again(desk: Desk, key_window: timedelta | None) -> None:
    desk.provider.key_window = key_window
    payout_id = lost(desk, made=True)
    wait(desk, seconds=3)
    assert (desk.state(payout_id), len(desk.provider.asked)) == (S.SUBMITTED, 1)


def test_the_pauses_grow(desk: Desk) -> None:
    desk.provider.key_window = timedelta(0)
    payout_id = lost(desk, made=False)
    for _ in range(360):
        wait(desk, seconds=8)
        if desk.get(payout_id).looks > 9:
            break
    assert desk.provider.finds == 10
    assert timedelta(minutes=20) < desk.clock.passed < timedelta(minutes=45)


def test_within_its_window_it_is_sent_again_under_the_same_key_with_the_same_body(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    wait(desk, seconds=3)
    assert len(desk.provider.asked) == 1  # only looked up at first
    wait(desk, minutes=2)
    assert (desk.state(payout_id), desk.accepted()) == (S.SUBMITTED, 1)
    first, second = desk.provider.asked
    assert first == second
    assert desk.attempts(payout_id)[0].lost


def test_one_that_is_seen_late_is_never_made_twice(desk: Desk) -> None:
    desk.provider.hidden = 3
    payout_id = lost(desk, made=True)
    for _ in range(6):
        wait(desk, minutes=11)
    assert (desk.state(payout_id), desk.accepted()) == (S.SUBMITTED, 1)


@pytest.mark.parametrize("answer", [Refusal.DESTINATION, Refusal.PROVIDER, Standing.NOT_SENT])
def test_a_refusal_of_what_was_sent_again_proves_nothing(two: Desk, answer: Refusal | Standing) -> None:
    """The first may have been made, and may be seen later."""
    acme = two.providers["acme"]
    payout_id = lost(two, made=True)
    acme.hidden = 3
    acme.answers = [answer] * 10
    for _ in range(3):
        wait(two, minutes=11)
        assert two.state(payout_id) is S.UNKNOWN
    assert len(acme.asked) > 1
    wait(two, minutes=11)
    assert (two.state(payout_id), two.accepted(), two.providers["bravo"].asked) == (S.SUBMITTED, 1, [])


def test_it_is_sent_again_so_often_and_no_more(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    desk.provider.answers = [Standing.UNKNOWN] * 100
    for _ in range(60):
        wait(desk, minutes=11)
    assert (desk.state(payout_id), len(desk.provider.asked)) == (S.UNKNOWN, 4)
    assert len({each.reference for each in desk.provider.asked}) == 1


def test_after_its_window_it_is_sent_no_more(desk: Desk) -> None:
    desk.provider.away = True
    payout_id = lost(desk, made=False)
    desk.later(hours=23, minutes=45)  # within the margin of the window
    desk.provider.away = False
    for _ in range(20):
        wait(desk, minutes=11)
    assert (desk.state(payout_id), len(desk.provider.asked)) == (S.UNKNOWN, 1)
    assert desk.balance(TRANSIT) == UNITS + FEE


def test_what_would_not_be_the_same_is_not_sent_again(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    with transaction() as session:
        session.execute(text("UPDATE payouts SET narration = 'other' WHERE id = :id"), {"id": payout_id})
    for _ in range(5):
        wait(desk, minutes=11)
    assert (desk.state(payout_id), len(desk.provider.asked)) == (S.UNKNOWN, 1)


def stop(desk: Desk) -> None:
    with transaction() as session:
        row = session.get(PayoutProviderRow, "acme")
        assert row is not None
        row.stopped_by = ANN


def freeze(_: Desk) -> None:
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=NGN, reason="fraud?", actor="ann")


@pytest.mark.parametrize("why", [stop, freeze])
def test_nothing_is_sent_again_that_a_person_stopped(desk: Desk, why: Callable[[Desk], None]) -> None:
    payout_id = lost(desk, made=False)
    why(desk)
    for _ in range(5):
        wait(desk, minutes=11)
    assert (desk.state(payout_id), len(desk.provider.asked)) == (S.UNKNOWN, 1)


def test_proof_that_there_is_none_lets_another_be_asked(two: Desk) -> None:
    acme = two.providers["acme"]
    acme.key_window, acme.absent_after = timedelta(0), HOUR
    payout_id = lost(two, made=False)
    for _ in range(5):
        wait(two, minutes=11)
    assert two.state(payout_id) is S.UNKNOWN  # an hour has not passed, nor the margin
    acme.answers = [Refusal.LIMIT]
    wait(two, minutes=20)
    assert [(each.provider, each.current) for each in two.attempts(payout_id)] == [
        ("acme", A.ABSENT), ("acme", A.REJECTED), ("bravo", A.ACCEPTED),
    ]  # fmt: skip
    assert (two.state(payout_id), two.accepted(), two.balance(TRANSIT)) == (S.SUBMITTED, 1, UNITS + FEE)


def test_the_time_of_proof_counts_from_the_last_sending(desk: Desk) -> None:
    desk.provider.absent_after = HOUR
    payout_id = lost(desk, made=False)
    desk.provider.answers = [Standing.UNKNOWN]
    desk.later(minutes=50)
    desk.poll()  # sent again
    assert len(desk.provider.asked) == 2
    desk.provider.key_window = timedelta(0)
    wait(desk, minutes=30)
    assert desk.state(payout_id) is S.UNKNOWN
    wait(desk, minutes=40)
    assert desk.state(payout_id) is S.SUBMITTED  # anew, under another reference
    assert len({each.reference for each in desk.provider.asked}) == 2


def test_a_look_that_is_overtaken_proves_nothing(desk: Desk) -> None:
    """It found none, and before it could say so another run had sent it again."""
    desk.provider.absent_after = HOUR
    payout_id = lost(desk, made=False)
    desk.later(hours=2)
    attempt = desk.attempts(payout_id)[0]
    question = looking.Question(attempt.id, "acme", None, attempt.first_sent_at, attempt.sends)
    with transaction() as session:
        session.execute(text("UPDATE payout_attempts SET sends = sends + 1"))
    with transaction() as session:
        made = looking._not_found(session, question, desk.provider.abilities, asked_at=desk.clock.now())
    assert (made, desk.state(payout_id)) == (None, S.UNKNOWN)


def test_several_of_one_reference_are_for_a_person(desk: Desk) -> None:
    payout_id = lost(desk, made=True)
    desk.provider.unreadable = True
    for _ in range(3):
        wait(desk, minutes=11)
    assert (desk.state(payout_id), desk.breaks()) == (S.UNKNOWN, ["payout.unreadable"])
    assert len(desk.provider.asked) == 1


def test_the_database_lets_no_second_attempt_be_open(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    with pytest.raises(IntegrityError, match="uq_payout_attempts_open"), transaction() as session:
        session.add(
            PayoutAttempt(
                id=new_id(), payout_id=payout_id, number=2, provider="bravo", request_hash=b"", state="asking",
                first_sent_at=desk.clock.now(), last_sent_at=desk.clock.now(),
            )
        )  # fmt: skip


def test_how_long_the_oldest_is_unknown_is_told(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    with transaction() as session:
        figures = sending_queries.figures(session)
    assert (figures.unknown_since, figures.by_state["unknown"]) == (desk.get(payout_id).unknown_since, 1)
    wait(desk, minutes=2)  # sent again, accepted
    with transaction() as session:
        assert sending_queries.figures(session).unknown_since is None


# --- people --------------------------------------------------------------------------------------------------------


def propose(payout_id: UUID, outcome: str, actor: str = ANN) -> None:
    with transaction() as session:
        resolving.propose(session, payout_id, outcome, {"note": "the bank's letter"}, actor=actor)


def confirm(payout_id: UUID, outcome: str, actor: str = BOB) -> None:
    with transaction() as session:
        resolving.confirm(session, payout_id, outcome, actor=actor)


def test_two_people_say_that_it_failed(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    propose(payout_id, "failed")
    assert desk.state(payout_id) is S.UNKNOWN
    confirm(payout_id, "failed")
    assert (desk.state(payout_id), desk.balance(USER)) == (S.FAILED, RICH)


def test_two_people_say_that_it_was_paid_and_proof_of_the_contrary_wins(desk: Desk) -> None:
    payout_id = lost(desk, made=True)
    with transaction() as session:
        plan = resolving.plan(session, payout_id)
    assert plan.paid == [(TRANSIT, "custody:provider:acme", NGN, UNITS), (TRANSIT, "house:fees", NGN, FEE)]
    assert plan.failed == [(TRANSIT, USER, NGN, UNITS + FEE)]
    propose(payout_id, "paid")
    confirm(payout_id, "paid")
    assert (desk.state(payout_id), desk.balance(TRANSIT)) == (S.PAID, 0)
    desk.provider.tell(desk.reference(payout_id), RemittanceState.FAILED, Refusal.DESTINATION)
    wait(desk, hours=2)
    assert (desk.state(payout_id), desk.balance(USER)) == (S.RETURNED, RICH)


def test_one_person_is_not_two_and_a_key_is_none(desk: Desk) -> None:
    payout_id = lost(desk, made=False)
    with pytest.raises(ConflictError, match="nobody has proposed"):
        confirm(payout_id, "failed")
    with pytest.raises(InvalidRequestError, match="only people"):
        propose(payout_id, "failed", "key:1")
    propose(payout_id, "failed")
    with pytest.raises(ConflictError, match="already"):
        propose(payout_id, "paid", BOB)
    with pytest.raises(ConflictError, match="another person"):
        confirm(payout_id, "failed", ANN)
    with pytest.raises(ConflictError, match="proposed failed"):
        confirm(payout_id, "paid")
    assert desk.state(payout_id) is S.UNKNOWN


def test_a_proposal_that_proof_overtakes_is_closed(desk: Desk) -> None:
    payout_id = lost(desk, made=True)
    propose(payout_id, "failed")
    wait(desk, seconds=3)
    with pytest.raises(ConflictError, match="submitted"):
        confirm(payout_id, "failed")
    with transaction() as session:
        [closed] = sending_queries.resolutions(session, payout_id)
        assert (closed.confirmed_by, closed.closed_at is not None) == (None, True)
    assert (desk.state(payout_id), desk.balance(TRANSIT)) == (S.SUBMITTED, UNITS + FEE)


def test_what_is_known_is_not_for_people(desk: Desk) -> None:
    payout_id = desk.sent()
    with pytest.raises(ConflictError, match="its provider knows"):
        propose(payout_id, "failed")


def test_a_call_that_ends_after_two_people_decided_changes_what_they_said_only_by_proof(desk: Desk) -> None:
    payout_id = desk.approved()
    with transaction() as session:
        ask = submitting.begin(session, payout_id, able={"acme"})
    assert ask is not None
    desk.submit(payout_id)
    propose(payout_id, "failed")
    confirm(payout_id, "failed")
    submitting.ask_for(ask, desk.provider)  # a hung call, after all
    assert (desk.state(payout_id), desk.balance(TRANSIT), desk.accepted()) == (S.SUBMITTED, UNITS + FEE, 1)
