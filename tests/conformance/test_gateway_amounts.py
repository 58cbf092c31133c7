"""No amount below zero gets in, whatever a gateway writes: each in its answers and webhooks is negated in turn.

Only the database would refuse it otherwise, as a fault of ours, and the job would be tried again and again.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

from core.errors import PermanentError
from local.http_server import Answer, Asked
from providers.fiat.base import Gateway, Order, Standing
from tests.conformance.gateway_lab import now, paid, refund_of
from tests.support.faulty import Fault, Forward
from tests.support.gateways.base import Double, Webhook

NAME = re.compile("amount|fee", re.IGNORECASE)
ABOVE_ZERO = re.compile(r"[0-9.]*[1-9][0-9.]*")


def rows(content: Any) -> Iterator[dict[str, Any]]:
    """Each object in it."""
    if isinstance(content, dict):
        yield content
    for each in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from rows(each)


def negated(body: bytes, wanted: str | None, seen: set[str]) -> bytes:
    """The same with the amounts of that name below zero. `seen`: the names of all that are above it."""
    content = json.loads(body, parse_float=str)
    for row in rows(content):
        for name, value in row.items():
            if NAME.search(name) and type(value) in (int, str) and ABOVE_ZERO.fullmatch(str(value)):
                seen.add(name)
                if name == wanted:
                    row[name] = f"-{value}" if isinstance(value, str) else -value
    return json.dumps(content).encode()


def lying(wanted: str | None, seen: set[str]) -> Fault:
    def fault(asked: Asked, forward: Forward) -> Answer:
        answer = forward(asked)
        return Answer(answer.status, negated(answer.body, wanted, seen), answer.headers)

    return fault


def paid_and_more(double: Double, gateway: Gateway, reference: str) -> Order:
    """Paid, given back in part and disputed, as far as the gateway has such."""
    order = paid(double, gateway, reference)
    if gateway.abilities.refunds:
        request = refund_of(double, order, units=2_000 if double.partial_refunds else None)
        assert gateway.refund(request).standing is Standing.ACCEPTED
        double.finish_refunds()
    if double.charges_back:
        double.dispute(reference)
    return order


def checked(order: Order | None) -> None:
    assert order is not None
    went_back = (order.refunded_units, order.disputed_units, order.charged_back_units)
    assert min(order.units, order.paid_units, order.fee_units or 0, *went_back) >= 0, order


def told_in(gateway: Gateway, webhook: Webhook, body: bytes) -> list[Order | None]:
    try:
        return [notice.order for notice in gateway.notices(body, webhook.headers)]
    except PermanentError:
        return []


def test_no_amount_below_zero_gets_in(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid_and_more(double, gateway, reference)
    seen: set[str] = set()
    double.upset(lying(None, seen), times=1000, when=lambda _: True)
    checked(gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now()))
    refused = []
    for name in sorted(seen):
        double.calm()
        double.upset(lying(name, seen), times=1000, when=lambda _: True)
        try:
            checked(gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now()))
        except PermanentError as error:
            refused.append((name, str(error)))
    assert refused, "its amounts are read under other names"
    for name, why in refused:
        assert name.lower() in why.replace("_", "") or name in why, (name, why)


def test_no_webhook_brings_one(double: Double, gateway: Gateway, reference: str) -> None:
    paid_and_more(double, gateway, reference)
    seen: set[str] = set()
    webhooks = double.take()
    assert webhooks
    orders = [each for one in webhooks for each in told_in(gateway, one, negated(one.body, None, seen))]
    for name in sorted(seen):
        for webhook in webhooks:
            for each in told_in(gateway, webhook, negated(webhook.body, name, set())):
                if each is not None:
                    checked(each)
    assert any(orders) == (double.name in {"alchemy_pay", "razorpay", "unlimit"}), "who tells orders in webhooks"
