"""Sending: one intent, one payout at a provider, whatever becomes of the call."""

from datetime import UTC, datetime, time, timedelta
from threading import Thread

import pytest
from structlog.testing import capture_logs

from core.db import transaction
from domain.payout import books as payout_books
from domain.payout import submitting
from domain.payout.models import PayoutProviderRow
from domain.payout.states import AttemptState, PayoutState, Wait
from ledger import accounts
from providers.payout.base import Hours, PayoutRequest, Refusal, RemittanceState, Standing
from tests.integration.payout_sending.desk import COSTS, FEE, FEES, RICH, SHOP, TRANSIT, UNITS, USER, Desk
from tests.integration.payout_sending.scripted import NGN

S, A = PayoutState, AttemptState
ACME = "custody:provider:acme"


def test_a_payout_is_sent_and_paid_and_the_books_say_where_its_money_is(desk: Desk) -> None:
    payout_id = desk.sent()
    assert (desk.state(payout_id), desk.accepted()) == (S.SUBMITTED, 1)
    assert (desk.balance(USER), desk.balance(TRANSIT)) == (RICH - UNITS - FEE, UNITS + FEE)
    desk.provider.tell(desk.reference(payout_id), RemittanceState.PAID, fee_units=25)
    desk.look(payout_id)
    assert desk.state(payout_id) is S.PAID
    assert (desk.balance(TRANSIT), desk.balance(FEES), desk.balance(COSTS)) == (0, FEE, 25)
    assert desk.balance(ACME) == -UNITS - 25
    assert desk.events(payout_id) == ["hold", "screen", "approve", "submit", "accept", "pay"]
    request = desk.provider.asked[0]
    assert (request.units, request.currency, request.destination.number) == (UNITS, NGN, "0690000031")


def test_submitting_again_sends_nothing_again(desk: Desk) -> None:
    payout_id = desk.sent()
    desk.submit(payout_id)
    assert len(desk.provider.asked) == 1
    assert desk.balance(TRANSIT) == UNITS + FEE


def test_a_run_that_died_in_its_call_leaves_an_unknown_that_is_looked_up(desk: Desk) -> None:
    payout_id = desk.approved()
    with transaction() as session:
        ask = submitting.begin(session, payout_id, able={"acme"})
    assert ask is not None
    desk.provider.make(ask.request)  # it got there, and nobody read the answer
    desk.submit(payout_id)
    assert (desk.state(payout_id), len(desk.provider.asked)) == (S.UNKNOWN, 0)
    assert desk.get(payout_id).unknown_since is not None
    desk.later(seconds=3)
    desk.poll()
    assert (desk.state(payout_id), desk.accepted()) == (S.SUBMITTED, 1)
    assert desk.get(payout_id).unknown_since is None


def test_an_adapter_that_fails_leaves_an_unknown_and_tells_no_log_of_the_destination(desk: Desk) -> None:
    payout_id = desk.approved()

    def fails(request: PayoutRequest) -> None:
        raise ValueError(f"no {request.destination.number} of {request.destination.holder}")

    desk.provider.before_answer = fails
    with capture_logs() as logs:
        desk.submit(payout_id)
    assert (desk.state(payout_id), desk.accepted()) == (S.UNKNOWN, 1)
    failed = next(line for line in logs if line["event"] == "payout.send_failed")
    assert failed["type"] == "ValueError" and "scripted.py" in failed["raised_at"]
    assert "0690000031" not in repr(logs) and "Ada Private" not in repr(logs)


def test_the_answer_of_a_run_that_was_taken_for_dead_still_counts(desk: Desk) -> None:
    payout_id = desk.approved()
    desk.provider.before_answer = lambda _: desk.submit(payout_id)  # another run finds it under way
    desk.submit(payout_id)
    assert desk.events(payout_id)[-2:] == ["lose", "accept"]
    assert (desk.state(payout_id), desk.accepted()) == (S.SUBMITTED, 1)


@pytest.mark.parametrize("answer", [Refusal.DESTINATION, Standing.NOT_SENT])
def test_so_does_that_it_is_not_there(desk: Desk, answer: Refusal | Standing) -> None:
    payout_id = desk.approved()
    desk.provider.answers = [answer]
    desk.provider.before_answer = lambda _: desk.submit(payout_id)
    desk.submit(payout_id)
    expected = S.FAILED if answer is Refusal.DESTINATION else S.APPROVED
    assert (desk.state(payout_id), desk.accepted()) == (expected, 0)


