"""Every block that was read stands in the coverage, and one that was passed over shows."""

from datetime import timedelta

import pytest
import time_machine
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from core import clock
from core.db import transaction
from domain.deposit import nodes, scan, service
from domain.deposit.scan_models import ChainCoverage
from tests.integration.deposit.memory_desk import MemoryDesk

pytestmark = pytest.mark.usefixtures("database_url")


@pytest.mark.parametrize("final_only", [False, True])
def test_what_was_scanned_is_one_unbroken_row_a_day(final_only: bool) -> None:
    desk = MemoryDesk(final_only=final_only, blocks=20, scan_blocks_max=7)
    desk.open()
    for _ in range(3):
        desk.mine(10)
        desk.scan()
    first, stood = desk.cursor().first_block, desk.next_block()
    assert desk.covers() == [(first, desk.chain.height, "scan")]
    with time_machine.travel(clock.now() + timedelta(days=1)):
        desk.mine(10)
        desk.scan()
    assert desk.covers() == [(first, stood - 1, "scan"), (stood, desk.chain.height, "scan")]
    assert desk.gaps() == []


def test_a_row_says_how_many_addresses_were_watched_and_ends_in_a_hash() -> None:
    desk = MemoryDesk(blocks=5)
    desk.open()
    desk.open(desk.other, account="user:7:available")
    desk.scan()
    with transaction() as session:
        [row] = service.coverage(session, desk.id, limit=10)
    assert (row.addresses, row.last_hash) == (2, desk.chain.head().latest.hash)


def test_a_range_that_was_skipped_is_found() -> None:
    desk = MemoryDesk(blocks=40)
    desk.open()
    desk.scan()
    assert desk.gaps() == []
    desk.uncover(12, 17)
    desk.uncover(20, 20)
    assert desk.gaps() == [(12, 17), (20, 20)]
    with transaction() as session:
        [status] = service.statuses(session)
    assert status.gap_blocks == 7
    desk.mine(3)
    desk.scan()
    assert desk.gaps() == [(12, 17), (20, 20)]  # the scan itself doesn't hide it


def test_a_cursor_that_was_moved_by_hand_leaves_a_gap() -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    stood = desk.next_block()
    desk.mine(10)
    with transaction() as session:
        session.execute(text("UPDATE chain_cursors SET next_block = next_block + 4"))
    desk.scan()
    assert desk.gaps() == [(stood, stood + 3)]
    assert desk.next_block() == desk.chain.height + 1  # it goes on from there


def test_a_cursor_that_was_moved_over_a_reorg_goes_back_before_it() -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    desk.mine(2)
    desk.chain.reorg(4, keep=False)
    with transaction() as session:
        session.execute(text("UPDATE chain_cursors SET next_block = next_block + 2"))
    desk.mine(2)
    desk.scan()
    assert desk.gaps() == []
    assert desk.next_block() == desk.chain.height + 1


def test_coverage_is_committed_with_the_cursor_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    before = desk.next_block(), desk.covers()
    desk.mine(5)
    real = nodes.note_read

    def killed(*given: object, **named: object) -> None:
        real(*given, **named)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(scan, "note_read", killed)
    with pytest.raises(KeyboardInterrupt):
        desk.scan()
    monkeypatch.undo()
    assert (desk.next_block(), desk.covers()) == before
    desk.scan()
    assert desk.covers() == [(before[1][0][0], desk.chain.height, "scan")]


def test_a_reorg_takes_the_coverage_back_to_the_ancestor() -> None:
    desk = MemoryDesk(blocks=20)
    desk.open()
    desk.scan()
    desk.chain.reorg(3, keep=False)
    seen: list[list[tuple[int, int, str]]] = []
    real = desk.chain.scan

    def looked(*given: object) -> object:
        seen.append(desk.covers())
        return real(*given)  # type: ignore[arg-type]

    desk.chain.scan = looked  # type: ignore[method-assign,assignment]
    desk.mine()
    desk.scan()
    first = desk.cursor().first_block
    assert seen[-1] == [(first, desk.chain.height - 4, "scan")]
    assert desk.covers() == [(first, desk.chain.height, "scan")]
    assert desk.gaps() == []


def test_a_reorg_into_blocks_before_the_first_lowers_where_it_began() -> None:
    desk = MemoryDesk(blocks=200)
    desk.open()
    desk.scan()
    first = desk.cursor().first_block
    assert first is not None
    with transaction() as session:  # as if the scan had begun just now
        service.restart_scan(session, desk.id, next_block=desk.chain.height, actor="ann", reason="a test")
        session.execute(text("DELETE FROM chain_coverage"))
        session.execute(text("UPDATE chain_cursors SET first_block = next_block"))
    desk.scan()
    desk.chain.reorg(4, keep=False)
    desk.mine()
    desk.scan()
    height = desk.chain.height
    assert desk.cursor().first_block == height - 4
    assert (desk.covers(), desk.gaps()) == ([(height - 4, height, "scan")], [])


def test_a_restart_above_the_cursor_leaves_a_gap_and_one_below_reads_again() -> None:
    desk = MemoryDesk(blocks=40)
    desk.open()
    desk.scan()
    first, stood = desk.cursor().first_block, desk.next_block()
    desk.mine(10)
    with transaction() as session:
        service.restart_scan(session, desk.id, next_block=stood + 5, actor="ann", reason="a test")
    desk.scan()
    assert desk.gaps() == [(stood, stood + 4)]
    with transaction() as session:
        service.restart_scan(session, desk.id, next_block=stood - 3, actor="ann", reason="a test")
    assert desk.covers() == [(first, stood - 4, "scan")]
    desk.scan()
    assert (desk.covers(), desk.gaps()) == ([(first, desk.chain.height, "scan")], [])


@pytest.mark.parametrize(("first", "last"), [(3, 4), (0, 50), (10, 10)])
def test_the_database_refuses_ranges_that_overlap(first: int, last: int) -> None:
    row = {"chain": "eip155:1", "last_hash": None, "by": "scan", "addresses": 0}
    with transaction() as session:
        session.execute(insert(ChainCoverage), [row | {"first_block": 4, "last_block": 10}])
        session.execute(insert(ChainCoverage), [row | {"chain": "eip155:2", "first_block": 4, "last_block": 10}])
    with pytest.raises(IntegrityError, match="ex_chain_coverage_overlap"), transaction() as session:
        session.execute(insert(ChainCoverage), [row | {"first_block": first, "last_block": last}])
