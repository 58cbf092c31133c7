"""Ranges that adapt to what nodes take, chains that show final blocks alone, and where a scan begins."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chains.base import Block, Head, Scan
from chains.errors import DisagreementError
from config.assets import Chain, registry
from core import clock
from core.db import transaction
from core.errors import InvariantError, TransientError
from domain.deposit import beginning, reading, scan, service
from domain.deposit.settings import DepositSettings
from tests.integration.deposit.memory_chain import MemoryChain
from tests.integration.deposit.memory_desk import MemoryDesk

# --- ranges that adapt -------------------------------------------------------------------------------------------


@pytest.fixture
def desk(database_url: str) -> MemoryDesk:
    return MemoryDesk(blocks=20)


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize("final_only", [False, True])
def test_days_offline_are_caught_up_with_a_node_that_takes_no_long_ranges(
    final_only: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = MemoryDesk(final_only=final_only, blocks=5, scan_blocks_max=500)
    desk.open(units_expected=500)
    desk.scan()
    first = desk.cursor().first_block
    desk.mine(1_000)
    paid = desk.pay(500)
    desk.mine(1_000)
    desk.chain.refuses_above = 64
    desk.chain.scans.clear()
    # Each job gets as far as its time lets it, and the next one goes on with what the one before has learnt.
    monkeypatch.setattr(scan, "settings", lambda: DepositSettings(budget=timedelta(microseconds=1)))
    ranges: list[int] = []
    while desk.next_block() <= desk.chain.height:
        assert len(ranges) < 500
        desk.scan()
        ranges.append(desk.cursor().range_blocks or 0)
        assert desk.cursor().next_scan_at is not None
    refused = [last - first + 1 for first, last in desk.chain.scans if last - first >= 64]
    assert ranges[:4] == [250, 125, 62, 77] or final_only  # halved until it is taken, then a quarter more
    assert len(refused) < len(desk.chain.scans) / 3
    assert desk.covers() == [(first, desk.chain.height, "scan")]
    assert desk.gaps() == []
    monkeypatch.undo()
    desk.settle()
    assert desk.booked() == {paid: 500}


def test_a_longer_range_is_taken_up_again(desk: MemoryDesk) -> None:
    desk.open()
    desk.chain.refuses_above = 10
    desk.mine(100)
    desk.scan()
    assert (desk.cursor().range_blocks or 0) <= 15
    desk.chain.refuses_above = None
    desk.mine(400)
    desk.scan()
    assert desk.cursor().range_blocks == 50  # and no further: the chain's own bound
    desk.chain.scans.clear()
    desk.mine()
    desk.scan()
    assert [last - first + 1 for first, last in desk.chain.scans] == [1]
    assert desk.cursor().range_blocks == 50


@pytest.mark.parametrize(
    ("error", "shorter"),
    [
        (TransientError("memory did not answer in time"), True),
        (TransientError("slow down", retry_after=timedelta(seconds=9)), False),
        (DisagreementError("two nodes disagree"), False),
    ],
)
def test_what_may_be_the_ranges_fault_makes_it_shorter(
    desk: MemoryDesk, monkeypatch: pytest.MonkeyPatch, error: TransientError, shorter: bool
) -> None:
    desk.open()
    desk.scan()
    desk.mine(80)

    def fails(*_: object) -> Scan:
        raise error

    monkeypatch.setattr(desk.chain, "scan", fails)
    stood = desk.next_block()
    desk.scan()
    cursor = desk.cursor()
    assert (cursor.range_blocks, cursor.next_block) == (25 if shorter else None, stood)
    assert cursor.last_error == f"scan: {error}"
    monkeypatch.undo()
    desk.scan()
    assert desk.next_block() == desk.chain.height + 1


def test_one_block_that_is_refused_is_weather_and_shortens_nothing(desk: MemoryDesk) -> None:
    desk.open()
    desk.scan()
    desk.mine()
    desk.chain.refuses_above = 0
    desk.scan()
    cursor = desk.cursor()
    assert (cursor.range_blocks, cursor.last_error) == (None, "scan: no more than 0 blocks at once")


@given(size=st.integers(1, 10_000), longest=st.integers(1, 10_000))
def test_a_range_stays_within_its_bounds(size: int, longest: int) -> None:
    chain = chain_of(reorg_depth=6, scan_blocks_max=longest)
    now = reading.range_of(chain, size)
    assert 1 <= now <= longest
    grown = reading.grown(chain, now)
    assert now <= grown <= longest
    assert grown > now or now == longest
    assert reading.range_of(chain, None) == longest


# --- final blocks alone ------------------------------------------------------------------------------------------


@pytest.fixture
def final(database_url: str) -> MemoryDesk:
    return MemoryDesk(final_only=True, blocks=20, scan_blocks_max=4)


def test_payments_are_found_among_missing_numbers(final: MemoryDesk) -> None:
    final.open(units_expected=500)
    paid = [final.pay(units) for units in (500, 700)]
    final.mine(7)
    paid.append(final.pay(900))
    final.settle()
    assert final.booked().keys() == set(paid)
    assert final.gaps() == []


def test_a_range_whose_numbers_are_all_missing_is_passed(final: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    final.open()
    final.scan()
    stood = final.next_block()
    newest = final.chain.blocks_[-1][0]
    for _ in range(2):  # two blocks, a hundred numbers apart
        newest = Block(newest.number + 100, f"0xhole{newest.number}", newest.hash, newest.time + timedelta(seconds=100))
        final.chain.blocks_.append((newest, []))
    final.scan()
    assert final.next_block() == newest.number + 1
    assert final.covers()[-1][1] == newest.number
    assert final.gaps() == []
    assert stood < newest.number - 100


def test_final_history_that_changed_stops_the_chain_and_pages_once(final: MemoryDesk) -> None:
    final.open()
    final.scan()
    number, stood = final.chain.height, final.next_block()
    old, payments = final.chain.blocks_[-1]
    final.chain.blocks_[-1] = (Block(number, "0xother", old.parent_hash, old.time), payments)
    final.mine(3)
    with pytest.raises(InvariantError, match=f"block {number} of .* was final"):
        final.scan()
    final.scan()
    cursor = final.cursor()
    assert (cursor.status, cursor.next_block) == ("stopped", stood)
    assert cursor.last_error is not None and "final history has changed" in cursor.last_error
    with transaction() as session:
        [status] = service.statuses(session)
        assert status.state() == "stopped"
        assert service.wanted(session, now=clock.now())[final.id] == (False, False)


def test_a_node_that_lags_stops_nothing(final: MemoryDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    final.open()
    final.scan()
    stood = final.next_block()
    final.mine(5)
    real = final.chain.blocks
    # The head is told by a node that is ahead, and the rest by one that is not.
    monkeypatch.setattr(
        final.chain, "blocks", lambda numbers: real([number for number in numbers if number < stood - 1])
    )
    final.scan()
    cursor = final.cursor()
    assert (cursor.status, cursor.next_block) == ("running", stood)
    assert cursor.last_error is not None and "it lags" in cursor.last_error
    monkeypatch.setattr(final.chain, "blocks", lambda numbers: real([number for number in numbers if number < stood]))
    final.mine(20)
    final.scan()
    assert final.next_block() == stood
    assert "does not have the head of another" in (final.cursor().last_error or "")
    monkeypatch.undo()
    final.scan()
    assert final.next_block() == final.chain.height + 1


class Odd:
    """Answers a scan otherwise than it should."""

    def __init__(self, chain: MemoryChain, told: Scan) -> None:
        self._chain, self._told = chain, told
        self.id = chain.id

    def __getattr__(self, name: str) -> object:
        return getattr(self._chain, name)

    def scan(self, *_: object) -> Scan:
        return self._told


def test_what_does_not_hold_together_is_not_believed(final: MemoryDesk) -> None:
    final.open()
    final.scan()
    stood = final.next_block()
    final.pay(500)
    final.mine(1)
    last = final.chain.height
    right = final.chain.scan(stood, min(stood + 3, last), [final.owned])
    [transfer] = right.transfers or final.chain.scan(stood, last, [final.owned]).transfers
    newest = right.blocks[-1]
    for told in (
        Scan((), ()),  # nothing, not even the newest
        Scan(right.blocks[:-1], ()),
        Scan((*right.blocks, newest), right.transfers),  # twice
        Scan((newest,), (transfer,)) if transfer.block_number != newest.number else Scan((), right.transfers),
        Scan((Block(newest.number, "0xother", newest.parent_hash, newest.time),), ()),
        Scan((Block(stood - 1, "0xearlier", "0x", newest.time), *right.blocks), right.transfers),
    ):
        service.scan(Odd(final.chain, told))  # type: ignore[arg-type]
        assert (final.next_block(), final.cursor().status) == (stood, "running")
        assert final.cursor().failing_since is not None
    final.settle()
    assert len(final.booked()) == 1


# --- where it begins ---------------------------------------------------------------------------------------------

BEGAN = datetime(2026, 1, 1, tzinfo=clock.now().tzinfo)


def chain_of(*, reorg_depth: int, scan_blocks_max: int = 50) -> Chain:
    return Chain(
        id="eip155:1", name="Memory", namespace="eip155", confirmations=2, reorg_depth=reorg_depth,
        block_time_ms=1_000, scan_blocks_max=scan_blocks_max,
    )  # fmt: skip


class Numbers:
    """A chain of these numbers, a block a second by its numbering; below `kept` its blocks are gone."""

    id = "eip155:1"

    def __init__(self, numbers: Sequence[int], *, kept: int = 0) -> None:
        self._blocks = {number: self.block(number) for number in numbers}
        self.kept = kept
        self.asked: set[int] = set()

    @staticmethod
    def block(number: int) -> Block:
        return Block(number, f"0x{number:064x}", "", BEGAN + timedelta(seconds=number))

    def head(self) -> Head:
        return Head(self._blocks[max(self._blocks)], None)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        self.asked |= set(numbers)
        return {number: self._blocks[number] for number in numbers if number >= self.kept and number in self._blocks}

    def first_since(self, second: int, *, reorg_depth: int) -> int:
        since = BEGAN + timedelta(seconds=second)
        chain = chain_of(reorg_depth=reorg_depth)
        return beginning.first_block_since(self, chain, self.head(), since)  # type: ignore[arg-type]


@given(height=st.integers(0, 3_000), second=st.integers(-5, 3_010))
def test_the_first_block_is_found_exactly_where_no_number_is_missing(height: int, second: int) -> None:
    assert Numbers(range(height + 1)).first_since(second, reorg_depth=6) == min(max(second, 0), height + 1)


@given(
    steps=st.lists(st.sampled_from([1, 1, 1, 2, 5, 30, 200]), min_size=1, max_size=300),
    part=st.floats(0, 1),
)
def test_where_numbers_are_missing_nothing_is_passed_over(steps: list[int], part: float) -> None:
    numbers = [0]
    for step in steps:
        numbers.append(numbers[-1] + step)
    second = int(part * numbers[-1])
    first = Numbers(numbers).first_since(second, reorg_depth=0)
    young = [number for number in numbers if number >= second]
    assert first <= young[0]
    if max(steps) <= beginning.MISSING_MAX:  # no hole that can't be seen across: not one block too many
        assert [number for number in numbers if first <= number < second] == []


def test_no_block_is_asked_for_that_is_much_older_than_it_must_be() -> None:
    chain = Numbers(range(100_000), kept=90_000)
    assert chain.first_since(99_000, reorg_depth=6) == 99_000
    assert min(chain.asked) > 97_900


@pytest.mark.parametrize("reorg_depth", [0, 6])
def test_a_node_that_keeps_only_the_newest_blocks_is_enough_if_they_reach_back(reorg_depth: int) -> None:
    # The steps go past what is kept, and what is wanted lies above.
    assert Numbers(range(20_000), kept=18_800).first_since(18_900, reorg_depth=reorg_depth) == 18_900
    with pytest.raises(TransientError, match="has the blocks since 2026-01-01"):
        Numbers(range(20_000), kept=18_800).first_since(18_000, reorg_depth=reorg_depth)


def test_a_chain_that_is_younger_than_what_is_wanted_is_scanned_from_its_first_block(desk: MemoryDesk) -> None:
    assert Numbers(range(5)).first_since(-100, reorg_depth=6) == 0
    assert Numbers(range(3, 9)).first_since(-100, reorg_depth=0) == 0
    assert registry().chains[desk.id].reorg_depth == 6