def test_a_webhook_before_the_answer_changes_nothing_of_it(desk: Desk) -> None:
    payout_id = desk.approved()

    def told(request: PayoutRequest) -> None:
        desk.provider.tell(request.reference, RemittanceState.PAID)
        desk.look(payout_id, desk.attempts(payout_id)[0].id)
        desk.provider.tell(request.reference, RemittanceState.PENDING)  # what the older answer says

    desk.provider.before_answer = told
    desk.submit(payout_id)
    assert (desk.state(payout_id), desk.balance(TRANSIT)) == (S.PAID, 0)


def test_two_runs_at_once_send_it_once(desk: Desk) -> None:
    payout_id = desk.approved()
    runs = [Thread(target=desk.submit, args=(payout_id,)) for _ in range(8)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    desk.later(seconds=3)
    desk.poll()
    assert (desk.state(payout_id), desk.accepted(), len(desk.provider.asked)) == (S.SUBMITTED, 1, 1)


def test_a_worker_that_was_held_up_does_not_call(desk: Desk) -> None:
    payout_id = desk.approved()
    with transaction() as session:
        ask = submitting.begin(session, payout_id, able={"acme"})
    assert ask is not None
    desk.later(minutes=90)  # others may have proven meanwhile that there is none
    assert submitting.ask_for(ask, desk.provider) is Standing.NOT_SENT
    assert (desk.accepted(), desk.state(payout_id)) == (0, S.APPROVED)


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_refused_destination_fails_and_its_owner_has_all_of_it_again(desk: Desk) -> None:
    payout_id = desk.approved()
    desk.provider.answers = [Refusal.DESTINATION]
    desk.submit(payout_id)
    assert (desk.state(payout_id), desk.get(payout_id).failure) == (S.FAILED, "destination")
    assert (desk.balance(USER), desk.balance(TRANSIT), desk.balance(FEES)) == (RICH, 0, 0)


@pytest.mark.parametrize("refusal", [Refusal.FUNDS, Refusal.LIMIT, Refusal.PROVIDER])
def test_another_provider_is_asked_after_a_proven_refusal(two: Desk, refusal: Refusal) -> None:
    two.providers["acme"].answers = [refusal]
    payout_id = two.sent()
    assert [each.provider for each in two.attempts(payout_id)] == ["acme", "bravo"]
    assert (two.state(payout_id), two.accepted()) == (S.SUBMITTED, 1)
    assert two.balance(TRANSIT) == UNITS + FEE  # taken once


def test_nobody_else_is_asked_while_nobody_knows(two: Desk) -> None:
    two.providers["acme"].answers = [Standing.UNKNOWN]
    two.providers["acme"].hidden = 100
    two.providers["acme"].key_window = timedelta(0)
    payout_id = two.sent()
    for _ in range(6):
        two.later(minutes=11)
        two.poll()
    assert two.state(payout_id) is S.UNKNOWN
    assert two.providers["bravo"].asked == []
    assert two.accepted() == 1


def test_what_did_not_get_there_is_sent_under_the_same_key_or_elsewhere(two: Desk) -> None:
    two.providers["acme"].answers = [Standing.NOT_SENT]
    payout_id = two.sent()
    assert [(each.provider, each.current) for each in two.attempts(payout_id)] == [
        ("acme", A.NOT_SENT), ("bravo", A.ACCEPTED),
    ]  # fmt: skip


def test_without_another_it_waits_and_goes_on_by_itself(desk: Desk) -> None:
    desk.provider.answers = [Standing.NOT_SENT]
    payout_id = desk.sent()
    found = desk.get(payout_id)
    assert (found.current, found.waiting) == (S.APPROVED, Wait.PROVIDER)
    assert found.next_look_at is not None
    desk.poll()
    assert len(desk.provider.asked) == 1  # not before its time
    desk.later(minutes=2)
    desk.poll()
    assert desk.state(payout_id) is S.SUBMITTED
    assert len(desk.attempts(payout_id)) == 1
    assert len({each.reference for each in desk.provider.asked}) == 1


def test_it_fails_after_so_many_refusals_and_not_before(desk: Desk) -> None:
    desk.provider.answers = [Refusal.PROVIDER] * 50
    payout_id = desk.sent()
    for _ in range(20):
        desk.later(hours=1)
        desk.poll()
    assert (desk.state(payout_id), len(desk.attempts(payout_id)), desk.balance(USER)) == (S.FAILED, 6, RICH)


def test_what_a_provider_does_not_understand_is_for_a_person(desk: Desk) -> None:
    desk.provider.answers = [Refusal.REQUEST]
    payout_id = desk.sent()
    assert (desk.state(payout_id), desk.breaks()) == (S.FROZEN, ["payout.refused"])
    assert desk.balance(TRANSIT) == UNITS + FEE
    desk.later(hours=5)
    desk.poll()
    assert len(desk.provider.asked) == 1


def test_too_little_there_waits_for_more(desk: Desk) -> None:
    desk.provider.units = UNITS - 1
    desk.refresh()
    payout_id = desk.sent()
    assert (desk.get(payout_id).waiting, desk.provider.asked, desk.balance(USER)) == (Wait.BALANCE, [], RICH)
    desk.provider.units = UNITS
    desk.refresh()
    desk.later(minutes=6)
    desk.poll()
    assert desk.state(payout_id) is S.SUBMITTED


def test_a_frozen_account_sends_nothing(desk: Desk) -> None:
    payout_id = desk.approved()
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=NGN, reason="fraud?", actor="ann")
    desk.submit(payout_id)
    assert (desk.state(payout_id), desk.provider.asked) == (S.FROZEN, [])
    assert desk.get(payout_id).begun_journal_id is None


