"""Scanning a chain for money that arrives on our addresses: every block once, and again if a reorg replaces it.

The cursor moves in the transaction that keeps what was found, so a scan that is killed, doubled or repeated finds each
transfer once. Each range is joined to the last block scanned by its parent's hash; where that fails, the blocks that
are gone are undone first, deposit by deposit, and only then does the cursor go back.
"""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import structlog
from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chains.base import Block, ChainReader, Head, Scan, Transfer
from config.assets import Chain, registry
from core import clock
from core.errors import InvalidRequestError, InvariantError, NotFoundError, TransientError
from core.jobs import transaction
from domain.deposit import queries, record
from domain.deposit.attribute import attribute
from domain.deposit.follow import set_apart
from domain.deposit.models import ChainBlock, ChainCursor
from domain.deposit.nodes import note_failure, note_read
from domain.deposit.settings import deposit as settings

log = structlog.stdlib.get_logger(__name__)

CLOCK_MARGIN = timedelta(minutes=2)
"""How far a block's clock may be behind ours."""
KEPT_AT_ONCE = 1_000
"""Transfers kept in one transaction; more only where they are all of one block."""
RUNNING = "running"
STOPPED = "stopped"


def scan(reader: ChainReader) -> None:
    """Scan on from the cursor to the head, or for as long as the budget lasts. A node that is down delays it.

    Raises InvariantError, once, if the chain differs from all that is stored of it; the scan then waits for a person.
    """
    ends = time.monotonic() + settings().budget.total_seconds()
    try:
        while _scan_some(reader) and time.monotonic() < ends:
            pass
    except TransientError as error:
        log.warning("chain.unread", chain=reader.id, error=str(error))
        with transaction() as session:
            note_failure(session, reader.id, error, by="scan", now=clock.now())


def restart(session: Session, chain: str, *, next_block: int, actor: str, reason: str) -> ChainCursor:
    """Let a stopped scan go on from this block, which is scanned again. What was found before stays as it is."""
    cursor = queries.cursor(session, chain, locked=True)
    if cursor is None:
        raise NotFoundError(f"the chain {chain} has not been scanned yet")
    log.warning(
        "scan.restarted", chain=chain, actor=actor, reason=reason, before=cursor.next_block, next_block=next_block
    )
    session.execute(delete(ChainBlock).where(ChainBlock.chain == chain))  # the next scan reads what lies before
    cursor.next_block = next_block
    cursor.read_until = None  # what expires by it waits until the blocks have been scanned again
    cursor.status = RUNNING
    cursor.last_error = cursor.failing_since = None
    cursor.updated_at = clock.now()
    return cursor


def _scan_some(reader: ChainReader) -> bool:
    """One range of blocks. True if there may be more to scan."""
    chain = registry().chains[reader.id]
    with transaction() as session:
        cursor = queries.cursor(session, chain.id)
        begun = cursor is not None and cursor.next_block is not None
        since = None if begun else queries.first_allotment(session, chain.id)  # reads every address: once is enough
    if cursor is not None and cursor.status == STOPPED:
        log.error("scan.stopped", chain=chain.id, error=cursor.last_error)
        return False
    if cursor is None or cursor.next_block is None:
        if since is None:
            return False
        _begin(reader, chain, reader.head(), since)
        return True
    head = reader.head()
    first = cursor.next_block
    with transaction() as session:
        parent = queries.stored_hash(session, chain.id, first - 1)
    if parent is None and first > 0:
        _join(reader, chain, first)
        return True
    if head.latest.number < first:
        return _at_the_head(reader, chain, head, first, parent)
    return _scan_range(reader, chain, head, first, parent)


