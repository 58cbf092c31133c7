"""A range is scanned once more: it finds what was missed, the same deposits again, and books nothing twice."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from chains.base import Scan
from core import jobs
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError, PermanentError, TransientError
from core.ids import new_id
from core.jobs import SYSTEM_TENANT, Job
from domain.deposit import reading, service
from domain.deposit import rescan as rescanning
from domain.deposit.scan_models import ChainRescan
from domain.deposit.settings import DepositSettings
from tests.integration.deposit.memory_desk import MemoryDesk

pytestmark = pytest.mark.usefixtures("database_url")

both = pytest.mark.parametrize("final_only", [False, True])


def ask(desk: MemoryDesk, first: int, last: int) -> UUID:
    with transaction() as session:
        made = service.request_rescan(session, desk.id, first=first, last=last, actor="ann", reason="a test")
        return made.id


def get(rescan_id: UUID) -> ChainRescan:
    with transaction() as session:
        found = service.get_rescan(session, rescan_id)
    assert found is not None
    return found


def jobs_of(rescan_id: UUID) -> list[Job]:
    with transaction() as session:
        return list(session.scalars(select(Job).where(Job.subject == f"rescan:{rescan_id}").order_by(Job.id)))


def work(desk: MemoryDesk, rescan_id: UUID) -> ChainRescan:
    """Each job of it, once, as a worker would run it."""
    done = 0
    while len(found := jobs_of(rescan_id)) > done:
        service.rescan(desk.chain, rescan_id, found[done].args["part"])
        done += 1
    return get(rescan_id)


class Forgetful:
    """A node that leaves out transfers."""

    def __init__(self, desk: MemoryDesk) -> None:
        self._chain = desk.chain

    def __getattr__(self, name: str) -> Any:
        return getattr(self._chain, name)

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        return Scan(self._chain.scan(first, last, addresses).blocks, ())


@both
def test_a_rescan_finds_exactly_the_same_deposits_and_books_nothing_twice(final_only: bool) -> None:
    desk = MemoryDesk(final_only=final_only, blocks=10, scan_blocks_max=6)
    desk.open(units_expected=500)
    txs = [desk.pay(units) for units in (500, 700, 900)]
    desk.settle()
    before = desk.booked()
    assert before.keys() == set(txs)
    cursor = desk.next_block()
    rescan_id = ask(desk, desk.cursor().first_block or 0, cursor - 1)
    done = work(desk, rescan_id)
    assert (done.status, done.found, done.next_block) == ("done", 0, cursor)
    assert done.finished_at is not None
    desk.settle()
    assert desk.booked() == before
    assert desk.covers() == [(desk.cursor().first_block, desk.next_block() - 1, "scan")]


@both
def test_a_rescan_finds_what_a_node_left_out(final_only: bool) -> None:
    desk = MemoryDesk(final_only=final_only, blocks=10)
    desk.open(units_expected=500)
    first = desk.chain.height
    paid = desk.pay(500)
    desk.mine(3)
    service.scan(Forgetful(desk))
    desk.settle()
    assert desk.booked() == {}
    cursor = desk.next_block()
    done = work(desk, ask(desk, first, cursor - 1))
    assert (done.status, done.found) == ("done", 1)
    assert desk.next_block() == cursor
    desk.settle()
    assert desk.booked() == {paid: 500}


def test_a_rescan_finds_what_was_paid_before_the_address_was_known() -> None:
    desk = MemoryDesk(blocks=10)
    desk.open()
    paid = desk.pay(500, desk.other)
    desk.settle()
    assert desk.booked() == {}
    desk.open(desk.other, account="user:7:available")
    desk.settle()
    assert desk.booked() == {}
    assert work(desk, ask(desk, 0, desk.next_block() - 1)).found == 1
    desk.settle()
    assert desk.booked() == {paid: 500}


@both
def test_a_rescan_closes_gaps_and_those_alone(final_only: bool) -> None:
    desk = MemoryDesk(final_only=final_only, blocks=40, scan_blocks_max=8)
    desk.open()
    desk.scan()
    first, height = desk.cursor().first_block or 0, desk.chain.height
    desk.uncover(first + 10, first + 20)
    assert desk.gaps() == [(first + 10, first + 20)]
    work(desk, ask(desk, first + 5, first + 22))
    assert desk.gaps() == []
    assert desk.covers() == [
        (first, first + 9, "scan"),
        (first + 10, first + 20, "rescan"),
        (first + 21, height, "scan"),
    ]


def test_a_rescan_may_go_below_where_the_scan_began() -> None:
    desk = MemoryDesk(blocks=200)
    desk.open()
    desk.scan()
    with transaction() as session:
        session.execute(text("UPDATE chain_cursors SET first_block = 150"))
        session.execute(text("UPDATE chain_coverage SET first_block = 150"))
    assert work(desk, ask(desk, 100, 120)).status == "done"
    assert desk.covers()[0] == (100, 120, "rescan")
    assert desk.gaps() == []


# --- its jobs ----------------------------------------------------------------------------------------------------


def test_the_job_is_ours_and_each_hands_on_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = MemoryDesk(blocks=40, scan_blocks_max=10)
    desk.open()
    desk.scan()
    monkeypatch.setattr(rescanning, "settings", lambda: DepositSettings(budget=timedelta(microseconds=1)))
    rescan_id = ask(desk, 0, 35)
    assert work(desk, rescan_id).status == "done"
    written = jobs_of(rescan_id)
    assert [(job.task, job.tenant, job.args["part"]) for job in written] == [
        ("tx_monitor.rescan", SYSTEM_TENANT, part) for part in range(4)
    ]
    for job in written:  # each message comes a second time
        service.rescan(desk.chain, rescan_id, job.args["part"])
    assert len(jobs_of(rescan_id)) == 4
    assert service.chain_of_rescan(rescan_id) == desk.id


@pytest.mark.parametrize("step", ["attribute", "_check_canonical"])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_rescan_killed_on_its_way_ends_as_one_that_was_not(
    monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    desk = MemoryDesk(blocks=10, scan_blocks_max=6)
    desk.open(units_expected=500)
    paid = [desk.pay(units) for units in (500, 700, 900, 1_100)]
    service.scan(Forgetful(desk))
    rescan_id = ask(desk, 0, desk.next_block() - 1)
    real, calls = getattr(rescanning, step), []

    def killed(*given: object, **named: object) -> None:
        calls.append(given)
        real(*given, **named)
        if len(calls) == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(rescanning, step, killed)
    with pytest.raises(KeyboardInterrupt):
        work(desk, rescan_id)
    monkeypatch.undo()
    done = work(desk, rescan_id)  # the sweeper brings the job back
    assert (done.status, done.found) == ("done", 4)
    assert len(jobs_of(rescan_id)) == 1
    desk.settle()
    assert desk.booked().keys() == set(paid)


def test_two_at_once_and_a_scan_do_no_harm() -> None:
    desk = MemoryDesk(blocks=10, scan_blocks_max=3)
    desk.open(units_expected=500)
    paid = [desk.pay(units) for units in (500, 700, 900, 1_100)]
    service.scan(Forgetful(desk))
    rescan_ids = [ask(desk, 0, desk.next_block() - 1) for _ in range(2)]
    paid += [desk.pay(units) for units in (1_300, 1_500)]
    errors: list[BaseException] = []

    def run(action: Any, *given: Any) -> None:
        try:
            action(*given)
        except BaseException as error:  # noqa: BLE001  # a thread's errors are nobody's
            errors.append(error)

    threads = [
        threading.Thread(target=run, args=(service.rescan, desk.chain, each, 0)) for each in (*rescan_ids, *rescan_ids)
    ]
    threads += [threading.Thread(target=run, args=(service.scan, desk.chain)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [get(each).status for each in rescan_ids] == ["done", "done"]
    assert sum(get(each).found for each in rescan_ids) == 4
    desk.settle()
    assert desk.booked().keys() == set(paid)


# --- what it believes --------------------------------------------------------------------------------------------


def test_another_fork_than_the_one_that_was_scanned_is_not_read() -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    rescan_id = ask(desk, 5, desk.next_block() - 1)
    desk.chain.reorg(3, keep=False)
    desk.chain.pay(desk.owned, 500)
    desk.mine()
    with pytest.raises(TransientError, match="another than the one that was scanned"):
        service.rescan(desk.chain, rescan_id, 0)
    assert desk.booked() == {}
    desk.scan()
    desk.settle()
    assert work(desk, rescan_id).status == "done"


def test_older_history_that_has_changed_is_not_read() -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    desk.uncover(10, 10)  # so that the hash of a block in the middle is noted
    with transaction() as session:
        session.execute(text("UPDATE chain_coverage SET last_hash = '0xother' WHERE last_block = 9"))
    with pytest.raises(TransientError, match=r"block 9 of .* is another"):
        work(desk, ask(desk, 10, 10))
    with pytest.raises(TransientError, match=r"block 9 of .* is another"):
        work(desk, ask(desk, 5, 12))


def test_a_reorg_sends_a_rescan_back_below_what_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = MemoryDesk(blocks=30, scan_blocks_max=4)
    desk.open()
    desk.scan()
    height = desk.chain.height
    rescan_id = ask(desk, 0, height)
    monkeypatch.setattr(rescanning, "settings", lambda: DepositSettings(budget=timedelta(microseconds=1)))
    for part in range(7):
        service.rescan(desk.chain, rescan_id, part)
    assert get(rescan_id).next_block == 28
    desk.chain.reorg(5, keep=False)
    desk.mine()
    for _ in range(6):
        desk.scan()
    assert (get(rescan_id).next_block, get(rescan_id).last_hash) == (height - 4, None)
    assert work(desk, rescan_id).status == "done"


def test_a_reorg_that_is_over_before_the_reading_is_does_not_leave_a_rescan_without_a_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = MemoryDesk(blocks=30, scan_blocks_max=29)
    desk.open()
    desk.scan()
    rescan_id = ask(desk, 0, desk.chain.height)
    real, readings = reading.read, []

    def read(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        readings.append(found.first)
        if len(readings) == 2:
            desk.chain.reorg(5, keep=False)
            desk.mine()
            service.scan(desk.chain)  # it goes back, and comes again to where the rescan is
        return found

    monkeypatch.setattr(
        rescanning, "reading", SimpleNamespace(read=read, parts=reading.parts, range_of=reading.range_of)
    )
    done = work(desk, rescan_id)
    assert (done.status, readings[:2]) == ("done", [0, 29])
    assert len(readings) > 2
    assert desk.gaps() == []


def test_a_range_that_is_none_or_is_still_to_be_scanned_is_refused() -> None:
    desk = MemoryDesk(blocks=20)
    with pytest.raises(NotFoundError):
        ask(desk, 0, 1)
    desk.open()
    desk.scan()
    height = desk.chain.height
    for first, last in ((5, 4), (-1, 4), (0, 2**63), (0, height + 1)):
        with pytest.raises(InvalidRequestError):
            ask(desk, first, last)
    with pytest.raises(InvalidRequestError), transaction() as session:
        service.request_rescan(session, desk.id, first=0, last=1, actor="ann", reason=" ")
    with transaction() as session:
        assert service.rescans(session, None, limit=10) == []
        assert jobs.page(session, task="tx_monitor.rescan") == []
    with pytest.raises(PermanentError):
        service.chain_of_rescan(new_id())


def test_a_chain_that_is_stopped_is_not_rescanned() -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    rescan_id = ask(desk, 0, 5)
    with transaction() as session:
        session.execute(text("UPDATE chain_cursors SET status = 'stopped'"))
    with pytest.raises(ConflictError):
        ask(desk, 0, 5)
    with pytest.raises(ConflictError):
        service.rescan(desk.chain, rescan_id, 0)
    assert get(rescan_id).next_block == 0
