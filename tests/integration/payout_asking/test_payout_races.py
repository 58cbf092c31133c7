"""A hundred who ask at the same moment, by real sessions: what is there for ten is given to ten."""

from typing import Any

from core.errors import TallyrailError
from domain.payout.errors import LimitExceededError
from domain.payout.service import Payout
from ledger.errors import InsufficientFundsError
from tests.integration.payout_asking.desk import Desk, at_once

MANY, FEW = 100, 10


def outcomes(results: list[Any]) -> tuple[int, set[type[Exception]]]:
    refused = [each for each in results if isinstance(each, TallyrailError)]
    made = [each for each in results if isinstance(each, Payout)]
    assert len(made) + len(refused) == len(results)
    return len(made), {type(each) for each in refused}


def test_of_a_hundred_against_a_balance_for_ten_ten_pass(desk: Desk) -> None:
    desk.set(PAYOUT_LIMIT_ACCOUNT_DAY_COUNT="1000", PAYOUT_LIMIT_DESTINATION_DAY_COUNT="1000")
    desk.set(PAYOUT_LIMIT_ACCOUNT_WEEK_COUNT="1000", PAYOUT_LIMIT_DESTINATION_WEEK_COUNT="1000")
    desk.fund(FEW * 1_000 + 999)
    there = desk.destination()
    assert outcomes(at_once(MANY, lambda _: desk.ask(1_000, beneficiary_id=there))) == (FEW, {InsufficientFundsError})
    assert (desk.pending_holds(), desk.held(), desk.used()["account"]) == (FEW, FEW * 1_000, (FEW * 1_000, FEW))


def test_of_a_hundred_of_five_accounts_against_a_days_limit_for_ten_ten_pass(desk: Desk) -> None:
    desk.set(PAYOUT_LIMIT_TENANT_DAY=str(FEW * 1_000 + 999), PAYOUT_LIMIT_DESTINATION_DAY_COUNT="1000")
    desk.set(PAYOUT_LIMIT_DESTINATION_WEEK_COUNT="1000")
    users = [f"user:{number}:available" for number in range(5)]
    there = {}
    for user in users:
        desk.fund(MANY * 1_000, user)
        there[user] = desk.destination(account=user)

    def ask(number: int) -> Payout:
        user = users[number % len(users)]
        return desk.ask(1_000, account=user, beneficiary_id=there[user])

    assert outcomes(at_once(MANY, ask)) == (FEW, {LimitExceededError})
    assert desk.pending_holds() == FEW
    assert desk.used() == dict.fromkeys(("account", "tenant", "destination"), (FEW * 1_000, FEW))
