"""Stripe alone: what its SDK sends, its currencies, its limits of time, its words."""

import json
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import parse_qs
from uuid import uuid4

import pytest

from core import clock
from core.errors import PermanentError, TransientError
from local.http_server import Answer, Asked
from providers.fiat import stripe_wire
from providers.fiat.base import LineKind, Method, OrderState, RefundRequest, RefundState, Standing
from tests.support import faulty
from tests.support.faulty import Forward
from tests.support.gateways.base import PAYER_EMAIL, told
from tests.support.gateways.stripe import KEY, MONTHLY_FEE, StripeDouble


@pytest.fixture
def stripe() -> Iterator[StripeDouble]:
    with StripeDouble() as double:
        yield double


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def sent(stripe: StripeDouble) -> Asked:
    return next(asked for asked in reversed(stripe.traffic.asked) if asked.method == "POST")


def form(asked: Asked) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_our_reference_is_the_key_of_orders_and_refunds(stripe: StripeDouble, reference: str) -> None:
    """The SDK makes up a key where it is given none."""
    gateway = stripe.gateway()
    order = gateway.create(stripe.order(reference)).order
    assert order is not None
    assert sent(stripe).headers["Idempotency-Key"] == reference
    stripe.pay(reference)
    refund = RefundRequest(
        reference=str(uuid4()), order_reference=reference, provider_ref=order.provider_ref,
        currency=stripe.currency, units=500, reason="asked for it",
    )  # fmt: skip
    gateway.refund(refund)
    assert sent(stripe).headers["Idempotency-Key"] == refund.reference


def test_a_session_is_asked_for_as_documented(stripe: StripeDouble, reference: str) -> None:
    """docs.stripe.com/api/checkout/sessions/create"""
    request = stripe.order(reference, method=Method.CARD)
    stripe.gateway().create(request)
    assert form(sent(stripe)) == {
        "mode": "payment",
        "client_reference_id": reference,
        "metadata[reference]": reference,
        "payment_intent_data[metadata][reference]": reference,
        "line_items[0][price_data][currency]": "usd",
        "line_items[0][price_data][unit_amount]": "12500",
        "line_items[0][price_data][product_data][name]": "Top-up",
        "line_items[0][quantity]": "1",
        "success_url": request.return_url,
        "expires_at": str(int(request.expires_at.timestamp())),
        "adaptive_pricing[enabled]": "false",
        "customer_email": PAYER_EMAIL,
        "payment_method_types[0]": "card",
    }


def test_nothing_of_this_machine_is_told(stripe: StripeDouble, reference: str) -> None:
    gateway = stripe.gateway()
    for _ in range(2):  # telemetry would go with the second
        gateway.create(stripe.order(str(uuid4())))
        headers = {name.lower(): value for name, value in sent(stripe).headers.items()}
        assert headers["authorization"] == f"Bearer {KEY}"
        assert headers["user-agent"] == "tallyrail"
        assert not [name for name in headers if name.startswith("x-stripe")]
        assert socket.gethostname() not in str(headers)


def test_a_session_without_a_way_back_is_not_asked_for(stripe: StripeDouble, reference: str) -> None:
    made = stripe.gateway().create(stripe.order(reference, return_url=None))
    assert (made.standing, stripe.traffic.asked) == (Standing.REJECTED, [])


@pytest.mark.parametrize(
    ("lives", "least", "most"),
    [(timedelta(minutes=1), 30, 32), (timedelta(hours=3), 179, 181), (timedelta(days=9), 24 * 60 - 2, 24 * 60)],
)
def test_a_session_lives_as_long_as_stripe_allows(
    stripe: StripeDouble, lives: timedelta, least: int, most: int, reference: str
) -> None:
    """30 minutes to 24 hours; the double refuses what is outside, as Stripe does."""
    made = stripe.gateway().create(stripe.order(reference, expires_at=clock.now() + lives))
    assert made.standing is Standing.ACCEPTED
    assert least <= (int(form(sent(stripe))["expires_at"]) - time.time()) / 60 <= most


# --- what is not ours -------------------------------------------------------------------------------------------------


def event(kind: str, **row: object) -> bytes:
    return json.dumps({"id": "evt_1", "type": kind, "data": {"object": row}}).encode()


