"""Refunds that somebody asked for: held, asked for once, and booked when the provider says so."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError, OutcomeUnknownError, TransientError
from domain.fiat_payment import service
from domain.fiat_payment.service import NewRefund
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import PaymentState, RefundState
from ledger import holds
from ledger.errors import InsufficientFundsError
from providers.fiat.base import Refund, Standing
from providers.fiat.base import RefundState as TheirState
from tests.integration.fiat_payment.desk import OWED, SHOP, USER, Desk, spend
from tests.support.gateways.flutterwave import FlutterwaveDouble
from tests.support.gateways.razorpay import RazorpayDouble

S, R = PaymentState, RefundState


def ask(payment: UUID, units: int, **given: Any) -> UUID:
    fields: dict[str, Any] = {"payment_id": payment, "units": units, "reason": "sent back", "actor": "ann"}
    new = NewRefund(**fields | given)
    with transaction() as session:
        return service.request_refund(session, new).id


def carry_out(desk: Desk, refund: UUID) -> None:
    service.refund(refund, desk.gateways)


def held() -> int:
    with transaction() as session:
        page = holds.holds(session, SHOP, account=USER, state=holds.HoldState.PENDING)
        return sum(hold.units for hold in page.rows)


@pytest.fixture
def paid(desk: Desk) -> UUID:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    return payment


def test_a_refund_is_held_then_made_then_booked(desk: Desk, paid: UUID) -> None:
    refund = ask(paid, 4_000)
    assert (desk.available(), held()) == (10_000, 4_000)
    with pytest.raises(InsufficientFundsError):
        spend(6_001)
    for _ in range(2):
        carry_out(desk, refund)
    assert desk.refund_of(refund).current is R.DONE
    assert (desk.state(paid), desk.available(), held(), desk.balance("gateway:acme")) == (S.CREDITED, 6_000, 0, 6_000)
    carry_out(desk, ask(paid, 6_000))
    assert (desk.state(paid), desk.available(), desk.balance("gateway:acme")) == (S.REFUNDED, 0, 0)
    assert len(desk.gateway.refunds) == 2


def test_what_was_spent_is_not_refunded_unless_it_may_be_owed(desk: Desk, paid: UUID) -> None:
    spend(8_000)
    with pytest.raises(InsufficientFundsError):
        ask(paid, 10_000)
    carry_out(desk, ask(paid, 10_000, may_owe=True))
    assert (desk.available(), desk.balance(OWED), desk.state(paid)) == (0, 8_000, S.REFUNDED)


def test_a_refund_that_is_refused_lets_go_of_the_money(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_answers = [Standing.REJECTED]
    refund = ask(paid, 4_000)
    carry_out(desk, refund)
    assert (desk.refund_of(refund).current, desk.refund_of(refund).why) == (R.FAILED, "told_so")
    assert (desk.available(), held(), desk.state(paid)) == (10_000, 0, S.CREDITED)


def test_one_that_did_not_get_there_is_sent_again(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_answers = [Standing.NOT_SENT]
    refund = ask(paid, 4_000)
    with pytest.raises(TransientError):
        carry_out(desk, refund)
    assert held() == 4_000
    carry_out(desk, refund)
    assert (desk.refund_of(refund).current, desk.available()) == (R.DONE, 6_000)


def test_one_that_nobody_answered_for_is_looked_up_and_not_sent_again(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_answers = [Standing.UNKNOWN]
    refund = ask(paid, 4_000)
    with pytest.raises(OutcomeUnknownError):
        carry_out(desk, refund)
    assert desk.refund_of(refund).current is R.UNKNOWN
    carry_out(desk, refund)
    assert (desk.refund_of(refund).current, desk.available(), len(desk.gateway.refunds)) == (R.DONE, 6_000, 1)


def test_one_that_nobody_knows_is_sent_again_when_its_time_is_over(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_answers, desk.gateway.makes_unknown = [Standing.UNKNOWN], False
    refund = ask(paid, 4_000)
    for _ in range(3):
        with pytest.raises(OutcomeUnknownError):
            carry_out(desk, refund)
    assert desk.gateway.refunds == {}
    desk.forward(settings().unknown_window)
    carry_out(desk, refund)
    assert (desk.refund_of(refund).current, desk.available(), held()) == (R.DONE, 6_000, 0)


def test_one_that_nobody_knows_is_a_person_s_where_it_could_be_made_twice(desk: Desk, paid: UUID) -> None:
    """Such as at Flutterwave, whose lists may be later than our wait for them."""
    desk.gateway.refund_answers, desk.gateway.makes_unknown = [Standing.UNKNOWN], False
    desk.gateway.refunds_once = False
    refund = ask(paid, 4_000)
    with pytest.raises(OutcomeUnknownError):
        carry_out(desk, refund)
    desk.forward(settings().unknown_window)
    with capture_logs() as logs, pytest.raises(OutcomeUnknownError):
        carry_out(desk, refund)
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["fiat_payment.refund_unknown"]
    assert (desk.refund_of(refund).current, held(), desk.gateway.refunds) == (R.UNKNOWN, 4_000, {})


def test_gateways_say_which_of_them_keep_the_key_of_a_refund() -> None:
    with FlutterwaveDouble() as flutterwave, RazorpayDouble() as razorpay:
        assert not flutterwave.gateway().abilities.refunds_once
        assert razorpay.gateway().abilities.refunds_once


def test_a_refund_that_was_lost_and_then_refused_is_not_over(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_answers, desk.gateway.makes_unknown = [Standing.UNKNOWN, Standing.REJECTED], False
    refund = ask(paid, 4_000)
    for _ in range(2):
        with pytest.raises(OutcomeUnknownError):
            carry_out(desk, refund)
        desk.forward(settings().unknown_window)
    assert (desk.refund_of(refund).current, held()) == (R.UNKNOWN, 4_000)
    with pytest.raises(ConflictError, match="under way"):
        ask(paid, 4_000)


def test_a_refund_under_way_is_looked_at_until_it_ends(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_state = TheirState.PENDING
    refund = ask(paid, 4_000)
    carry_out(desk, refund)
    assert (desk.refund_of(refund).current, desk.available(), held()) == (R.PENDING, 10_000, 4_000)
    with pytest.raises(ConflictError, match="under way"):
        ask(paid, 1_000)
    service.poll()  # it is due at once, and soon again
    assert len(desk.jobs("fiat_webhook.look")) == 1
    due = desk.payment(paid).next_look_at
    assert due is not None
    assert due - desk.payment(paid).updated_at < timedelta(minutes=11)
    _ends(desk, refund, TheirState.DONE)
    desk.gateway.tell(str(paid), refunded_units=4_000)
    desk.look(paid)
    assert (desk.refund_of(refund).current, desk.available(), held()) == (R.DONE, 6_000, 0)


def test_a_refund_under_way_may_fail_and_the_money_is_the_owner_s(desk: Desk, paid: UUID) -> None:
    desk.gateway.refund_state = TheirState.PENDING
    refund = ask(paid, 10_000)
    carry_out(desk, refund)
    _ends(desk, refund, TheirState.FAILED)
    desk.look(paid)
    assert (desk.refund_of(refund).current, desk.available(), held()) == (R.FAILED, 10_000, 0)


def _ends(desk: Desk, refund: UUID, state: TheirState) -> None:
    found: Refund = desk.gateway.refunds[str(refund)]
    desk.gateway.refunds[str(refund)] = Refund(
        reference=found.reference,
        provider_ref=found.provider_ref,
        state=state,
        currency=found.currency,
        units=found.units,
    )


def test_a_held_payment_is_refunded_out_of_suspense(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, 3_000)
    carry_out(desk, ask(payment, 3_000))
    assert (desk.state(payment), desk.payment(payment).hold_reason, desk.breaks()) == (S.REFUNDED, None, [])
    assert (desk.available(), desk.balance("suspense:payments"), desk.balance("gateway:acme"), held()) == (0, 0, 0, 0)


def test_what_can_t_be_refunded(desk: Desk, paid: UUID) -> None:
    with pytest.raises(NotFoundError):
        ask(uuid4(), 1)
    with pytest.raises(NotFoundError):
        ask(paid, 1, tenant="other")
    for units in (0, -1, 10_001):
        with pytest.raises(InvalidRequestError) as refused:
            ask(paid, units)
        assert refused.value.field == "units"
    with pytest.raises(InvalidRequestError):
        ask(paid, 1, reason=" ")
    with pytest.raises(ConflictError):
        ask(desk.ordered(10_000), 1)
    assert desk.jobs("fiat_webhook.refund") == []


def test_what_is_held_for_a_refund_is_let_go_though_a_bank_took_all_of_it_meanwhile(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    with transaction() as session:
        new = NewRefund(payment_id=payment, units=4_000, reason="one too many", actor="ann")
        refund = service.request_refund(session, new).id
    desk.tell(payment, disputed_units=10_000)
    assert desk.balance(OWED) == 4_000
    service.refund(refund, desk.gateways)
    assert (desk.refund_of(refund).state, desk.refund_of(refund).hold_id) == ("done", None)


def test_a_hold_goes_with_its_refund_though_an_earlier_one_came_back(desk: Desk, paid: UUID) -> None:
    carry_out(desk, ask(paid, 3_000))
    second = ask(paid, 3_000)
    desk.tell(paid, refunded_units=0)  # the payer's bank sends the first one back while the second is under way
    assert held() == 3_000
    carry_out(desk, second)
    assert desk.payment(paid).refunded_units == 3_000
    assert (desk.available(), held()) == (7_000, 0)