def _scan_range(reader: ChainReader, chain: Chain, head: Head, first: int, parent: str | None) -> bool:
    last = min(head.latest.number, first + chain.scan_blocks_max - 1)
    tip = head.latest if last == head.latest.number else reader.blocks([last]).get(last)
    with transaction() as session:
        # Read after the tip is known: whoever pays to an address allotted later pays in a later block.
        addresses = queries.scanned_addresses(session, chain.id)
    found = reader.scan(first, last, addresses)
    if tip is None or not _is_unbroken(found.blocks, first, last) or found.blocks[-1].hash != tip.hash:
        raise TransientError(f"{chain.id} changed while blocks {first} to {last} were scanned")
    if parent is not None and found.blocks[0].parent_hash != parent:
        _rewind(reader, chain, first)
        return True
    for part in _parts(found):
        with transaction() as session:
            if not _keep(session, chain, part, parent):
                return False
        parent = part.blocks[-1].hash
    return last < head.latest.number


def _parts(found: Scan) -> Iterator[Scan]:
    """The scan in parts of whole blocks, each small enough for one transaction: a flood of payments, or the backlog of
    an outage, must not be kept all or nothing, since it would then be nothing each time.
    """
    in_block: dict[int, list[Transfer]] = defaultdict(list)
    for transfer in found.transfers:
        in_block[transfer.block_number].append(transfer)
    blocks: list[Block] = []
    transfers: list[Transfer] = []
    for block in found.blocks:
        if blocks and len(transfers) + len(in_block[block.number]) > KEPT_AT_ONCE:
            yield Scan(tuple(blocks), tuple(transfers))
            blocks, transfers = [], []
        blocks.append(block)
        transfers += in_block[block.number]
    yield Scan(tuple(blocks), tuple(transfers))


def _at_the_head(reader: ChainReader, chain: Chain, head: Head, first: int, parent: str | None) -> bool:
    """Nothing new; but the last block scanned may have been replaced by one of the same height."""
    if head.latest.number == first - 1 and parent not in (None, head.latest.hash):
        _rewind(reader, chain, first)
        return True
    with transaction() as session:
        note_read(session, chain.id, by="scan", now=clock.now())
    return False


def _is_unbroken(blocks: Sequence[Block], first: int, last: int) -> bool:
    """Exactly the blocks asked for, of one fork."""
    return [block.number for block in blocks] == list(range(first, last + 1)) and all(
        child.parent_hash == parent.hash for parent, child in pairwise(blocks)
    )


def _keep(session: Session, chain: Chain, found: Scan, parent: str | None) -> bool:
    """Keep what was found and move the cursor, at once; nothing, if another scan has moved it meanwhile."""
    first, last = found.blocks[0].number, found.blocks[-1]
    cursor = queries.cursor(session, chain.id, locked=True)
    if cursor is None or cursor.next_block != first or cursor.status != RUNNING:
        return False
    if queries.stored_hash(session, chain.id, first - 1) != parent:
        return False
    now = clock.now()
    attribute(session, chain.id, found.transfers, now=now)
    _store(session, chain, found.blocks)
    cursor.next_block = last.number + 1
    cursor.read_until = last.time
    cursor.last_read_at = cursor.updated_at = now
    note_read(session, chain.id, by="scan", now=now)
    return True


def _store(session: Session, chain: Chain, blocks: Sequence[Block]) -> None:
    """Keep the newest blocks, as many as a reorg may replace and one to join them to."""
    oldest = blocks[-1].number - chain.reorg_depth
    session.execute(
        insert(ChainBlock),
        [
            {"chain": chain.id, "number": block.number, "hash": block.hash, "parent_hash": block.parent_hash}
            for block in blocks
            if block.number >= oldest
        ],
    )
    session.execute(delete(ChainBlock).where(ChainBlock.chain == chain.id, ChainBlock.number < oldest))


# --- the beginning -----------------------------------------------------------------------------------------------


def _begin(reader: ChainReader, chain: Chain, head: Head, since: datetime) -> None:
    """Set the cursor to the first block that can hold a payment to any of our addresses."""
    first = _first_block_since(reader, head, since - CLOCK_MARGIN)
    with transaction() as session:
        note_read(session, chain.id, by="scan", now=clock.now())
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is not None and cursor.next_block is None:
            cursor.next_block = first
    log.info("scan.begun", chain=chain.id, block=first)