@pytest.mark.parametrize(
    "body",
    [
        event("checkout.session.completed", object="checkout.session", id="cs_1", client_reference_id=None),
        event("charge.refunded", object="charge", id="ch_1", metadata={}),
        event("charge.dispute.created", object="dispute", id="du_1", payment_intent="pi_of_somebody"),
        event("charge.dispute.created", object="dispute", id="du_1", payment_intent=None),
        event("payout.paid", object="payout", id="po_1"),
        event("invoice.paid", object="invoice", id="in_1", metadata={"reference": "theirs"}),
    ],
)
def test_what_others_of_the_account_do_is_about_nothing_of_ours(stripe: StripeDouble, body: bytes) -> None:
    assert list(stripe.gateway().notices(body, {})) == []


def test_whose_a_dispute_is_can_be_asked_again(stripe: StripeDouble, reference: str) -> None:
    gateway = stripe.gateway()
    gateway.create(stripe.order(reference))
    stripe.pay(reference)
    stripe.take()
    stripe.dispute(reference)
    (webhook,) = stripe.take()
    stripe.upset(faulty.saying(503), when=lambda _: True)
    with pytest.raises(TransientError):
        gateway.notices(webhook.body, webhook.headers)
    assert [notice.reference for notice in gateway.notices(webhook.body, webhook.headers)] == [reference]


def test_payments_of_others_are_lines_of_the_settlement_too(stripe: StripeDouble, reference: str) -> None:
    gateway = stripe.gateway()
    gateway.create(stripe.order(reference))
    stripe.pay(reference)
    stripe._charge({"id": "pi_of_somebody", "amount": 900, "currency": "usd", "metadata": {}})
    stripe.settle()
    lines = list(gateway.settlements(clock.now() - timedelta(days=1), clock.now() + timedelta(days=1)))
    assert sorted((line.kind, line.reference or "", line.units) for line in lines) == [
        (LineKind.FEE, "", -MONTHLY_FEE), (LineKind.PAYMENT, "", 900), (LineKind.PAYMENT, reference, stripe.units),
    ]  # fmt: skip


# --- currencies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("currency", "units", "amount"),
    [
        ("iso4217:USD", 1_000, 1_000),  # "to charge 10 USD, provide an amount value of 1000"
        ("iso4217:JPY", 500, 500),  # "to charge ¥500, provide an amount value of 500"
        ("iso4217:KWD", 5_120, 5_120),  # "5.124 KWD must be rounded to 5120 or 5130"
    ],
)
def test_amounts_are_counted_as_stripe_counts(currency: str, units: int, amount: int) -> None:
    """docs.stripe.com/currencies"""
    assert stripe_wire.to_stripe(units, currency) == amount
    assert stripe_wire.to_units(amount, currency) == units


@pytest.mark.parametrize(
    ("amount", "have", "want", "expected"), [(5, 0, 2, 500), (500, 2, 0, 5), (5_120, 3, 3, 5_120), (-700, 2, 0, -7)]
)
def test_other_scales_than_ours(amount: int, have: int, want: int, expected: int) -> None:
    """ISK and UGX have no decimals and are counted with two: "to charge 5 ISK, provide an amount value of 500"."""
    assert stripe_wire._scaled(amount, have, want) == expected


def test_stripe_counts_ugx_and_isk_with_two_decimals() -> None:
    assert [stripe_wire._decimals(f"iso4217:{code}") for code in ("UGX", "ISK", "JPY", "KWD", "EUR")] == [2, 2, 0, 3, 2]


def test_what_stripe_can_not_take_is_not_asked_for(stripe: StripeDouble, reference: str) -> None:
    made = stripe.gateway().create(stripe.order(reference, currency="iso4217:KWD", units=5_124))
    assert made.standing is Standing.REJECTED
    assert "steps of 10" in str(made.why)
    assert stripe.gateway().create(stripe.order(reference, currency="iso4217:XXX")).standing is Standing.REJECTED
    assert stripe.traffic.asked == []
    with pytest.raises(PermanentError, match="no whole number"):
        stripe_wire._scaled(501, 2, 0)


# --- its words --------------------------------------------------------------------------------------------------------


def test_a_key_that_was_used_for_another_order_proves_that_there_is_one(stripe: StripeDouble, reference: str) -> None:
    """Were it a refusal, the payer would be sent to another gateway, and could pay at both."""
    gateway = stripe.gateway()
    gateway.create(stripe.order(reference))
    made = gateway.create(stripe.order(reference, units=777))
    assert (made.standing, made.order) == (Standing.UNKNOWN, None)
    found = gateway.find(reference=reference, provider_ref=None, made_at=clock.now())
    assert found is not None
    assert found.units == stripe.units


