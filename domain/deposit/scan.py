"""Scanning a chain for money that arrives on our addresses: every block once, and again if a reorg replaces it.

The cursor moves in the transaction that keeps what was found and that it was read, so a scan that is killed, doubled or
repeated finds each transfer once. Each range is joined to the last block scanned by its parent's hash; where that
fails, the blocks that are gone are undone first, deposit by deposit, and only then does the cursor go back. Where only
final blocks are read the last one scanned must still be there instead. docs/chains-scanning.md.
"""

import time
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from chains.base import ChainReader, Head
from chains.errors import RefusedError
from config.assets import Chain, registry
from core import clock
from core.errors import NotFoundError, TransientError
from core.jobs import transaction
from domain.deposit import coverage, pace, queries, reading, scan_queries
from domain.deposit.attribute import attribute
from domain.deposit.beginning import begin, join
from domain.deposit.coverage import Cover
from domain.deposit.nodes import note_failure, note_read
from domain.deposit.reading import Part
from domain.deposit.rewind import RUNNING, STOPPED, check_final, lower_first, rewind
from domain.deposit.scan_models import ChainBlock, ChainCursor
from domain.deposit.scan_queries import store
from domain.deposit.settings import deposit as settings

log = structlog.stdlib.get_logger(__name__)


def scan(reader: ChainReader) -> None:
    """Scan on from the cursor to the head, or for as long as the budget lasts. A node that is down delays it.

    Raises InvariantError, once, if the chain differs from all that is stored of it; the scan then waits for a person.
    """
    chain = registry().chains[reader.id]
    ends = time.monotonic() + settings().budget.total_seconds()
    soon, later = pace.period(chain), pace.quiet(chain)
    try:
        while behind := _scan_some(reader, chain):
            if time.monotonic() >= ends:
                break
        if behind:
            soon = later = pace.NOW
    except TransientError as error:
        log.warning("chain.unread", chain=reader.id, error=str(error))
        with transaction() as session:
            note_failure(session, reader.id, error, by="scan", now=clock.now())
        # Sooner than a chain on which nobody waits, so that it is seen to answer again.
        later = max(soon, min(later, error.retry_after or soon))
    with transaction() as session:
        scan_queries.set_next_scan(session, chain.id, now=clock.now(), soon=soon, later=later)


def restart(session: Session, chain: str, *, next_block: int, actor: str, reason: str) -> ChainCursor:
    """Let a stopped scan go on from this block, which is scanned again. What was found before stays as it is.

    From a later block than the cursor's, what lies between is a gap of the coverage.
    """
    cursor = queries.cursor(session, chain, locked=True)
    if cursor is None:
        raise NotFoundError(f"the chain {chain} has not been scanned yet")
    now = clock.now()
    log.warning(
        "scan.restarted", chain=chain, actor=actor, reason=reason, before=cursor.next_block, next_block=next_block
    )
    scan_queries.forget_above(session, chain, -1)  # the next scan reads what lies before
    coverage.take_back(session, chain, last=next_block - 1, last_hash=None, now=now)
    cursor.next_block = next_block
    lower_first(cursor)
    cursor.read_until = None  # what expires by it waits until the blocks have been scanned again
    cursor.status = RUNNING
    cursor.last_error = cursor.failing_since = cursor.next_scan_at = None
    cursor.head_number = cursor.head_time = cursor.head_at = None
    cursor.updated_at = now
    return cursor


