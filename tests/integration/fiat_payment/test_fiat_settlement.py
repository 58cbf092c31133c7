"""What gateways pay out, held against the payments that it is for."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core import clock
from core.db import transaction
from domain.fiat_payment import queries, service
from ledger import chart
from providers.fiat.base import LineKind, SettlementLine
from tests.integration.fiat_payment.desk import Desk
from tests.integration.fiat_payment.scripted import EUR, USD


def line(payment: object, units: int, fee: int = 0, kind: LineKind = LineKind.PAYMENT, **given: Any) -> SettlementLine:
    fields = {
        "id": f"txn_{kind}_{units}_{payment}",
        "settlement": "po_1",
        "kind": kind,
        "reference": None if payment is None else str(payment),
        "provider_ref": None,
        "currency": EUR,
        "units": units,
        "fee_units": fee,
        "settled_at": clock.now(),
    }
    return SettlementLine(**fields | given)


def settle(desk: Desk) -> int:
    now = clock.now()
    return service.settle(desk.gateway, now - timedelta(days=3), now + timedelta(minutes=1))


def test_lines_that_fit_are_booked_once(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, fee_units=290)
    desk.tell(payment, refunded_units=1_000)
    desk.gateway.lines = [line(payment, 10_000, 290), line(payment, -1_000, kind=LineKind.REFUND)]
    for _ in range(3):
        assert settle(desk) == 0
    assert (desk.balance("custody:bank:EUR"), desk.balance("gateway:acme")) == (8_710, 0)
    assert desk.breaks() == []


def test_a_fee_that_only_the_settlement_tells_is_booked(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    desk.gateway.lines = [line(None, 10_000, 290, provider_ref="acme_1")]
    assert settle(desk) == 0
    assert (desk.balance("custody:bank:EUR"), desk.balance("gateway:acme")) == (9_710, 0)
    assert desk.balance("house:gateway_fees") == 290


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"units": 10_001}, "10000 of this kind"),
        ({"units": -10_000}, "10000 of this kind"),
        ({"units": 10_000, "fee": 291}, "a fee of 290"),
        ({"units": 10_000, "currency": USD}, EUR),
        ({"units": -1, "kind": LineKind.REFUND}, "0 of this kind"),
        ({"units": 1, "kind": LineKind.CHARGEBACK_REVERSED}, "0 of this kind"),
        ({"units": 10_000, "reference": "nobody's"}, "no payment of this reference"),
    ],
)
def test_a_line_that_fits_nothing_is_a_break(desk: Desk, given: dict[str, Any], expected: str) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, fee_units=290)
    desk.gateway.lines = [line(payment, given.pop("units"), **given)]
    for _ in range(2):
        assert settle(desk) == 1
    [(kind, said, _)] = desk.breaks()
    assert (kind, said) == ("fiat.settlement", expected)
    assert (desk.balance("custody:bank:EUR"), desk.balance("gateway:acme")) == (0, 9_710)


def test_a_line_that_came_before_its_payment_fits_later(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.gateway.lines = [line(payment, 10_000)]
    assert settle(desk) == 1
    desk.pay(payment)
    assert settle(desk) == 0
    assert desk.breaks() == []
    assert len(desk.breaks(state="explained")) == 1
    assert desk.balance("custody:bank:EUR") == 10_000


def test_a_chargeback_and_its_end_pass_through_the_bank(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, disputed_units=10_000)
    desk.gateway.lines = [line(payment, 10_000), line(payment, -10_000, kind=LineKind.CHARGEBACK)]
    assert settle(desk) == 0
    assert (desk.balance("custody:bank:EUR"), desk.balance("gateway:acme")) == (0, 0)
    desk.tell(payment, disputed_units=0)
    assert desk.balance("gateway:acme") == 10_000
    desk.gateway.lines.append(line(payment, 10_000, kind=LineKind.CHARGEBACK_REVERSED))
    assert settle(desk) == 0
    assert (desk.balance("custody:bank:EUR"), desk.balance("gateway:acme"), desk.available()) == (10_000, 0, 10_000)


def test_a_settlement_and_a_webhook_don_t_wait_for_each_other_in_a_circle(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is booked locks the gateway's account, and a webhook locks that after its payment."""
    of_chart = chart.rule
    # As of two backends whose numbers fall on the same stripe.
    monkeypatch.setattr("ledger.calls.rule", lambda code: replace(of_chart(code), stripes=1))
    first, second = desk.ordered(10_000), desk.ordered(10_000)
    desk.pay(first)
    desk.pay(second)
    desk.gateway.lines = [line(first, 10_000), line(second, 10_000)]
    order = desk.gateway.tell(str(second), refunded_units=1_000)
    with ThreadPoolExecutor(1) as pool:
        with transaction() as session:
            queries.lock(session, second)
            settling = pool.submit(settle, desk)
            with pytest.raises(TimeoutError):
                settling.result(1)  # it has booked the first, and waits for the second
            service.record(session, second, order, asked_at=clock.now(), source="find")
        assert settling.result(20) == 0
    assert (desk.balance("custody:bank:EUR"), desk.balance("gateway:acme")) == (20_000, -1_000)
