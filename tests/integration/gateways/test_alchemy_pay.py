"""Alchemy Pay beyond what is asked of every gateway: signatures, statuses, what of an answer is a refusal."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from core.errors import PermanentError, TransientError
from core.http import CredentialsRefusedError
from local.http_server import Answer, Asked
from providers.fiat import alchemy_pay, credentials
from providers.fiat.base import Order, OrderState, Standing
from providers.fiat.decimals import UnreadableError
from providers.webhooks.base import ForgedError
from providers.webhooks.registry import schemes
from tests.support import faulty
from tests.support.faulty import Fault, Forward
from tests.support.gateways.alchemy_pay import ADDRESS, AlchemyPayDouble
from tests.support.gateways.base import PAYER_EMAIL, then_says, told


@pytest.fixture
def double() -> Iterator[AlchemyPayDouble]:
    with AlchemyPayDouble() as double:
        yield double


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def now() -> datetime:
    return datetime.now(UTC)


def made(double: AlchemyPayDouble, reference: str) -> Order:
    order = double.gateway().create(double.order(reference)).order
    assert order is not None
    return order


def find(double: AlchemyPayDouble, reference: str) -> Order:
    order = double.gateway().find(reference=reference, provider_ref=None, made_at=now())
    assert order is not None
    return order


def bodies(double: AlchemyPayDouble, path: str) -> list[dict[str, Any]]:
    return [json.loads(each.body) for each in double.traffic.asked if each.path.endswith(path)]


def then_refuses(code: str, words: str) -> Fault:
    """Does what it is asked, and says this."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        forward(asked)
        return told({"success": False, "returnCode": code, "returnMsg": words, "data": None})

    return fault


def refuses(code: str, words: str) -> Fault:
    return lambda _asked, _forward: told({"success": False, "returnCode": code, "returnMsg": words, "data": None})


def test_what_is_signed_is_what_their_page_shows() -> None:
    """The members of https://alchemypay.readme.io/docs/api-sign, sorted, without the one that is empty."""
    members = {
        "side": "BUY",
        "network": "TRX",
        "amount": "100",
        "depositType": 2,
        "alpha2": "US",
        "redirectUrl": "",
        "callbackUrl": "http://shop.example/callback?tradeNo=DZ02207091800356304",
    }
    assert alchemy_pay.canonical(members) == (
        '{"alpha2":"US","amount":"100","callbackUrl":"http://shop.example/callback?tradeNo=DZ02207091800356304",'
        '"depositType":2,"network":"TRX","side":"BUY"}'
    )
    # RFC 4231, case 2, in base64: key "Jefe", text "what do ya want for nothing?".
    parts = ("what do ya ", "want", " for", " nothing?")
    assert alchemy_pay.sign(b"Jefe", *parts) == "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="


def test_a_request_signed_with_another_secret_is_a_person_s(
    double: AlchemyPayDouble, reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(credentials, "_listeners", [told.append])
    gateway = double.gateway()
    right, gateway._secret = gateway._secret, b"another"
    assert gateway.create(double.order(reference)).standing is Standing.NOT_SENT
    with pytest.raises(CredentialsRefusedError, match="sign is wrong"):
        gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert told == ["alchemy_pay", "alchemy_pay"] and not double.orders
    gateway._secret = right
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None
    assert gateway.create(double.order(reference)).standing is Standing.ACCEPTED


def test_what_is_bought_goes_to_our_address(double: AlchemyPayDouble, reference: str) -> None:
    made(double, reference)
    [body] = bodies(double, "/trade/create")
    assert (body["address"], body["cryptoCurrency"], body["network"]) == (ADDRESS, "USDT", "TRX")
    assert (body["amount"], body["fiatCurrency"], body["merchantOrderNo"]) == ("125.00", "USD", reference)
    assert urlsplit(body["callbackUrl"]).path == "/v1/webhooks/alchemy_pay"


def test_what_went_to_another_address_is_not_paid_to_us(double: AlchemyPayDouble, reference: str) -> None:
    made(double, reference)
    double.pay(reference)
    double.orders[reference]["address"] = "TAnother"
    with pytest.raises(UnreadableError, match="address"):
        find(double, reference)


def test_a_payer_without_a_mail_address_is_a_number(double: AlchemyPayDouble, reference: str) -> None:
    gateway = double.gateway()
    gateway.create(double.order(reference))
    other = str(uuid4())
    gateway.create(double.order(other, email=None))
    assert bodies(double, "/getToken") == [{"email": PAYER_EMAIL}, {"uid": other}]


def test_having_the_payer_s_money_is_not_having_sent_ours(double: AlchemyPayDouble, reference: str) -> None:
    made(double, reference)
    double.take()
    double.take_money(reference)
    [webhook] = double.take()
    [notice] = double.gateway().notices(webhook.body, webhook.headers)
    assert (notice.kind, notice.order) == ("PAY_SUCCESS", None)
    assert (find(double, reference).state, find(double, reference).paid_units) == (OrderState.OPEN, 0)
    double.deliver(reference)
    assert (find(double, reference).state, find(double, reference).paid_units) == (OrderState.PAID, double.units)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("PENDING", OrderState.OPEN),
        ("INTERIM_PAY_FAIL", OrderState.OPEN),
        ("PAY_SUCCESS", OrderState.OPEN),
        ("TRANSFER", OrderState.OPEN),
        ("RISK_CONTROL", OrderState.OPEN),
        ("INVALID_ADDRESS", OrderState.OPEN),
        ("PAY_FAIL", OrderState.FAILED),
        ("REFUNDED", OrderState.FAILED),
        ("CANCEL", OrderState.EXPIRED),
        ("FINISHED", OrderState.PAID),
    ],
)
def test_each_status_of_their_list(double: AlchemyPayDouble, status: str, state: OrderState, reference: str) -> None:
    made(double, reference)
    double.orders[reference]["status"] = status
    order = find(double, reference)
    assert (order.state, order.paid_units) == (state, double.units if state is OrderState.PAID else 0)


