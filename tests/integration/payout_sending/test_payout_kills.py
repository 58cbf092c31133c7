"""A worker of payouts that is killed at every step of a payout's life, and another that goes on.

Of each life all parts are struck at the same step: sending, looking it up, taking in by a webhook that it was paid,
and by another that it came back. The last life is the first in which nobody could be killed: no part has so many steps.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from uuid import UUID

import pytest
from sqlalchemy import text

from config import settings
from core import clock, jobs
from core.db import transaction
from core.jobs import NewJob
from domain.payout.states import PayoutState
from domain.webhook import service as webhooks
from domain.webhook.service import Arrived
from ledger import balances, invariants
from providers.webhooks.registry import schemes
from tests.integration.payout_sending.desk import FEE, RICH, SHOP, USER, Desk
from tests.support.fleet import ROOT
from tests.support.payouts import DOUBLES, flutterwave, razorpayx, stripe
from tests.support.payouts.base import Double
from workers import sweeper

S = PayoutState
SUBMIT, LOOK, POLL, HANDLE = "payout.submit", "payout.look", "payout.poll", "fiat_webhook.handle"
CREDENTIALS = {
    "flutterwave": {"SECRET_KEY": flutterwave.KEY},
    "razorpayx": {
        "KEY_ID": razorpayx.KEY_ID,
        "KEY_SECRET": razorpayx.KEY_SECRET,
        "ACCOUNT_NUMBER": razorpayx.ACCOUNT,
    },
    "stripe": {"SECRET_KEY": stripe.KEY},
}
LOOKS_MAX = 12


class Doomed:
    """doomed.py, and what it was asked."""

    def __init__(self, folder: Path, doubles: Sequence[Double], *options: str) -> None:
        self._environment = {"JOBS_LEASE": "60"}
        for double in doubles:
            own = {
                **CREDENTIALS[double.name],
                "BASE_URL": double.url,
                "CURRENCIES": json.dumps({double.currency: [1, double.units_max]}),
            }
            prefix = f"PAYOUT_{double.name.upper()}_"
            self._environment |= {f"{prefix}{name}": value for name, value in own.items()}
        self._options = options
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

    def work(self, step: int, *names: str) -> None:
        """Killed at that step, if it comes to it; and then another, who is told what the dead one had begun."""
        answer = self._ask(step, names)
        if answer == "killed":
            self.deaths += 1
            with transaction() as session:
                session.execute(text("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE status = 'running'"))
            sweeper.sweep()
            answer = self._ask(0, names)
        assert answer == "done", answer

    def _ask(self, step: int, names: tuple[str, ...]) -> str:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{step} {' '.join(names)}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


class Lives:
    def __init__(self, desk: Desk, double: Double, doomed: Doomed) -> None:
        self.desk, self.double, self.doomed = desk, double, doomed
        self.payouts = 0
        self.units = 1_000_00
        self.passed = 0
        self.returned = 0

    def live(self, step: int) -> int:
        """One payout until it is paid and came back. Returns how often somebody was killed."""
        before = self.doomed.deaths
        self.payouts += 1
        self.desk.give(self.units + FEE, asset=self.double.currency)
        payout_id = self.desk.approved(
            units=self.units, destination=self.double.destinations[0], asset=self.double.currency,
            payout_asset=self.double.currency, job=True,
        )  # fmt: skip
        self.doomed.work(step, SUBMIT)
        self._until(payout_id, step, {S.SUBMITTED, S.PAID})
        reference = self._only(payout_id)
        self._act(step, lambda: self.double.pay(reference))
        self._until(payout_id, step, {S.PAID})
        assert self._balance(USER) == 0
        if self.payouts % 2:  # every other comes back
            self._act(step, lambda: self.double.give_back(reference))
            self._until(payout_id, step, {S.RETURNED})
            assert self._balance(USER) == self.units + FEE
            self.desk.give(-(self.units + FEE), asset=self.double.currency)
            self.returned += 1
        self._only(payout_id)
        deaths = self.doomed.deaths - before
        self.passed += deaths
        return deaths

    def _act(self, step: int, act: Any) -> None:
        """A bank does something, and its webhook comes twice."""
        self.double.take()
        act()
        sent = self.double.take()[-1:]
        arrived = []
        for one in sent:
            headers = {name.lower(): value for name, value in one.headers.items()}
            headers[":path"] = f"/v1/webhooks/{self.double.name}"
            genuine = schemes()[self.double.name].check(one.body, headers, [self.double.webhook_secret], clock.now())
            arrived.append(
                Arrived(
                    provider=self.double.name, event_id=genuine.event_id, body=one.body, headers=headers,
                    secret=genuine.secret, remote=None, correlation_id=None,
                )
            )  # fmt: skip
        with transaction() as session:
            webhooks.keep(session, arrived + arrived)
        self.doomed.work(step, HANDLE, LOOK)

    def _until(self, payout_id: UUID, step: int, wanted: set[S]) -> None:
        """The poll, whenever a look is due. It is killed the first time, too."""
        for _ in range(LOOKS_MAX):
            if self.desk.state(payout_id) in wanted:
                return
            with transaction() as session:
                session.execute(text("UPDATE payouts SET next_look_at = now() WHERE id = :id"), {"id": payout_id})
                jobs.submit(session, NewJob(POLL, {}))
            self.doomed.work(step, POLL, LOOK, SUBMIT)
            step = 0
        pytest.fail(f"it is {self.desk.state(payout_id)}: {self.desk.events(payout_id)}")

    # --- what holds --------------------------------------------------------------------------------------------------

    def _only(self, payout_id: UUID) -> str:
        """However often it was sent, there is one at the provider."""
        made = [each.reference for each in self.desk.attempts(payout_id) if self.double.accepted(each.reference)]
        assert [self.double.accepted(reference) for reference in made] == [1]
        return made[0]

    def the_books_agree(self) -> None:
        there = self._balance(f"custody:provider:{self.double.name}")
        costs = self._balance("house:payout_fees")
        kept = self.payouts - self.returned
        assert -there == self.double.paid_units() + costs == kept * self.units + costs
        assert self._balance("house:fees") == kept * FEE
        assert (self._balance("transit:payouts"), self._balance("suspense:payouts"), self._balance(USER)) == (0, 0, 0)
        with transaction() as session:
            undone = session.execute(text("SELECT task, status FROM jobs WHERE status <> 'succeeded'")).all()
            waiting = session.scalars(text("SELECT state FROM webhook_receipts WHERE settled_at IS NULL")).all()
            assert invariants.verify(session) == []
        assert (list(undone), list(waiting), self.desk.breaks()) == ([], [], [])

    def _balance(self, code: str) -> int:
        with transaction() as session:
            return balances.balance(session, SHOP, code, self.double.currency)


@pytest.fixture
def patch(books: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    books.setenv("JOBS_LEASE", "1")  # the sweeper spares leases for one after PostgreSQL's start
    books.setenv("PAYOUT_UNKNOWN_AFTER", "0.001")
    books.setenv("PAYOUT_UNKNOWN_WINDOW", "0.001")
    settings.jobs.cache_clear()
    yield books
    settings.jobs.cache_clear()


def strike(lives: Lives, steps: Iterable[int]) -> None:
    before = lives.doomed.deaths
    for step in steps:
        if not lives.live(step):
            break
    else:
        pytest.fail("a part has more steps than this was made for")
    lives.the_books_agree()
    deaths = lives.doomed.deaths - before
    assert lives.passed == deaths > lives.payouts
    print(f"{lives.double.name}: {deaths} crash points, {lives.passed} passed")


def desk_of(patch: pytest.MonkeyPatch, doubles: Sequence[Double]) -> Desk:
    desk = Desk.of(patch, *(double.provider() for double in doubles))  # type: ignore[arg-type]
    desk.give(-RICH)
    return desk


def test_whoever_is_killed_it_is_paid_once(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    """At some commits and requests, at each provider at others."""
    with ExitStack() as stack:
        doubles = [stack.enter_context(kind()) for kind in DOUBLES]
        desk = desk_of(patch, doubles)
        doomed = stack.enter_context(Doomed(tmp_path, doubles))
        for double, steps in zip(doubles, ((3, 5, 999), (4, 6, 999), (2, 4, 999)), strict=True):
            strike(Lives(desk, double, doomed), steps)


@pytest.mark.parametrize("kind", DOUBLES, ids=lambda kind: kind.name)
@pytest.mark.faults
@pytest.mark.timeout(1_800)
def test_whoever_is_killed_at_whatever_statement_it_is_paid_once(
    kind: type[Double], tmp_path: Path, patch: pytest.MonkeyPatch
) -> None:
    """At every statement, and before and after every commit and every request."""
    with kind() as double, Doomed(tmp_path, [double], "--statements") as doomed:
        strike(Lives(desk_of(patch, [double]), double, doomed), range(1, 1_000))
