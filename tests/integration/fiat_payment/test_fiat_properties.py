"""Whatever happens at the provider, told in any order and any number of times: each unit is credited once."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from core import clock
from core.ids import new_id
from domain.fiat_payment.states import PaymentState
from providers.fiat.base import Order, OrderState
from tests.integration.fiat_payment.desk import Desk, spend

ASKED = 10_000
part = st.integers(1, ASKED)


class Provider(RuleBasedStateMachine):
    """The truth is at the provider; we learn of it by snapshots, each of some moment of its past."""

    desk: Desk

    @initialize()
    def order(self) -> None:
        self.account = f"user:{new_id()}:available"
        self.payment = self.desk.create(ASKED, account=self.account)
        self.desk.order(self.payment)
        self.truth = self.desk.gateway.orders[str(self.payment)]
        self.moment = clock.now()
        self.snapshots: list[tuple[Order, datetime]] = []
        self.spent = self.untold = 0
        self._happens()

    def _happens(self, **changes: object) -> None:
        self.truth = replace(self.truth, **changes)  # type: ignore[arg-type]
        self.moment += timedelta(milliseconds=10)
        self.snapshots.append((self.truth, self.moment))
        self.untold += 1
        if self.untold % 2:  # every other time we are told at once: what follows on that is then tried more often
            self._learn()

    @property
    def _left(self) -> int:
        truth = self.truth
        return truth.paid_units - truth.refunded_units - truth.disputed_units - truth.charged_back_units

    # --- what happens there ------------------------------------------------------------------------------------------

    @rule()
    def the_payer_pays(self) -> None:
        """Once more, if he has already."""
        self._happens(state=OrderState.PAID, paid_units=self.truth.paid_units + ASKED, fee_units=29)

    @precondition(lambda self: self.untold > 8)  # rarely at first: what is held is not credited, and all ends there
    @rule(units=part)
    def another_amount_comes(self, units: int) -> None:
        self._happens(state=OrderState.PAID, paid_units=self.truth.paid_units + units)

    @precondition(lambda self: not self.truth.paid_units)
    @rule(state=st.sampled_from([OrderState.EXPIRED, OrderState.FAILED]))
    def it_ends(self, state: OrderState) -> None:
        self._happens(state=state)

    @precondition(lambda self: self._left)
    @rule(units=part)
    def it_is_refunded(self, units: int) -> None:
        self._happens(refunded_units=self.truth.refunded_units + min(units, self._left))

    @precondition(lambda self: self._left)
    @rule(units=part)
    def the_bank_disputes(self, units: int) -> None:
        self._happens(disputed_units=self.truth.disputed_units + min(units, self._left))

    @precondition(lambda self: self.truth.disputed_units)
    @rule(won=st.booleans())
    def a_dispute_ends(self, won: bool) -> None:
        lost = 0 if won else self.truth.disputed_units
        self._happens(disputed_units=0, charged_back_units=self.truth.charged_back_units + lost)

    @rule(fee=st.integers(0, 100))
    def the_fee_changes(self, fee: int) -> None:
        self._happens(fee_units=fee)

    # --- what we learn, and what is done here ------------------------------------------------------------------------

    @rule(data=st.data(), source=st.sampled_from(["find", "webhook"]))
    def a_snapshot_comes(self, data: st.DataObject, source: str) -> None:
        order, at = data.draw(st.sampled_from(self.snapshots))
        self.desk.record(self.payment, order, at=at, source=source)

    @rule()
    def the_newest_comes(self) -> None:
        self._learn()

    @precondition(lambda self: self.desk.payment(self.payment).hold_reason)
    @rule()
    def a_person_releases_it(self) -> None:
        self.desk.release(self.payment)

    @rule(units=part)
    def the_owner_spends(self, units: int) -> None:
        units = min(units, self.desk.balance(self.account))
        if units:
            spend(units, account=self.account)
            self.spent += units

    def _learn(self) -> None:
        self.moment += timedelta(milliseconds=10)
        self.desk.record(self.payment, self.truth, at=self.moment)

    # --- what holds --------------------------------------------------------------------------------------------------

    @invariant()
    def each_unit_is_somewhere_once(self) -> None:
        row = self.desk.payment(self.payment)
        owed = self.desk.balance(self.account.replace("available", "owed"))
        owners = self.desk.balance(self.account) - owed + self.spent
        assert owed == row.short_units
        assert owners == row.credited_out - row.returned_out
        assert owners + row.suspended_units == row.paid_units - row.gone_units
        assert owned_at_most(row.paid_units, owners)
        if row.paid_units == ASKED and row.current is PaymentState.CREDITED:
            assert (owners, row.hold_reason) == (ASKED - row.gone_units, None)

    @precondition(lambda self: self.truth.state is OrderState.OPEN)
    @rule(spent=part, won_at_once=st.booleans())
    def what_was_spent_is_disputed_and_won(self, spent: int, won_at_once: bool) -> None:
        """A debt comes and goes. Seeded: chance alone seldom puts these steps in this order."""
        self._happens(state=OrderState.PAID, paid_units=ASKED)
        self._learn()
        self.the_owner_spends(spent)
        self._happens(disputed_units=ASKED)
        self._learn()
        assert self.desk.balance(self.account.replace("available", "owed")) == self.spent
        self.each_unit_is_somewhere_once()
        if won_at_once:
            self._happens(disputed_units=0)
            self._learn()
            assert self.desk.balance(self.account) == ASKED - self.spent
            assert self.desk.balance(self.account.replace("available", "owed")) == 0

    def teardown(self) -> None:
        if not hasattr(self, "payment"):
            return
        self._learn()
        self.each_unit_is_somewhere_once()
        row = self.desk.payment(self.payment)
        assert (row.paid_units, row.refunded_units) == (self.truth.paid_units, self.truth.refunded_units)
        assert (row.disputed_units, row.charged_back_units) == (
            self.truth.disputed_units,
            self.truth.charged_back_units,
        )
        if row.hold_reason:
            self.desk.release(self.payment)
        assert self.desk.payment(self.payment).suspended_units == 0
        # Whatever is told again of the past from here on moves no money.
        before = self.desk.payment(self.payment).journals
        for order, at in self.snapshots:
            self.desk.record(self.payment, order, at=at)
        assert self.desk.payment(self.payment).journals == before
        self.desk.check_books()


def owned_at_most(paid: int, owners: int) -> bool:
    return 0 <= owners <= paid


@pytest.mark.timeout(240)
def test_each_unit_is_credited_once_in_whatever_order_it_is_told(desk: Desk) -> None:
    Provider.desk = desk
    run_state_machine_as_test(
        Provider,
        settings=settings(
            max_examples=8,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
