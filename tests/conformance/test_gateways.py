"""What every gateway must do, over its double: real HTTP, the provider's wire format, what goes wrong on demand."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from core.errors import TransientError
from core.http import CredentialsRefusedError
from providers.fiat import credentials, registry
from providers.fiat.base import (
    Gateway,
    Method,
    OrderState,
    Standing,
)
from tests.conformance.gateway_lab import (
    SHORT,
    accepted,
    asked_to_move,
    created,
    find,
    not_done,
    now,
    paid,
    refund_of,
    unknown,
)
from tests.support import faulty
from tests.support.faulty import Fault
from tests.support.gateways import DOUBLES
from tests.support.gateways.base import PRIVATE, Double, then_hangs_up


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the gateways that were said to refuse our credentials."""
    names: list[str] = []
    monkeypatch.setattr(credentials, "_listeners", [])
    credentials.listen(names.append)
    return names


# --- which there are --------------------------------------------------------------------------------------------------


def test_each_gateway_has_a_double() -> None:
    assert sorted(kind.name for kind in DOUBLES) == sorted(registry.GATEWAYS)


def test_it_says_what_it_can_do(double: Double, gateway: Gateway) -> None:
    assert gateway.name == double.name
    assert {double.currency, double.other_currency} <= set(gateway.abilities.currencies)
    assert all(0 < each.units_min <= each.units_max for each in gateway.abilities.currencies.values())
    assert gateway.abilities.methods


# --- orders -----------------------------------------------------------------------------------------------------------


def test_an_order_is_made_and_can_be_paid_somewhere(double: Double, gateway: Gateway, reference: str) -> None:
    order = created(double, reference, gateway)
    assert (order.reference, order.state) == (reference, OrderState.OPEN)
    assert (order.currency, order.units, order.paid_units) == (double.currency, double.units, 0)
    assert order.provider_ref
    assert order.page_url or order.instructions


def test_each_method_that_it_names_is_one_that_it_takes(double: Double, gateway: Gateway) -> None:
    for method in gateway.abilities.methods:
        accepted(gateway.create(double.order(str(uuid4()), method=method)))


def test_a_method_that_it_does_not_name_is_refused(double: Double, gateway: Gateway, reference: str) -> None:
    for method in set(Method) - gateway.abilities.methods:
        made = gateway.create(double.order(reference, method=method))
        assert (made.standing, made.order) == (Standing.REJECTED, None)
        assert made.why


def test_the_same_reference_twice_is_one_order(double: Double, gateway: Gateway, reference: str) -> None:
    request = double.order(reference)
    first, second = accepted(gateway.create(request)), accepted(gateway.create(request))
    assert first.provider_ref == second.provider_ref


def test_what_it_knows_is_found_by_reference_alone(double: Double, gateway: Gateway, reference: str) -> None:
    order = created(double, reference, gateway)
    for _ in range(5):
        created(double, str(uuid4()), gateway)
    double.page_max = 2
    found = gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert found is not None
    assert (found.provider_ref, found.reference, found.units) == (order.provider_ref, reference, order.units)


def test_an_unknown_order_is_none(double: Double, gateway: Gateway, reference: str) -> None:
    created(double, str(uuid4()), gateway)
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None


@unknown
def test_an_order_of_unknown_outcome_is_said_to_be_and_found(double: Double, fault: Fault, reference: str) -> None:
    gateway = double.gateway(answer_timeout=SHORT)
    double.upset(fault)
    made = gateway.create(double.order(reference))
    assert (made.standing, made.order) == (Standing.UNKNOWN, None)
    assert made.why
    assert asked_to_move(double) == 1, "an unknown outcome is never tried again by itself"
    found = gateway.find(reference=reference, provider_ref=None, made_at=now())
    assert found is not None
    assert (found.reference, found.units, found.state) == (reference, double.units, OrderState.OPEN)


@not_done
def test_an_order_that_may_have_been_made_and_was_not(
    double: Double, gateway: Gateway, fault: Fault, reference: str
) -> None:
    double.upset(fault)
    assert gateway.create(double.order(reference)).standing is Standing.UNKNOWN
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None
    created(double, reference, gateway)


def test_an_order_that_appears_late(double: Double, gateway: Gateway, reference: str) -> None:
    double.upset(then_hangs_up)
    assert gateway.create(double.order(reference)).standing is Standing.UNKNOWN
    double.hidden = 1
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is None
    assert gateway.find(reference=reference, provider_ref=None, made_at=now()) is not None


def test_a_provider_that_asks_for_a_pause_has_done_nothing(double: Double, gateway: Gateway, reference: str) -> None:
    double.upset(faulty.saying(429, retry_after=3))
    assert gateway.create(double.order(reference)).standing is Standing.NOT_SENT
    created(double, reference, gateway)


def test_a_provider_that_is_away_has_done_nothing(double: Double, reference: str) -> None:
    gateway = double.gateway()
    order = created(double, reference, gateway)
    double.pay(reference)
    request = refund_of(double, order)
    double.__exit__()
    try:
        assert double.gateway().create(double.order(str(uuid4()))).standing is Standing.NOT_SENT
        if double.gateway().abilities.refunds:
            assert double.gateway().refund(request).standing is Standing.NOT_SENT
            with pytest.raises(TransientError):
                double.gateway().find_refund(request, refund_ref=None)
        with pytest.raises(TransientError):
            double.gateway().find(reference=reference, provider_ref=order.provider_ref, made_at=now())
    finally:
        double.__enter__()


