"""What providers say, in every order: the books follow the newest, and each event is booked once."""

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from core import clock
from core.db import transaction
from core.errors import ConflictError, InvariantError
from core.ids import new_id
from core.jobs import Job
from domain.payout import stopping
from domain.payout.sending_settings import sending
from domain.payout.states import AttemptState, PayoutState
from ledger import accounts, balances
from providers.payout.base import Refusal, RemittanceState
from tests.integration.payout_sending.desk import (
    COSTS,
    FEE,
    FEES,
    OWED,
    RICH,
    SHOP,
    SUSPENSE,
    TRANSIT,
    UNITS,
    USER,
    Desk,
)
from tests.integration.payout_sending.scripted import NGN

R = RemittanceState
S = PayoutState
A = AttemptState
ACME = "custody:provider:acme"
INR = "iso4217:INR"


def tell(desk: Desk, payout_id: UUID, state: R, refusal: Refusal | None = None, **changes: Any) -> None:
    """The provider says so from now on, and is asked."""
    reference = desk.reference(payout_id)
    desk.provider.tell(reference, state, refusal, **changes)
    desk.later(seconds=1)
    desk.look(payout_id)


def where(desk: Desk) -> tuple[int, int, int]:
    return desk.balance(USER), desk.balance(TRANSIT), desk.balance(ACME)


HOME = (RICH, 0, 0)
UNDER_WAY = (RICH - UNITS - FEE, UNITS + FEE, 0)
GONE = (RICH - UNITS - FEE, 0, -UNITS)
NEWS = (R.PENDING, R.PAID, R.FAILED, R.RETURNED)


def after(state: S, told: R) -> S:
    """What follows, by the plan; refused destinations all of them."""
    match state, told:
        case _, R.PAID:
            return S.PAID
        case (S.SUBMITTED, R.FAILED):
            return S.FAILED
        case (S.SUBMITTED | S.PAID, R.RETURNED) | (S.PAID, R.FAILED):
            return S.RETURNED
        case _:
            return state


@pytest.mark.parametrize("first", NEWS)
def test_every_news_after_every_other_and_twice(desk: Desk, first: R) -> None:
    """The owner keeps enough for what was given back to be taken again."""
    for second, third in product(NEWS, NEWS):
        payout_id = desk.sent(units=100, fee=5)
        state = S.SUBMITTED
        for told in (first, second, third, third):
            before = (desk.balance(USER), desk.balance(TRANSIT), desk.balance(ACME), desk.balance(FEES))
            expected = after(state, told)
            tell(desk, payout_id, told, Refusal.DESTINATION if told in (R.FAILED, R.RETURNED) else None)
            assert desk.state(payout_id) is expected, (first, second, third, told)
            if expected is state:
                now = (desk.balance(USER), desk.balance(TRANSIT), desk.balance(ACME), desk.balance(FEES))
                assert now == before
            state = expected
        tell(desk, payout_id, R.FAILED, Refusal.DESTINATION)
    assert (*where(desk), desk.balance(FEES), desk.balance(OWED)) == (*HOME, 0, 0)


@pytest.mark.parametrize("older", NEWS)
@pytest.mark.parametrize("newer", [R.PAID, R.FAILED])
def test_what_was_true_before_changes_nothing(desk: Desk, older: R, newer: R) -> None:
    payout_id = desk.sent()
    old = desk.provider.made[desk.reference(payout_id)]
    asked_at = clock.now()
    tell(desk, payout_id, newer, Refusal.DESTINATION if newer is R.FAILED else None)
    expected = desk.state(payout_id), where(desk)
    desk.provider.tell(old.reference, older, Refusal.DESTINATION)
    desk.record(payout_id, desk.told(payout_id), at=asked_at)
    assert (desk.state(payout_id), where(desk)) == expected
    assert where(desk) == (GONE if newer is R.PAID else HOME)


