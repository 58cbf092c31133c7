"""A chain is asked as often as somebody waits for it, and one that stands still shows."""

from collections.abc import Iterator
from datetime import timedelta
from unittest.mock import Mock

import pytest
import time_machine
from sqlalchemy import event, select, text, update

from chains.base import Head, Scan
from config.assets import Chain
from core import clock, db
from core.db import transaction
from core.errors import TransientError
from core.jobs import Job
from domain.deposit import pace, scan, scan_queries, service
from domain.deposit.models import Deposit
from domain.deposit.scan_models import ChainCursor
from domain.deposit.settings import DepositSettings
from domain.timetable import service as timetable
from schedules import beat
from tests.integration.deposit.memory_desk import MemoryDesk

NOBODY = timedelta(seconds=10)
"""Between two scans of the desk's chain, whose blocks come each second, while nobody waits."""


@pytest.fixture
def desk(database_url: str) -> Iterator[MemoryDesk]:
    with time_machine.travel(clock.now(), tick=False):
        yield MemoryDesk(blocks=20)


def wishes(desk: MemoryDesk) -> set[str]:
    """What beat would ask for, of this chain."""
    with transaction() as session:
        return {each for each in beat.wanted(session, clock.now()) if each.endswith(desk.id)}


def later(desk: MemoryDesk, span: timedelta) -> set[str]:
    with time_machine.travel(clock.now() + span, tick=False):
        return wishes(desk)


def test_a_chain_that_was_never_read_is_read_once_and_then_now_and_then(desk: MemoryDesk) -> None:
    poll, scanning = f"poll:{desk.id}", f"scan:{desk.id}"
    assert wishes(desk) == {scanning}
    desk.scan()  # nothing is scanned for, and the head is known all the same
    cursor = desk.cursor()
    assert (cursor.next_block, cursor.head_number, cursor.failing_since) == (None, desk.chain.height, None)
    assert wishes(desk) == set()
    assert later(desk, NOBODY - timedelta(seconds=1)) == set()
    assert later(desk, NOBODY) == {scanning}
    assert poll not in later(desk, timedelta(days=1))


def test_somebody_who_waits_quickens_the_scan_at_once_and_its_end_slows_it(desk: MemoryDesk) -> None:
    scanning = f"scan:{desk.id}"
    desk.scan()
    assert wishes(desk) == set()
    deposit = desk.open()
    assert wishes(desk) == {scanning}  # though the scan before put it off
    desk.scan()
    assert wishes(desk) == {scanning}
    desk.pay(500)
    desk.settle()
    with transaction() as session:
        assert session.get_one(Deposit, deposit.id).state == "credited"
    desk.scan()
    assert scanning not in wishes(desk)
    assert scanning in later(desk, NOBODY)


def test_a_deposit_by_hash_is_polled_when_it_is_due_and_makes_no_scan(desk: MemoryDesk) -> None:
    desk.scan()
    with transaction() as session:
        service.register_addresses(session, "shop", desk.id, [f"0x{9:040x}"], shared=True)
    deposit = desk.open(f"0x{9:040x}", chain_tx=f"0x{1:064x}")
    due = deposit.next_poll_at
    assert due is not None
    assert wishes(desk) == set()
    assert later(desk, due - clock.now()) == {f"poll:{desk.id}"}
    with time_machine.travel(due, tick=False):
        service.poll(desk.chain)
        assert f"poll:{desk.id}" not in wishes(desk)


