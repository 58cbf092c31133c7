"""A worker of payments that is killed at every step of a payment's life, and another that goes on.

Of each life, all parts are struck at the same step: making the order, crediting by a webhook, asking for a refund,
taking in by a webhook that it was made, and the look after it. The last life is the first in which nobody could be
killed: then no part has so many steps.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from sqlalchemy import select, text

from config import settings
from core import clock, jobs
from core.db import transaction
from core.jobs import Job, NewJob
from domain.fiat_payment import service
from domain.fiat_payment.service import Conversions, NewFiatPayment, NewRefund, PaymentState, RefundState
from domain.fiat_payment.settings import fiat_payment
from domain.webhook import service as webhooks
from domain.webhook.service import Arrived
from ledger import balances, invariants
from providers.webhooks.registry import schemes
from tests.integration.fiat_payment.truths import orders, truth
from tests.support.fleet import ROOT
from tests.support.gateways.base import PAYER_EMAIL, Double, Webhook
from tests.support.gateways.flutterwave import FlutterwaveDouble
from tests.support.gateways.serve import environment
from tests.support.gateways.stripe import StripeDouble
from workers import sweeper

SHOP = "shop"
RETURNED = 25_00
CONVERSIONS = Conversions(consume=lambda *_: pytest.fail("no quotes"), slippage_bps=0, spread_bps=lambda _: 0)
ORDER, HANDLE, REFUND = "fiat_webhook.create_order", "fiat_webhook.handle", "fiat_webhook.refund"
POLL, LOOK = "fiat_webhook.poll", "fiat_webhook.look"


class Doomed:
    """doomed.py, and what it was asked."""

    def __init__(self, folder: Path, double: Double, *options: str) -> None:
        self._options = options
        # A signed webhook about a payment that nobody has paid yet is believed; any other is asked about.
        trusted = json.dumps({double.currency: 10**12})
        self._environment = environment(double) | {"JOBS_LEASE": "60", "WEBHOOK_REFETCH_UNITS": trusted}
        self._log = (folder / "doomed.log").open("wb")
        self.deaths = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.doomed_worker", *self._options],
            cwd=ROOT, env=os.environ | self._environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=30)  # nothing more is asked: it ends
        self._log.close()

    def work(self, step: int, *names: str) -> str:
        """Killed at that step, if it comes to it; and then another, who is told what the dead one had begun."""
        answer = self._ask(step, names)
        if answer == "killed":
            self.deaths += 1
            with transaction() as session:
                session.execute(text("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE status = 'running'"))
            sweeper.sweep()
            answer = self._ask(0, names)
        return answer

    def _ask(self, step: int, names: tuple[str, ...]) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{step} {' '.join(names)}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


class Lives:
    def __init__(self, double: Double, doomed: Doomed) -> None:
        self.double, self.doomed = double, doomed
        self.refunds_once = double.gateway().abilities.refunds_once
        self.payments: list[UUID] = []
        self.passed = 0
        self.unknown = 0
        with transaction() as session:
            service.refresh_gateways(session, {double.name: double.gateway()})

    def live(self, step: int) -> int:
        """One payment from its order to a refund. Returns how often somebody was killed."""
        before = self.doomed.deaths
        payment, account = self._create(), f"user:{len(self.payments)}:available"
        assert self.doomed.work(step, ORDER) == "done"
        assert orders(self.double, str(payment)) == 1
        self.double.pay(str(payment))
        self._deliver_twice(self.double.take()[-1:])  # no other would mend what is lost with this one
        assert self.doomed.work(step, HANDLE) == "done"
        assert (self._state(payment), self._balance(account)) == (PaymentState.CREDITED, self.double.units)
        refund = self._request_refund(payment)
        self._is_there_or_unknown(payment, refund, self.doomed.work(step, REFUND))
        self.double.finish_refunds()
        self._deliver_twice(self.double.take()[-1:])
        assert self.doomed.work(step, HANDLE) == "done"
        assert self._balance(account) == self.double.units - truth(self.double, str(payment)).refunded
        self._look_at(payment)
        assert self.doomed.work(step, POLL, LOOK) == "done"
        self._came_true(payment, account, refund)
        deaths = self.doomed.deaths - before
        self.passed += deaths
        return deaths

    def _create(self) -> UUID:
        sample = self.double.order("sample")
        new = NewFiatPayment(
            tenant=SHOP,
            account=f"user:{len(self.payments) + 1}:available",
            currency=self.double.currency,
            units=self.double.units,
            method=sample.method,
            return_url=sample.return_url,
            payer_email=PAYER_EMAIL,
            expires_in=timedelta(hours=2),
        )
        with transaction() as session:
            self.payments.append(service.create(session, new, CONVERSIONS).id)
        return self.payments[-1]

    def _request_refund(self, payment: UUID) -> UUID:
        new = NewRefund(payment_id=payment, units=RETURNED, reason="asked", actor="ann")
        with transaction() as session:
            return service.request_refund(session, new).id

    def _deliver_twice(self, sent: list[Webhook]) -> None:
        """As the API does. The second is a repeat."""
        arrived = []
        for one in sent:
            headers = {name.lower(): value for name, value in one.headers.items()}
            headers[":path"] = urlsplit(self.double.order("sample").webhook_url or "").path
            genuine = schemes()[self.double.name].check(one.body, headers, [self.double.webhook_secret], clock.now())
            arrived.append(
                Arrived(
                    provider=self.double.name, event_id=genuine.event_id, body=one.body, headers=headers,
                    secret=genuine.secret, remote=None, correlation_id=None,
                )
            )  # fmt: skip
        with transaction() as session:
            kept = webhooks.keep(session, arrived + arrived)
        assert [one.is_repeat for one in kept] == [False] * len(sent) + [True] * len(sent)

    def _look_at(self, payment: UUID) -> None:
        """What beat does when a look is due."""
        with transaction() as session:
            session.execute(text("UPDATE fiat_payments SET next_look_at = now() WHERE id = :id"), {"id": payment})
            jobs.submit(session, NewJob(POLL, {}))

    # --- what holds --------------------------------------------------------------------------------------------------

    def _is_there_or_unknown(self, payment: UUID, refund: UUID, answer: str) -> None:
        """Never twice. Where the provider could make it twice and knows none, nobody asks again: a person decides."""
        if answer == "done":
            return
        assert answer == "waits" and not self.refunds_once
        self.unknown += 1
        with transaction() as session:
            found = {one.id: one.current for one in service.refunds(session, payment)}
            assert found[refund] is RefundState.UNKNOWN
            session.execute(text("DELETE FROM jobs WHERE status = 'queued' AND task = :task"), {"task": REFUND})

    def _came_true(self, payment: UUID, account: str, refund: UUID) -> None:
        there = truth(self.double, str(payment))
        with transaction() as session:
            (row,) = service.refunds(session, payment)
            history = [each.event for each in service.history(session, payment)]
            waiting = session.scalars(text("SELECT state FROM webhook_receipts WHERE settled_at IS NULL")).all()
            undone = session.execute(select(Job.task, Job.status).where(Job.status != "succeeded")).all()
            session.execute(text("UPDATE fiat_payments SET next_look_at = NULL WHERE id = :id"), {"id": payment})
        assert row.id == refund
        if row.current is RefundState.UNKNOWN:
            assert there.refunded == 0
        else:
            assert (row.current, there.refunded) == (RefundState.DONE, RETURNED)
        assert (self._state(payment), there.paid) == (PaymentState.CREDITED, self.double.units)
        assert self._balance(account) == there.paid - there.refunded
        assert history.count("credit") == 1 and history.count("refund_requested") == 1
        assert (waiting, undone) == ([], [])

    def the_books_agree(self) -> None:
        owed = sum(truth(self.double, str(payment)).owed for payment in self.payments)
        assert self._balance(f"gateway:{self.double.name}") == owed
        with transaction() as session:
            assert invariants.verify(session) == []

    def _state(self, payment: UUID) -> PaymentState:
        with transaction() as session:
            found = service.get(session, payment)
        assert found is not None
        return found.current

    def _balance(self, code: str) -> int:
        with transaction() as session:
            return balances.balance(session, SHOP, code, self.double.currency)


@pytest.fixture
def patch(books: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    monkeypatch.setenv("JOBS_LEASE", "1")  # the sweeper spares leases for one after PostgreSQL's start
    monkeypatch.setenv("FIAT_UNKNOWN_WINDOW", "0.2")
    monkeypatch.setenv("FIAT_PAYER_KEY", "5c" * 32)
    monkeypatch.setenv("FIAT_WEBHOOK_BASE_URL", "https://api.example")
    settings.jobs.cache_clear()
    fiat_payment.cache_clear()
    yield monkeypatch
    settings.jobs.cache_clear()


def strike(double: Double, folder: Path, steps: Iterable[int], *options: str) -> None:
    with Doomed(folder, double, *options) as doomed:
        lives = Lives(double, doomed)
        for step in steps:
            if not lives.live(step):
                break
        else:
            pytest.fail("a part has more steps than this was made for")
        lives.the_books_agree()
    assert lives.passed == doomed.deaths > len(lives.payments)
    print(f"{double.name}: {doomed.deaths} kill points, {lives.passed} passed; {lives.unknown} refunds are a person's")


kinds = pytest.mark.parametrize("kind", [StripeDouble, FlutterwaveDouble], ids=["stripe", "flutterwave"])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(StripeDouble, id="stripe"),
        pytest.param(FlutterwaveDouble, id="flutterwave", marks=pytest.mark.faults),
    ],
)
@pytest.mark.usefixtures("patch")
def test_whoever_is_killed_all_is_done_once(kind: type[Double], tmp_path: Path) -> None:
    """At every fifth commit and request where orders and refunds are asked for, and at some of all others."""
    with kind() as double:
        strike(double, tmp_path, chain(range(1, 20, 5), range(20, 500, 16)))


@kinds
@pytest.mark.faults
@pytest.mark.timeout(1_800)
@pytest.mark.usefixtures("patch")
def test_whoever_is_killed_at_whatever_statement_all_is_done_once(kind: type[Double], tmp_path: Path) -> None:
    with kind() as double:
        strike(double, tmp_path, range(1, 1_000), "--statements")
