"""A gateway that refused, or was not reached, and has the order after all: what is paid there is the payment's."""

from datetime import timedelta
from uuid import UUID

import pytest

from core.db import transaction
from core.errors import InvariantError
from domain.fiat_payment import service
from domain.fiat_payment.service import FiatPayment, NewRefund
from domain.fiat_payment.states import PaymentState
from providers.fiat.base import Order, OrderState, Standing
from tests.integration.fiat_payment.desk import Desk
from tests.integration.fiat_payment.scripted import EUR
from tests.integration.fiat_payment.test_fiat_settlement import line, settle

S = PaymentState


def order_at_acme(two: Desk, payment: UUID, state: OrderState = OrderState.OPEN, **changes: object) -> Order:
    """The order that acme has after all."""
    fields: dict[str, object] = {
        "reference": str(payment),
        "provider_ref": "acme_late",
        "state": state,
        "currency": EUR,
        "units": 10_000,
    }
    two.gateways["acme"].orders[str(payment)] = Order(**fields | changes)  # type: ignore[arg-type]
    return two.gateways["acme"].orders[str(payment)]


@pytest.fixture(params=[Standing.REJECTED, Standing.NOT_SENT])
def moved(two: Desk, request: pytest.FixtureRequest) -> UUID:
    """A payment at bravo, as acme refused it or was not reached."""
    two.gateways["acme"].answers = [request.param]
    payment = two.ordered(10_000)
    assert two.payment(payment).provider == "bravo"
    return payment


def found(*, provider: str, reference: UUID | None = None, provider_ref: str | None = None) -> FiatPayment | None:
    with transaction() as session:
        return service.find_payment(
            session,
            provider=provider,
            reference=None if reference is None else str(reference),
            provider_ref=provider_ref,
        )


def second_of(payment: UUID) -> FiatPayment:
    with transaction() as session:
        [second] = [one for one in service.page(session) if one.duplicate_of == payment]
        return second


def test_what_is_paid_at_an_earlier_gateway_is_credited_once(two: Desk, moved: UUID) -> None:
    there = found(provider="acme", reference=moved)
    assert there is not None
    assert there.id == moved
    two.record(moved, order_at_acme(two, moved), provider="acme")
    assert (two.payment(moved).provider, two.state(moved)) == ("bravo", S.PENDING)
    by_theirs = found(provider="acme", provider_ref="acme_late")
    assert by_theirs is not None
    assert by_theirs.id == moved
    paid = order_at_acme(two, moved, OrderState.PAID, paid_units=10_000)
    for _ in range(2):
        two.record(moved, paid, provider="acme")
        two.record(moved, two.gateways["bravo"].orders[str(moved)], provider="bravo")  # open there, as it was
    assert (two.payment(moved).provider, two.state(moved)) == ("acme", S.CREDITED)
    assert [state for _, state in two.attempts(moved)] == ["accepted", "left"]
    assert (two.available(), two.balance("gateway:acme"), two.balance("gateway:bravo")) == (10_000, 10_000, 0)
    assert two.breaks() == []


@pytest.mark.parametrize("first", ["acme", "bravo"])
def test_what_is_paid_at_two_gateways_is_credited_once_and_held_once(two: Desk, moved: UUID, first: str) -> None:
    order_at_acme(two, moved, OrderState.PAID, paid_units=10_000)
    two.gateways["bravo"].pay(str(moved))
    for provider in (first, {"acme": "bravo", "bravo": "acme"}[first]) * 2:
        two.record(moved, two.gateways[provider].orders[str(moved)], provider=provider)
    second = second_of(moved)
    assert {two.payment(moved).provider, second.provider} == {"acme", "bravo"}
    assert (two.state(moved), second.current, second.hold_reason) == (S.CREDITED, S.PAID, "duplicate")
    assert (two.available(), two.balance("suspense:payments")) == (10_000, 10_000)
    assert two.breaks() == [("fiat.duplicate", f"nothing: {moved} is paid", "10000")]
    there = found(provider=second.provider or "", reference=moved)
    assert there is not None
    assert there.id == second.id


def test_what_was_paid_twice_is_refunded_or_released_by_a_person(two: Desk, moved: UUID) -> None:
    two.pay(moved)
    two.record(moved, order_at_acme(two, moved, OrderState.PAID, paid_units=10_000), provider="acme")
    second = second_of(moved).id
    two.gateways["acme"].lines = [line(moved, 10_000)]
    assert settle(two) == 0
    assert two.balance("custody:bank:EUR") == 10_000
    new = NewRefund(payment_id=second, units=4_000, reason="paid twice", actor="ann")
    with transaction() as session:
        refund = service.request_refund(session, new).id
    service.refund(refund, two.gateways)
    assert two.gateways["acme"].orders[str(moved)].refunded_units == 4_000
    assert (two.available(), two.balance("suspense:payments")) == (10_000, 6_000)
    two.release(second)
    assert (two.state(second), two.available(), two.breaks()) == (S.CREDITED, 16_000, [])


def test_money_at_an_earlier_gateway_that_no_webhook_tells_of_is_found_after_the_end(two: Desk, moved: UUID) -> None:
    order_at_acme(two, moved, OrderState.PAID, paid_units=10_000)
    two.look(moved)
    assert two.state(moved) is S.PENDING
    two.forward(timedelta(hours=2))
    two.look(moved)
    assert (two.state(moved), two.payment(moved).provider, two.available()) == (S.CREDITED, "acme", 10_000)


def test_an_order_that_is_there_after_all_keeps_others_from_being_made(two: Desk) -> None:
    for gateway in two.gateways.values():
        gateway.answers = [Standing.NOT_SENT]
    payment = two.create(10_000)
    two.order_again(payment)
    assert two.payment(payment).provider == "bravo"
    two.record(payment, order_at_acme(two, payment), provider="acme")
    assert (two.payment(payment).provider, two.state(payment)) == ("acme", S.PENDING)
    two.order(payment)
    assert [gateway.created for gateway in two.gateways.values()] == [[], []]


@pytest.mark.parametrize("answer", [Standing.ACCEPTED, Standing.UNKNOWN])
def test_an_answer_that_comes_after_the_payment_went_elsewhere_is_not_its_own(two: Desk, answer: Standing) -> None:
    """Bravo is being asked when acme's money comes in."""
    two.gateways["acme"].answers, two.gateways["bravo"].answers = [Standing.NOT_SENT], [answer]
    payment = two.create(10_000)
    paid = order_at_acme(two, payment, OrderState.PAID, paid_units=10_000)
    two.gateways["bravo"].before_answer = lambda _: two.record(payment, paid, provider="acme")
    two.order(payment)
    assert (two.payment(payment).provider, two.payment(payment).provider_ref) == ("acme", "acme_late")
    assert two.attempts(payment) == [("acme", "accepted"), ("bravo", "left")]
    assert two.available() == 10_000
    two.record(payment, two.gateways["bravo"].pay(str(payment)), provider="bravo")
    assert (two.available(), second_of(payment).provider) == (10_000, "bravo")


def test_a_gateway_that_nobody_asked_has_nothing_to_say(two: Desk) -> None:
    payment = two.ordered(10_000)
    assert found(provider="bravo", reference=payment) is None
    with pytest.raises(InvariantError, match="nobody asked"):
        two.record(payment, order_at_acme(two, payment, OrderState.PAID, paid_units=10_000), provider="bravo")