def test_a_chain_that_is_behind_is_scanned_on_at_once(desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.open()
    desk.scan()
    desk.pay(500)
    desk.settle()
    desk.mine(300)
    monkeypatch.setattr(scan, "settings", lambda: DepositSettings(budget=timedelta(microseconds=1)))
    with transaction() as session:
        session.execute(update(ChainCursor).values(next_scan_at=clock.now()))
    desk.scan()
    assert desk.next_block() <= desk.chain.height
    assert f"scan:{desk.id}" in wishes(desk)


def test_a_chain_that_fails_is_asked_again_soon_and_not_before_it_wishes(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, pause in (
        (TransientError("it is away"), timedelta(seconds=1)),
        (TransientError("slow down", retry_after=timedelta(seconds=5)), timedelta(seconds=5)),
        (TransientError("slow down", retry_after=timedelta(hours=5)), NOBODY),
    ):
        monkeypatch.setattr(desk.chain, "head", Mock(side_effect=error))
        desk.scan()
        assert desk.cursor().next_scan_at == clock.now() + pause


def test_one_statement_asks_for_all_chains_and_jobs_do_not_pile_up(desk: MemoryDesk) -> None:
    others = [MemoryDesk(number=70_002 + each) for each in range(3)]
    for each in (desk, *others[:2]):
        each.open()
    statements: list[str] = []

    def seen(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    event.listen(db.engine(), "before_cursor_execute", seen)
    try:
        found = set().union(*(wishes(each) for each in (desk, *others)))
    finally:
        event.remove(db.engine(), "before_cursor_execute", seen)
    assert sum("asked.chain" in statement for statement in statements) == 4  # one for each time that it was asked
    assert found == {f"scan:{each.id}" for each in (desk, *others)}

    schedules = [each for each in beat.timetable() if each.args.get("chain") in {desk.id, *(o.id for o in others)}]
    assert {each.name for each in schedules} == {
        f"{verb}:{each.id}" for verb in ("poll", "scan", "follow") for each in (desk, *others)
    }
    for second in range(5):
        with transaction() as session:
            now = clock.now() + timedelta(seconds=second)
            written = timetable.ask(session, schedules, now, wanted=beat.wanted(session, now))
        assert written == (4 if second == 0 else 0)  # the first is not over yet
    with transaction() as session:
        asked = session.scalars(select(Job.subject).where(Job.task == "tx_monitor.scan")).all()
        periods = session.scalar(text("SELECT count(*) FROM schedule_periods"))
    assert (sorted(map(str, asked)), periods) == (sorted(f"schedule:scan:{each.id}" for each in (desk, *others)), 4)


def test_the_question_stays_cheap_with_many_deposits(desk: MemoryDesk) -> None:
    """Each part of it is one look into a partial index, which holds only what waits."""
    deposit = desk.open()
    with transaction() as session:
        columns = "tenant, chain, asset, account, address, tolerance_bps, deadline_at, metadata, created_at, updated_at"
        session.execute(
            text(f"""
                INSERT INTO deposits (id, mode, state, {columns}, next_poll_at)
                SELECT gen_random_uuid(), 'address', 'expired', {columns}, now() + interval '1 day'
                FROM deposits, generate_series(1, 20000) WHERE id = :id"""),
            {"id": deposit.id},
        )
        session.execute(text("UPDATE deposits SET state = 'expired'"))
    with db.engine().connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE deposits"))
    desk.scan()
    with transaction() as session:
        plan = session.execute(
            text(f"EXPLAIN (ANALYZE, BUFFERS OFF) {scan_queries._WANTED.text}"),
            {"chains": [desk.id], "now": clock.now()},
        ).scalars().all()  # fmt: skip
    told = "\n".join(plan)
    assert "ix_deposits_waiting" in told and "ix_deposits_due" in told, told
    assert "Seq Scan on deposits" not in told, told
    assert wishes(desk) == set()


# --- how far apart -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block_ms", "head_age_max_s", "period", "quiet"),
    [
        (400, None, 1, 10),  # Solana
        (450, None, 1, 10),  # BNB Smart Chain
        (3_000, None, 1.5, 30),
        (12_000, None, 6, 120),  # Ethereum
        (600_000, None, 10, 120),  # Bitcoin
        (12_000, 30, 6, 15),  # whoever wants to know sooner asks more often
        (12_000, 0, 6, 120),
    ],
)
def test_the_pace_of_chains(block_ms: int, head_age_max_s: int | None, period: float, quiet: float) -> None:
    chain = Chain(
        id="x:1", name="X", namespace="x", confirmations=1, reorg_depth=1, block_time_ms=block_ms,
        head_age_max_s=head_age_max_s,
    )  # fmt: skip
    assert (pace.period(chain).total_seconds(), pace.quiet(chain).total_seconds()) == (period, quiet)


# --- standing still ----------------------------------------------------------------------------------------------


def status(desk: MemoryDesk) -> service.ChainStatus:
    with transaction() as session:
        return next(each for each in service.statuses(session) if each.chain == desk.id)


def test_a_chain_that_is_quiet_does_not_look_dead(desk: MemoryDesk) -> None:
    desk.scan()
    with time_machine.travel(clock.now() + NOBODY, tick=False):
        assert (status(desk).state(), status(desk).lag_blocks) == ("running", None)


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=3)])
def test_a_chain_that_stands_still_shows(desk: MemoryDesk, ahead: timedelta) -> None:
    desk.open()
    desk.chain.began += ahead  # whether or not its clock is right
    desk.mine()
    desk.scan()
    assert status(desk).state() == "running"
    with time_machine.travel(clock.now() + timedelta(seconds=59), tick=False):
        desk.scan()
        assert status(desk).state() == "running"
    with time_machine.travel(clock.now() + timedelta(seconds=61), tick=False):
        assert status(desk).state() == "running"  # it was not asked since
        desk.scan()
        stalled = status(desk)
        assert stalled.state() == "stalled"
        assert stalled.cursor.failing_since is None
        desk.mine()
        desk.scan()
        if not ahead:
            desk.mine(60)
            desk.scan()
        assert status(desk).state() == "running"


def test_a_node_that_had_stood_still_before_it_was_first_asked_shows_at_once(desk: MemoryDesk) -> None:
    with time_machine.travel(clock.now() + timedelta(days=1), tick=False):
        desk.open()
        desk.scan()
        found = status(desk)
        assert (found.state(), found.lag_blocks) == ("stalled", 0)
        assert found.head_age is not None and found.head_age > timedelta(hours=23)


def test_one_that_lags_does_not_take_the_head_back(desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.open()
    desk.mine(5)
    desk.scan()
    told = desk.cursor().head_number, desk.cursor().head_at
    behind = desk.chain.blocks_[-4][0]
    monkeypatch.setattr(desk.chain, "head", lambda: Head(behind, None))
    desk.scan()
    assert (desk.cursor().head_number, desk.cursor().head_at) == told


def test_a_chain_that_fails_is_failing_and_not_stalled(desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.open()
    desk.scan()
    desk.mine()

    def fails(*_: object) -> Scan:
        raise TransientError("it is away")

    monkeypatch.setattr(desk.chain, "scan", fails)
    desk.scan()
    assert status(desk).state() == "failing lately"
    with time_machine.travel(clock.now() + timedelta(minutes=2), tick=False):
        assert status(desk).state() == "failing"
