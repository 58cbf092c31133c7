"""Whatever goes wrong on the way, a scan ends with the deposits of one that nothing disturbed.

The scenario has payments among empty blocks, a reorg (where there are such), an address that is allotted late, and a
rescan. The fault strikes at one step of it: a step is a reading of the chain; for a kill, the moment before and the one
after each reading and each commit. Then the work goes on, as the next job would, and at the end the books are compared.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from chains.base import Block, Head, Scan
from core.db import transaction
from core.errors import TransientError
from domain.deposit import service
from tests.integration.deposit.memory_desk import MemoryDesk

pytestmark = pytest.mark.usefixtures("database_url")

numbers = count(80_001)
STEPS_MAX = 600
Fault = Callable[["Struck"], Any]


class Killed(BaseException):
    """As by kill -9: nobody catches it, and what was not committed is gone."""


class Struck:
    """A chain whose readings are counted as steps, and the step at which the fault strikes."""

    def __init__(self, desk: MemoryDesk) -> None:
        self.id = desk.id
        self.desk = desk
        self.left = 0
        self.fault: Fault | None = None

    def step(self) -> bool:
        """Whether it is time."""
        self.left -= 1
        return self.left == 0 and self.fault is not None

    def __getattr__(self, name: str) -> Any:
        real = getattr(self.desk.chain, name)

        def stepped(*given: Any, **named: Any) -> Any:
            if self.step() and self.fault is not None:
                told = self.fault(self)
                if told is not None and name in told:
                    return told[name]
            answer = real(*given, **named)
            if self.fault is kill and self.step():
                kill(self)
            return answer

        return stepped


def kill(_: Struck) -> None:
    raise Killed


def die(_: Struck) -> None:
    raise TransientError("the connection was reset")


def lie(struck: Struck) -> dict[str, Any]:
    """One answer of another fork, or of nothing at all."""
    newest = struck.desk.chain.blocks_[-1][0]
    other = Block(newest.number, "0xlie", newest.parent_hash, newest.time)
    return {"head": Head(other, None), "blocks": {newest.number: other}, "scan": Scan((other,), ())}


def lag(struck: Struck) -> dict[str, Any]:
    """One answer of a node that is not as far."""
    behind = struck.desk.chain.blocks_[len(struck.desk.chain.blocks_) // 2][0]
    return {"head": Head(behind, None), "blocks": {}, "scan": Scan((), ())}


@contextmanager
def commits_counted(struck: Struck) -> Iterator[None]:
    """Each commit is two steps as well: the moment before it and the one after."""

    def strike(*_: object) -> None:
        if struck.fault is kill and struck.step():
            raise Killed

    event.listen(Engine, "commit", strike)
    event.listen(Session, "after_commit", strike)
    try:
        yield
    finally:
        event.remove(Engine, "commit", strike)
        event.remove(Session, "after_commit", strike)


def scenario(desk: MemoryDesk, work: Callable[[Callable[[Any], object]], None]) -> dict[str, int]:
    """The payments that must be in the books, by transaction."""
    paid: dict[str, int] = {}

    def pay(units: int, recipient: str) -> None:
        paid[desk.pay(units, recipient)] = units

    desk.open(units_expected=500)
    work(service.scan)
    for units in (500, 700):
        pay(units, desk.owned)
        desk.mine(4)
    pay(900, desk.other)  # before anybody has its address
    work(service.scan)
    desk.chain.reorg(3, keep=True)
    desk.mine(2)
    work(service.scan)
    desk.open(desk.other, account="user:7:available")
    pay(1_100, desk.other)
    work(service.scan)
    with transaction() as session:
        last = desk.next_block() - 1
        asked = service.request_rescan(session, desk.id, first=0, last=last, actor="ann", reason="a test")
    work(lambda reader: service.rescan(reader, asked.id, 0))
    return paid


def run(fault: Fault | None, *, at: int, final_only: bool) -> bool:
    """Whether the fault has struck."""
    number = next(numbers)
    desk = MemoryDesk(final_only=final_only, blocks=8, scan_blocks_max=5, number=number, tenant=f"shop{number}")
    struck = Struck(desk)
    struck.fault, struck.left = fault, at

    def work(action: Callable[[Any], object]) -> None:
        for _ in range(2):  # and the job that follows
            try:
                with commits_counted(struck):
                    action(struck)
            except (Killed, TransientError):
                continue

    paid = scenario(desk, work)
    has_struck = struck.left <= 0
    struck.left = 0
    desk.settle()
    assert desk.booked() == paid, f"{fault} at step {at}"
    assert desk.gaps() == []
    assert desk.cursor().status == "running"
    return has_struck


@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.faults)], ids=["some", "every"])
@pytest.mark.parametrize("final_only", [False, True], ids=["reorgs", "final_only"])
@pytest.mark.parametrize("fault", [kill, die, lag, lie], ids=lambda fault: fault.__name__)
def test_a_fault_at_any_step_changes_nothing_in_the_end(fault: Fault, final_only: bool, every: bool) -> None:
    """`make test` strikes at some steps, `make faults` at every one."""
    if fault is lie and final_only:
        pytest.skip("final history that changes stops the chain: test_scan_ranges.py")
    stride = 1 if every else 61 if fault is kill else 17
    struck = 0
    for at in range(stride, STEPS_MAX, stride):
        if not run(fault, at=at, final_only=final_only):
            break
        struck += 1
    assert struck * stride > 25, "the scenario has more steps than that"
    assert struck * stride < STEPS_MAX - stride


@pytest.mark.parametrize("final_only", [False, True], ids=["reorgs", "final_only"])
def test_workers_that_scan_one_chain_at_once_find_what_one_would(final_only: bool) -> None:
    desk = MemoryDesk(final_only=final_only, blocks=8, scan_blocks_max=3)
    errors: list[BaseException] = []

    def work(action: Callable[[Any], object]) -> None:
        def alone() -> None:
            try:
                action(desk.chain)
            except BaseException as error:  # noqa: BLE001  # a thread's errors are nobody's
                errors.append(error)

        threads = [threading.Thread(target=alone) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    paid = scenario(desk, work)
    assert errors == []
    desk.settle()
    assert desk.booked() == paid
    assert desk.covers()[0][0] == desk.cursor().first_block
    assert desk.gaps() == []


def test_the_scenario_needs_all_of_its_parts() -> None:
    """Undisturbed; and without the rescan the payment to an address of nobody's would be missing."""
    assert run(None, at=0, final_only=False)
    desk = MemoryDesk(blocks=8, scan_blocks_max=5)

    def scans_only(action: Callable[[Any], object]) -> None:
        if action is service.scan:
            action(desk.chain)

    paid = scenario(desk, scans_only)
    desk.settle()
    assert paid.items() - desk.booked().items() == {next(item for item in paid.items() if item[1] == 900)}