def _scan_some(reader: ChainReader, chain: Chain) -> bool:
    """One range of blocks. True if there may be more to scan."""
    with transaction() as session:
        cursor = queries.cursor(session, chain.id)
        begun = cursor is not None and cursor.next_block is not None
        since = None if begun else queries.first_allotment(session, chain.id)  # reads every address: once is enough
    if cursor is not None and cursor.status == STOPPED:
        log.error("scan.stopped", chain=chain.id, error=cursor.last_error)
        return False
    head = reader.head()
    if cursor is None or cursor.next_block is None:
        if since is None:
            _note(chain, head)  # nothing to scan for; but whether it could be read can be told
            return False
        begin(reader, chain, head, since)
        return True
    first = cursor.next_block
    with transaction() as session:
        below = scan_queries.stored_below(session, chain.id, first)
    if chain.reorg_depth == 0:
        if below is not None:
            check_final(reader, chain, below)
    elif first > 0 and (below is None or below.number != first - 1):
        join(reader, chain, first)
        return True
    if head.latest.number < first:
        return _at_the_head(reader, chain, head, first, below)
    return _scan_range(reader, chain, head, cursor, below)


def _scan_range(reader: ChainReader, chain: Chain, head: Head, cursor: ChainCursor, below: ChainBlock | None) -> bool:
    first = cursor.next_block or 0
    size = reading.range_of(chain, cursor.range_blocks)
    last = min(head.latest.number, first + size - 1)

    def watched() -> list[str]:
        with transaction() as session:
            return list(queries.scanned_addresses(session, chain.id))

    try:
        found = reading.read(reader, chain, head, first, last, watched=watched)
    except RefusedError as refusal:
        if last == first:
            raise
        log.info("scan.refused", chain=chain.id, first=first, last=last, error=str(refusal))
        return True  # the next range is half as long
    stands_on = below.hash if below is not None else None
    if chain.reorg_depth and stands_on is not None and found.blocks[0].parent_hash != stands_on:
        rewind(reader, chain, first)
        return True
    for part in reading.parts(found):
        with transaction() as session:
            if not _keep(session, chain, head, part, stands_on):
                return False
            if part.last == found.last and last - first + 1 == size < chain.scan_blocks_max:
                scan_queries.set_range(session, chain.id, reading.grown(chain, size))
        stands_on = part.blocks[-1].hash if part.blocks else stands_on
    return found.last < head.latest.number


def _note(chain: Chain, head: Head) -> None:
    now = clock.now()
    with transaction() as session:
        note_read(session, chain.id, by="scan", now=now)
        scan_queries.note_head(session, chain.id, head, now=now)


def _at_the_head(reader: ChainReader, chain: Chain, head: Head, first: int, below: ChainBlock | None) -> bool:
    """Nothing new; but the last block scanned may have been replaced by one of the same height."""
    if below is not None and head.latest.number == below.number and head.latest.hash != below.hash:
        if chain.reorg_depth == 0:
            raise TransientError(f"two nodes of {chain.id} tell block {below.number} differently")
        rewind(reader, chain, first)
        return True
    _note(chain, head)
    return False


def _keep(session: Session, chain: Chain, head: Head, found: Part, stands_on: str | None) -> bool:
    """Keep what was found and move the cursor, at once; nothing, if another scan has moved it meanwhile."""
    cursor = queries.cursor(session, chain.id, locked=True)
    if cursor is None or cursor.next_block != found.first or cursor.status != RUNNING:
        return False
    below = scan_queries.stored_below(session, chain.id, found.first)
    if (below.hash if below is not None else None) != stands_on:
        return False
    now = clock.now()
    attribute(session, chain.id, found.transfers, now=now)
    store(session, chain.id, found.blocks, depth=chain.reorg_depth)
    coverage.cover(
        session,
        chain.id,
        Cover(found.first, found.last, found.last_hash, "scan", found.addresses),
        now=now,
    )
    cursor.next_block = found.last + 1
    cursor.read_until = _read_until(cursor, found)
    cursor.last_read_at = cursor.updated_at = now
    note_read(session, chain.id, by="scan", now=now)
    scan_queries.note_head(session, chain.id, head, now=now)
    return True


def _read_until(cursor: ChainCursor, found: Part) -> datetime | None:
    return found.blocks[-1].time if found.blocks else cursor.read_until