def test_the_old_spelling_of_a_pause(stripe: StripeDouble, reference: str) -> None:
    def limits(_asked: Asked, _forward: Forward) -> Answer:
        return told({"error": {"type": "invalid_request_error", "code": "rate_limit", "message": "Too many"}}, 400)

    stripe.upset(limits)
    assert stripe.gateway().create(stripe.order(reference)).standing is Standing.NOT_SENT


def test_a_session_of_another_reference_is_not_taken_for_ours(stripe: StripeDouble, reference: str) -> None:
    gateway = stripe.gateway()
    order = gateway.create(stripe.order(reference)).order
    assert order is not None
    with pytest.raises(PermanentError, match="another reference"):
        gateway.find(reference=str(uuid4()), provider_ref=order.provider_ref, made_at=clock.now())


def test_a_session_is_looked_for_around_the_time_it_was_made(stripe: StripeDouble, reference: str) -> None:
    gateway = stripe.gateway()
    gateway.create(stripe.order(reference))

    def found(made_at: timedelta) -> bool:
        return gateway.find(reference=reference, provider_ref=None, made_at=clock.now() + made_at) is not None

    assert [found(timedelta(minutes=each)) for each in (-24 * 60, 0, 59)] == [True, True, True]
    assert [found(timedelta(hours=each)) for each in (-48, 2)] == [False, False]


@pytest.mark.parametrize(
    ("status", "taken"),
    [
        ("warning_needs_response", (700, 0)), ("warning_under_review", (700, 0)), ("warning_closed", (0, 0)),
        ("needs_response", (700, 0)), ("under_review", (700, 0)), ("won", (0, 0)), ("lost", (0, 700)),
        ("appeal_needs_response", (700, 0)), ("prevented", (0, 0)), ("pondering", (700, 0)),
    ],
)  # fmt: skip
def test_each_status_of_a_dispute(status: str, taken: tuple[int, int]) -> None:
    """Those of the SDK's `Dispute.status`, and one that nobody has seen."""
    assert stripe_wire._disputed([{"amount": 700, "currency": "usd", "status": status}]) == taken


@pytest.mark.parametrize(
    ("status", "state"),
    [("pending", RefundState.PENDING), ("requires_action", RefundState.PENDING), ("succeeded", RefundState.DONE),
     ("failed", RefundState.FAILED), ("canceled", RefundState.FAILED), ("pondering", RefundState.PENDING)],
)  # fmt: skip
def test_each_status_of_a_refund(status: str, state: RefundState) -> None:
    row = {"id": "re_1", "amount": 5, "currency": "usd", "status": status}
    assert stripe_wire.refund_of(row, "r").state is state


@pytest.mark.parametrize(
    ("status", "intent", "state"),
    [("open", None, OrderState.OPEN), ("expired", None, OrderState.EXPIRED),
     ("complete", "processing", OrderState.OPEN), ("complete", "requires_payment_method", OrderState.FAILED),
     ("complete", "canceled", OrderState.FAILED), ("open", "requires_payment_method", OrderState.OPEN),
     ("pondering", "pondered", OrderState.OPEN)],
)  # fmt: skip
def test_each_status_of_a_session(status: str, intent: str | None, state: OrderState) -> None:
    session = {"id": "cs_1", "amount_total": 5, "currency": "usd", "status": status, "client_reference_id": "r"}
    if intent is not None:
        session["payment_intent"] = {"id": "pi_1", "amount_received": 0, "currency": "usd", "status": intent}
    assert stripe_wire.order_of(session).state is state


def test_a_fee_in_another_currency_is_not_told_as_one_in_ours() -> None:
    """Of a charge in euros of an account that settles in dollars."""
    charge = {"balance_transaction": {"currency": "usd", "fee": 66}}
    intent = {"id": "pi_1", "amount_received": 5, "currency": "eur", "status": "succeeded", "latest_charge": charge}
    session = {"id": "cs_1", "amount_total": 5, "currency": "eur", "client_reference_id": "r", "payment_intent": intent}
    assert stripe_wire.order_of(session).fee_units is None
    charge["balance_transaction"]["currency"] = "eur"
    assert stripe_wire.order_of(session).fee_units == 66
