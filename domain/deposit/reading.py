"""Reading a range of blocks so that it can be believed: one fork, up to a block that was read a second time.

Where a chain's numbers may be missing (`reorg_depth` of 0: only final blocks are read) a reading tells the blocks that
hold transfers and the newest, and there are no parents to join. Then it is the newest block that vouches, and every
transfer must lie in a block that was told.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from chains.base import Block, ChainReader, Head, Scan, Transfer
from chains.errors import DisagreementError
from config.assets import Chain
from core.errors import TransientError
from core.jobs import transaction
from domain.deposit import scan_queries

KEPT_AT_ONCE = 1_000
"""Transfers kept in one transaction; more only where they are all of one block."""
STEPS = (1, 8, 64, 64)
"""How many missing numbers are stepped over, a round trip each, and then as many as the last again and again."""


@dataclass(frozen=True)
class Part:
    """What was read of the numbers first..last."""

    first: int
    last: int
    blocks: tuple[Block, ...]
    transfers: tuple[Transfer, ...]
    addresses: int
    """How many were watched for."""

    @property
    def last_hash(self) -> str | None:
        return self.blocks[-1].hash if self.blocks and self.blocks[-1].number == self.last else None


def read(
    reader: ChainReader, chain: Chain, head: Head, first: int, last: int, *, watched: Callable[[], Sequence[str]]
) -> Part:
    """Blocks first..last, or fewer of them; `last` is at or below the head.

    `watched` is called once the newest block is known: whoever pays to an address allotted later pays in a later block.
    Raises TransientError if what the nodes tell does not hold together, RefusedError if they won't tell so much.
    """
    tip = _tip(reader, chain, head, first, last)
    if tip is None:
        return Part(first, last, (), (), 0)
    addresses = watched()
    found = _asked(reader, chain, first, tip.number, addresses)
    whole = _is_sound if chain.reorg_depth == 0 else is_unbroken
    if not whole(found.blocks, first, tip.number) or found.blocks[-1].hash != tip.hash:
        raise TransientError(f"{chain.id} changed while blocks {first} to {tip.number} were read")
    return Part(first, tip.number, found.blocks, _dated(chain, found), len(addresses))


def is_unbroken(blocks: Sequence[Block], first: int, last: int) -> bool:
    """Exactly the blocks asked for, of one fork."""
    return [block.number for block in blocks] == list(range(first, last + 1)) and all(
        child.parent_hash == parent.hash for parent, child in pairwise(blocks)
    )


def _is_sound(blocks: Sequence[Block], first: int, last: int) -> bool:
    """Some of the blocks asked for, each once and in order, the last among them."""
    numbers = [block.number for block in blocks]
    return numbers == sorted(set(numbers)) and bool(numbers) and numbers[0] >= first and numbers[-1] == last


def _dated(chain: Chain, found: Scan) -> tuple[Transfer, ...]:
    """The transfers, each in a block that was told, and of its time."""
    blocks = {(block.number, block.hash): block for block in found.blocks}
    dated = []
    for transfer in found.transfers:
        block = blocks.get((transfer.block_number, transfer.block_hash))
        if block is None:
            raise TransientError(
                f"a node of {chain.id} tells of a transfer in block {transfer.block_number}, not of it"
            )
        dated.append(transfer if transfer.block_time is not None else replace(transfer, block_time=block.time))
    return tuple(dated)


def _tip(reader: ChainReader, chain: Chain, head: Head, first: int, last: int) -> Block | None:
    """The newest block of the range, read by its number. None: all its numbers are missing."""
    if last == head.latest.number:
        return head.latest
    if chain.reorg_depth:
        tip = reader.blocks([last]).get(last)
        if tip is None:
            raise TransientError(f"a node of {chain.id} does not have block {last} yet")
        return tip
    steps = iter(STEPS)
    step = next(steps)
    while last >= first:
        numbers = range(max(last - step + 1, first), last + 1)
        told = reader.blocks([*numbers, head.latest.number])
        if (newest := told.get(head.latest.number)) is None or newest.hash != head.latest.hash:
            # Without the head a missing number proves nothing: the node may just not be as far.
            raise TransientError(f"a node of {chain.id} does not have the head of another")
        if here := [number for number in numbers if number in told]:
            return told[here[-1]]
        last, step = numbers[0] - 1, next(steps, step)
    return None


def _asked(reader: ChainReader, chain: Chain, first: int, last: int, addresses: Sequence[str]) -> Scan:
    """What the nodes tell of the range. A failure that may be the range's fault makes the next one shorter."""
    try:
        return reader.scan(first, last, addresses)
    except DisagreementError:
        raise
    except TransientError as error:
        # One that asks us to wait minds how often it is asked, not how much.
        if error.retry_after is None and last > first:
            with transaction() as session:
                scan_queries.set_range(session, chain.id, (last - first + 1) // 2)
        raise


def range_of(chain: Chain, kept: int | None) -> int:
    """How many blocks to ask for."""
    return max(1, min(kept or chain.scan_blocks_max, chain.scan_blocks_max))


def grown(chain: Chain, size: int) -> int:
    """How many to ask for after this many were answered: a quarter more."""
    return min(size + max(1, size // 4), chain.scan_blocks_max)


def parts(whole: Part) -> Iterator[Part]:
    """The same in parts of whole blocks, each small enough for one transaction: a flood of payments, or the backlog of
    an outage, must not be kept all or nothing, since it would then be nothing each time.
    """
    in_block: dict[int, list[Transfer]] = defaultdict(list)
    for transfer in whole.transfers:
        in_block[transfer.block_number].append(transfer)
    first = whole.first
    blocks: list[Block] = []
    transfers: list[Transfer] = []
    for block in whole.blocks:
        if blocks and len(transfers) + len(in_block[block.number]) > KEPT_AT_ONCE:
            yield Part(first, blocks[-1].number, tuple(blocks), tuple(transfers), whole.addresses)
            first, blocks, transfers = blocks[-1].number + 1, [], []
        blocks.append(block)
        transfers += in_block[block.number]
    yield Part(first, whole.last, tuple(blocks), tuple(transfers), whole.addresses)
