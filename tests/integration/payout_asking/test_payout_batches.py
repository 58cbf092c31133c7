"""Payouts that are asked for together: control totals, and what came of each item."""

from typing import Any

import pytest

from core.db import transaction
from core.errors import InvalidRequestError
from domain.payout import service
from domain.payout.errors import LimitExceededError, TooManyRequestsError
from domain.payout.models import PayoutBatch
from domain.payout.service import NewBatch, NewPayout
from tests.integration.payout_asking.desk import KEY, NGN, SHOP, USD, Desk, at_once

TWO = ("user:1:available", "user:2:available")


def batch(desk: Desk, asked: list[NewPayout], **given: Any) -> PayoutBatch:
    totals: dict[str, int] = {}
    for item in asked:
        totals[item.asset] = totals.get(item.asset, 0) + item.units
    fields: dict[str, Any] = {"tenant": SHOP, "count": len(asked), "totals": totals, "items": asked, "maker": KEY}
    with transaction() as session:
        made = service.create_batch(
            session, NewBatch(**(fields | given)), desk.ports, lambda error: {"type": type(error).__name__}
        )
        session.expunge_all()
    return made


def test_a_bad_item_is_refused_alone(desk: Desk) -> None:
    desk.set(PAYOUT_REQUESTS_HOURLY="1")
    desk.fund(3_000)
    there = desk.destination()
    units = (1_000, 2_500, 60_000, 2_000, 1)
    made = batch(desk, [desk.new(each, beneficiary_id=there) for each in units])
    assert made.refused == [
        {"item": 1, "problem": {"type": "InsufficientFundsError"}},
        {"item": 2, "problem": {"type": "InsufficientFundsError"}},
        {"item": 4, "problem": {"type": "InsufficientFundsError"}},
    ]
    with transaction() as session:
        found = [(each.batch_item, each.units) for each in service.batch_items(session, made.id)]
    assert found == [(0, 1_000), (3, 2_000)]
    assert (desk.pending_holds(), desk.held(), desk.used()["tenant"]) == (2, 3_000, (3_000, 2))
    desk.fund(10)
    with pytest.raises(TooManyRequestsError):  # the batch was the one request of this hour
        desk.ask(1, beneficiary_id=there)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"count": 3}, "count"),
    ({"totals": {USD: 2_001}}, "totals"),
    ({"totals": {USD: 2_000, NGN: 1}}, "totals"),
    ({"totals": {}}, "totals"),
    ({"items": [], "count": 0, "totals": {}}, "items"),
]


def test_totals_that_are_not_the_items_refuse_all_of_it(desk: Desk) -> None:
    desk.fund(3_000)
    there = desk.destination()
    for given, field in WRONG:
        with pytest.raises(InvalidRequestError) as caught:
            batch(desk, [desk.new(1_000, beneficiary_id=there)] * 2, **given)
        assert caught.value.field == field, given
    desk.nothing_is_left()


def test_batches_of_the_same_accounts_in_other_orders_dont_stop_each_other(desk: Desk) -> None:
    desk.set(PAYOUT_LIMIT_TENANT_DAY_COUNT="30", PAYOUT_LIMIT_DESTINATION_DAY_COUNT="1000")
    desk.set(PAYOUT_LIMIT_DESTINATION_WEEK_COUNT="1000", PAYOUT_LIMIT_ACCOUNT_DAY_COUNT="100")
    desk.set(PAYOUT_LIMIT_ACCOUNT_WEEK_COUNT="100")
    there = {}
    for account in TWO:
        desk.fund(100_000, account)
        there[account] = desk.destination(account=account)
    # A tenant's first payout opens the account in transit. Whoever meets that is run again by the API.
    desk.ask(100, account=TWO[0], beneficiary_id=there[TWO[0]])

    def one(number: int) -> Any:
        order = TWO if number % 2 else TWO[::-1]
        items = [desk.new(100, account=account, beneficiary_id=there[account]) for account in order * 3]
        return batch(desk, items) if number % 3 else desk.ask(100, account=order[0], beneficiary_id=there[order[0]])

    results = at_once(12, one, threads=6)
    assert not [each for each in results if isinstance(each, Exception) and not isinstance(each, LimitExceededError)]
    assert desk.used()["tenant"] == (3_000, 30)
