"""Flutterwave beyond what is asked of every gateway: attempts, links, transfers, unsigned webhooks, settlements."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from core.errors import TransientError
from local.http_server import Answer, Asked
from providers.fiat.base import LineKind, Made, Method, Order, OrderState, RefundRequest, RefundState, Standing
from providers.fiat.decimals import UnreadableError
from providers.webhooks.base import ForgedError
from providers.webhooks.registry import schemes
from tests.support import faulty
from tests.support.faulty import Fault, Forward
from tests.support.gateways.decimal_double import read, written
from tests.support.gateways.flutterwave import FlutterwaveDouble


@pytest.fixture
def double() -> Iterator[FlutterwaveDouble]:
    with FlutterwaveDouble() as double:
        yield double


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def now() -> datetime:
    return datetime.now(UTC)


def made(double: FlutterwaveDouble, reference: str, **changes: Any) -> Made:
    return double.gateway().create(double.order(reference, **changes))


def find(double: FlutterwaveDouble, reference: str) -> Order:
    order = double.gateway().find(reference=reference, provider_ref=None, made_at=now())
    assert order is not None
    return order


def refund_of(double: FlutterwaveDouble, reference: str, units: int) -> RefundRequest:
    return RefundRequest(
        reference=str(uuid4()),
        order_reference=reference,
        provider_ref=reference,
        currency=double.currency,
        units=units,
        reason="asked for it",
    )


def sent(double: FlutterwaveDouble) -> dict[str, Any]:
    """The body of the last request that made something."""
    body: dict[str, Any] = read([each for each in double.traffic.asked if each.method == "POST"][-1].body)
    return body


def changing(change: dict[str, Any], *names: str) -> Fault:
    """Answers as it would, but for some fields of what stands under these names."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        told = read(answer.body)
        inner = told
        for name in names:
            inner = inner[name]
        inner |= change
        return Answer(answer.status, written(told))

    return fault


# --- links and transfers ----------------------------------------------------------------------------------------------


def test_a_link_that_nobody_used_is_not_known_to_them(double: FlutterwaveDouble, reference: str) -> None:
    """And is known from the first attempt on, with what was asked for."""
    order = made(double, reference, method=Method.ANY).order
    assert order is not None
    assert str(order.page_url).startswith("https://")
    gateway = double.gateway()
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None
    double.fail(reference)
    found = find(double, reference)
    assert (found.state, found.units, found.paid_units) == (OrderState.OPEN, double.units, 0)
    double.pay(reference)
    assert (find(double, reference).state, find(double, reference).paid_units) == (OrderState.PAID, double.units)


def test_a_page_is_open_as_long_as_the_order(double: FlutterwaveDouble, reference: str) -> None:
    for left, minutes in ((timedelta(minutes=30, seconds=5), 30), (timedelta(0), 1), (timedelta(days=9), 1440)):
        made(double, str(uuid4()), method=Method.CARD, expires_at=now() + left)
        body = sent(double)
        assert (body["session_duration"], body["payment_options"]) == (minutes, "card")


def test_a_transfer_comes_with_an_account(double: FlutterwaveDouble, reference: str) -> None:
    order = made(double, reference, method=Method.BANK_TRANSFER).order
    assert order is not None
    assert order.page_url is None
    assert order.instructions == {
        "bank": "Mock Bank",
        "account_number": "0067100155",
        "note": "Mock note",
        "expires_at": "2023-07-20T10:10:55+00:00",
    }
    assert sent(double)["is_permanent"] is False


def test_a_transfer_of_another_amount_than_asked_is_not_shown_to_anybody(
    double: FlutterwaveDouble, reference: str
) -> None:
    """As where the account lets its payers bear the fees."""
    double.upset(changing({"transfer_amount": "126750.00"}, "meta", "authorization"))
    outcome = made(double, reference, method=Method.BANK_TRANSFER)
    assert (outcome.standing, outcome.order) == (Standing.UNKNOWN, None)
    assert "another amount" in str(outcome.why)


def test_a_success_without_a_link_is_unknown(double: FlutterwaveDouble, reference: str) -> None:
    double.upset(changing({"link": ""}, "data"))
    assert made(double, reference, method=Method.ANY).standing is Standing.UNKNOWN