def test_a_freeze_that_comes_between_the_look_and_the_capture_is_seen(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    payout_id = desk.approved()
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=NGN, reason="fraud?", actor="ann")
    monkeypatch.setattr("domain.payout.freezing.is_frozen", lambda *_: False)
    desk.submit(payout_id)
    assert (desk.state(payout_id), desk.provider.asked) == (S.FROZEN, [])


def test_one_that_is_paid_by_hand_is_given_to_nobody(desk: Desk) -> None:
    payout_id = desk.sent(by_hand=True)
    assert (desk.state(payout_id), desk.provider.asked) == (S.APPROVED, [])


def test_a_stopped_provider_is_not_asked(two: Desk) -> None:
    with transaction() as session:
        row = session.get(PayoutProviderRow, "acme")
        assert row is not None
        row.stopped_by = "person:ann"
    assert two.get(two.sent()).provider == "bravo"


def test_a_provider_that_does_not_answer_is_left_alone_for_a_while(two: Desk) -> None:
    two.providers["acme"].answers = [Standing.NOT_SENT] * 3
    for _ in range(4):
        two.sent(units=1_000)
    assert len(two.providers["acme"].asked) == 3
    two.later(minutes=2)
    assert two.get(two.sent(units=1_000)).provider == "acme"


def test_hours_are_waited_for(desk: Desk) -> None:
    now = datetime.now(UTC)
    begin = (now + timedelta(hours=3)).time().replace(microsecond=0)
    if begin < now.time():
        begin = time(23, 59, 50)
    desk.provider.hours = Hours(zone="UTC", days=frozenset(range(7)), begin=begin, end=time.max)
    desk.refresh()
    payout_id = desk.sent()
    found = desk.get(payout_id)
    assert (found.waiting, desk.provider.asked) == (Wait.HOURS, [])
    assert found.next_look_at == datetime.combine(now.date(), begin, UTC)


def test_an_answer_of_another_amount_is_believed_in_nothing(desk: Desk) -> None:
    payout_id = desk.approved()
    desk.provider.before_answer = lambda request: desk.provider.tell(
        request.reference, RemittanceState.PAID, units=UNITS * 2
    )
    desk.submit(payout_id)
    assert (desk.state(payout_id), desk.breaks()) == (S.UNKNOWN, ["payout.amount"])
    assert (desk.balance(TRANSIT), desk.balance(ACME)) == (UNITS + FEE, 0)
    assert payout_books.PAID_TWICE not in desk.breaks()
