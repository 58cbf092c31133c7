"""Everything that may happen at a gateway, on its way to us and here, in any order, through all of a payment's path."""

from collections.abc import Callable
from typing import ClassVar
from uuid import UUID

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from providers.fiat.base import Gateway
from tests.conformance.gateway_lab import then_garbles
from tests.integration.fiat_payment import campaign_closing as closing
from tests.integration.fiat_payment.campaign_shop import RATES, Shop
from tests.integration.fiat_payment.truths import Truth
from tests.support import faulty
from tests.support.faulty import Fault
from tests.support.gateways.base import Double, then_hangs_up, then_says

PAYMENTS_MAX = 3
MOVING: dict[str, Fault] = {
    "500 after accepting": then_says(500),
    "hangs up after accepting": then_hangs_up,
    "garbled after accepting": then_garbles,
    "breaks off its answer": faulty.dies,
    "500 before": faulty.saying(500),
    "hangs up before": faulty.hangs_up,
    "429": faulty.saying(429),
    "slow": faulty.slow(0.02),
}
READING: dict[str, Fault] = {
    "500": faulty.saying(500),
    "429": faulty.saying(429),
    "hangs up": faulty.hangs_up,
    "dies": faulty.dies,
    "html": faulty.html,
    "slow": faulty.slow(0.02),
}
CREDITS = ["", "", "moment", "quote"]
Fits = Callable[[Truth], bool]


def is_calm(there: Truth) -> bool:
    """Paid once, and no bank asks it back: who disputes it is not given it back by other ways."""
    return bool(there.paid) and not there.running and not there.lost and there.times == 1


def is_contested(there: Truth) -> bool:
    return bool(there.running or there.lost)


