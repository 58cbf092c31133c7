"""Unlimit beyond what is asked of every gateway: tokens, windows of look-ups, statuses, odd answers."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import pytest

from core.errors import PermanentError, TransientError
from core.http import CredentialsRefusedError
from providers.fiat import credentials
from providers.fiat.base import Order, OrderState, RefundRequest, RefundState, Standing
from providers.fiat.decimals import UnreadableError
from providers.webhooks.base import ForgedError
from providers.webhooks.registry import schemes
from tests.support import faulty
from tests.support import webhook_fixtures as fixtures
from tests.support.gateways.base import then_says
from tests.support.gateways.decimal_double import written
from tests.support.gateways.unlimit import UnlimitDouble

SEVEN_DAYS = timedelta(days=7)


@pytest.fixture
def double() -> Iterator[UnlimitDouble]:
    with UnlimitDouble() as double:
        yield double


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def now() -> datetime:
    return datetime.now(UTC)


def made(double: UnlimitDouble, reference: str) -> Order:
    order = double.gateway().create(double.order(reference)).order
    assert order is not None
    return order


def find(double: UnlimitDouble, reference: str, made_at: datetime | None = None) -> Order:
    order = double.gateway().find(reference=reference, provider_ref=None, made_at=made_at or now())
    assert order is not None
    return order


def refund_of(order: Order, units: int) -> RefundRequest:
    return RefundRequest(
        reference=str(uuid4()),
        order_reference=order.reference,
        provider_ref=order.provider_ref,
        currency=order.currency,
        units=units,
        reason="asked for it",
    )


def data_of(double: UnlimitDouble, reference: str) -> dict[str, Any]:
    [payment] = [each for each in double.payments.values() if each["merchant_order"]["id"] == reference]
    data: dict[str, Any] = payment["payment_data"]
    return data


def windows(double: UnlimitDouble, path: str) -> list[tuple[datetime, datetime]]:
    asked = [urlsplit(each.path) for each in double.traffic.asked]
    queries = [dict(parse_qsl(each.query)) for each in asked if each.path == path and each.query]
    return [(datetime.fromisoformat(each["start_time"]), datetime.fromisoformat(each["end_time"])) for each in queries]


def test_an_amount_goes_out_as_a_number_with_its_places(double: UnlimitDouble, reference: str) -> None:
    double.gateway().create(double.order(reference, units=9_007_199_254_740_993))
    body = next(each.body for each in double.traffic.asked if each.method == "POST" and each.path == "/api/payments")
    assert b'"amount":90071992547409.93,"currency":"USD"' in body
    assert find(double, reference).units == 9_007_199_254_740_993


@pytest.mark.parametrize("amount", ["12.345", "many", None, [], "-5"])
def test_an_amount_that_is_none_is_an_answer_that_can_not_be_read(
    double: UnlimitDouble, amount: object, reference: str
) -> None:
    made(double, reference)
    double.pay(reference)
    data_of(double, reference)["amount"] = amount
    with pytest.raises(UnreadableError):
        find(double, reference)
    assert double.gateway().create(double.order(reference)).standing is Standing.UNKNOWN, "something is there"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("NEW", OrderState.OPEN),
        ("IN_PROGRESS", OrderState.OPEN),
        ("WAITING", OrderState.OPEN),
        ("AUTHORIZED", OrderState.OPEN),
        ("UNPAID", OrderState.OPEN),
        ("DECLINED", OrderState.FAILED),
        ("CANCELLED", OrderState.FAILED),
        ("VOIDED", OrderState.FAILED),
        ("TERMINATED", OrderState.EXPIRED),
        ("COMPLETED", OrderState.PAID),
        ("CHARGEBACK_RESOLVED", OrderState.PAID),
        ("REFUNDED", OrderState.PAID),
    ],
)
def test_each_status_of_the_sdk(double: UnlimitDouble, status: str, state: OrderState, reference: str) -> None:
    made(double, reference)
    data_of(double, reference)["status"] = status
    order = find(double, reference)
    assert order.state is state
    assert order.paid_units == (double.units if state is OrderState.PAID else 0)
    assert order.refunded_units == (double.units if status == "REFUNDED" else 0)


def test_an_old_order_is_looked_for_in_windows_of_less_than_a_week(double: UnlimitDouble, reference: str) -> None:
    """Those of the fourteen days after it was made, one beside the other."""
    made(double, reference)
    made_at = now() - timedelta(days=40)
    data_of(double, reference)["created"] = (made_at + timedelta(days=9)).strftime("%Y-%m-%dT%H:%M:%SZ")
    double.traffic.asked.clear()
    assert find(double, reference, made_at).state is OrderState.OPEN
    asked = windows(double, "/api/payments")
    assert all(timedelta(0) < ends - begins < SEVEN_DAYS for begins, ends in asked)
    assert all(ends == begins for (_, ends), (begins, _) in pairwise(asked))
    assert asked[0][0] <= made_at - timedelta(minutes=59)
    assert asked[-1][1] >= made_at + timedelta(days=14)
    assert len(asked) == 3


def test_an_order_beyond_all_windows_is_found_by_their_number(double: UnlimitDouble, reference: str) -> None:
    order = made(double, reference)
    made_at = now() - timedelta(days=40)
    gateway = double.gateway()
    assert gateway.find(reference=reference, provider_ref=None, made_at=made_at) is None
    found = gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=made_at)
    assert found is not None
    assert found.provider_ref == order.provider_ref
    assert gateway.find(reference=str(uuid4()), provider_ref=order.provider_ref, made_at=now()) is None


def test_refunds_are_counted_however_late_they_come(double: UnlimitDouble, reference: str) -> None:
    order = made(double, reference)
    double.pay(reference)
    created = now() - timedelta(days=30)
    data_of(double, reference)["created"] = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    gateway = double.gateway()
    assert gateway.refund(refund_of(order, 1_000)).standing is Standing.ACCEPTED
    double.finish_refunds()
    double.traffic.asked.clear()
    assert find(double, reference, created).refunded_units == 1_000
    asked = windows(double, "/api/refunds")
    assert all(ends - begins < SEVEN_DAYS for begins, ends in asked)
    assert asked[-1][1] > now()


def test_what_is_asked_again_within_half_an_hour_is_not_refused_but_unknown(
    double: UnlimitDouble, reference: str
) -> None:
    """The first try got there, and the look-up doesn't show it yet."""
    double.upset(then_says(500))
    gateway = double.gateway()
    assert gateway.create(double.order(reference)).standing is Standing.UNKNOWN
    double.hidden = 1
    again = gateway.create(double.order(reference))
    assert again.standing is Standing.UNKNOWN
    assert "unique" in str(again.why)
    assert len(double.payments) == 1
    assert gateway.create(double.order(reference)).standing is Standing.ACCEPTED