def test_an_amount_goes_out_with_all_its_places(double: FlutterwaveDouble, reference: str) -> None:
    made(double, reference, units=9_007_199_254_740_993)
    posted = [each.body for each in double.traffic.asked if each.method == "POST"][-1]
    assert b'"amount":90071992547409.93,' in posted


# --- attempts ---------------------------------------------------------------------------------------------------------


def test_who_pays_twice_has_paid_twice(double: FlutterwaveDouble, reference: str) -> None:
    """Both attempts have our reference; the look-up by it tells of one."""
    made(double, reference)
    double.pay(reference)
    double.pay(reference)
    double.page_max = 1
    order = find(double, reference)
    assert (order.units, order.paid_units) == (double.units, 2 * double.units)
    assert order.fee_units == 2 * double.fee(double.units)


def test_attempts_that_failed_don_t_hide_one_that_succeeded(double: FlutterwaveDouble, reference: str) -> None:
    made(double, reference)
    for _ in range(3):
        double.fail(reference)
    double.pay(reference)
    double.fail(reference)
    assert (find(double, reference).state, find(double, reference).paid_units) == (OrderState.PAID, double.units)


def test_fees_are_what_does_not_reach_us(double: FlutterwaveDouble, reference: str) -> None:
    """Taxes on a fee are in no field of their own; what isn't told yet is not guessed."""
    made(double, reference)
    double.pay(reference)
    row = double.transactions[-1]
    row["amount_settled"] = 122_999.97
    assert find(double, reference).fee_units == double.units - 12_299_997
    for settled in (None, 125_001):
        row["amount_settled"] = settled
        assert find(double, reference).fee_units is None


def test_another_order_than_asked_for_is_refused(double: FlutterwaveDouble, reference: str) -> None:
    made(double, reference)
    double.upset(changing({"tx_ref": "another"}, "data"), when=lambda asked: "verify_by_reference" in asked.path)
    with pytest.raises(UnreadableError):
        find(double, reference)


def test_only_their_own_words_say_that_there_is_none(double: FlutterwaveDouble, reference: str) -> None:
    """Any other refusal proves nothing about the order."""
    made(double, reference)
    double.upset(faulty.saying(400), when=lambda asked: "verify_by_reference" in asked.path)
    with pytest.raises(Exception, match="refused with 400"):
        find(double, reference)


# --- refunds ----------------------------------------------------------------------------------------------------------


def test_a_refund_that_was_begun_is_not_done(double: FlutterwaveDouble, reference: str) -> None:
    """`completed` alone says only that; what it says of the disbursement decides, also as a text of JSON."""
    made(double, reference)
    double.pay(reference)
    gateway = double.gateway()
    request = refund_of(double, reference, 1_000)
    given = gateway.refund(request).refund
    assert given is not None
    assert (double.refunds[-1]["status"], given.state) == ("completed", RefundState.PENDING)
    assert find(double, reference).refunded_units == 0
    double.refunds[-1]["meta"] = json.dumps({"disburse_status": "successful"})
    done = gateway.find_refund(request, refund_ref=given.provider_ref)
    assert done is not None
    assert done.state is RefundState.DONE
    assert find(double, reference).refunded_units == 1_000


def test_a_payment_that_is_not_shown_is_no_reason_to_give_a_refund_up(
    double: FlutterwaveDouble, reference: str
) -> None:
    made(double, reference)
    double.pay(reference)
    double.hidden = 1
    request = refund_of(double, reference, 1_000)
    assert double.gateway().refund(request).standing is Standing.NOT_SENT
    assert double.gateway().refund(request).standing is Standing.ACCEPTED


def test_of_two_payments_the_one_that_has_enough_left_is_given_back(double: FlutterwaveDouble, reference: str) -> None:
    made(double, reference)
    double.pay(reference)
    double.pay(reference)
    gateway = double.gateway()
    for _ in range(2):
        assert gateway.refund(refund_of(double, reference, double.units)).standing is Standing.ACCEPTED
    double.finish_refunds()
    assert len({row["transaction_id"] for row in double.refunds}) == 2
    assert find(double, reference).refunded_units == 2 * double.units


# --- disputes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "disputed", "lost"),
    [("initiated", 1, 0), ("declined", 1, 0), ("pondered", 1, 0), ("lost", 0, 1), ("accepted", 0, 1), ("won", 0, 0)],
)
def test_the_newest_stage_of_a_dispute_decides(
    double: FlutterwaveDouble, status: str, disputed: int, lost: int, reference: str
) -> None:
    """A dispute that was declined goes on: the bank hasn't said anything yet."""
    made(double, reference)
    double.pay(reference)
    double.dispute(reference)
    double.dispute(reference)
    double.chargebacks[-1]["status"] = status
    order = find(double, reference)
    assert (order.disputed_units, order.charged_back_units) == (disputed * double.units, lost * double.units)