@pytest.mark.parametrize("fault", [faulty.saying(500), faulty.saying(429), faulty.html, faulty.hangs_up, faulty.dies])
def test_reading_may_always_be_done_again(double: Double, gateway: Gateway, fault: Fault, reference: str) -> None:
    order = created(double, reference, gateway)
    before = find(gateway, order)
    double.upset(fault, times=1000, when=lambda _: True)
    for _ in range(2):
        with pytest.raises(TransientError):
            gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now())
    double.calm()
    assert find(gateway, order) == before
    told_once: dict[str, Any] = {"page_url": None, "instructions": {}}  # some say where to pay in the first answer only
    assert replace(before, **told_once) == replace(order, **told_once)


def test_what_it_refuses_is_rejected_with_why(double: Double, gateway: Gateway, reference: str) -> None:
    made = gateway.create(double.order(reference, units=double.units_refused))
    assert (made.standing, made.order) == (Standing.REJECTED, None)
    assert made.why
    assert not [secret for secret in (*double.secrets, *PRIVATE) if secret in made.why]


def test_it_is_asked_for_the_currency_that_was_meant(double: Double, gateway: Gateway, reference: str) -> None:
    order = accepted(gateway.create(double.order(reference, currency=double.other_currency)))
    assert (order.currency, order.units) == (double.other_currency, double.units)


@pytest.mark.parametrize("status", [401, 403])
def test_another_key_is_refused(double: Double, gateway: Gateway, status: int, reference: str, told: list[str]) -> None:
    """What we ask stays a good question, since a person puts the key right; what was to be done was not done."""
    order = paid(double, gateway, reference)
    before, refund, other = find(gateway, order), refund_of(double, order), str(uuid4())
    assert not told
    double.upset(faulty.saying(status), times=1000, when=lambda _: True)
    with pytest.raises(CredentialsRefusedError):
        gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now())
    assert told == [double.name]
    assert gateway.create(double.order(other)).standing in {Standing.REJECTED, Standing.NOT_SENT}
    assert told == [double.name] * 2
    if gateway.abilities.refunds:
        assert gateway.refund(refund).standing in {Standing.REJECTED, Standing.NOT_SENT}
        for refund_ref in (None, "12345"):
            with pytest.raises(CredentialsRefusedError):
                gateway.find_refund(refund, refund_ref=refund_ref)
    if gateway.abilities.settlements:
        with pytest.raises(CredentialsRefusedError):
            list(gateway.settlements(double.start, now()))
    double.calm()
    assert find(gateway, order) == before
    assert gateway.find(reference=other, provider_ref=None, made_at=now()) is None


def test_whoever_hears_of_a_refused_key_changes_nothing(double: Double, gateway: Gateway, reference: str) -> None:
    def broken(_: str) -> None:
        raise OSError

    order = created(double, reference, gateway)
    double.upset(faulty.saying(401), times=1000, when=lambda _: True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(credentials, "_listeners", [broken])
        with pytest.raises(CredentialsRefusedError):
            gateway.find(reference=reference, provider_ref=order.provider_ref, made_at=now())


# --- what became of them ----------------------------------------------------------------------------------------------


def test_a_paid_order_says_exactly_what_came_in(double: Double, gateway: Gateway, reference: str) -> None:
    order = find(gateway, paid(double, gateway, reference))
    assert (order.state, order.currency) == (OrderState.PAID, double.currency)
    assert (order.units, order.paid_units) == (double.units, double.units)
    assert order.fee_units in {None, double.fee(double.units)}
    assert (order.refunded_units, order.disputed_units, order.charged_back_units) == (0, 0, 0)


@pytest.mark.parametrize("more", [-100, -1, 1, 4_000])
def test_another_amount_is_told_as_it_is(double: Double, gateway: Gateway, more: int, reference: str) -> None:
    made = created(double, reference, gateway)
    double.pay(reference, units=double.units + more)
    order = find(gateway, made)
    assert (order.state, order.paid_units) == (OrderState.PAID, double.units + more)
    assert order.units == (double.units if double.tells_asked else order.paid_units)


def test_another_currency_is_told_as_it_is(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.pay(reference, currency=double.other_currency)
    order = find(gateway, made)
    assert (order.state, order.currency, order.paid_units) == (OrderState.PAID, double.other_currency, double.units)


def test_an_order_expires_and_may_still_be_paid(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.expire(reference)
    assert (find(gateway, made).state, find(gateway, made).paid_units) == (OrderState.EXPIRED, 0)
    double.pay(reference)
    assert (find(gateway, made).state, find(gateway, made).paid_units) == (OrderState.PAID, double.units)


def test_an_attempt_that_failed_is_not_paid(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.fail(reference)
    order = find(gateway, made)
    assert order.state in {OrderState.FAILED, OrderState.OPEN}
    assert order.paid_units == 0


def test_a_status_that_was_never_seen_is_not_the_end(double: Double, gateway: Gateway, reference: str) -> None:
    made = created(double, reference, gateway)
    double.puzzle(reference)
    order = find(gateway, made)
    assert (order.state, order.paid_units) == (OrderState.OPEN, 0)