def test_paid_then_failed_is_a_return_and_its_fee_stays_an_expense(desk: Desk) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.PAID, fee_units=30)
    tell(desk, payout_id, R.FAILED, Refusal.PROVIDER, fee_units=30)
    assert desk.state(payout_id) is S.RETURNED
    assert (desk.balance(USER), desk.balance(ACME), desk.balance(COSTS), desk.balance(FEES)) == (RICH, -30, 30, 0)
    assert desk.events(payout_id).count("return") == 1


def test_a_fee_that_is_credited_with_the_return_is_booked_back(desk: Desk) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.PAID, fee_units=30)
    tell(desk, payout_id, R.PAID, fee_units=45)
    assert desk.balance(COSTS) == 45
    tell(desk, payout_id, R.RETURNED, fee_units=0)
    assert (desk.balance(COSTS), desk.balance(ACME)) == (0, 0)


def test_what_fails_for_a_reason_that_may_pass_is_sent_anew(desk: Desk) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.FAILED, Refusal.PROVIDER)
    assert desk.state(payout_id) is S.APPROVED
    assert where(desk) == UNDER_WAY  # it stays in transit
    desk.later(hours=1)
    desk.poll()
    assert [each.current for each in desk.attempts(payout_id)] == [A.FAILED, A.ACCEPTED]
    assert where(desk) == UNDER_WAY


def test_failed_then_paid_takes_what_there_is_and_the_rest_is_owed(desk: Desk) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.FAILED, Refusal.DESTINATION)
    assert desk.get(payout_id).counted_on is None
    with transaction() as session:
        (told,) = session.scalars(select(Job.args).where(Job.task == "payout.refuse_beneficiary"))
    assert (told["beneficiary_id"], told["provider"]) == (str(desk.get(payout_id).beneficiary_id), "acme")
    desk.give(-(RICH - 4_000))  # spent
    tell(desk, payout_id, R.PAID)
    assert desk.state(payout_id) is S.PAID
    assert desk.get(payout_id).counted_on == clock.now().date()  # it left: limits count it again
    assert (desk.balance(USER), desk.balance(OWED), desk.get(payout_id).short_units) == (0, 6_150, 6_150)
    assert (desk.balance(TRANSIT), desk.balance(ACME), desk.balance(FEES)) == (0, -UNITS, FEE)
    assert desk.breaks() == ["payout.paid_late"]
    tell(desk, payout_id, R.RETURNED)
    assert (desk.balance(USER), desk.balance(OWED), desk.balance(FEES)) == (4_000, 0, 0)
    assert desk.get(payout_id).short_units == 0


def test_a_debt_that_was_paid_off_meanwhile_comes_back_to_its_owner(desk: Desk) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.FAILED, Refusal.DESTINATION)
    desk.give(-RICH)
    tell(desk, payout_id, R.PAID)
    desk.give(UNITS + FEE)
    desk.give(UNITS + FEE - 1_000, account=OWED)
    with transaction() as session:
        left = balances.balance(session, SHOP, OWED, NGN)
    tell(desk, payout_id, R.RETURNED)
    back = UNITS + FEE
    assert (desk.balance(OWED), desk.balance(USER)) == (max(left - back, 0), back + back - min(left, back))