def test_the_same_refund_asked_again_is_one(double: UnlimitDouble, reference: str) -> None:
    order = made(double, reference)
    double.pay(reference)
    request = refund_of(order, 500)
    double.upset(then_says(503))
    gateway = double.gateway()
    assert gateway.refund(request).standing is Standing.UNKNOWN
    again = gateway.refund(request)
    assert again.refund is not None
    assert (again.refund.state, len(double.refunds)) == (RefundState.PENDING, 1)


def test_a_token_is_used_until_they_forget_it(double: UnlimitDouble, reference: str) -> None:
    gateway = double.gateway()
    gateway.create(double.order(reference))
    gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert tokens(double) == 1
    double.forget_tokens()
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is not None
    assert tokens(double) == 2
    double.forget_tokens()
    second = str(uuid4())
    assert gateway.create(double.order(second)).standing is Standing.ACCEPTED
    assert len([each for each in double.payments.values() if each["merchant_order"]["id"] == second]) == 1


def test_a_token_is_not_used_in_its_last_seconds(double: UnlimitDouble, reference: str) -> None:
    double.token_s = 9
    gateway = double.gateway()
    gateway.create(double.order(reference))
    assert tokens(double) == 2, "one for the look-up, one for the order"


def tokens(double: UnlimitDouble) -> int:
    return sum(each.path == "/api/auth/token" for each in double.traffic.asked)


