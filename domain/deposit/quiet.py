"""Checking many deposits at once, for as long as nothing happens to them.

Nearly every look at a deposit finds what the last one found. Such looks are made for all due deposits together: the
headers of the blocks that they rest on, or the answer that a transaction is still unknown, and one statement that puts
them off. Whoever has news, or may have, is left due, and is looked at by `follow`, which alone draws conclusions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from chains.base import Block, ChainReader, Head, TxStatus
from config.assets import Chain, registry
from core.errors import TransientError
from core.jobs import transaction
from domain.deposit import pace

AT_ONCE = 5_000
"""Deposits put off by one statement."""
BLOCKS_AT_ONCE = 500
"""Blocks whose headers one round reads."""
UNSEEN_AT_ONCE = 1_000
AHEAD_MAX = timedelta(minutes=5)
"""A deposit whose deadline is nearer than this is looked at by itself: the chain's clock may be ahead of ours."""

FINALIZED = 0
"""`depth_needed` of a deposit that the finalized tag decides."""

_BLOCKS = text(
    """
    SELECT block_number, block_hash, count(*) AS resting FROM deposits
    WHERE chain = :chain AND next_poll_at <= :now AND final_at IS NULL AND block_hash IS NOT NULL
      AND state IN ('pending', 'credited', 'suspended', 'rejected')
    GROUP BY block_number, block_hash ORDER BY block_number DESC LIMIT :limit
    """
)
# `depth_needed` may be out of date, if the rules of the chain were changed: a smaller one leaves the deposit to
# `follow`, a larger one is what the deposit was taken in under. So does an asset that left the registry.
_PUT_OFF_RESTING = text(
    """
    WITH due AS (
      SELECT id FROM deposits
      WHERE chain = :chain AND next_poll_at <= :now AND final_at IS NULL AND asset = ANY(cast(:assets AS text[]))
        AND block_number = ANY(cast(:numbers AS bigint[])) AND block_hash = ANY(cast(:hashes AS text[]))
        AND CASE
          WHEN state = 'pending' THEN (value_units IS NULL OR priced_at IS NOT NULL) AND CASE
            WHEN depth_needed = 0 THEN block_number > coalesce(:finalized, -1)
            ELSE :head - block_number + 1 < depth_needed END
          ELSE state IN ('credited', 'suspended', 'rejected')
            AND (:head - block_number + 1 <= :reorg_depth AND block_number > coalesce(:finalized, -1)
                 OR block_number >= (SELECT next_block FROM chain_cursors WHERE chain = :chain)) END
      LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    UPDATE deposits SET next_poll_at = CASE WHEN state = 'pending' THEN :pending_at ELSE :booked_at END,
                        confirmations_seen = greatest(:head - block_number + 1, 0)
    FROM due WHERE deposits.id = due.id
    """
)
_UNSEEN = text(
    """
    SELECT id, chain_tx, state, coalesce(reorged_at, created_at) AS began, deadline_at FROM deposits
    WHERE chain = :chain AND next_poll_at <= :now AND final_at IS NULL AND mode = 'tx'
      AND asset = ANY(cast(:assets AS text[])) AND state = 'watching' AND tx_inputs IS NULL
      AND tx_valid_until IS NULL AND disputed_at IS NULL
      AND deadline_at > :now + cast(:margin AS interval)
    ORDER BY next_poll_at LIMIT :limit
    """
)
# In the order of their ids: see `queries.put_off`.
_PUT_OFF_UNSEEN = text(
    """
    WITH due AS (
      SELECT deposits.id, given.at
      FROM unnest(cast(:ids AS uuid[]), cast(:at AS timestamptz[])) AS given (id, at)
      JOIN deposits ON deposits.id = given.id
      WHERE deposits.next_poll_at <= :now AND deposits.state = 'watching'
        AND deposits.tx_inputs IS NULL AND deposits.final_at IS NULL
      ORDER BY deposits.id FOR UPDATE OF deposits SKIP LOCKED
    )
    UPDATE deposits SET next_poll_at = due.at FROM due WHERE deposits.id = due.id
    """
)


@dataclass(frozen=True)
class _Unseen:
    id: UUID
    chain_tx: str
    began: datetime
    deadline_at: datetime


def put_off_resting(reader: ChainReader, *, now: datetime) -> int:
    """Put off the due deposits whose block is part of the chain and not deep enough yet. Returns how many.

    Raises TransientError if the node doesn't answer, or contradicts itself.
    """
    chain = registry().chains[reader.id]
    with transaction() as session:
        rows = session.execute(_BLOCKS, {"chain": chain.id, "now": now, "limit": BLOCKS_AT_ONCE}).all()
    if not rows:
        return 0
    head = reader.head()
    blocks = reader.blocks(sorted({head.latest.number, *(row.block_number for row in rows)}))
    vouched(reader, head, blocks)
    standing = [
        (row.block_number, row.block_hash)
        for row in rows
        if (block := blocks.get(row.block_number)) is not None and block.hash == row.block_hash
    ]
    put_off = 0
    while standing:
        with transaction() as session:
            part = _put_off(session, chain, head, standing, now)
        put_off += part
        if part < AT_ONCE:
            break
    return put_off


def vouched(reader: ChainReader, head: Head, blocks: Mapping[int, Block]) -> None:
    """In one answer with the other blocks, the tip vouches for how much stands on them."""
    tip = blocks.get(head.latest.number)
    if tip is None or tip.hash != head.latest.hash:
        raise TransientError(f"the head of {reader.id} changed while it was read")


def _put_off(session: Session, chain: Chain, head: Head, standing: Sequence[tuple[int, str]], now: datetime) -> int:
    done = session.execute(
        _PUT_OFF_RESTING,
        {
            "chain": chain.id,
            "now": now,
            "numbers": [number for number, _ in standing],
            "hashes": [block_hash for _, block_hash in standing],
            "head": head.latest.number,
            "finalized": head.finalized,
            "reorg_depth": chain.reorg_depth,
            "pending_at": pace.pending(chain, now=now),
            "booked_at": pace.booked(chain, now=now),
            "assets": _assets(chain),
            "limit": AT_ONCE,
        },
    )
    return int(done.rowcount)  # type: ignore[attr-defined]  # has a count


def _assets(chain: Chain) -> list[str]:
    return [asset.id for asset in registry().of_chain(chain.id)]


def put_off_unseen(reader: ChainReader, *, now: datetime) -> int:
    """Put off due deposits whose transaction the node has never heard of, and that are far from their deadline."""
    chain = registry().chains[reader.id]
    with transaction() as session:
        asked = {
            "chain": chain.id,
            "now": now,
            "assets": _assets(chain),
            "margin": AHEAD_MAX,
            "limit": UNSEEN_AT_ONCE,
        }
        rows = [_Unseen(row.id, row.chain_tx, row.began, row.deadline_at) for row in session.execute(_UNSEEN, asked)]
    if not rows:
        return 0
    head = reader.head()
    told = reader.chain_txs([row.chain_tx for row in rows])
    times = {
        row.id: pace.unseen(chain, began=row.began, deadline_at=row.deadline_at, now=now)
        for row in rows
        if told[row.chain_tx].status is TxStatus.MISSING and head.latest.time <= row.deadline_at
    }
    if not times:
        return 0
    with transaction() as session:
        done = session.execute(_PUT_OFF_UNSEEN, {"ids": list(times), "at": list(times.values()), "now": now})
    return int(done.rowcount)  # type: ignore[attr-defined]  # has a count