def test_under_the_policy_freeze_the_account_is_frozen(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYOUT_NEGATIVE_BALANCE", "freeze")
    sending.cache_clear()
    payout_id = desk.sent()
    tell(desk, payout_id, R.FAILED, Refusal.DESTINATION)
    desk.give(-RICH)
    tell(desk, payout_id, R.PAID)
    with transaction() as session:
        [account] = balances.account(session, SHOP, USER)
    assert (account.state, desk.balance(OWED)) == ("frozen", UNITS + FEE)


def test_money_for_a_closed_account_lies_in_suspense_and_is_taken_from_there_again(desk: Desk) -> None:
    payout_id = desk.sent()
    desk.give(-(RICH - UNITS - FEE))
    with transaction() as session:
        accounts.close(session, tenant=SHOP, code=USER, asset=NGN, reason="gone", actor="ann")
    tell(desk, payout_id, R.FAILED, Refusal.DESTINATION)
    assert (desk.state(payout_id), desk.balance(SUSPENSE), desk.breaks()) == (
        S.FAILED,
        UNITS + FEE,
        ["payout.suspended"],
    )
    tell(desk, payout_id, R.PAID)
    assert (desk.balance(SUSPENSE), desk.balance(OWED), desk.balance(ACME)) == (0, 0, -UNITS)
    assert desk.get(payout_id).suspended_units == 0
    tell(desk, payout_id, R.RETURNED)
    assert (desk.balance(SUSPENSE), desk.balance(ACME), desk.balance(TRANSIT)) == (UNITS + FEE, 0, 0)


def test_a_frozen_account_gets_back_what_did_not_leave(desk: Desk) -> None:
    payout_id = desk.sent()
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=NGN, reason="fraud?", actor="ann")
    tell(desk, payout_id, R.PAID)
    tell(desk, payout_id, R.RETURNED)
    assert where(desk) == HOME


@pytest.mark.parametrize("changes", [{"units": UNITS + 1}, {"currency": INR}, {"provider_ref": "another"}])
def test_news_of_something_else_changes_nothing_and_is_a_break(desk: Desk, changes: dict[str, Any]) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.PAID, **changes)
    assert (desk.state(payout_id), where(desk)) == (S.SUBMITTED, UNDER_WAY)
    assert desk.breaks() == ["payout.reference" if "provider_ref" in changes else "payout.amount"]


def test_a_reference_that_two_payouts_would_share_is_refused(desk: Desk) -> None:
    first, second = desk.sent(), desk.approved()
    desk.provider.before_answer = lambda request: desk.provider.tell(
        request.reference, R.PAID, provider_ref=desk.told(first).provider_ref
    )
    desk.submit(second)
    assert (desk.state(second), desk.breaks()) == (S.UNKNOWN, ["payout.reference"])


def test_an_order_of_nobody_is_refused(desk: Desk) -> None:
    payout_id = desk.sent()
    told = desk.told(payout_id)
    with pytest.raises(InvariantError):
        desk.record(payout_id, replace(told, reference=str(new_id())))


def test_a_conversion_is_booked_with_the_begin_and_taken_back_whole(desk: Desk) -> None:
    desk.give(RICH, asset=INR)
    changes: dict[str, Any] = {
        "asset": INR, "units": 1_000, "fee": 10, "payout_units": 17_820, "quote_id": new_id(), "quote_rate": "18",
        "quote_rate_at": clock.now(), "quote_spread": 10, "quote_remainder": 0,
    }  # fmt: skip
    payout_id = desk.sent(**changes)
    assert (desk.balance(USER, INR), desk.balance(TRANSIT, INR), desk.balance(TRANSIT)) == (RICH - 1_010, 10, 17_820)
    assert (desk.balance("clearing:fx", INR), desk.balance("clearing:fx"), desk.balance(FEES, INR)) == (
        990,
        -17_820,
        10,
    )
    tell(desk, payout_id, R.PAID)
    assert (desk.balance(ACME), desk.balance(TRANSIT), desk.balance(TRANSIT, INR)) == (-17_820, 0, 0)
    assert desk.balance(FEES, INR) == 20
    tell(desk, payout_id, R.RETURNED)
    for code, asset in product(("clearing:fx", FEES, TRANSIT, ACME), (INR, NGN)):
        assert desk.balance(code, asset) == 0
    assert desk.balance(USER, INR) == RICH
    tell(desk, payout_id, R.PAID)
    assert (desk.balance(ACME), desk.balance("clearing:fx", INR), desk.balance(USER, INR)) == (
        -17_820,
        990,
        RICH - 1_010,
    )


# --- words that are taken back -------------------------------------------------------------------------------------


