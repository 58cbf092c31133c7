"""What every gateway must do with money that goes back, and with what is paid out to us. See test_gateways.py."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import pytest

from core.errors import TransientError
from providers.fiat.base import (
    Gateway,
    LineKind,
    Order,
    OrderState,
    RefundState,
    SettlementLine,
    Standing,
)
from tests.conformance.gateway_lab import (
    SHORT,
    asked_to_move,
    created,
    find,
    now,
    paid,
    refund_of,
    unknown,
)
from tests.support import faulty
from tests.support.faulty import Fault
from tests.support.gateways.base import Double

# --- refunds ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def refunds(gateway: Gateway) -> None:
    if not gateway.abilities.refunds:
        pytest.skip("this provider's interface gives nothing back")


def test_who_gives_nothing_back_says_so(double: Double, gateway: Gateway, reference: str) -> None:
    if gateway.abilities.refunds:
        pytest.skip("this one does")
    request = refund_of(double, paid(double, gateway, reference))
    refused = gateway.refund(request)
    assert (refused.standing, refused.refund) == (Standing.REJECTED, None)
    assert refused.why
    assert gateway.find_refund(request, refund_ref=None) is None


@pytest.mark.usefixtures("refunds")
def test_a_refund_is_given_once(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid(double, gateway, reference)
    request = refund_of(double, order)
    first, second = gateway.refund(request), gateway.refund(request)
    assert (first.standing, second.standing) == (Standing.ACCEPTED, Standing.ACCEPTED)
    assert first.refund is not None
    assert second.refund is not None
    assert first.refund.provider_ref == second.refund.provider_ref
    assert (first.refund.reference, first.refund.currency) == (request.reference, double.currency)
    assert first.refund.units == double.units
    double.finish_refunds()
    done = gateway.find_refund(request, refund_ref=first.refund.provider_ref)
    assert done is not None
    assert (done.state, done.units) == (RefundState.DONE, double.units)
    assert (find(gateway, order).state, find(gateway, order).refunded_units) == (OrderState.PAID, double.units)


@pytest.mark.usefixtures("refunds")
def test_parts_go_back_one_by_one(double: Double, gateway: Gateway, reference: str) -> None:
    if not double.partial_refunds:
        pytest.skip("this provider gives all back or nothing")
    order = paid(double, gateway, reference)
    for units in (1_000, 2_500):
        assert gateway.refund(refund_of(double, order, units)).standing is Standing.ACCEPTED
        double.finish_refunds()
    assert find(gateway, order).refunded_units == 3_500
    beyond = gateway.refund(refund_of(double, order, double.units - 3_499))
    assert (beyond.standing, beyond.refund) == (Standing.REJECTED, None)
    assert beyond.why
    assert find(gateway, order).refunded_units == 3_500


def test_what_was_not_paid_does_not_go_back(double: Double, gateway: Gateway, reference: str) -> None:
    request = refund_of(double, created(double, reference, gateway))
    assert gateway.refund(request).standing is Standing.REJECTED
    assert gateway.find_refund(request, refund_ref=None) is None


@pytest.mark.usefixtures("refunds")
@unknown
def test_a_refund_of_unknown_outcome_is_said_to_be_and_found(double: Double, fault: Fault, reference: str) -> None:
    gateway = double.gateway(answer_timeout=SHORT)
    order = paid(double, gateway, reference)
    before = asked_to_move(double)
    request = refund_of(double, order)
    double.upset(fault)
    given = gateway.refund(request)
    assert (given.standing, given.refund) == (Standing.UNKNOWN, None)
    assert asked_to_move(double) == before + 1
    found = gateway.find_refund(request, refund_ref=None)
    assert found is not None
    assert (found.reference, found.units) == (request.reference, double.units)
    double.finish_refunds()
    assert find(gateway, order).refunded_units == double.units


@pytest.mark.usefixtures("refunds")
def test_an_unknown_refund_is_none(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid(double, gateway, reference)
    assert gateway.find_refund(refund_of(double, order), refund_ref=None) is None


@pytest.mark.usefixtures("refunds")
def test_a_refund_that_fails_leaves_the_money_here(double: Double, gateway: Gateway, reference: str) -> None:
    if not double.refunds_fail:
        pytest.skip("this provider's refunds don't fail later")
    order = paid(double, gateway, reference)
    request = refund_of(double, order)
    gateway.refund(request)
    double.fail_refunds()
    found = gateway.find_refund(request, refund_ref=None)
    assert found is not None
    assert found.state is RefundState.FAILED
    assert find(gateway, order).refunded_units == 0


@pytest.mark.usefixtures("refunds")
def test_only_what_went_back_is_counted(double: Double, gateway: Gateway, reference: str) -> None:
    """Of three refunds one reached the payer, one came back, and one is under way."""
    if not (double.refunds_fail and double.partial_refunds):
        pytest.skip("this provider's refunds don't fail later, or give all back")
    order = paid(double, gateway, reference)
    gateway.refund(refund_of(double, order, 1_000))
    double.finish_refunds()
    gateway.refund(refund_of(double, order, 500))
    double.fail_refunds()
    gateway.refund(refund_of(double, order, 300))
    assert find(gateway, order).refunded_units == 1_000


@pytest.mark.usefixtures("refunds")
def test_a_refund_in_the_dashboard_is_seen(double: Double, gateway: Gateway, reference: str) -> None:
    order = paid(double, gateway, reference)
    double.refund_outside(reference)
    double.finish_refunds()
    assert (find(gateway, order).state, find(gateway, order).refunded_units) == (OrderState.PAID, double.units)


# --- disputes ---------------------------------------------------------------------------------------------------------


def taken(order: Order) -> tuple[int, int]:
    return order.disputed_units, order.charged_back_units


def test_a_chargeback_is_told_and_so_is_one_that_was_won(double: Double, gateway: Gateway, reference: str) -> None:
    if not double.charges_back:
        pytest.skip("this provider's interface tells of no disputes")
    order = paid(double, gateway, reference)
    double.dispute(reference)
    assert taken(find(gateway, order)) == (double.units, 0)
    double.charge_back(reference)
    assert taken(find(gateway, order)) == (0, double.units)
    assert find(gateway, order).state is OrderState.PAID
    double.win_dispute(reference)
    assert taken(find(gateway, order)) == (0, 0)
    assert find(gateway, order).paid_units == double.units


# --- settlements ------------------------------------------------------------------------------------------------------


def net(lines: Sequence[SettlementLine]) -> int:
    return sum(line.units - line.fee_units for line in lines)


def test_a_settlement_is_told_whole_however_many_pages(double: Double, gateway: Gateway) -> None:
    if not gateway.abilities.settlements:
        pytest.skip("this provider's interface tells of no settlements")
    references = [str(uuid4()) for _ in range(5)]
    for each in references:
        paid(double, gateway, each)
    double.refund_outside(references[0], 1_000 if double.partial_refunds else None)
    double.finish_refunds()
    if double.charges_back:
        double.charge_back(references[1])
    settlement = double.settle()
    double.page_max = 2
    lines = list(gateway.settlements(now() - timedelta(days=1), now() + timedelta(days=1)))
    assert len({line.id for line in lines}) == len(lines)
    assert {line.settlement for line in lines} == {settlement}
    payments = [line for line in lines if line.kind is LineKind.PAYMENT]
    assert sorted(str(line.reference) for line in payments) == sorted(references)
    assert {(line.units, line.fee_units) for line in payments} == {(double.units, double.fee(double.units))}
    assert {line.currency for line in lines} == {double.currency}
    refunds = [line for line in lines if line.kind is LineKind.REFUND]
    assert [line.reference for line in refunds] == [references[0]]
    assert [line.units for line in refunds] == [-1_000 if double.partial_refunds else -double.units]
    backs = [line for line in lines if line.kind is LineKind.CHARGEBACK]
    assert [(line.reference, line.units) for line in backs] == [(references[1], -double.units)] * double.charges_back
    if settlement in double.paid_out:
        assert net(lines) == double.paid_out[settlement]


def test_a_settlement_of_another_time_is_not_told(double: Double, gateway: Gateway, reference: str) -> None:
    if not gateway.abilities.settlements:
        pytest.skip("this provider's interface tells of no settlements")
    paid(double, gateway, reference)
    double.settle()
    assert list(gateway.settlements(now() - timedelta(days=9), now() - timedelta(days=5))) == []


def test_a_settlement_that_can_not_be_read_whole_is_none(double: Double, gateway: Gateway) -> None:
    """Half of the lines would make the other half look like money that never came."""
    if not gateway.abilities.settlements:
        pytest.skip("this provider's interface tells of no settlements")
    for _ in range(3):
        paid(double, gateway, str(uuid4()))
    double.settle()
    double.upset(faulty.saying(503), when=lambda _: True)
    with pytest.raises(TransientError):
        list(gateway.settlements(now() - timedelta(days=1), now() + timedelta(days=1)))