def test_without_a_token_nothing_is_asked(double: UnlimitDouble, reference: str) -> None:
    double.upset(faulty.saying(500), times=100, when=lambda asked: asked.path == "/api/auth/token")
    gateway = double.gateway()
    assert gateway.create(double.order(reference)).standing is Standing.NOT_SENT
    with pytest.raises(TransientError):
        gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert {each.path for each in double.traffic.asked} == {"/api/auth/token"}


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_password_that_is_not_taken_is_a_person_s(
    double: UnlimitDouble, status: int, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked but for a token: so nothing was done, and all of it may be asked once the password is right."""
    told: list[str] = []
    monkeypatch.setattr(credentials, "_listeners", [told.append])
    double.upset(faulty.saying(status), times=2, when=lambda asked: asked.path == "/api/auth/token")
    gateway = double.gateway()
    with pytest.raises(CredentialsRefusedError):
        gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert gateway.create(double.order(reference)).standing is Standing.NOT_SENT
    assert told == ["unlimit", "unlimit"]
    assert gateway.create(double.order(reference)).standing is Standing.ACCEPTED
    double.forget_tokens()
    assert gateway.create(double.order(str(uuid4()))).standing is Standing.ACCEPTED
    assert told == ["unlimit", "unlimit"], "one that is renewed is nobody's"


def test_more_given_back_than_was_paid_is_for_a_person(double: UnlimitDouble, reference: str) -> None:
    order = made(double, reference)
    double.pay(reference)
    double.gateway().refund(refund_of(order, 2_500))
    double.finish_refunds()
    double.dispute(reference)
    data_of(double, reference)["amount"] = "24.99"
    with pytest.raises(UnreadableError, match="more of a payment than was paid"):
        find(double, reference)


def test_callbacks_of_the_official_sdk_are_read(double: UnlimitDouble) -> None:
    gateway = double.gateway()
    [paid] = gateway.notices(fixtures.UNLIMIT_PAYMENT, {})
    assert (paid.reference, paid.provider_ref) == ("67897", "276122317")
    assert paid.order is not None
    assert (paid.order.state, paid.order.currency, paid.order.paid_units) == (OrderState.PAID, "iso4217:USD", 603)
    [back] = gateway.notices(fixtures.UNLIMIT_REFUND, {})
    assert (back.reference, back.provider_ref, back.order) == ("770183:10527453:018", "2612369", None)


def test_a_chargeback_takes_what_was_not_given_back(double: UnlimitDouble, reference: str) -> None:
    order = made(double, reference)
    double.pay(reference)
    double.gateway().refund(refund_of(order, 2_500))
    double.finish_refunds()
    double.dispute(reference)
    disputed = find(double, reference)
    assert (disputed.refunded_units, disputed.disputed_units) == (2_500, double.units - 2_500)
    double.charge_back(reference)
    taken = find(double, reference)
    assert (taken.disputed_units, taken.charged_back_units) == (0, double.units - 2_500)


def test_two_payments_of_one_page_are_added_up(double: UnlimitDouble, reference: str) -> None:
    order = made(double, reference)
    double.pay(reference)
    first = double.payments[order.provider_ref]
    double.payments["9"] = {**first, "payment_data": {**first["payment_data"], "id": "9"}}
    assert find(double, reference).paid_units == 2 * double.units
    double.payments["9"]["payment_data"]["currency"] = "EUR"
    with pytest.raises(UnreadableError):
        find(double, reference)


@pytest.mark.parametrize("data", ["payout_data", "recurring_data"])
def test_callbacks_of_other_things_are_not_ours(double: UnlimitDouble, data: str, reference: str) -> None:
    body = written({"merchant_order": {"id": reference}, data: {"id": "17", "status": "COMPLETED"}})
    assert list(double.gateway().notices(body, double.signed(body))) == []


def test_a_callback_without_an_order_number_is_refused(double: UnlimitDouble) -> None:
    body = written({"payment_data": {"id": "17", "status": "COMPLETED", "amount": 1, "currency": "USD"}})
    with pytest.raises(PermanentError):
        double.gateway().notices(body, double.signed(body))


def test_its_webhooks_are_taken_for_what_they_are(double: UnlimitDouble, reference: str) -> None:
    """By whoever checks them before the adapter sees them."""
    made(double, reference)
    double.pay(reference)
    webhooks = double.take()
    assert webhooks
    for webhook in webhooks:
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        assert schemes()["unlimit"].check(webhook.body, headers, [b"old", double.webhook_secret], now()).secret == 1
        with pytest.raises(ForgedError):
            schemes()["unlimit"].check(webhook.body, headers, [b"another"], now())
        with pytest.raises(ForgedError):
            schemes()["unlimit"].check(
                webhook.body.replace(b"COMPLETED", b"completed"), headers, [double.webhook_secret], now()
            )
