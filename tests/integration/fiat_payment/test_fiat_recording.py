"""What a provider says of a payment, and what becomes of the money."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from core import clock
from core.db import transaction
from core.errors import ConflictError, InvariantError, NotFoundError
from domain.fiat_payment import service
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import HoldReason, PaymentState
from ledger import accounts, freezes
from providers.fiat.base import OrderState
from tests.integration.fiat_payment.desk import OWED, SHOP, USER, Desk, spend
from tests.integration.fiat_payment.scripted import EUR, USD

S = PaymentState


def test_what_was_asked_and_paid_is_credited_once(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    assert desk.state(payment) is S.PENDING
    order = desk.gateway.pay(str(payment), fee_units=290)
    for _ in range(3):
        desk.record(payment, order)
    assert desk.state(payment) is S.CREDITED
    assert desk.available() == 10_000
    assert desk.balance("gateway:acme") == 9_710
    assert desk.balance("house:gateway_fees") == 290
    assert desk.events(payment) == ["created", "order", "pay", "credit"]


def test_our_fee_is_taken_out_of_the_credit_and_given_back_with_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_FEE_BPS", "125")
    settings.cache_clear()
    payment = desk.ordered(9_999)
    desk.pay(payment)
    fee = 9_999 * 125 // 10_000
    assert (desk.available(), desk.balance("house:fees")) == (9_999 - fee, fee)
    for refunded in (1, 3_333, 9_998, 9_999):
        desk.tell(payment, refunded_units=refunded)
        assert desk.balance("gateway:acme") == 9_999 - refunded
        assert desk.available() + desk.balance("house:fees") == 9_999 - refunded
    assert (desk.available(), desk.balance("house:fees")) == (0, 0)
    assert desk.state(payment) is S.REFUNDED


def test_an_answer_to_an_older_question_changes_only_what_grows(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    now = clock.now()
    old = desk.gateway.orders[str(payment)]
    disputed = desk.gateway.pay(str(payment), disputed_units=10_000, fee_units=300)
    desk.record(payment, disputed, at=now)
    won = desk.gateway.tell(str(payment), disputed_units=0, fee_units=290)
    desk.record(payment, won, at=now + timedelta(seconds=2))
    assert desk.state(payment) is S.CREDITED
    desk.record(payment, disputed, at=now + timedelta(seconds=1))
    desk.record(payment, old, at=now)
    assert desk.state(payment) is S.CREDITED
    assert (desk.available(), desk.payment(payment).provider_fee_units) == (10_000, 290)
    late = desk.gateway.tell(str(payment), refunded_units=400)
    desk.record(payment, late, at=now - timedelta(hours=1))
    assert desk.available() == 9_600


def test_a_refund_that_fails_on_its_way_gives_the_money_back(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    desk.tell(payment, refunded_units=10_000)
    assert (desk.state(payment), desk.available()) == (S.REFUNDED, 0)
    desk.tell(payment, refunded_units=0)
    assert (desk.state(payment), desk.available()) == (S.CREDITED, 10_000)


def test_money_that_comes_after_the_end_is_still_money(desk: Desk) -> None:
    for state, ended in ((OrderState.EXPIRED, S.EXPIRED), (OrderState.FAILED, S.FAILED)):
        payment = desk.ordered(10_000)
        desk.tell(payment, state=state)
        assert desk.state(payment) is ended
        desk.pay(payment)
        assert desk.state(payment) is S.CREDITED
    assert desk.available() == 20_000


def test_a_webhook_before_the_answer_to_our_own_call(desk: Desk) -> None:
    payment = desk.create(10_000)

    def first(_request: object) -> None:
        desk.record(payment, desk.gateway.pay(str(payment)), source="webhook")

    desk.gateway.before_answer = first
    desk.order(payment)
    assert desk.state(payment) is S.CREDITED
    assert desk.attempts(payment) == [("acme", "accepted")]
    assert desk.available() == 10_000


@pytest.mark.parametrize("paid", [1, 9_999, 10_001, 250_000])
def test_another_amount_is_held_and_a_break_is_opened(desk: Desk, paid: int) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, paid)
    held = desk.payment(payment)
    assert (held.current, held.held_for) == (S.PAID, HoldReason.AMOUNT)
    assert (desk.available(), desk.balance("suspense:payments"), desk.balance("gateway:acme")) == (0, paid, paid)
    assert desk.breaks() == [("fiat.amount", "10000", str(paid))]
    desk.release(payment)
    assert desk.state(payment) is S.CREDITED
    assert (desk.available(), desk.balance("suspense:payments")) == (paid, 0)
    assert desk.breaks() == []
    with pytest.raises(ConflictError):
        desk.release(payment)


def test_the_rest_of_what_was_asked_may_come_later(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, 4_000)
    assert desk.payment(payment).held_for is HoldReason.AMOUNT
    desk.pay(payment, 10_000)
    assert (desk.state(payment), desk.available(), desk.breaks()) == (S.CREDITED, 10_000, [])


def test_part_of_it_waits_while_the_payer_may_pay_the_rest(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.tell(payment, paid_units=4_000)
    assert (desk.state(payment), desk.payment(payment).hold_reason) == (S.PENDING, None)
    assert desk.balance("suspense:payments") == 4_000
    desk.forward(timedelta(hours=2))
    desk.look(payment)
    assert (desk.state(payment), desk.payment(payment).held_for) == (S.PAID, HoldReason.AMOUNT)


def test_money_paid_twice_is_credited_once_and_held_once(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    desk.pay(payment, 20_000)
    assert (desk.available(), desk.balance("suspense:payments")) == (10_000, 10_000)
    assert desk.payment(payment).held_for is HoldReason.AMOUNT
    desk.tell(payment, refunded_units=10_000)  # what was too much goes back, and is not the owner's loss
    assert (desk.available(), desk.balance("suspense:payments")) == (10_000, 0)
    assert (desk.state(payment), desk.payment(payment).hold_reason, desk.breaks()) == (S.CREDITED, None, [])


def test_another_currency_is_held_and_credited_as_it_is(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, 10_000, currency=USD)
    held = desk.payment(payment)
    assert (held.current, held.held_for, held.paid_currency) == (S.PAID, HoldReason.CURRENCY, USD)
    assert desk.breaks() == [("fiat.currency", EUR, USD)]
    assert (desk.available(EUR), desk.available(USD), desk.balance("suspense:payments", USD)) == (0, 0, 10_000)
    desk.release(payment)
    assert (desk.available(EUR), desk.available(USD)) == (0, 10_000)
    desk.tell(payment, refunded_units=10_000)
    assert desk.available(USD) == 0


def test_a_currency_that_changes_its_mind_is_not_believed(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    desk.tell(payment, currency=USD, paid_units=99_999)
    assert (desk.available(EUR), desk.available(USD)) == (10_000, 0)
    assert desk.breaks() == [("fiat.currency", EUR, USD)]


def test_paid_and_nothing_paid_is_a_break(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, 0)
    assert (desk.state(payment), desk.available()) == (S.PENDING, 0)
    assert desk.breaks() == [("fiat.amount", "10000", "0")]


def test_a_chargeback_after_the_money_was_spent_is_owed(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    spend(7_000)
    desk.tell(payment, disputed_units=10_000)
    assert (desk.state(payment), desk.available(), desk.balance(OWED)) == (S.DISPUTED, 0, 7_000)
    assert desk.balance("gateway:acme") == 0
    desk.tell(payment, disputed_units=0, charged_back_units=10_000)
    assert (desk.state(payment), desk.available(), desk.balance(OWED)) == (S.CHARGED_BACK, 0, 7_000)
    desk.tell(payment, charged_back_units=0)  # won in the second instance
    assert (desk.state(payment), desk.available(), desk.balance(OWED)) == (S.CREDITED, 3_000, 0)
    assert desk.payment(payment).short_units == 0
    assert desk.balance("gateway:acme") == 10_000


def test_the_policy_freeze_freezes_until_the_money_is_back(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_NEGATIVE_BALANCE", "freeze")
    settings.cache_clear()
    payment = desk.ordered(10_000)
    desk.pay(payment)
    spend(1)
    desk.tell(payment, disputed_units=10_000)
    assert _state_of_account() == "frozen"
    desk.tell(payment, disputed_units=0)
    assert _state_of_account() == "open"
    assert (desk.available(), desk.balance(OWED)) == (9_999, 0)


def test_an_account_that_a_deposit_holds_frozen_too_stays_so_when_the_money_is_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIAT_NEGATIVE_BALANCE", "freeze")
    settings.cache_clear()
    payment = desk.ordered(10_000)
    desk.pay(payment)
    spend(1)
    reorg = {"tenant": SHOP, "code": USER, "asset": EUR, "holder": "deposit:1", "reason": "a reorg", "actor": "test"}
    with transaction() as session:
        freezes.place(session, **reorg)
    desk.tell(payment, disputed_units=10_000)
    with transaction() as session:
        assert [one.holder for one in freezes.of_account(session, SHOP, USER)] == [
            "deposit:1",
            desk.payment(payment).subject,
        ]
    desk.tell(payment, disputed_units=0)
    assert (desk.balance(OWED), _state_of_account()) == (0, "frozen")
    with transaction() as session:
        freezes.lift(session, **reorg)
    assert _state_of_account() == "open"


def test_what_a_person_froze_stays_frozen_and_takes_the_debt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIAT_NEGATIVE_BALANCE", "freeze")
    settings.cache_clear()
    payment = desk.ordered(10_000)
    desk.pay(payment)
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=EUR, reason="looked odd", actor="ann")
    desk.tell(payment, disputed_units=10_000)
    assert (desk.available(), desk.balance(OWED)) == (10_000, 10_000)
    desk.tell(payment, disputed_units=0)
    assert (desk.available(), desk.balance(OWED), _state_of_account()) == (10_000, 0, "frozen")


def _state_of_account() -> str:
    from ledger import balances

    with transaction() as session:
        [account] = [one for one in balances.account(session, SHOP, USER) if one.asset == EUR]
        return account.state


def test_refunded_before_we_heard_of_the_payment(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, refunded_units=10_000)
    assert (desk.state(payment), desk.available(), desk.balance("gateway:acme")) == (S.REFUNDED, 0, 0)


def test_disputed_before_we_heard_of_the_payment_and_won(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment, disputed_units=10_000)
    assert (desk.state(payment), desk.available()) == (S.DISPUTED, 0)
    desk.tell(payment, disputed_units=0)
    assert (desk.state(payment), desk.available()) == (S.CREDITED, 10_000)


def test_a_webhook_is_a_hint_of_a_dispute_and_is_asked_about(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.pay(payment)
    desk.record(payment, desk.gateway.tell(str(payment), charged_back_units=10_000), source="webhook")
    assert (desk.state(payment), desk.available()) == (S.CREDITED, 10_000)
    due = desk.payment(payment).next_look_at
    assert due is not None
    assert due <= clock.now()
    desk.look(payment)
    assert (desk.state(payment), desk.available()) == (S.CHARGED_BACK, 0)


def test_an_account_that_is_closed_holds_the_payment(desk: Desk) -> None:
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=EUR, reason="test", actor="ann")
        accounts.close(session, tenant=SHOP, code=USER, asset=EUR, reason="left us", actor="ann")
    payment = desk.ordered(10_000)
    desk.pay(payment)
    assert (desk.state(payment), desk.payment(payment).held_for) == (S.PAID, HoldReason.ACCOUNT)
    assert desk.balance("suspense:payments") == 10_000
    with transaction() as session:
        accounts.reopen(session, tenant=SHOP, code=USER, asset=EUR, reason="is back", actor="ann")
    desk.release(payment)
    assert (desk.state(payment), desk.available()) == (S.CREDITED, 10_000)


def test_an_order_of_somebody_else_is_refused(desk: Desk) -> None:
    payment, other = desk.ordered(10_000), desk.ordered(10_000)
    with pytest.raises(InvariantError):
        desk.record(payment, desk.gateway.pay(str(other)))
    with pytest.raises(NotFoundError):
        desk.record(uuid4(), desk.gateway.orders[str(other)])
    assert desk.available() == 0


def test_a_payment_is_found_by_our_reference_or_by_theirs(desk: Desk) -> None:
    payment = desk.ordered(10_000)

    def found(**given: Any) -> UUID | None:
        with transaction() as session:
            one = service.find_payment(session, **{"provider": "acme", "reference": None, "provider_ref": None} | given)
            return None if one is None else one.id

    assert found(reference=str(payment)) == payment
    assert found(provider_ref="acme_1") == payment
    assert found(reference="pi_123", provider_ref="acme_1") == payment
    assert found(reference=str(payment), provider="bravo") is None
    assert found(reference=str(uuid4()), provider_ref="acme_2") is None


def test_only_what_the_payer_is_to_be_told_is_kept_of_instructions(desk: Desk) -> None:
    payment = desk.ordered(10_000)
    desk.tell(payment, instructions={"bank": "First", "account_number": "123", "payer_name": "Ann Payer"})
    assert desk.payment(payment).instructions == {"bank": "First", "account_number": "123"}