@pytest.mark.parametrize(
    ("fee", "unit", "units"),
    [("5.18000000", "USD", 518), ("0.99850000", "USD", None), ("5.18", "EUR", None), ("", "USD", None)],
)
def test_a_fee_is_told_where_it_is_exact(
    double: AlchemyPayDouble, fee: str, unit: str, units: int | None, reference: str
) -> None:
    made(double, reference)
    double.pay(reference)
    double.orders[reference] |= {"rampFee": fee, "rampFeeUnit": unit}
    assert find(double, reference).fee_units == units


def test_an_order_number_that_is_taken_is_our_own_order(double: AlchemyPayDouble, reference: str) -> None:
    """The first answer was lost, and the look-up doesn't show it yet: the refusal is looked into."""
    double.upset(then_says(500))
    assert double.gateway().create(double.order(reference)).standing is Standing.UNKNOWN
    double.hidden = 1
    again = double.gateway().create(double.order(reference))
    assert (again.standing, len(double.orders)) == (Standing.ACCEPTED, 1)


def test_a_refusal_that_can_not_be_looked_into_is_unknown(double: AlchemyPayDouble, reference: str) -> None:
    double.upset(then_refuses("3109", "merchantOrderNo cannot be repeated"))
    queries = iter([False, True])
    double.upset(faulty.saying(503), when=lambda asked: "query/trade" in asked.path and next(queries))
    assert double.gateway().create(double.order(reference)).standing is Standing.UNKNOWN


def test_their_own_failure_proves_nothing(double: AlchemyPayDouble, reference: str) -> None:
    double.upset(then_refuses("9999", "System error"))
    assert double.gateway().create(double.order(reference)).standing is Standing.UNKNOWN
    assert find(double, reference).state is OrderState.OPEN
    double.upset(refuses("9999", "System error"), when=lambda asked: "query/trade" in asked.path)
    with pytest.raises(TransientError):
        find(double, reference)


def test_a_question_that_is_refused_says_nothing_of_the_order(double: AlchemyPayDouble, reference: str) -> None:
    made(double, reference)
    for code, words, kind in (
        ("3001", "IP is not on the list", CredentialsRefusedError),
        ("3100", "Parameter validation error", PermanentError),
    ):
        double.upset(refuses(code, words), when=lambda asked: "query/trade" in asked.path)
        with pytest.raises(kind, match=code):
            find(double, reference)


def test_without_a_token_no_order_is_asked_for(double: AlchemyPayDouble, reference: str) -> None:
    gateway = double.gateway()
    for fault, standing in (
        (faulty.saying(500), Standing.NOT_SENT),
        (refuses("9999", "System error"), Standing.NOT_SENT),
        (refuses("3108", "Must send one of the parameters"), Standing.REJECTED),
    ):
        double.upset(fault, when=lambda asked: asked.path.endswith("getToken"))
        assert gateway.create(double.order(reference)).standing is standing
    assert not double.orders


def test_an_order_of_another_number_is_refused(double: AlchemyPayDouble, reference: str) -> None:
    made(double, reference)
    double.orders[reference]["merchantOrderNo"] = "another"
    with pytest.raises(UnreadableError):
        find(double, reference)


def test_a_webhook_for_another_application_is_not_ours(double: AlchemyPayDouble, reference: str) -> None:
    made(double, reference)
    double.pay(reference)
    webhook = double.take()[-1]
    body = json.dumps({**json.loads(webhook.body), "appId": "another"}).encode()
    assert list(double.gateway().notices(body, webhook.headers)) == []


def test_its_webhooks_are_taken_for_what_they_are(double: AlchemyPayDouble, reference: str) -> None:
    """By whoever checks them before the adapter sees them."""
    made(double, reference)
    double.pay(reference)
    webhooks = double.take()
    assert webhooks
    for webhook in webhooks:
        headers = {name.lower(): value for name, value in webhook.headers.items()}
        headers |= {":path": "/v1/webhooks/alchemy_pay"}
        assert schemes()["alchemy_pay"].check(webhook.body, headers, [b"old", double.webhook_secret], now()).secret == 1
        with pytest.raises(ForgedError):
            schemes()["alchemy_pay"].check(webhook.body, headers, [b"another"], now())
        with pytest.raises(ForgedError):
            schemes()["alchemy_pay"].check(
                webhook.body.replace(b"125.0", b"925.0"), headers, [double.webhook_secret], now()
            )
