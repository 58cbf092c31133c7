"""When the chain is another than the one that was scanned: undo what lay in blocks that are gone, or stop."""

from collections.abc import Sequence
from typing import NoReturn

import structlog

from chains.base import Block, ChainReader
from config.assets import Chain
from core import clock
from core.errors import InvalidRequestError, InvariantError, TransientError
from core.jobs import transaction
from domain.deposit import coverage, queries, record, scan_queries
from domain.deposit.follow import set_apart
from domain.deposit.scan_models import ChainBlock, ChainCursor

log = structlog.stdlib.get_logger(__name__)

RUNNING = "running"
STOPPED = "stopped"


def rewind(reader: ChainReader, chain: Chain, first: int) -> None:
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
        stop(
            chain,
            f"none of the {len(stored)} newest blocks that were scanned of {chain.id} is part of the chain now: "
            f"a reorg deeper than {chain.reorg_depth} blocks, or a node of another chain. The scan is stopped.",
        )
    gone = [block for block in stored if block.number > ancestor.number]
    if not gone:
        raise TransientError(f"{chain.id} is back on the fork that was scanned")
    log.warning("scan.reorged", chain=chain.id, blocks=len(gone), ancestor=ancestor.number)
    _undo(chain, gone)
    _set_back(chain, first, canonical[ancestor.number])


def _undo(chain: Chain, gone: Sequence[ChainBlock]) -> None:
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


def _set_back(chain: Chain, first: int, ancestor: Block) -> None:
    now = clock.now()
    with transaction() as session:
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is None or cursor.next_block != first:
            return
        scan_queries.forget_above(session, chain.id, ancestor.number)
        coverage.take_back(session, chain.id, last=ancestor.number, last_hash=ancestor.hash, now=now)
        cursor.next_block = ancestor.number + 1
        lower_first(cursor)
        cursor.read_until = ancestor.time
        cursor.updated_at = now


def lower_first(cursor: ChainCursor) -> None:
    """What is scanned below the first block ever scanned belongs to what must be covered from now on."""
    if cursor.next_block is not None and (cursor.first_block is None or cursor.next_block < cursor.first_block):
        cursor.first_block = cursor.next_block


def check_final(reader: ChainReader, chain: Chain, newest: ChainBlock) -> None:
    """Where only final blocks are read, the newest that was scanned must still be there. Otherwise the scan stops."""
    found = reader.blocks([newest.number]).get(newest.number)
    if found is None:
        raise TransientError(f"a node of {chain.id} lacks block {newest.number}, which was scanned: it lags")
    if found.hash != newest.hash:
        stop(
            chain,
            f"block {newest.number} of {chain.id} was final when it was scanned, and is another now: its final history "
            "has changed, or a node is of another chain. The scan is stopped.",
        )


def stop(chain: Chain, message: str) -> NoReturn:
    """A reorg deeper than any that was thought possible, or another chain under the same name: not ours to decide."""
    now = clock.now()
    with transaction() as session:
        cursor = queries.cursor(session, chain.id, locked=True)
        if cursor is not None:
            cursor.status = STOPPED
            cursor.last_error = message
            cursor.failing_since = cursor.failing_since or now
            cursor.updated_at = now
    raise InvariantError(message)
