"""What is made of it if a provider does not know an order that it took."""

from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from domain.fiat_payment.states import PaymentState
from providers.fiat.base import Abilities
from tests.integration.fiat_payment.desk import Desk
from tests.integration.fiat_payment.scripted import ScriptedGateway


class Page(ScriptedGateway):
    """Of an order that nobody has tried to pay it knows nothing."""

    @property
    def abilities(self) -> Abilities:
        return replace(super().abilities, finds_unused=False)


def forgotten(gateway: ScriptedGateway, *, paid: bool) -> list[Any]:
    """What is logged when the provider knows nothing of an order any more."""
    desk = Desk(gateway)
    payment = desk.ordered()
    if paid:
        desk.pay(payment)
    gateway.orders.clear()
    with capture_logs() as logs:
        desk.look(payment)
    assert desk.state(payment) is (PaymentState.CREDITED if paid else PaymentState.PENDING)
    return [line["event"] for line in logs if line["log_level"] == "error"]


@pytest.mark.parametrize("paid", [False, True])
def test_an_order_that_its_gateway_forgot_is_an_error(books: None, paid: bool) -> None:
    assert forgotten(ScriptedGateway(), paid=paid) == ["fiat_payment.unknown_there"]


def test_an_order_that_nobody_used_yet_need_not_be_known(books: None) -> None:
    assert forgotten(Page(), paid=False) == []


def test_an_order_that_was_paid_must_be_known(books: None) -> None:
    assert forgotten(Page(), paid=True) == ["fiat_payment.unknown_there"]
