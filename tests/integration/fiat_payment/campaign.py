"""Everything that may happen at a gateway, on its way to us and here, in any order, through all of a payment's path.

Payments are made by the domain, and their tasks are called as the workers would. The gateway is a double that speaks
its provider's wire format over HTTP; its webhooks come through the check of signatures, the receipts and their task.
What the double has in its own rows in the end is what the books must say.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import select, text

from core import clock
from core.breaks import Break
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, OutcomeUnknownError, TransientError
from core.jobs import Job
from domain.fiat_payment import service
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.service import Conversions, NewFiatPayment, NewRefund, PaymentState
from domain.webhook import service as webhooks
from domain.webhook.settings import webhook as webhook_settings
from domain.webhook.states import ReceiptState
from ledger import balances, invariants, posting
from ledger.errors import InsufficientFundsError
from ledger.posting import Journal, Posting
from providers.fiat.base import Gateway
from providers.webhooks.registry import schemes
from tasks import fiat_payments, fiat_webhook
from tests.conformance.gateway_lab import then_garbles
from tests.integration.fiat_payment.truths import Truth, orders, truth
from tests.support import faulty
from tests.support.faulty import Fault
from tests.support.gateways.base import PAYER_EMAIL, Double, Webhook, before_reply, then_hangs_up, then_says

S = PaymentState
PAYMENTS_MAX = 3
WINDOW = timedelta(minutes=3)
"""Longer than FIAT_UNKNOWN_WINDOW."""
ROUNDS = 8
"""In which everything must come to rest once nothing goes wrong any more."""
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
CONVERSIONS = Conversions(consume=lambda *_: pytest.fail("there are no quotes"), slippage_bps=0, spread_bps=lambda _: 0)
NOT_NOW = (OutcomeUnknownError, TransientError)
"""What a job ends with that is run again."""


class Campaign(RuleBasedStateMachine):
    double: ClassVar[Double]
    """One for all runs of a test: no two of its orders have the same number."""
    patch: ClassVar[pytest.MonkeyPatch]

    @initialize(trusts=st.booleans(), first=st.booleans())
    def opens(self, trusts: bool, first: bool) -> None:
        """`trusts`: signed webhooks about new payments are believed. `first`: one is ordered at once."""
        self.double.calm()
        self.double.take()
        self.gateways: dict[str, Gateway] = {self.double.name: self.double.gateway(answer_timeout=3.0)}
        self.patch.setattr("tasks.fiat_payments.gateways", lambda: self.gateways)
        self.patch.setattr("providers.fiat.registry.get", lambda name: self.gateways[name])
        threshold = 10**9 if trusts else 1
        self.patch.setenv(
            "WEBHOOK_REFETCH_UNITS",
            f'{{"{self.double.currency}": {threshold}, "{self.double.other_currency}": {threshold}}}',
        )
        webhook_settings.cache_clear()
        with transaction() as session:
            service.refresh_gateways(session, self.gateways)
        self.tenant = f"shop-{uuid4().hex[:12]}"
        self.payments: list[UUID] = []
        self.refunds: list[UUID] = []
        self.backlog: list[Webhook] = []
        """All that were sent, and may still come: once, often or never."""
        self.lost: list[Webhook] = []
        self.unhandled: list[UUID] = []
        self.receipts: list[UUID] = []
        self.errors: list[BaseException] = []
        self.spent: Counter[str] = Counter()
        self.job = self._last_job()
        self.a_payment_is_asked_for()
        if first:
            self._order(self.payments[0])

    # --- what the doubles are asked to do ----------------------------------------------------------------------------

    @precondition(lambda self: len(self.payments) < PAYMENTS_MAX)
    @rule()
    def a_payment_is_asked_for(self) -> None:
        sample = self.double.order("sample")
        new = NewFiatPayment(
            tenant=self.tenant,
            account="user:42:available",
            currency=self.double.currency,
            units=self.double.units,
            method=sample.method,
            return_url=sample.return_url,
            payer_email=PAYER_EMAIL,
            expires_in=timedelta(hours=2),
        )
        with transaction() as session:
            self.payments.append(service.create(session, new, CONVERSIONS).id)

    @rule(n=st.integers(0, 9))
    def its_order_is_made(self, n: int) -> None:
        self._order(self._one(n))

    @precondition(lambda self: self._at_double(lambda truth: not truth.paid))
    @rule(n=st.integers(0, 9), change=st.sampled_from(["", "", "", "less", "more", "currency"]))
    def the_payer_pays(self, n: int, change: str) -> None:
        """What was asked, or not; in time, or after the order ended."""
        reference = str(self._one(n, lambda truth: not truth.paid))
        units = {"less": self.double.units - 100, "more": self.double.units + 700}.get(change)
        self.double.pay(reference, units, self.double.other_currency if change == "currency" else None)

    @precondition(lambda self: self._at_double(lambda truth: not truth.paid))
    @rule(n=st.integers(0, 9), how=st.sampled_from(["fail", "expire"]))
    def it_ends_unpaid(self, n: int, how: str) -> None:
        getattr(self.double, how)(str(self._one(n, lambda truth: not truth.paid)))

    @precondition(lambda self: self._refunds and self._at_double(_is_calm))
    @rule(n=st.integers(0, 9), part=st.integers(1, 8))
    def somebody_refunds_it_there(self, n: int, part: int) -> None:
        reference = str(self._one(n, _is_calm))
        units = self._left(reference) * part // 8
        if units:
            self.double.refund_outside(reference, units)

    @precondition(lambda self: self._refunds)
    @rule(fails=st.booleans())
    def refunds_there_end(self, fails: bool) -> None:
        if fails and self.double.refunds_fail:
            self.double.fail_refunds()
        else:
            self.double.finish_refunds()

    @precondition(lambda self: self.double.charges_back and self._at_double(_is_calm))
    @rule(n=st.integers(0, 9), at_once=st.booleans())
    def the_bank_asks_it_back(self, n: int, at_once: bool) -> None:
        reference = str(self._one(n, _is_calm))
        if not self._left(reference):
            return
        (self.double.charge_back if at_once else self.double.dispute)(reference)

    @precondition(lambda self: self.double.charges_back and self._at_double(_is_contested))
    @rule(n=st.integers(0, 9), won=st.booleans())
    def the_bank_decides(self, n: int, won: bool) -> None:
        """Also against what it said before."""
        reference = str(self._one(n, _is_contested))
        (self.double.win_dispute if won else self.double.charge_back)(reference)

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
        self.double.upset(before_reply(self._early))

    def _early(self) -> None:
        try:
            for payment in self._those(lambda truth: not truth.paid):
                self.double.pay(str(payment))
            for one in self._sent():
                self._deliver(one)
        except BaseException as error:  # noqa: BLE001  # told by the invariant: this is a thread of the double
            self.errors.append(error)

    @rule()
    def nothing_goes_wrong_any_more(self) -> None:
        self.double.calm()

    # --- what comes of it --------------------------------------------------------------------------------------------

    @rule(n=st.integers(0, 99))
    def a_webhook_comes(self, n: int) -> None:
        if sent := self._sent():
            self._deliver(sent[n % len(sent)])

    @rule(backwards=st.booleans())
    def all_webhooks_come(self, backwards: bool) -> None:
        """Also those that came before."""
        sent = self._sent()
        for one in sent[::-1] if backwards else sent:
            self._deliver(one)

    @rule()
    def webhooks_are_lost(self) -> None:
        self.lost += self._sent()
        self.backlog.clear()

    @rule(n=st.integers(0, 99))
    def a_job_of_a_webhook_is_run_again(self, n: int) -> None:
        if self.receipts:
            self._handle(self.receipts[n % len(self.receipts)])

    @rule()
    def they_are_polled(self) -> None:
        self._poll()

    @rule()
    def time_passes(self) -> None:
        """So much that what is not found will not turn up any more."""
        self._change("fiat_attempts a", "asked_at = a.asked_at - :span", "a.payment_id = p.id", span=WINDOW)
        self._change("fiat_refunds a", "asked_at = a.asked_at - :span", "a.payment_id = p.id", span=WINDOW)

    @rule(n=st.integers(0, 9))
    def its_time_is_up_here(self, n: int) -> None:
        with transaction() as session:
            session.execute(
                text("UPDATE fiat_payments SET expires_at = now() - interval '1 s' WHERE id = :id"),
                {"id": self._one(n)},
            )

    @precondition(lambda self: self._refunds)
    @rule(n=st.integers(0, 9), part=st.integers(1, 8))
    def a_refund_is_asked_for(self, n: int, part: int) -> None:
        payment = self._one(n)
        row = self._row(payment)
        new = NewRefund(
            payment_id=payment, units=row.paid_units * part // 8, reason="asked", actor="ann", may_owe=part > 4
        )
        try:
            with transaction() as session:
                self.refunds.append(service.request_refund(session, new).id)
        except (ConflictError, InvalidRequestError, InsufficientFundsError):
            return
        self._refund(self.refunds[-1])

    @precondition(lambda self: self.refunds)
    @rule(n=st.integers(0, 9))
    def the_job_of_a_refund_is_run(self, n: int) -> None:
        self._refund(self.refunds[n % len(self.refunds)])

    @rule(part=st.integers(1, 4))
    def the_owner_spends(self, part: int) -> None:
        units = self._balance("user:42:available") * part // 4
        if not units:
            return
        move = Posting(
            source="user:42:available", destination="user:7:available", asset=self.double.currency, units=units
        )
        with suppress(InsufficientFundsError), transaction() as session:  # a part may be held for a refund
            posting.post(
                session, Journal(tenant=self.tenant, reference=f"spent:{uuid4()}", category="test", postings=[move])
            )
            self.spent[self.double.currency] += units

    # --- what holds ---------------------------------------------------------------------------------------------------

    @invariant()
    def nobody_has_what_was_not_paid(self) -> None:
        assert not self.errors, self.errors
        for payment in self.payments:
            row = self._row(payment)
            there = self._truth(payment)
            assert orders(self.double, str(payment)) <= 1
            assert row.credited_units + row.suspended_units <= there.paid
            if row.credited_units:
                assert (there.paid, there.currency) == (self.double.units, self.double.currency), (
                    "and nobody released it"
                )

    def teardown(self) -> None:
        if not hasattr(self, "job"):
            return
        try:
            self._comes_to_rest()
            for payment in self.payments:
                self._is_told(payment)
            self._the_books_agree()
            self._held_are_released()
            self._the_books_agree()
            self._the_past_comes_again()
        finally:
            with transaction() as session:
                session.execute(
                    text("UPDATE fiat_payments SET next_look_at = NULL WHERE tenant = :tenant"), {"tenant": self.tenant}
                )

    def _comes_to_rest(self) -> None:
        self.double.calm()
        for _ in range(ROUNDS):
            self.time_passes()
            for payment in self.payments:
                self._order(payment)
            for refund in self.refunds:
                self._refund(refund)
            self.double.finish_refunds()
            for one in self._sent():
                self._deliver(one)
            self.backlog.clear()
            for receipt in list(self.unhandled):
                self._handle(receipt)
            self._poll()
            if self._rests():
                break
        self._poll()
        assert self._rests()
        with transaction() as session:
            for receipt in self.receipts:
                assert webhooks.get(session, receipt).current is ReceiptState.HANDLED

    def _rests(self) -> bool:
        with transaction() as session:
            refunds = [one for payment in self.payments for one in service.refunds(session, payment)]
        done = all(refund.state in ("done", "failed") and refund.hold_id is None for refund in refunds)
        return done and not self.unhandled and all(self._row(one).state != "created" for one in self.payments)

    def _is_told(self, payment: UUID) -> None:
        """Its row is what the double has."""
        row, there = self._row(payment), self._truth(payment)
        assert (row.paid_units, row.refunded_units) == (there.paid, there.refunded)
        assert (row.disputed_units, row.charged_back_units) == (there.running, there.lost)
        if not there.paid:
            assert row.current in (S.PENDING, S.FAILED, S.EXPIRED)
            return
        assert (row.paid_currency, row.fee_units) == (there.currency, there.fee)
        as_asked = (there.currency, there.paid) == (self.double.currency, self.double.units)
        if not there.left:
            assert (row.hold_reason, row.suspended_units) == (None, 0)
        elif as_asked:
            assert (row.credited_units, row.suspended_units, row.hold_reason) == (there.paid, 0, None)
        else:
            assert (row.credited_units, row.suspended_units) == (0, there.left)
            reason = "currency" if there.currency != self.double.currency else "amount"
            assert (row.hold_reason, self._breaks(payment)) == (reason, [f"fiat.{reason}"])
        assert row.current is _expected(there, is_held=bool(row.hold_reason))

    def _the_books_agree(self) -> None:
        """With the double: what it owes, what the owner has, and with themselves."""
        truths = [(self._row(payment), self._truth(payment)) for payment in self.payments]
        for currency in (self.double.currency, self.double.other_currency):
            of_it = [(row, there) for row, there in truths if there.currency == currency]
            assert self._balance(f"gateway:{self.double.name}", currency) == sum(there.owed for _, there in of_it)
            net = sum(there.left for row, there in of_it if not row.hold_reason)
            owners = self._balance("user:42:available", currency) - self._balance("user:42:owed", currency)
            assert owners + self.spent[currency] == net
            assert self._balance("suspense:payments", currency) == sum(there.left for _, there in of_it) - net
        with transaction() as session:
            assert invariants.verify(session) == []

    def _held_are_released(self) -> None:
        for payment in self.payments:
            if self._row(payment).hold_reason:
                with transaction() as session:
                    service.release(session, payment, actor="ann", reason="talked to the payer")
                row, there = self._row(payment), self._truth(payment)
                assert (row.hold_reason, row.suspended_units) == (None, 0)
                assert row.credited_units == there.left
                assert self._breaks(payment) == []

    def _the_past_comes_again(self) -> None:
        """Whatever is told again moves no money."""
        before = [self._row(payment).journals for payment in self.payments]
        for receipt in self.receipts:
            self._handle(receipt)
        for one in self.lost:
            self._deliver(one)
        self._poll()
        assert [self._row(payment).journals for payment in self.payments] == before
        assert not self.unhandled

    # --- how ----------------------------------------------------------------------------------------------------------

    @property
    def _refunds(self) -> bool:
        return self.double.gateway().abilities.refunds

    def _order(self, payment: UUID) -> None:
        with suppress(*NOT_NOW):
            fiat_payments.create_order(payment)

    def _refund(self, refund: UUID) -> None:
        with suppress(*NOT_NOW):
            fiat_payments.refund(refund)

    def _poll(self) -> None:
        """All are due, and each look that is asked for is done."""
        self._change("fiat_payments a", "next_look_at = now()", "a.id = p.id AND a.next_look_at IS NOT NULL")
        fiat_payments.poll()
        for args in self._jobs("fiat_webhook.look"):
            if UUID(args["payment_id"]) in self.payments:
                fiat_payments.look(UUID(args["payment_id"]))

    def _sent(self) -> list[Webhook]:
        self.backlog += self.double.take()
        return list(self.backlog)

    def _deliver(self, sent: Webhook) -> None:
        """As the API does, and then as a worker."""
        headers = {name.lower(): value for name, value in sent.headers.items()}
        headers[":path"] = urlsplit(self.double.order("sample").webhook_url or "").path
        genuine = schemes()[self.double.name].check(sent.body, headers, [self.double.webhook_secret], clock.now())
        arrived = webhooks.Arrived(
            provider=self.double.name,
            event_id=genuine.event_id,
            body=sent.body,
            headers=headers,
            secret=genuine.secret,
            remote=None,
            correlation_id=None,
        )
        with transaction() as session:
            webhooks.keep(session, [arrived])
        for args in self._jobs("fiat_webhook.handle"):
            self.receipts.append(UUID(args["receipt_id"]))
            self._handle(self.receipts[-1])

    def _handle(self, receipt: UUID) -> None:
        try:
            fiat_webhook.handle(receipt)
        except NOT_NOW:
            if receipt not in self.unhandled:
                self.unhandled.append(receipt)
        else:
            if receipt in self.unhandled:
                self.unhandled.remove(receipt)

    def _last_job(self) -> dict[str, UUID]:
        with transaction() as session:
            last = session.scalar(select(Job.id).order_by(Job.id.desc()).limit(1)) or UUID(int=0)
        return dict.fromkeys(("fiat_webhook.look", "fiat_webhook.handle"), last)

    def _jobs(self, task: str) -> list[dict[str, Any]]:
        """The arguments of those that were submitted since we looked."""
        with transaction() as session:
            query = select(Job.id, Job.args).where(Job.id > self.job[task], Job.task == task).order_by(Job.id)
            rows = session.execute(query).all()
        self.job[task] = rows[-1][0] if rows else self.job[task]
        return [row[1] for row in rows]

    def _change(self, table: str, change: str, where: str, **values: Any) -> None:
        """Of this tenant's payments. The words are all of this module."""
        with transaction() as session:
            session.execute(
                text(f"UPDATE {table} SET {change} FROM fiat_payments p WHERE {where} AND p.tenant = :tenant"),
                {"tenant": self.tenant, **values},
            )

    def _row(self, payment: UUID) -> FiatPayment:
        with transaction() as session:
            found = service.get(session, payment)
        assert found is not None
        return found

    def _truth(self, payment: UUID) -> Truth:
        return truth(self.double, str(payment)) if orders(self.double, str(payment)) else Truth()

    def _left(self, reference: str) -> int:
        """Of what was paid: also less refunds that are under way, of which no bank asks anything back."""
        return self._truth(UUID(reference)).left

    def _those(self, fits: Callable[[Truth], bool]) -> list[UUID]:
        there = [payment for payment in self.payments if orders(self.double, str(payment))]
        return [payment for payment in there if fits(self._truth(payment))]

    def _at_double(self, fits: Callable[[Truth], bool]) -> bool:
        return bool(self._those(fits))

    def _one(self, n: int, fits: Callable[[Truth], bool] | None = None) -> UUID:
        those = self.payments if fits is None else self._those(fits)
        return those[n % len(those)]

    def _breaks(self, payment: UUID) -> list[str]:
        with transaction() as session:
            query = select(Break.kind).where(Break.subject == f"fiat_payment:{payment}", Break.state == "open")
            return list(session.scalars(query))

    def _balance(self, code: str, asset: str | None = None) -> int:
        with transaction() as session:
            return balances.balance(session, self.tenant, code, asset or self.double.currency)


def _is_calm(there: Truth) -> bool:
    """Paid, and no bank asks it back: who disputes it is not given it back by other ways."""
    return bool(there.paid) and not there.running and not there.lost


def _is_contested(there: Truth) -> bool:
    return bool(there.running or there.lost)


def _expected(there: Truth, *, is_held: bool) -> PaymentState:
    if there.running:
        return S.DISPUTED
    if there.lost:
        return S.CHARGED_BACK
    if there.refunded >= there.paid:
        return S.REFUNDED
    return S.PAID if is_held else S.CREDITED
