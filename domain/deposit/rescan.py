"""Scanning a range once more, because a person asks for it: for what a scan missed, and to close gaps.

A rescan is a row with a cursor of its own. Its jobs take the range in parts, one after the other; each part is kept
together with the row's cursor, so one that is killed is simply read again. What is found goes the way of the scan:
what belongs to a deposit already is passed over. The scan's cursor is never moved.
"""

import time
from collections.abc import Callable
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from chains.base import ChainReader
from chains.errors import RefusedError
from config.assets import Chain, registry
from core import clock, jobs
from core.errors import ConflictError, InvalidRequestError, NotFoundError, PermanentError, TransientError
from core.ids import new_id
from core.jobs import NewJob, transaction
from domain.deposit import coverage, queries, reading, scan_queries
from domain.deposit.attribute import attribute
from domain.deposit.coverage import Cover
from domain.deposit.reading import Part
from domain.deposit.rewind import RUNNING, STOPPED
from domain.deposit.scan_models import ChainCursor, ChainRescan
from domain.deposit.settings import deposit as settings

log = structlog.stdlib.get_logger(__name__)

RESCAN = "tx_monitor.rescan"
BLOCK_MAX = 2**63 - 2
WORDS_MAX = 1_000
DONE = "done"


def request(session: Session, chain: str, *, first: int, last: int, actor: str, reason: str) -> ChainRescan:
    """Write a rescan of blocks first..last, both included, and its first job.

    Raises NotFoundError for a chain that was not scanned, InvalidRequestError for a range that is none or that the
    scan has not come to, ConflictError while the scan is stopped.
    """
    if not 0 <= first <= BLOCK_MAX or not 0 <= last <= BLOCK_MAX:
        raise InvalidRequestError("a block's number is a whole number from 0", field="first_block")
    if first > last:
        raise InvalidRequestError("the first block is above the last", field="last_block")
    if not reason.strip() or len(reason) > WORDS_MAX:
        raise InvalidRequestError(f"say why, in at most {WORDS_MAX} characters", field="reason")
    cursor = queries.cursor(session, chain)
    if chain not in registry().chains or cursor is None or cursor.next_block is None:
        raise NotFoundError(f"the chain {chain[:200]} has not been scanned yet")
    if cursor.status == STOPPED:
        raise ConflictError(f"the scan of {chain} is stopped: see to that first")
    if last >= cursor.next_block:
        raise InvalidRequestError(
            f"block {last} of {chain} is still to be scanned: the last that was is {cursor.next_block - 1}",
            field="last_block",
        )
    now = clock.now()
    rescan = ChainRescan(
        id=new_id(),
        chain=chain,
        first_block=first,
        last_block=last,
        next_block=first,
        actor=actor,
        reason=reason,
        status=RUNNING,
        part=0,
        found=0,
        created_at=now,
        updated_at=now,
    )
    session.add(rescan)
    session.flush()
    _ask(session, rescan)
    log.warning("rescan.asked", chain=chain, rescan_id=str(rescan.id), first=first, last=last, actor=actor)
    return rescan


def _ask(session: Session, rescan: ChainRescan) -> None:
    # The job is ours, and no tenant's, who could cancel it.
    jobs.submit(session, NewJob(RESCAN, {"rescan_id": str(rescan.id), "part": rescan.part}, subject=rescan.subject))


def chain_of_rescan(rescan_id: UUID) -> str:
    """Which chain it reads. Raises PermanentError if there is no such rescan."""
    with transaction() as session:
        found = scan_queries.rescan(session, rescan_id)
    if found is None:
        raise PermanentError(f"there is no rescan {rescan_id}")
    return found.chain


def rescan(reader: ChainReader, rescan_id: UUID, part: int) -> None:
    """Read on from the rescan's cursor for as long as the budget lasts, and leave the rest to the next job.

    Does nothing if the job after this one was written already. Raises TransientError if the nodes don't answer or
    contradict what was scanned, ConflictError if the scan was stopped meanwhile.
    """
    chain = registry().chains[reader.id]
    ends = time.monotonic() + settings().budget.total_seconds()

    def over() -> bool:
        return time.monotonic() >= ends

    while _rescan_some(reader, chain, rescan_id, part, over=over):
        pass


