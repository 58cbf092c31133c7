"""Payments by card, bank and wallet: listed, shown, released and given back by an operator."""

import json
from collections.abc import Iterator
from uuid import uuid4

import pytest

from core.db import transaction
from core.errors import OutcomeUnknownError
from domain.fiat_payment import service
from domain.fiat_payment.service import NewRefund
from providers.fiat.base import Standing
from tests.integration.cli.conftest import Cli
from tests.integration.fiat_payment.conftest import books
from tests.integration.fiat_payment.desk import Desk, spend

__all__ = ["books"]


@pytest.fixture
def desk(books: None) -> Iterator[Desk]:
    made = Desk()
    yield made
    made.check_books()


def test_held_ones_are_listed_shown_and_released(desk: Desk, cli: Cli) -> None:
    held, other = desk.ordered(10_000), desk.ordered(10_000)
    desk.pay(held, 2_500)
    listed = json.loads(cli("fiat", "list", "--held", "--json").stdout)["fiat_payments"]
    assert [row["id"] for row in listed] == [str(held)]
    assert str(other) in cli("fiat", "list", "--state", "pending", "--tenant", "shop").stdout
    shown = cli("fiat", "show", held).stdout
    for words in ("100 EUR = 10000 units", "25 EUR = 2500 units", "amount", "acme_1", "held"):
        assert words in shown
    plan = cli("fiat", "release", held, "--reason", "the payer says so").stdout
    assert "25 EUR = 2500 units to user:42:available of shop, as ada: the payer says so" in plan
    assert desk.available() == 0
    assert "it is credited" in cli("fiat", "release", held, "--reason", "the payer says so", "--commit").stdout
    assert desk.available() == 2_500
    assert "not held" in cli("fiat", "release", held, "--reason", "again", "--commit", status=1).stderr


def test_a_refund_is_planned_then_asked_for(desk: Desk, cli: Cli) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    spend(9_000)
    assert "100 EUR = 10000 units back by acme" in cli("fiat", "refund", payment, "--reason", "sent twice").stdout
    assert desk.jobs("fiat_webhook.refund") == []
    cli("fiat", "refund", payment, "--reason", "sent twice", "--commit", status=1)
    made = json.loads(cli("fiat", "refund", payment, "--reason", "sent twice", "--owe", "--commit", "--json").stdout)[
        "refund"
    ]
    [job] = desk.jobs("fiat_webhook.refund")
    assert job.args == {"refund_id": made["id"]}
    assert (made["state"], made["actor"]) == ("requested", "ada")
    assert "sent twice" in cli("fiat", "show", payment).stdout


def test_a_refund_that_nobody_knows_of_is_ended_by_a_person(desk: Desk, cli: Cli) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    desk.gateway.refund_answers, desk.gateway.makes_unknown = [Standing.UNKNOWN], False
    with transaction() as session:
        new = NewRefund(payment_id=payment, units=4_000, reason="sent twice", actor="ann")
        refund = service.request_refund(session, new).id
    with pytest.raises(OutcomeUnknownError):
        service.refund(refund, desk.gateways)
    asked = ("fiat", "end-refund", refund, "--outcome", "not-made", "--reason", "they looked")
    assert "was not-made" in cli(*asked).stdout
    assert desk.refund_of(refund).state == "unknown"
    assert "the owner's again" in cli(*asked, "--commit").stdout
    assert desk.refund_of(refund).state == "failed"
    cli(*asked, "--commit", status=1)


def test_a_look_can_be_asked_for(desk: Desk, cli: Cli) -> None:
    payment, unasked = desk.ordered(10_000), desk.create(10_000)
    cli("fiat", "poll", payment)
    [job] = desk.jobs("fiat_webhook.look")
    assert job.args == {"payment_id": str(payment)}
    assert "at no gateway" in cli("fiat", "poll", unasked, status=1).stderr
    assert "there is no fiat payment" in cli("fiat", "show", uuid4(), status=1).stderr