def test_a_refused_one_that_is_there_after_all_is_the_payouts(desk: Desk) -> None:
    desk.provider.answers = [Refusal.DESTINATION]
    payout_id = desk.sent()
    desk.provider.make(desk.provider.asked[0])
    desk.later(hours=2)
    desk.poll()
    assert (desk.state(payout_id), where(desk)) == (S.SUBMITTED, UNDER_WAY)
    tell(desk, payout_id, R.PAID)
    assert (desk.state(payout_id), where(desk)) == (S.PAID, GONE)


def test_paid_by_two_providers_is_our_loss_and_a_break_not_its_owners(two: Desk) -> None:
    two.providers["acme"].answers = [Refusal.PROVIDER]
    payout_id = two.sent()
    acme = two.providers["acme"]
    acme.make(acme.asked[0])
    acme.tell(two.reference(payout_id), R.PAID)
    attempt = two.attempts(payout_id)[0].id
    for _ in range(2):
        two.look(payout_id, attempt)
    assert two.balance(ACME) == -UNITS
    assert (two.balance(SUSPENSE), two.balance(USER)) == (-UNITS, RICH - UNITS - FEE)
    assert two.breaks() == ["payout.paid_twice", "payout.sent_twice"]
    two.providers["bravo"].tell(two.reference(payout_id, 2), R.PAID)
    two.look(payout_id)
    assert two.state(payout_id) is S.PAID
    acme.tell(two.reference(payout_id), R.RETURNED)
    two.later(seconds=1)
    two.look(payout_id, attempt)
    assert (two.balance(SUSPENSE), two.balance(ACME), two.state(payout_id)) == (0, 0, S.PAID)


def test_one_that_stands_frozen_and_was_paid_is_not_sent_again_when_it_thaws(desk: Desk) -> None:
    desk.provider.answers = [Refusal.REQUEST]
    payout_id = desk.sent()
    desk.provider.make(desk.provider.asked[0])
    tell_by(desk, payout_id, R.PAID)
    assert (desk.state(payout_id), desk.balance(SUSPENSE)) == (S.FROZEN, -UNITS)
    desk.thaw(payout_id)
    desk.submit(payout_id)
    assert (desk.state(payout_id), len(desk.provider.asked), desk.balance(SUSPENSE)) == (S.PAID, 1, 0)
    assert where(desk) == GONE


def tell_by(desk: Desk, payout_id: UUID, state: R) -> None:
    """As a webhook would have it looked at."""
    desk.provider.tell(desk.reference(payout_id), state)
    desk.later(seconds=1)
    desk.look(payout_id, desk.attempts(payout_id)[0].id)


def test_ended_ones_are_looked_at_thinly_and_then_never(desk: Desk) -> None:
    payout_id = desk.sent()
    tell(desk, payout_id, R.PAID)
    finds = desk.provider.finds
    for _ in range(24 * 20):
        desk.later(hours=1)
        desk.poll()
    assert desk.provider.finds - finds == 5
    assert desk.get(payout_id).next_look_at is None
    assert desk.clock.passed > timedelta(days=14)
    assert len(desk.provider.asked) == 1


def test_one_that_a_provider_has_after_all_can_not_be_cancelled(desk: Desk) -> None:
    desk.provider.answers = [Refusal.REQUEST]
    payout_id = desk.sent()
    desk.provider.make(desk.provider.asked[0])
    tell_by(desk, payout_id, R.PENDING)
    assert (desk.state(payout_id), desk.breaks()) == (S.FROZEN, ["payout.refused", "payout.sent_twice"])
    with pytest.raises(ConflictError, match="after all"), transaction() as session:
        stopping.cancel(session, payout_id, actor="person:ann", reason="never sent")
    desk.thaw(payout_id)
    desk.submit(payout_id)
    assert (desk.state(payout_id), desk.accepted(), where(desk)) == (S.SUBMITTED, 1, UNDER_WAY)
