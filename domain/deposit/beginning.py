"""Where the scan of a chain begins, and what stands below."""

from datetime import datetime, timedelta

import structlog

from chains.base import Block, ChainReader, Head
from config.assets import Chain
from core import clock
from core.errors import TransientError
from core.jobs import transaction
from domain.deposit import queries, scan_queries
from domain.deposit.nodes import note_read
from domain.deposit.reading import is_unbroken
from domain.deposit.rewind import rewind

log = structlog.stdlib.get_logger(__name__)

CLOCK_MARGIN = timedelta(minutes=2)
"""How far a block's clock may be behind ours."""
MISSING_MAX = 64
"""Numbers that are stepped over to find a block, where a chain leaves numbers out."""


def begin(reader: ChainReader, chain: Chain, head: Head, since: datetime) -> None:
    """Set the cursor to the first block that can hold a payment to any of our addresses."""
    first = first_block_since(reader, chain, head, since - CLOCK_MARGIN)
    now = clock.now()
    with transaction() as session:
        note_read(session, chain.id, by="scan", now=now)
        scan_queries.note_head(session, chain.id, head, now=now)
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is not None and cursor.next_block is None:
            cursor.next_block = cursor.first_block = first
    log.info("scan.begun", chain=chain.id, block=first)


def join(reader: ChainReader, chain: Chain, first: int) -> None:
    """Store the blocks before the first to be scanned, so that a reorg in the first minutes finds its ancestor.

    Some may be stored, where a cursor was moved or `reorg_depth` has grown: if they are others now, it is a reorg.
    """
    numbers = range(max(first - chain.reorg_depth - 1, 0), first)
    before = reader.blocks(list(numbers))
    blocks = [before[number] for number in numbers if number in before]
    if not is_unbroken(blocks, numbers[0], numbers[-1]):
        raise TransientError(f"{chain.id} does not have blocks {numbers[0]} to {numbers[-1]} of one fork yet")
    with transaction() as session:
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is None or cursor.next_block != first:
            return
        stored = scan_queries.stored_hashes(session, chain.id, numbers[0], numbers[-1])
        is_same = all(stored.get(block.number, block.hash) == block.hash for block in blocks)
        if is_same:
            missing = [block for block in blocks if block.number not in stored]
            scan_queries.store(session, chain.id, missing, depth=chain.reorg_depth)
    if not is_same:
        rewind(reader, chain, first)


def first_block_since(reader: ChainReader, chain: Chain, head: Head, since: datetime) -> int:
    """The lowest number with nothing older at or above it; the one after the head if all is older.

    Goes back from the head in steps that double, so that no block is asked for that is much older than it must be: many
    nodes keep only the newest. Then by bisection between a block that is older and one that is not. Where numbers are
    missing it may be lower than it had to be, never higher.
    """
    if head.latest.time < since:
        return head.latest.number + 1
    high = head.latest.number  # it and all above are not older
    low, older = 0, False  # all below are older
    number, step = high, 1
    while number > 0 and not older:
        number, step = max(head.latest.number - step, 0), 2 * step
        block, missing = _at_or_after(reader, chain, number, high)
        if block is not None and block.time < since:
            low, older = block.number + 1, True
        elif block is not None or missing:
            high = number
    while low < high:
        middle = (low + high) // 2
        block, missing = _at_or_after(reader, chain, middle, high)
        if block is not None and block.time < since:
            low, older = block.number + 1, True
        elif block is None and not missing and not older:
            low = middle + 1
        else:  # not older; or a hole in the numbers, where to begin earlier misses nothing
            high = middle
    if high > 0 and not older:
        raise TransientError(f"no node of {chain.id} that answers has the blocks since {since:%Y-%m-%d %H:%M}")
    return high


def _at_or_after(reader: ChainReader, chain: Chain, number: int, high: int) -> tuple[Block | None, bool]:
    """The first block from this number on and below `high`, among some; and, without one, whether that proves that
    there is none below `high`.
    """
    width = 1 if chain.reorg_depth else MISSING_MAX
    numbers = range(number, min(number + width, high))
    told = reader.blocks(list(numbers))
    found = next((told[each] for each in numbers if each in told), None)
    return found, found is None and chain.reorg_depth == 0 and high - number <= width
