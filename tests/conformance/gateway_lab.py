"""What the suites of gateways share: faults after which nothing is known, and first steps."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from local.http_server import Answer, Asked
from providers.fiat.base import (
    Gateway,
    Made,
    Order,
    RefundRequest,
    Standing,
)
from tests.support import faulty
from tests.support.faulty import Fault, Forward
from tests.support.gateways.base import Double, then_hangs_up, then_says, then_stalls

SHORT = 0.6
"""Seconds that a gateway waits in tests of time."""


def then_garbles(asked: Asked, forward: Forward) -> Answer:
    """Does what it is asked, and a server in between answers 200 with its own page."""
    forward(asked)
    return faulty.html(asked, forward)


UNKNOWN: list[tuple[str, Fault]] = [
    ("500 after accepting", then_says(500)),
    ("503 after accepting", then_says(503)),
    ("408 after accepting", then_says(408)),
    ("409 after accepting", then_says(409)),
    ("hangs up after accepting", then_hangs_up),
    ("answers too late", then_stalls(2 * SHORT)),
    ("garbled after accepting", then_garbles),
    ("breaks off its answer", faulty.dies),
]
unknown = pytest.mark.parametrize("fault", [fault for _, fault in UNKNOWN], ids=[name for name, _ in UNKNOWN])
NOT_DONE: list[tuple[str, Fault]] = [
    ("500 before", faulty.saying(500)),
    ("hangs up before", faulty.hangs_up),
    ("redirects", faulty.saying(302)),
]
not_done = pytest.mark.parametrize("fault", [fault for _, fault in NOT_DONE], ids=[name for name, _ in NOT_DONE])


def accepted(made: Made) -> Order:
    assert made.standing is Standing.ACCEPTED, made
    assert made.order is not None
    return made.order


def created(double: Double, reference: str, gateway: Gateway | None = None) -> Order:
    return accepted((gateway or double.gateway()).create(double.order(reference)))


def paid(double: Double, gateway: Gateway, reference: str) -> Order:
    order = created(double, reference, gateway)
    double.pay(reference)
    return order


def find(gateway: Gateway, order: Order) -> Order:
    found = gateway.find(reference=order.reference, provider_ref=order.provider_ref, made_at=now())
    assert found is not None
    return found


def now() -> datetime:
    return datetime.now(UTC)


def asked_to_move(double: Double) -> int:
    return sum(double.moves(asked) for asked in double.traffic.asked)


def refund_of(double: Double, order: Order, units: int | None = None) -> RefundRequest:
    return RefundRequest(
        reference=str(uuid4()),
        order_reference=order.reference,
        provider_ref=order.provider_ref,
        currency=order.currency,
        units=double.units if units is None else units,
        reason="asked for it",
    )