# --- webhooks ---------------------------------------------------------------------------------------------------------


def test_a_webhook_says_nothing_of_money(double: FlutterwaveDouble, reference: str) -> None:
    """Nothing of it is signed."""
    made(double, reference)
    double.pay(reference)
    double.refund_outside(reference)
    notices = [notice for each in double.take() for notice in double.gateway().notices(each.body, each.headers)]
    assert [(each.reference, each.order) for each in notices] == [(reference, None)] * 2


@pytest.mark.parametrize("number", ["../../v3/transfers", "1/refund", "", "-1", "1" * 20, True, None, 1.5, [], {}])
def test_a_number_that_nobody_vouches_for_makes_no_address(double: FlutterwaveDouble, number: object) -> None:
    body = json.dumps({"id": 1, "TransactionId": number, "status": "completed"}).encode()
    assert list(double.gateway().notices(body, double.signed(body))) == []
    assert not double.traffic.asked


def test_a_refund_of_a_payment_of_somebody_else_is_not_ours(double: FlutterwaveDouble, reference: str) -> None:
    made(double, reference)
    body = json.dumps({"id": 1, "TransactionId": 17, "status": "completed"}).encode()
    assert list(double.gateway().notices(body, double.signed(body))) == []
    double.upset(faulty.saying(503), when=lambda asked: asked.path.endswith("/17/verify"))
    with pytest.raises(TransientError):
        double.gateway().notices(body, double.signed(body))


def test_payouts_are_not_about_orders(double: FlutterwaveDouble, reference: str) -> None:
    body = json.dumps({"event": "transfer.completed", "data": {"id": 1, "tx_ref": reference}}).encode()
    assert list(double.gateway().notices(body, double.signed(body))) == []


# --- settlements ------------------------------------------------------------------------------------------------------


def test_what_the_parts_don_t_explain_is_a_line_of_its_own(double: FlutterwaveDouble, reference: str) -> None:
    """So that the lines of a settlement are always what arrives: a stamp duty, a chargeback without its number."""
    made(double, reference)
    double.pay(reference)
    double.charge_back(reference)
    double.settle()
    settlement = double.settled[-1]
    settlement["chargeback_meta"] = None
    settlement["net_amount"] -= 50
    lines = list(double.gateway().settlements(now() - timedelta(days=1), now() + timedelta(days=1)))
    assert [(line.kind, line.reference) for line in lines] == [
        (LineKind.PAYMENT, reference),
        (LineKind.CHARGEBACK, None),
        (LineKind.ADJUSTMENT, None),
    ]
    assert [line.units for line in lines][1:] == [-double.units, -50_00]
    arrived = round(settlement["net_amount"] * 100)
    assert sum(line.units - line.fee_units for line in lines) == arrived


def test_a_settlement_that_is_not_paid_out_is_not_told(double: FlutterwaveDouble, reference: str) -> None:
    made(double, reference)
    double.pay(reference)
    double.settle()
    double.settled[-1]["status"] = "pending"
    assert list(double.gateway().settlements(now() - timedelta(days=1), now() + timedelta(days=1))) == []


def test_settlements_are_asked_for_by_days(double: FlutterwaveDouble) -> None:
    list(double.gateway().settlements(datetime(2026, 3, 20, 12, tzinfo=UTC), datetime(2026, 3, 21, tzinfo=UTC)))
    query = parse_qs(urlsplit(double.traffic.asked[-1].path).query)
    assert (query["from"], query["to"]) == (["2026-03-06"], ["2026-03-22"])


def test_its_webhooks_are_taken_for_what_they_are(double: FlutterwaveDouble, reference: str) -> None:
    """By whoever checks them before the adapter sees them."""
    made(double, reference)
    double.pay(reference)
    webhooks = double.take()
    assert webhooks
    for webhook in webhooks:
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        assert schemes()["flutterwave"].check(webhook.body, headers, [b"old", double.webhook_secret], now()).secret == 1
        with pytest.raises(ForgedError):
            schemes()["flutterwave"].check(webhook.body, headers, [b"another"], now())
