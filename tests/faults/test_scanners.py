"""Two scanners of one chain at once, and one that is killed at each step of its round (script.py)."""

import os
import subprocess
import sys
import threading
import time
from itertools import product

import pytest
from sqlalchemy import select, text, update

from core import clock
from core.db import transaction
from domain.deposit import service
from domain.deposit.models import Deposit
from domain.deposit.scan_models import ChainCursor
from tests.conformance.lab import Lab, Payment
from tests.conformance.till import UNITS, Till
from tests.faults.script import KINDS, PATIENCE_S, Outcome, Script, comes_to, reader_of, sound


@pytest.mark.parametrize(
    "lab",
    [pytest.param(kind, marks=() if kind == "eip155" else pytest.mark.faults) for kind in KINDS],
    indirect=True,
)
def test_two_that_follow_one_chain_at_once_find_each_payment_once(lab: Lab, expected: Outcome) -> None:
    script = Script(Till(lab, sound(lab)), lab)
    over = threading.Event()
    failures: list[BaseException] = []
    rounds = [0, 0]

    def follow(place: int) -> None:
        reader = reader_of(lab, lab.urls())
        try:
            while not over.is_set():
                script.till.work(reader)
                rounds[place] += 1
        except BaseException as error:  # noqa: BLE001  # it is the test's
            failures.append(error)

    threads = [threading.Thread(target=follow, args=(place,)) for place in range(len(rounds))]
    for thread in threads:
        thread.start()
    try:
        for _ in script.steps():
            begun = list(rounds)
            ends = time.monotonic() + PATIENCE_S
            while not failures and any(now - then < 2 for now, then in zip(rounds, begun, strict=True)):
                assert time.monotonic() < ends
                time.sleep(0.01)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    comes_to(script, expected, script.till.work)


@pytest.mark.parametrize("lab", ["eip155"], indirect=True)
def test_a_poll_that_waits_for_the_scan_holds_no_deposit_that_the_scan_wants(lab: Lab, database_url: str) -> None:
    """Both lock the cursor first. The other way round each waited for the other, and one was ended (deadlock)."""
    till = Till(lab, sound(lab))
    deposit = till.by_hash(lab.pay(Payment(till.shared, UNITS)))
    till.work()
    with transaction() as session:
        session.execute(update(Deposit).values(next_poll_at=clock.now()))
    with transaction() as session:
        session.execute(select(ChainCursor).with_for_update())
        polling = threading.Thread(target=service.poll, args=(till.reader,))
        polling.start()
        while not session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")):
            assert polling.is_alive()
            time.sleep(0.01)
        session.execute(text("SET LOCAL lock_timeout = '5s'"))
        session.execute(select(Deposit.id).where(Deposit.id == deposit.id).with_for_update())
    polling.join()


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("lab", "stride"),
    [
        pytest.param(kind, stride, marks=() if (kind, stride) == ("eip155", 15) else pytest.mark.faults)
        for kind, stride in product(KINDS, (15, 1))
    ],
    indirect=["lab"],
)
def test_one_killed_at_each_step_of_a_round_loses_nothing(lab: Lab, expected: Outcome, stride: int) -> None:
    """Between the reading and the commit too: tests/support/doomed.py. All is left to one round that catches up."""
    script = Script(Till(lab, sound(lab)), lab)
    for _ in script.steps():
        pass
    command = [sys.executable, "-m", "tests.support.doomed", lab.chain, str(stride)]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout.splitlines()[-1]) >= 3
    comes_to(script, expected, script.till.work)
