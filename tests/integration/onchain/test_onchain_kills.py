"""A worker that is killed at every step of a payout on a real chain, and another that goes on: it is paid once.

Steps are just before and after each commit and each request to node and signer, and at length before each statement.
Of each life all parts are struck at the same step: sending, seeing it mined, confirmed and final. The last life is the
first in which nobody could be killed.
"""

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self
from uuid import UUID

import pytest
from sqlalchemy import text

from config import settings
from core import jobs
from core.db import transaction
from core.jobs import NewJob
from domain.payout.states import PayoutState
from ledger import invariants
from local.devchain import DevChain
from tests.integration.onchain.real import DEPTH, RealLab, real_lab
from tests.integration.payout_sending.desk import FEE
from tests.support.evm import CHAIN, COIN, Token
from tests.support.fleet import ROOT
from tests.support.signer import RunningSigner
from workers import sweeper

pytest_plugins = ["tests.support.evm_fixtures"]
S = PayoutState
FOLLOW, SEND, SUBMIT, LOOK, POLL = (
    "tx_monitor.follow", "tx_monitor.send", "payout.submit", "payout.look", "payout.poll",
)  # fmt: skip
UNITS = 1_000
ROUNDS_MAX = 15


class Doomed:
    def __init__(self, folder: Path, *options: str) -> None:
        self._options = options
        self._log = (folder / "doomed.log").open("wb")
        self.deaths = 0

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.onchain.doomed", *self._options],
            cwd=ROOT, env=os.environ | {"JOBS_LEASE": "60"}, text=True,
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
    def __init__(self, lab: RealLab, doomed: Doomed) -> None:
        self.lab, self.doomed = lab, doomed
        self.payouts: list[UUID] = []

    def live(self, step: int) -> int:
        """One payout until it is paid and final. Returns how often somebody was killed."""
        before, nonce = self.doomed.deaths, self.lab.node.nonce(self.lab.wallet)
        recipient = self.lab.node.new_account()
        payout = self.lab.approved(UNITS, to=recipient, job=True)
        self.payouts.append(payout)
        self.doomed.work(step, SUBMIT, SEND)
        for turn in range(ROUNDS_MAX):
            self._due(payout)
            self.doomed.work(step if turn < 5 else 0, POLL, FOLLOW, LOOK, SUBMIT, SEND)
            self.lab.mine(DEPTH // 3)
            if self._is_over(payout):
                break
        assert self._is_over(payout), (self.lab.desk.state(payout), self.lab.events(payout))
        assert self.lab.desk.state(payout) is S.PAID
        assert self.lab.node.balance(recipient) == UNITS
        assert self.lab.node.nonce(self.lab.wallet) == nonce + 1
        return self.doomed.deaths - before

    def _due(self, payout: UUID) -> None:
        with transaction() as session:
            session.execute(text("UPDATE onchain_transfers SET next_look_at = now() WHERE next_look_at IS NOT NULL"))
            session.execute(
                text("UPDATE payouts SET next_look_at = now() WHERE id = :id AND state <> 'paid'"), {"id": payout}
            )
            jobs.submit(session, NewJob(POLL, {}))
            jobs.submit(session, NewJob(FOLLOW, {"chain": CHAIN}))

    def _is_over(self, payout: UUID) -> bool:
        transfers = self.lab.transfers(payout)
        return bool(transfers) and all(each.final_at is not None for each in transfers)

    def the_books_agree(self) -> None:
        desk, lab = self.lab.desk, self.lab
        cost = sum(lab.cost(each) for payout in self.payouts for each in lab.transfers(payout))
        count = len(self.payouts)
        assert desk.balance("house:payout_fees", COIN) == cost > 0
        assert -desk.balance(f"custody:{CHAIN}", COIN) == count * UNITS + cost
        assert desk.balance("house:fees", COIN) == count * FEE
        assert desk.balance("transit:payouts", COIN) == 0
        assert (lab.held_of(lab.wallet), desk.breaks()) == ({}, [])
        with transaction() as session:
            undone = session.execute(text("SELECT task, status FROM jobs WHERE status <> 'succeeded'")).all()
            assert invariants.verify(session) == []
        assert list(undone) == []


@pytest.fixture
def lab(
    books: pytest.MonkeyPatch, tmp_path: Path, dev_chain: DevChain, token: Token, signer: RunningSigner
) -> Iterator[RealLab]:
    books.setenv("JOBS_LEASE", "1")  # the sweeper spares leases for one after PostgreSQL's start
    books.setenv("PAYOUT_UNKNOWN_AFTER", "0.001")
    books.setenv("PAYOUT_UNKNOWN_WINDOW", "0.001")
    books.setenv("PAYOUT_RESENDS_MAX", "20")
    settings.jobs.cache_clear()
    with real_lab(books, tmp_path, dev_chain, token, signer) as made:
        yield made
    settings.jobs.cache_clear()


def strike(lives: Lives, steps: Iterable[int]) -> None:
    for step in steps:
        if not lives.live(step):
            break
    else:
        pytest.fail("a part has more steps than this was made for")
    lives.the_books_agree()
    assert lives.doomed.deaths >= len(lives.payouts) - 1
    print(f"{lives.doomed.deaths} crash points, {lives.doomed.deaths} passed, {len(lives.payouts)} payouts")


def test_whoever_is_killed_it_is_paid_once(lab: RealLab, tmp_path: Path) -> None:
    """In each part at one step."""
    with Doomed(tmp_path) as doomed:
        lives = Lives(lab, doomed)
        assert lives.live(14) >= 3
        lives.the_books_agree()


@pytest.mark.faults
@pytest.mark.timeout(3_600)
def test_whoever_is_killed_at_whatever_step_it_is_paid_once(lab: RealLab, tmp_path: Path) -> None:
    with Doomed(tmp_path, "--statements") as doomed:
        strike(Lives(lab, doomed), range(1, 2_000))