class Campaign(RuleBasedStateMachine):
    double: ClassVar[Double]
    """One for all runs of a test: no two of its orders have the same number."""
    gateway: ClassVar[Gateway]
    patch: ClassVar[pytest.MonkeyPatch]

    @initialize(trusts=st.booleans(), first=st.booleans(), credit=st.sampled_from(CREDITS))
    def opens(self, trusts: bool, first: bool, credit: str) -> None:
        """`first`: one is ordered at once."""
        self.shop = Shop(self.double, self.gateway, self.patch, trusts=trusts)
        payment = self.shop.ask(credit)
        if first:
            self.shop.order(payment)

    # --- what the doubles are asked to do ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.shop.payments) < PAYMENTS_MAX)
    @rule(credit=st.sampled_from(CREDITS))
    def a_payment_is_asked_for(self, credit: str) -> None:
        self.shop.ask(credit)

    @rule(n=st.integers(0, 9))
    def its_order_is_made(self, n: int) -> None:
        self.shop.order(self._any(n))

    @precondition(lambda self: self._there(lambda there: not there.paid))
    @rule(n=st.integers(0, 9), change=st.sampled_from(["", "", "", "less", "more", "currency"]))
    def the_payer_pays(self, n: int, change: str) -> None:
        """What was asked, or not; in time, or after the order ended."""
        self.shop.pay(self._one(n, lambda there: not there.paid), change)

    @precondition(lambda self: self.double.pays_twice and self._untouched())
    @rule(n=st.integers(0, 9))
    def the_payer_pays_once_more(self, n: int) -> None:
        those = self._untouched()
        self.shop.pay(those[n % len(those)])

    @precondition(lambda self: self._there(lambda there: not there.paid))
    @rule(n=st.integers(0, 9), how=st.sampled_from(["fail", "expire"]))
    def it_ends_unpaid(self, n: int, how: str) -> None:
        getattr(self.double, how)(str(self._one(n, lambda there: not there.paid)))

    @precondition(lambda self: self._refunds and self._there(is_calm))
    @rule(n=st.integers(0, 9), part=st.integers(1, 8))
    def somebody_refunds_it_there(self, n: int, part: int) -> None:
        payment = self._one(n, is_calm)
        if units := self.shop.truth(payment).left * part // 8:
            self.double.refund_outside(str(payment), units)

    @precondition(lambda self: self._refunds)
    @rule(fails=st.booleans())
    def refunds_there_end(self, fails: bool) -> None:
        if fails and self.double.refunds_fail:
            self.double.fail_refunds()
        else:
            self.double.finish_refunds()

    @precondition(lambda self: self.double.charges_back and self._there(is_calm))
    @rule(n=st.integers(0, 9), at_once=st.booleans())
    def the_bank_asks_it_back(self, n: int, at_once: bool) -> None:
        payment = self._one(n, is_calm)
        if self.shop.truth(payment).left:
            (self.double.charge_back if at_once else self.double.dispute)(str(payment))

    @precondition(lambda self: self.double.charges_back and self._there(is_contested))
    @rule(n=st.integers(0, 9), won=st.booleans())
    def the_bank_decides(self, n: int, won: bool) -> None:
        """Also against what it said before."""
        payment = str(self._one(n, is_contested))
        (self.double.win_dispute if won else self.double.charge_back)(payment)

    @precondition(lambda self: self.shop.abilities.settlements)
    @rule()
    def the_provider_pays_out(self) -> None:
        self.double.settle()

    # --- what goes wrong ---------------------------------------------------------------------------------------------

    @rule(fault=st.sampled_from(sorted(MOVING)))
    def the_next_call_goes_wrong(self, fault: str) -> None:
        self.double.upset(MOVING[fault])

    @rule(fault=st.sampled_from(sorted(READING)), times=st.integers(1, 4))
    def questions_go_wrong(self, fault: str, times: int) -> None:
        self.double.upset(READING[fault], times=times, when=lambda asked: asked.method == "GET")

    @rule()
    def the_next_is_paid_before_we_are_answered(self) -> None:
        """And its webhooks come before the answer, too."""
        self.shop.pay_before_reply()

    @rule()
    def nothing_goes_wrong_any_more(self) -> None:
        self.double.calm()

    @rule(rate=st.sampled_from([*sorted(RATES), None]))
    def the_market_moves(self, rate: str | None) -> None:
        self.shop.move_rate(rate)

    # --- what comes of it --------------------------------------------------------------------------------------------

    @rule(n=st.integers(0, 99))
    def a_webhook_comes(self, n: int) -> None:
        if sent := self.shop.sent():
            self.shop.deliver(sent[n % len(sent)])

    @rule(backwards=st.booleans())
    def all_webhooks_come(self, backwards: bool) -> None:
        self.shop.deliver_all(backwards=backwards)

    @rule()
    def webhooks_are_lost(self) -> None:
        self.shop.lose_webhooks()

    @rule(n=st.integers(0, 99))
    def a_job_of_a_webhook_is_run_again(self, n: int) -> None:
        if self.shop.receipts:
            self.shop.handle_again(self.shop.receipts[n % len(self.shop.receipts)])

    @rule()
    def they_are_polled(self) -> None:
        self.shop.poll()

    @rule(n=st.integers(0, 9), part=st.integers(1, 8))
    def an_answer_comes_late(self, n: int, part: int) -> None:
        """What happens between the answer and its coming to us is told first."""
        payment = self._any(n)

        def meanwhile() -> None:
            if self._refunds and payment in self.shop.those(is_calm):
                self.somebody_refunds_it_there(self.shop.those(is_calm).index(payment), part)
                self.double.finish_refunds()
            self.shop.deliver_all()

        self.shop.look_late(payment, meanwhile)

    @precondition(lambda self: self.shop.abilities.settlements)
    @rule()
    def settlements_are_read(self) -> None:
        self.shop.read_settlements()

    @rule()
    def time_passes(self) -> None:
        self.shop.let_time_pass()

    @rule(n=st.integers(0, 9))
    def its_time_is_up_here(self, n: int) -> None:
        self.shop.expire_here(self._any(n))

    @precondition(lambda self: self._refunds)
    @rule(n=st.integers(0, 9), part=st.integers(1, 8))
    def a_refund_is_asked_for(self, n: int, part: int) -> None:
        self.shop.ask_refund(self._any(n), part, may_owe=part > 4)

    @precondition(lambda self: self.shop.refunds)
    @rule(n=st.integers(0, 9))
    def the_job_of_a_refund_is_run(self, n: int) -> None:
        self.shop.refund(self.shop.refunds[n % len(self.shop.refunds)])

    @rule(part=st.integers(1, 4))
    def the_owner_spends(self, part: int) -> None:
        self.shop.spend(part)

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_has_what_was_not_paid(self) -> None:
        closing.holds(self.shop)

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            closing.closes(self.shop)

    # --- which --------------------------------------------------------------------------------------------------------

    @property
    def _refunds(self) -> bool:
        return self.shop.abilities.refunds

    def _untouched(self) -> list[UUID]:
        """Paid once as asked, and nothing went back. What is converted would be so at two rates, which nobody tells."""
        asked = (self.double.currency, self.double.units, self.double.units)
        those = self.shop.those(lambda there: is_calm(there) and (there.currency, there.paid, there.left) == asked)
        return [payment for payment in those if payment not in self.shop.converted]

    def _any(self, n: int) -> UUID:
        return self.shop.payments[n % len(self.shop.payments)]

    def _one(self, n: int, fits: Fits) -> UUID:
        those = self.shop.those(fits)
        return those[n % len(those)]

    def _there(self, fits: Fits) -> bool:
        return bool(self.shop.those(fits))
