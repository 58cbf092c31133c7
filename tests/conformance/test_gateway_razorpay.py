"""Razorpay alone: what is sent, its samples, its limits, and that a reference is taken once."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from core import clock
from core.errors import PermanentError, TransientError
from local.http_server import Answer, Asked
from providers.fiat import razorpay_wire
from providers.fiat.base import LineKind, Method, RefundRequest, Standing
from tests.support import faulty
from tests.support.faulty import Forward
from tests.support.gateways.base import PAYER_EMAIL
from tests.support.gateways.razorpay import RazorpayDouble


@pytest.fixture
def razorpay() -> Iterator[RazorpayDouble]:
    with RazorpayDouble() as double:
        yield double


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def sent(razorpay: RazorpayDouble) -> Asked:
    return next(asked for asked in reversed(razorpay.traffic.asked) if asked.method == "POST")


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_link_is_asked_for_as_documented(razorpay: RazorpayDouble, reference: str) -> None:
    """razorpay.com/docs/api/payments/payment-links/create-upi"""
    request = razorpay.order(reference, method=Method.UPI)
    razorpay.gateway().create(request)
    assert json.loads(sent(razorpay).body) == {
        "amount": 12_500,
        "currency": "INR",
        "accept_partial": False,
        "reference_id": reference,
        "description": "Top-up",
        "expire_by": int(request.expires_at.timestamp()),
        "notes": {"reference": reference},
        "notify": {"sms": False, "email": False},
        "reminder_enable": False,
        "customer": {"email": PAYER_EMAIL},
        "callback_url": request.return_url,
        "callback_method": "get",
        "upi_link": True,
    }


def test_a_refund_has_our_reference_as_its_key_and_receipt(razorpay: RazorpayDouble, reference: str) -> None:
    """razorpay.com/docs/api/refunds/normal-refunds-idempotent"""
    gateway = razorpay.gateway()
    order = gateway.create(razorpay.order(reference)).order
    assert order is not None
    razorpay.pay(reference)
    refund = RefundRequest(
        reference=str(uuid4()), order_reference=reference, provider_ref=order.provider_ref,
        currency=razorpay.currency, units=500, reason="asked for it",
    )  # fmt: skip
    gateway.refund(refund)
    assert sent(razorpay).headers["X-Refund-Idempotency"] == refund.reference
    body = json.loads(sent(razorpay).body)
    assert (body["amount"], body["receipt"], body["speed"]) == (500, refund.reference, "normal")


@pytest.mark.parametrize(
    ("lives", "least", "most"),
    [(timedelta(minutes=1), 15, 17), (timedelta(hours=3), 179, 181), (timedelta(days=900), 179 * 1_440, 180 * 1_440)],
)
def test_a_link_lives_as_long_as_razorpay_allows(
    razorpay: RazorpayDouble, lives: timedelta, least: int, most: int, reference: str
) -> None:
    """15 minutes to six months."""
    made = razorpay.gateway().create(razorpay.order(reference, expires_at=clock.now() + lives))
    assert made.standing is Standing.ACCEPTED
    assert least <= (json.loads(sent(razorpay).body)["expire_by"] - time.time()) / 60 <= most


def test_what_razorpay_can_not_take_is_not_asked_for(razorpay: RazorpayDouble, reference: str) -> None:
    """ "In the case of three decimal currencies, such as KWD, ..., to refund a payment of 295.991, pass 295990"."""
    assert razorpay_wire.to_razorpay(295_990, "iso4217:KWD") == 295_990
    assert razorpay_wire.to_razorpay(295, "iso4217:JPY") == 295
    made = razorpay.gateway().create(razorpay.order(reference, currency="iso4217:KWD", units=295_991))
    assert (made.standing, razorpay.traffic.asked) == (Standing.REJECTED, [])


# --- a reference is taken once ----------------------------------------------------------------------------------------


def test_a_reference_that_is_taken_is_an_order_that_is_there(razorpay: RazorpayDouble, reference: str) -> None:
    """The look-up before saw nothing yet; the request is refused, as the reference is taken; that is our order."""
    gateway = razorpay.gateway()
    first = gateway.create(razorpay.order(reference)).order
    razorpay.hidden = 1
    second = gateway.create(razorpay.order(reference))
    assert second.standing is Standing.ACCEPTED
    assert second.order == first


def test_a_reference_that_is_taken_and_not_shown_is_unknown(razorpay: RazorpayDouble, reference: str) -> None:
    gateway = razorpay.gateway()
    gateway.create(razorpay.order(reference))
    razorpay.hidden = 1
    looks = iter([False, True])
    razorpay.upset(faulty.saying(503), when=lambda asked: asked.method == "GET" and next(looks))
    assert gateway.create(razorpay.order(reference)).standing is Standing.UNKNOWN


def test_nothing_is_sent_while_it_can_not_be_looked_up(razorpay: RazorpayDouble, reference: str) -> None:
    razorpay.upset(faulty.saying(503), when=lambda asked: asked.method == "GET")
    assert razorpay.gateway().create(razorpay.order(reference)).standing is Standing.NOT_SENT
    assert [asked.method for asked in razorpay.traffic.asked] == ["GET"]


def test_an_answer_that_knows_no_such_id_is_none(razorpay: RazorpayDouble, reference: str) -> None:
    """400, "The id provided does not exist"; any other 400 is an error."""
    gateway = razorpay.gateway()
    assert gateway.find(reference=reference, provider_ref="plink_gone", made_at=clock.now()) is None

    def refuses(_asked: Asked, _forward: Forward) -> Answer:
        return Answer(400, b'{"error": {"code": "BAD_REQUEST_ERROR", "description": "Please slow down"}}')

    razorpay.upset(refuses, when=lambda _: True)
    with pytest.raises(PermanentError):
        gateway.find(reference=reference, provider_ref="plink_gone", made_at=clock.now())


def test_a_link_of_another_reference_is_not_taken_for_ours(razorpay: RazorpayDouble, reference: str) -> None:
    gateway = razorpay.gateway()
    order = gateway.create(razorpay.order(reference)).order
    assert order is not None
    with pytest.raises(PermanentError, match="another reference"):
        gateway.find(reference=str(uuid4()), provider_ref=order.provider_ref, made_at=clock.now())


# --- what is not ours -------------------------------------------------------------------------------------------------


def event(kind: str, **entities: dict[str, Any]) -> bytes:
    payload = {name: {"entity": entity} for name, entity in entities.items()}
    return json.dumps({"entity": "event", "event": kind, "payload": payload}).encode()


@pytest.mark.parametrize(
    "body",
    [
        event("payment.captured", payment={"id": "pay_of_somebody", "notes": []}),
        event("payment.dispute.created", dispute={"id": "disp_1", "payment_id": "pay_of_somebody"}),
        event("payment_link.paid", payment_link={"id": "plink_1", "reference_id": "", "amount": 5, "currency": "INR"}),
        event("settlement.processed", settlement={"id": "setl_1"}),
        event("payment.downtime.started", **{"payment.downtime": {"id": "down_1"}}),
    ],
)
def test_what_others_of_the_account_do_is_about_nothing_of_ours(razorpay: RazorpayDouble, body: bytes) -> None:
    assert list(razorpay.gateway().notices(body, {})) == []


def test_whose_a_dispute_is_can_be_asked_again(razorpay: RazorpayDouble, reference: str) -> None:
    gateway = razorpay.gateway()
    gateway.create(razorpay.order(reference))
    razorpay.pay(reference)
    razorpay.take()
    razorpay.dispute(reference)
    (webhook,) = razorpay.take()
    razorpay.upset(faulty.saying(503), when=lambda _: True)
    with pytest.raises(TransientError):
        gateway.notices(webhook.body, webhook.headers)
    assert [notice.reference for notice in gateway.notices(webhook.body, webhook.headers)] == [reference]


def test_a_note_of_ours_on_a_payment_is_believed(razorpay: RazorpayDouble, reference: str) -> None:
    body = event("payment.captured", payment={"id": "pay_1", "notes": {"reference": reference}})
    assert [notice.reference for notice in razorpay.gateway().notices(body, {})] == [reference]
    assert razorpay.traffic.asked == []


# --- its samples ------------------------------------------------------------------------------------------------------

RECON: list[dict[str, Any]] = [
    {"entity_id": "pay_DEXrnipqTmWVGE", "type": "payment", "debit": 0, "credit": 97100, "amount": 100000, "fee": 2900,
     "payment_id": None, "dispute_id": None},
    {"entity_id": "rfnd_DGRcGzZSLyEdg1", "type": "refund", "debit": 242500, "credit": 0, "amount": 242500, "fee": 0,
     "payment_id": "pay_DEXq1pACSqFxtS", "dispute_id": None},
    {"entity_id": "trf_DEUoCEtdsJgvl7", "type": "transfer", "debit": 100296, "credit": 0, "amount": 100000, "fee": 296,
     "payment_id": "pay_DEApNNTR6xmqJy", "dispute_id": None},
    {"entity_id": "adj_EhcHONhX4ChgNC", "type": "adjustment", "debit": 0, "credit": 1012, "amount": 1012, "fee": 0,
     "payment_id": None, "dispute_id": None},
]  # fmt: skip
"""The sample of razorpay/razorpay-python, documents/settlement.md, as far as it is read."""


def test_the_sample_of_a_settlement() -> None:
    rest = {"currency": "INR", "settlement_id": "setl_DGlQ1Rj8os78Ec", "settled_at": 1568176960}
    lines = [razorpay_wire.line_of(row | rest, None, None) for row in RECON]
    assert [(line.kind, line.units, line.fee_units) for line in lines] == [
        (LineKind.PAYMENT, 100_000, 2_900),
        (LineKind.REFUND, -242_500, 0),
        (LineKind.ADJUSTMENT, -100_000, 296),
        (LineKind.ADJUSTMENT, 1_012, 0),
    ]
    assert {line.settled_at for line in lines} == {datetime(2019, 9, 11, 4, 42, 40, tzinfo=UTC)}
    assert [razorpay_wire.payment_of(row) for row in RECON] == [
        "pay_DEXrnipqTmWVGE", "pay_DEXq1pACSqFxtS", "pay_DEApNNTR6xmqJy", None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "taken"),
    [
        ({"amount": 10_000, "amount_deducted": 0, "status": "open"}, (10_000, 0)),  # documents/dispute.md
        ({"amount": 10_000, "amount_deducted": 0, "status": "under_review"}, (10_000, 0)),
        ({"amount": 10_000, "amount_deducted": 10_000, "status": "lost"}, (0, 10_000)),  # documents/dispute.md
        ({"amount": 10_000, "amount_deducted": 0, "status": "won"}, (0, 0)),
        ({"amount": 10_000, "amount_deducted": 0, "status": "closed"}, (0, 0)),
        ({"amount": 10_000, "amount_deducted": 0, "status": "pondering"}, (10_000, 0)),
    ],
)
def test_each_status_of_a_dispute(row: dict[str, Any], taken: tuple[int, int]) -> None:
    assert razorpay_wire._disputed([row]) == taken


def test_attempts_are_no_payments(razorpay: RazorpayDouble, reference: str) -> None:
    """A card is declined, then another pays."""
    gateway = razorpay.gateway()
    order = gateway.create(razorpay.order(reference)).order
    assert order is not None
    razorpay._payment(razorpay._link(reference), order.units, "INR", "failed")
    razorpay._payment(razorpay._link(reference), order.units, "INR", "authorized")
    razorpay.pay(reference)
    found = gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=clock.now())
    assert found is not None
    assert (found.paid_units, found.fee_units) == (order.units, razorpay.fee(order.units))


def test_a_fee_in_the_currency_of_the_account_is_not_told_as_one_of_the_payment() -> None:
    payment = {"captured": True, "amount": 500, "currency": "USD", "base_currency": "INR", "fee": 1_300}
    link = {"id": "plink_1", "reference_id": "r", "amount": 500, "currency": "USD", "status": "paid"}
    assert razorpay_wire.order_of(link, [payment]).fee_units is None
    assert razorpay_wire.order_of(link, [payment | {"base_currency": "USD"}]).fee_units == 1_300