def _join(reader: ChainReader, chain: Chain, first: int) -> None:
    """Store the blocks before the first to be scanned, so that a reorg in the first minutes finds its ancestor."""
    numbers = range(max(first - chain.reorg_depth - 1, 0), first)
    before = reader.blocks(list(numbers))
    blocks = [before[number] for number in numbers if number in before]
    if not _is_unbroken(blocks, numbers[0], numbers[-1]):
        raise TransientError(f"{chain.id} does not have blocks {numbers[0]} to {numbers[-1]} of one fork yet")
    with transaction() as session:
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is not None and cursor.next_block == first and not queries.stored_blocks(session, chain.id):
            _store(session, chain, blocks)


def _first_block_since(reader: ChainReader, head: Head, since: datetime) -> int:
    """The lowest block that is not older, by bisection; the one after the head if all are."""
    low, high = 0, head.latest.number + 1
    while low < high:
        middle = (low + high) // 2
        block = head.latest if middle == head.latest.number else reader.blocks([middle]).get(middle)
        if block is None:
            raise TransientError(f"a node of {reader.id} does not have block {middle}")
        if block.time < since:
            low = middle + 1
        else:
            high = middle
    return low


# --- reorgs ------------------------------------------------------------------------------------------------------


def _rewind(reader: ChainReader, chain: Chain, first: int) -> None:
    """Undo what lies in blocks that are gone, then set the cursor behind the common ancestor.

    In this order, because what is still claimed would be passed over when the new blocks are scanned. Killed in
    between, the next scan finds the same stored blocks and does it again.
    """
    with transaction() as session:
        stored = queries.stored_blocks(session, chain.id)
    canonical = reader.blocks([block.number for block in stored])
    if len(canonical) < len(stored):
        raise TransientError(
            f"a node of {chain.id} lacks blocks that were scanned: it lags, or its chain is shorter now"
        )
    ancestor = next((block for block in stored if canonical[block.number].hash == block.hash), None)
    if ancestor is None:
        _stop(chain, stored)
    gone = [block for block in stored if ancestor is not None and block.number > ancestor.number]
    if ancestor is None or not gone:
        raise TransientError(f"{chain.id} is back on the fork that was scanned")
    log.warning("scan.reorged", chain=chain.id, blocks=len(gone), ancestor=ancestor.number)
    with transaction() as session:
        affected = queries.deposits_in_blocks(session, chain.id, [block.hash for block in gone])
    now = clock.now()
    for deposit_id, block_hash in affected:
        try:
            with transaction() as session:
                record.undo(session, deposit_id, block_hash, now=now)
        except InvalidRequestError:
            # An account of its owner is frozen or closed. That must not stop the chain for all others.
            log.exception("deposit.not_undone", deposit_id=str(deposit_id))
            set_apart(deposit_id, gone=True)
    with transaction() as session:
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is None or cursor.next_block != first:
            return
        session.execute(delete(ChainBlock).where(ChainBlock.chain == chain.id, ChainBlock.number > ancestor.number))
        cursor.next_block = ancestor.number + 1
        cursor.read_until = canonical[ancestor.number].time
        cursor.updated_at = now


def _stop(chain: Chain, stored: Sequence[ChainBlock]) -> None:
    """A reorg deeper than any that was thought possible, or another chain under the same name: not ours to decide."""
    message = (
        f"none of the {len(stored)} newest blocks that were scanned of {chain.id} is part of the chain now: "
        f"a reorg deeper than {chain.reorg_depth} blocks, or a node of another chain. The scan is stopped."
    )
    now = clock.now()
    with transaction() as session:
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is not None:
            cursor.status = STOPPED
            cursor.last_error = message
            cursor.failing_since = cursor.failing_since or now
            cursor.updated_at = now
    raise InvariantError(message)