def _rescan_some(reader: ChainReader, chain: Chain, rescan_id: UUID, part: int, *, over: Callable[[], bool]) -> bool:
    """One range of blocks. True if this job has more to do."""
    with transaction() as session:
        row = scan_queries.rescan(session, rescan_id)
        cursor = queries.cursor(session, chain.id)
    if row is None or row.status != RUNNING or row.part != part:
        return False
    head = reader.head()
    _check_reached(chain, cursor, row.last_block)
    if head.latest.number < row.last_block:
        raise TransientError(f"a node of {chain.id} does not have block {row.last_block} yet")
    size = reading.range_of(chain, cursor.range_blocks if cursor is not None else None)
    last = min(row.last_block, row.next_block + size - 1)

    def watched() -> list[str]:
        with transaction() as session:
            return list(queries.scanned_addresses(session, chain.id))

    try:
        found = reading.read(reader, chain, head, row.next_block, last, watched=watched)
    except RefusedError:
        if last == row.next_block:
            raise
        return True  # the next range is half as long
    for some in reading.parts(found):
        with transaction() as session:
            if not _keep(session, chain, rescan_id, part, some, over=over()):
                return False
    return True


def _check_reached(chain: Chain, cursor: ChainCursor | None, last: int) -> None:
    if cursor is not None and cursor.status == STOPPED:
        raise ConflictError(f"the scan of {chain.id} is stopped: see to that first, then replay this")
    if cursor is None or cursor.next_block is None or cursor.next_block <= last:
        raise TransientError(f"the scan of {chain.id} went back below block {last}: it has to come there first")


def _keep(session: Session, chain: Chain, rescan_id: UUID, part: int, found: Part, *, over: bool) -> bool:
    """Keep what was found and move the rescan's cursor, at once. True if this job has more to do."""
    cursor = queries.cursor(session, chain.id, locked=True)  # before the row, as a reorg does
    _check_reached(chain, cursor, found.last)
    row = scan_queries.rescan(session, rescan_id, locked=True)
    if row is None or row.status != RUNNING or row.part != part:
        return False
    if row.next_block != found.first:
        return True  # a reorg sent it back while this was read, or this job runs twice: read on from where it stands
    _check_canonical(session, chain, row, found)
    now = clock.now()
    keys = [(transfer.chain_tx, transfer.index) for transfer in found.transfers]
    before = queries.claimed(session, chain.id, keys)
    attribute(session, chain.id, found.transfers, now=now)
    row.found += len(queries.claimed(session, chain.id, keys)) - len(before)
    cover = Cover(found.first, found.last, found.last_hash, "rescan", found.addresses)
    coverage.fill(session, chain.id, cover, found.blocks, now=now)
    row.next_block = found.last + 1
    row.last_hash = found.last_hash
    row.updated_at = now
    if row.next_block > row.last_block:
        row.status, row.finished_at = DONE, now
        log.info("rescan.done", chain=chain.id, rescan_id=str(row.id), found=row.found)
        return False
    if over:
        row.part += 1
        _ask(session, row)
    return not over


def _check_canonical(session: Session, chain: Chain, row: ChainRescan, found: Part) -> None:
    """The blocks are those that the scan stands on, as far as it still knows them."""
    known = coverage.known_hashes(session, chain.id, found.first - 1, found.last)
    known |= scan_queries.stored_hashes(session, chain.id, found.first - 1, found.last)
    if row.next_block > row.first_block and row.last_hash is not None:
        known.setdefault(found.first - 1, row.last_hash)
    told = {block.number: block.hash for block in found.blocks}
    if chain.reorg_depth and found.blocks:
        told[found.first - 1] = found.blocks[0].parent_hash
    for number in told.keys() & known.keys():
        if told[number] != known[number]:
            raise TransientError(f"block {number} of {chain.id} is another than the one that was scanned")
