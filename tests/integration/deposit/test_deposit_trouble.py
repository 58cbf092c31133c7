"""Nodes that are down, nodes that lie, rows that are bad, and workers that do the same at once."""

import threading
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import select, update

from chains.base import Block, ChainReader, ChainTx, Head, NodeHealth, Scan, TxStatus
from chains.evm.reader import EvmReader
from config.assets import registry
from core import clock
from core.db import transaction
from core.errors import InvariantError, PermanentError, TransientError
from core.ids import new_id
from core.jobs import SYSTEM_TENANT, Job
from domain.deposit import follow, queries, service
from domain.deposit import record as recording
from tests.integration.deposit.desk import ACCOUNT, CUSTODY, ETHER, Desk
from tests.support.evm import CHAIN, COIN

pytest_plugins = ["tests.support.evm_fixtures"]


class Down:
    """A node that is away."""

    id = CHAIN

    def head(self) -> Head:
        raise TransientError("connection refused")

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        raise TransientError("connection refused")

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        raise TransientError("connection refused")

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        raise TransientError("connection refused")

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        raise TransientError("connection refused")

    def nodes(self) -> Sequence[NodeHealth]:
        return ()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        raise TransientError("connection refused")


def test_a_node_that_is_down_delays_and_is_noted_and_kills_no_job(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.by_address()
    desk.poll()
    service.scan(Down())
    with transaction() as session:
        cursor = queries.cursor(session, CHAIN)
    assert cursor is not None
    assert cursor.last_error == "scan: connection refused"
    since = cursor.failing_since
    assert since is not None
    real, desk.reader = desk.reader, Down()
    desk.poll()
    assert desk.look(deposit).state == "pending"  # left to the poll
    with transaction() as session:
        cursor = queries.cursor(session, CHAIN)
        assert cursor is not None and cursor.failing_since == since
    desk.reader = real
    desk.settle(deposit)
    assert desk.said(deposit) == ("credited", None)
    with transaction() as session:
        cursor = queries.cursor(session, CHAIN)
        assert cursor is not None and cursor.failing_since is None and cursor.last_error is None


def test_a_node_that_lags_proves_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.dev.mine()
    assert desk.poll(deposit).state == "credited"
    height = desk.dev.height
    real = desk.reader
    behind = real.blocks([height - 2])[height - 2]
    monkeypatch.setattr(real, "head", lambda: Head(latest=behind, finalized=None))
    monkeypatch.setattr(real, "blocks", lambda numbers: {height - 2: behind} if height - 2 in numbers else {})
    monkeypatch.setattr(
        real, "chain_txs", lambda ids: {each: ChainTx(id=each, status=TxStatus.MISSING) for each in ids}
    )
    assert desk.poll(deposit).state == "credited"
    assert desk.balance(ACCOUNT) == ETHER


def test_a_head_that_changes_while_it_is_read_is_read_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    head = desk.reader.head()
    desk.dev.reorg(1)
    desk.dev.mine(3)
    assert desk.reader.blocks([head.latest.number])[head.latest.number].hash != head.latest.hash
    monkeypatch.setattr(desk.reader, "head", lambda: head)
    assert desk.poll(deposit).state == "watching"
    monkeypatch.undo()
    assert desk.poll(deposit).state == "watching"


def test_one_bad_row_does_not_stop_the_others_and_becomes_a_job_of_its_own(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = (desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(2))
    desk.dev.mine()
    real = recording.record

    def broken(session: Any, deposit: service.Deposit, *given: Any, **named: Any) -> None:
        real(session, deposit, *given, **named)
        session.flush()
        if deposit.id == bad.id:
            raise InvariantError("its row makes no sense")

    monkeypatch.setattr(follow, "record", broken)
    desk.poll()
    assert [desk.said(bad), desk.said(good)] == [("watching", None), ("credited", None)]
    assert desk.get(bad).next_poll_at is None
    with transaction() as session:
        jobs = session.scalars(select(Job).where(Job.subject == bad.subject).order_by(Job.id)).all()
    assert [job.task for job in jobs] == ["tx_monitor.look"] * 2
    with pytest.raises(InvariantError):  # the job dies of it, and waits for a person
        desk.look(bad)
    monkeypatch.undo()
    assert desk.look(bad).state == "credited"  # replayed, it takes its place again
    assert desk.get(bad).next_poll_at is not None


class Unwilling:
    """A node that refuses some of what it is asked."""

    def __init__(self, real: ChainReader, *chain_txs: str | None, scans: bool = True) -> None:
        self.id = real.id
        self._real, self._chain_txs, self._scans = real, set(chain_txs), scans

    def head(self) -> Head:
        return self._real.head()

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        return self._real.blocks(numbers)

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        if not self._chain_txs.isdisjoint(ids):
            raise TransientError("response too large")
        return self._real.chain_txs(ids)

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        return self._real.agreed(ids)

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        return self._real.spent(inputs, block=block)

    def nodes(self) -> Sequence[NodeHealth]:
        return self._real.nodes()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        if not self._scans:
            raise TransientError("eth_getLogs is not available")
        return self._real.scan(first, last, addresses)


def test_a_transaction_that_no_node_hands_out_does_not_stop_the_others(desk: Desk) -> None:
    first, bad, last = (desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(3))
    desk.dev.mine()
    real = desk.reader
    desk.reader = Unwilling(real, bad.chain_tx)
    desk.poll()
    assert [desk.get(each).state for each in (first, bad, last)] == ["credited", "watching", "credited"]
    assert desk.get(bad).next_poll_at is None
    with transaction() as session:
        job = session.scalars(select(Job).where(Job.subject == bad.subject).order_by(Job.id.desc())).first()
    assert job is not None and (job.task, job.tenant) == ("tx_monitor.look", SYSTEM_TENANT)
    with pytest.raises(TransientError):  # until it is a dead letter
        desk.look(bad)
    desk.reader = real
    assert desk.look(bad).state == "credited"


def test_more_than_a_round_can_tell_apart_do_not_stop_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "READ_FAILURES_MAX", 8)
    bad = [desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(12)]  # due before the good ones
    good = [desk.by_hash(desk.dev.send(desk.shared, ETHER)) for _ in range(12)]
    desk.dev.mine()
    real = desk.reader
    desk.reader = Unwilling(real, *(each.chain_tx for each in bad))
    for _ in range(40):
        desk.poll()
    assert {desk.get(each).state for each in good} == {"credited"}
    assert {desk.get(each).state for each in bad} == {"watching"}
    desk.reader = real
    for each in bad:
        assert desk.look(each).state == "credited"


def test_a_deposit_of_an_asset_that_left_the_registry_does_not_stop_the_others(desk: Desk) -> None:
    good, bad = desk.by_hash(desk.dev.send(desk.shared, ETHER)), desk.by_hash("0x" + "ab" * 32)
    with transaction() as session:
        session.execute(update(service.Deposit).where(service.Deposit.id == bad.id).values(asset=f"{CHAIN}/slip44:1"))
    desk.dev.mine()
    desk.poll()
    assert desk.said(good) == ("credited", None)
    assert desk.get(bad).next_poll_at is None


def test_an_asset_that_left_the_registry_with_all_that_is_due_fails_no_poll(desk: Desk) -> None:
    bad = [desk.by_hash(desk.dev.send(desk.shared, ETHER), confirmations=4) for _ in range(2)]
    desk.poll()
    waits = desk.by_address()
    with transaction() as session:
        session.execute(update(service.Deposit).values(asset=f"{CHAIN}/slip44:1"))
    desk.dev.mine(4)
    desk.poll()
    assert [(desk.get(each).state, desk.get(each).next_poll_at) for each in bad] == [("pending", None)] * 2
    assert desk.get(waits).next_poll_at is not None  # nothing is to be judged: it may expire
    with pytest.raises(PermanentError, match="not in the registry"):
        desk.look(bad[0])
    with transaction() as session:
        session.execute(update(service.Deposit).values(asset=COIN))
    assert [desk.look(each).state for each in bad] == ["credited", "credited"]


def test_a_scan_that_fails_is_not_hidden_by_polls_that_go_on(desk: Desk) -> None:
    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    desk.by_address()
    desk.scan()
    desk.dev.mine()
    service.scan(Unwilling(desk.reader, scans=False))
    desk.poll(deposit)
    with transaction() as session:
        cursor = queries.cursor(session, CHAIN)
    assert cursor is not None and cursor.failing_since is not None
    assert cursor.last_error == "scan: eth_getLogs is not available"
    desk.scan()
    with transaction() as session:
        cursor = queries.cursor(session, CHAIN)
    assert cursor is not None and cursor.failing_since is None and cursor.last_error is None


def test_polls_and_looks_at_once_credit_once(desk: Desk) -> None:
    deposits = [desk.by_hash(desk.dev.send(desk.shared, 1_000)) for _ in range(4)]
    desk.dev.mine()
    readers = [EvmReader(registry().chains[CHAIN], registry().of_chain(CHAIN)) for _ in range(4)]
    errors: list[BaseException] = []

    def work(reader: EvmReader) -> None:
        try:
            for deposit in deposits:
                service.look(reader, deposit.id)
        except BaseException as error:  # noqa: BLE001  # a thread's errors are nobody's
            errors.append(error)

    threads = [threading.Thread(target=work, args=(reader,)) for reader in readers]
    for thread in threads:
        thread.start()
    desk.poll()
    for thread in threads:
        thread.join()
    assert errors == []
    assert desk.balance(ACCOUNT) == desk.balance(CUSTODY) == 4_000
    for deposit in deposits:
        assert desk.events(deposit) == ["created", "seen", "credit"]


def test_rows_are_put_off_in_the_order_in_which_a_scan_locks_them(desk: Desk) -> None:
    first, second = sorted(desk.by_address().id for _ in range(2))
    until = clock.now()
    with transaction() as session:
        for each in (second, first):  # so that the second lies before the first in the table
            session.execute(update(service.Deposit).where(service.Deposit.id == each).values(next_poll_at=until))

    def put_off() -> None:
        with transaction() as session:
            queries.put_off(session, {second: None, first: None}, until=until)

    with transaction() as scan:
        queries.lock(scan, first)
        thread = threading.Thread(target=put_off)
        thread.start()
        thread.join(0.5)
        assert thread.is_alive()  # waits for the first, and holds nothing that the scan may want
        scan.execute(select(service.Deposit.id).where(service.Deposit.id == second).with_for_update(nowait=True))
    thread.join()
    with transaction() as session:
        assert session.scalars(select(service.Deposit.next_poll_at)).all() == [None, None]


def test_a_look_at_a_deposit_that_does_not_exist_is_a_dead_letter(desk: Desk) -> None:
    for call in (lambda: service.chain_of(new_id()), lambda: service.look(desk.reader, new_id())):
        with pytest.raises(PermanentError):
            call()


def test_what_changed_after_it_was_read_is_not_recorded(desk: Desk) -> None:
    desk.dev.mine()
    chain_tx = desk.dev.send(desk.shared, ETHER)
    deposit = desk.by_hash(chain_tx)
    stale = desk.get(deposit)
    sights = follow.read(desk.reader, [stale], cursor=None)
    desk.look(deposit)
    desk.dev.reorg(2, keep=[(chain_tx, 0)])
    desk.poll()  # back to watching, in another incarnation
    with transaction() as session:
        recording.record(session, stale, sights[stale.id], now=stale.created_at)
    assert desk.said(deposit) == ("watching", None)


def test_the_tasks_follow_a_deposit_from_its_job_to_the_books(desk: Desk) -> None:
    from tasks import tx_monitor
    from tasks.base import TASKS, run_jobs

    deposit = desk.by_hash(desk.dev.send(desk.shared, ETHER))
    assert deposit.look_job_id is not None
    for _ in range(2):  # a message that comes twice
        run_jobs(TASKS["tx_monitor.look"], [deposit.look_job_id])
    with transaction() as session:
        assert session.get_one(Job, deposit.look_job_id).status == "succeeded"
    assert desk.said(deposit) == ("pending", None)
    by_address = desk.by_address()
    desk.dev.send(by_address.address, 1_000)
    tx_monitor.scan(CHAIN)
    desk.dev.mine()
    with transaction() as session:
        session.execute(update(service.Deposit).values(next_poll_at=clock.now()))
    tx_monitor.poll(CHAIN)
    assert desk.said(deposit) == desk.said(by_address) == ("credited", None)
