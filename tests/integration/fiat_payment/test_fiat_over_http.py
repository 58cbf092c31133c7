"""Payments through real adapters, over HTTP to doubles that speak the providers' wire formats."""

import json
from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import httpx
import pytest

from core import clock
from core.db import transaction
from core.errors import OutcomeUnknownError
from core.http import HttpClient, Reply
from domain.fiat_payment import service
from domain.fiat_payment.service import NewFiatPayment, NewRefund
from domain.fiat_payment.states import PaymentState
from ledger import balances
from providers.fiat.base import Gateway
from tests.integration.fiat_payment.desk import SHOP, USER, Desk
from tests.support.gateways.base import Double, then_hangs_up
from tests.support.gateways.razorpay import RazorpayDouble
from tests.support.gateways.stripe import StripeDouble

S = PaymentState


class Counter:
    """One gateway and the payments at it."""

    def __init__(self, double: Double, desk: Desk) -> None:
        self.double, self.desk = double, desk
        self.gateways: dict[str, Gateway] = {double.name: double.gateway()}
        with transaction() as session:
            service.refresh_gateways(session, self.gateways)

    def create(self) -> UUID:
        new = NewFiatPayment(
            tenant=SHOP,
            account=USER,
            currency=self.double.currency,
            units=self.double.units,
            return_url="https://shop.example/paid",
            expires_in=timedelta(hours=2),
        )
        with transaction() as session:
            return service.create(session, new, self.desk.conversions).id

    def state(self, payment: UUID) -> PaymentState:
        return self.desk.payment(payment).current

    def balance(self, code: str) -> int:
        with transaction() as session:
            return balances.balance(session, SHOP, code, self.double.currency)

    def owes(self, payment: UUID) -> int:
        """What the provider says that it has for us, asked anew."""
        row = self.desk.payment(payment)
        order = self.gateways[self.double.name].find(
            reference=row.reference, provider_ref=row.provider_ref, made_at=row.created_at
        )
        assert order is not None
        back = order.refunded_units + order.disputed_units + order.charged_back_units
        return order.paid_units - (order.fee_units or 0) - back


@pytest.fixture(params=[StripeDouble, RazorpayDouble], ids=["stripe", "razorpay"])
def counter(request: pytest.FixtureRequest, books: None) -> Iterator[Counter]:
    with request.param() as double:
        yield Counter(double, Desk())


def test_a_payment_from_its_order_to_a_partial_refund(counter: Counter) -> None:
    payment = counter.create()
    service.order(payment, counter.gateways)
    assert counter.state(payment) is S.PENDING
    assert counter.desk.payment(payment).page_url
    counter.double.pay(str(payment))
    service.look(payment, counter.gateways)
    assert (counter.state(payment), counter.balance(USER)) == (S.CREDITED, counter.double.units)
    assert counter.balance(f"gateway:{counter.double.name}") == counter.owes(payment)
    with transaction() as session:
        new = NewRefund(payment_id=payment, units=500, reason="one too many", actor="ann")
        refund = service.request_refund(session, new).id
    service.refund(refund, counter.gateways)
    counter.double.finish_refunds()
    service.look(payment, counter.gateways)
    assert counter.desk.refund_of(refund).state == "done"
    assert counter.balance(USER) == counter.double.units - 500
    assert counter.balance(f"gateway:{counter.double.name}") == counter.owes(payment)


def test_an_order_whose_answer_was_lost_is_found(counter: Counter) -> None:
    payment = counter.create()
    counter.double.upset(then_hangs_up)
    with pytest.raises(OutcomeUnknownError):
        service.order(payment, counter.gateways)
    service.order(payment, counter.gateways)
    assert counter.state(payment) is S.PENDING
    assert counter.desk.attempts(payment) == [(counter.double.name, "accepted")]


def test_a_dispute_that_is_won_and_one_that_is_lost(counter: Counter) -> None:
    for ends, state in (("win_dispute", S.CREDITED), ("charge_back", S.CHARGED_BACK)):
        payment = counter.create()
        service.order(payment, counter.gateways)
        counter.double.pay(str(payment))
        counter.double.dispute(str(payment))
        service.look(payment, counter.gateways)
        assert counter.state(payment) is S.DISPUTED
        getattr(counter.double, ends)(str(payment))
        service.look(payment, counter.gateways)
        assert counter.state(payment) is state
    assert counter.balance(USER) == counter.double.units


def test_another_amount_over_the_wire_is_held(counter: Counter) -> None:
    payment = counter.create()
    service.order(payment, counter.gateways)
    counter.double.pay(str(payment), counter.double.units - 100)
    service.look(payment, counter.gateways)
    held = counter.desk.payment(payment)
    assert (held.current, held.hold_reason, counter.balance(USER)) == (S.PAID, "amount", 0)


def test_what_was_paid_out_leaves_nothing_at_the_gateway(books: None) -> None:
    with StripeDouble() as double:
        counter = Counter(double, Desk())
        payment = counter.create()
        service.order(payment, counter.gateways)
        double.pay(str(payment))
        service.look(payment, counter.gateways)
        settlement = double.settle()
        now = clock.now()
        service.settle(counter.gateways["stripe"], now - timedelta(days=3), now + timedelta(minutes=1))
        assert counter.balance("gateway:stripe") == 0
        # The monthly fee belongs to no payment: a person explains it.
        assert [kind for kind, _, _ in counter.desk.breaks()] == ["fiat.settlement"]
        assert counter.balance("custody:bank:USD") - 25 == double.paid_out[settlement]


def test_a_list_that_grows_while_it_is_read_counts_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Razorpay's lists are newest first, so that a new refund moves the others to the next page."""
    rows: list[dict[str, object]] = [{"id": "rfnd_1", "amount": 30}]

    def read(_: HttpClient, path: str, *, params: dict[str, int]) -> Reply:
        found = rows[params["skip"] : params["skip"] + params["count"]]
        if len(rows) == 1:
            rows.insert(0, {"id": "rfnd_2", "amount": 20})
        return Reply(200, httpx.Headers(), json.dumps({"items": found}).encode(), path, of_read=True)

    monkeypatch.setattr(HttpClient, "read", read)
    with RazorpayDouble() as double:
        assert [row["id"] for row in double.gateway()._all("/v1/payments/pay_1/refunds", {})] == ["rfnd_1"]
