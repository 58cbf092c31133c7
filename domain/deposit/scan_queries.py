"""Every SELECT and lock of scans and rescans; the cursor itself is in `queries`."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chains.base import Block, Head
from domain.deposit.scan_models import ChainBlock, ChainCoverage, ChainCursor, ChainRescan

# --- stored blocks -----------------------------------------------------------------------------------------------


def stored_below(session: Session, chain: str, number: int) -> ChainBlock | None:
    """The newest stored block below this number: what the next range must stand on."""
    return session.scalars(
        select(ChainBlock)
        .where(ChainBlock.chain == chain, ChainBlock.number < number)
        .order_by(ChainBlock.number.desc())
        .limit(1)
    ).one_or_none()


def stored_hashes(session: Session, chain: str, first: int, last: int) -> dict[int, str]:
    rows = session.execute(
        select(ChainBlock.number, ChainBlock.hash).where(
            ChainBlock.chain == chain, ChainBlock.number.between(first, last)
        )
    )
    return {row[0]: row[1] for row in rows}


def store(session: Session, chain: str, blocks: Sequence[Block], *, depth: int) -> None:
    """Keep the newest blocks, as many as a reorg may replace and one to join them to."""
    if not blocks:
        return
    oldest = blocks[-1].number - depth
    session.execute(
        insert(ChainBlock),
        [
            {"chain": chain, "number": block.number, "hash": block.hash, "parent_hash": block.parent_hash}
            for block in blocks
            if block.number >= oldest
        ],
    )
    session.execute(delete(ChainBlock).where(ChainBlock.chain == chain, ChainBlock.number < oldest))


def forget_above(session: Session, chain: str, number: int) -> None:
    session.execute(delete(ChainBlock).where(ChainBlock.chain == chain, ChainBlock.number > number))


# --- the cursor --------------------------------------------------------------------------------------------------


def note_head(session: Session, chain: str, head: Head, *, now: datetime) -> None:
    """The newest block that was told of. One that is no newer changes nothing: it is how long it has been the newest
    that tells a chain which stands still.
    """
    session.execute(
        update(ChainCursor)
        .where(
            ChainCursor.chain == chain,
            ChainCursor.head_number.is_(None) | (ChainCursor.head_number < head.latest.number),
        )
        .values(head_number=head.latest.number, head_time=head.latest.time, head_at=now)
    )


def set_range(session: Session, chain: str, blocks: int) -> None:
    session.execute(update(ChainCursor).where(ChainCursor.chain == chain).values(range_blocks=blocks))


_WAITING = "SELECT FROM deposits WHERE deposits.chain = {chain} AND mode <> 'tx' AND state = 'watching'"
_SET_NEXT = text(
    f"""
    UPDATE chain_cursors SET next_scan_at = cast(:now AS timestamptz) + CASE
      WHEN EXISTS ({_WAITING.format(chain=":chain")}) THEN cast(:soon AS interval) ELSE cast(:later AS interval) END
    WHERE chain = :chain
    """  # noqa: S608  # a constant of ours
)


def set_next_scan(session: Session, chain: str, *, now: datetime, soon: timedelta, later: timedelta) -> None:
    """The next scan: `soon` if a deposit waits on an address of the chain, `later` if none does."""
    session.execute(_SET_NEXT, {"chain": chain, "now": now, "soon": soon, "later": later})


# Each is one look into a partial index, however many deposits there are.
_WANTED = text(
    f"""
    SELECT asked.chain,
           EXISTS (SELECT FROM deposits WHERE deposits.chain = asked.chain AND next_poll_at <= :now) AS poll,
           coalesce(status, 'running') = 'running' AND (
             next_scan_at IS NULL OR next_scan_at <= :now OR EXISTS ({_WAITING.format(chain="asked.chain")})) AS scan
    FROM unnest(cast(:chains AS text[])) AS asked (chain)
    LEFT JOIN chain_cursors AS cursors ON cursors.chain = asked.chain
    """  # noqa: S608  # a constant of ours
)


def wanted(session: Session, chains: Sequence[str], *, now: datetime) -> Mapping[str, tuple[bool, bool]]:
    """For each chain, whether it is time for a poll, and for a scan."""
    rows = session.execute(_WANTED, {"chains": list(chains), "now": now})
    return {row.chain: (row.poll, row.scan) for row in rows}


def cursors(session: Session) -> Sequence[ChainCursor]:
    return session.scalars(
        select(ChainCursor).order_by(ChainCursor.chain), execution_options={"populate_existing": True}
    ).all()


# --- rescans -----------------------------------------------------------------------------------------------------


def rescan(session: Session, rescan_id: UUID, *, locked: bool = False) -> ChainRescan | None:
    """Lock the cursor first: a reorg, which holds it, sends rescans back."""
    query = select(ChainRescan).where(ChainRescan.id == rescan_id)
    return session.scalars(
        query.with_for_update() if locked else query, execution_options={"populate_existing": True}
    ).one_or_none()


def rescans(session: Session, chain: str | None, *, limit: int) -> Sequence[ChainRescan]:
    """Newest first."""
    query = select(ChainRescan).order_by(ChainRescan.id.desc()).limit(limit)
    return session.scalars(query if chain is None else query.where(ChainRescan.chain == chain)).all()


def coverage(session: Session, chain: str, *, limit: int) -> Sequence[ChainCoverage]:
    """What was read of a chain, the newest blocks first."""
    return session.scalars(
        select(ChainCoverage)
        .where(ChainCoverage.chain == chain)
        .order_by(ChainCoverage.first_block.desc())
        .limit(limit)
    ).all()
