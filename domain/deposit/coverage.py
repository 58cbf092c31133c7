"""Which blocks were read: the proof that a scan passed none over.

A row is a range of numbers, committed with the cursor and with what was found in it. Every number from the chain's
first block to the cursor must lie in one; what lies in none is a gap, and money may have arrived there. All of it is
written under the cursor's lock.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from chains.base import Block

By = Literal["scan", "rescan"]


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of numbers that nobody has read, both ends included."""

    chain: str
    first: int
    last: int

    @property
    def blocks(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True, slots=True)
class Cover:
    """A range that was read, and what its row says of it."""

    first: int
    last: int
    last_hash: str | None
    """Of the block `last`, if there is one and it is known."""
    by: By
    addresses: int


# A day of neighbours is one row: a chain of years is some thousand rows, and the day tells when a block was read.
_EXTEND = text(
    """
    UPDATE chain_coverage SET last_block = :last, last_hash = :last_hash, addresses = :addresses, updated_at = :now
    WHERE chain = :chain AND last_block = :first - 1 AND by = :by AND began_at >= :day AND began_at < :day + :one_day
      AND first_block = (SELECT max(first_block) FROM chain_coverage WHERE chain = :chain AND first_block < :first)
    """
)
_INSERT = text(
    """
    INSERT INTO chain_coverage (chain, first_block, last_block, last_hash, by, addresses, began_at, updated_at)
    VALUES (:chain, :first, :last, :last_hash, :by, :addresses, :now, :now)
    """
)


def cover(session: Session, chain: str, read: Cover, *, now: datetime) -> None:
    """The range was read. It must overlap no other: the database refuses that."""
    row = {
        "chain": chain,
        "first": read.first,
        "last": read.last,
        "last_hash": read.last_hash,
        "by": read.by,
        "addresses": read.addresses,
        "now": now,
    }
    day = {"day": now.replace(hour=0, minute=0, second=0, microsecond=0), "one_day": timedelta(days=1)}
    if session.execute(_EXTEND, row | day).rowcount == 0:  # type: ignore[attr-defined]  # an UPDATE has a count
        session.execute(_INSERT, row)


_UNREAD = text(
    """
    SELECT lower(gap) AS first, upper(gap) - 1 AS last
    FROM unnest(int8multirange(int8range(:first, :last, '[]')) - coalesce(
      (SELECT range_agg(int8range(first_block, last_block, '[]')) FROM chain_coverage
       WHERE chain = :chain AND first_block <= :last AND last_block >= :first), '{}')) AS gap
    ORDER BY 1
    """
)


def fill(session: Session, chain: str, read: Cover, blocks: tuple[Block, ...], *, now: datetime) -> None:
    """The range was read once more: cover what of it lies in no row yet. `blocks` are those that were read of it."""
    asked = {"chain": chain, "first": read.first, "last": read.last}
    hashes = {block.number: block.hash for block in blocks}
    for first, last in session.execute(_UNREAD, asked).all():
        cover(session, chain, Cover(first, last, hashes.get(last), read.by, read.addresses), now=now)


_SHORTEN = text(
    """
    UPDATE chain_coverage SET last_block = :last, last_hash = :last_hash, updated_at = :now
    WHERE chain = :chain AND first_block <= :last AND last_block > :last
    """
)
_REMOVE = text("DELETE FROM chain_coverage WHERE chain = :chain AND first_block > :last")
# They go on below the blocks that are gone; what they found there has been undone with the rest.
_RESCANS = text(
    """
    UPDATE chain_rescans SET next_block = greatest(first_block, :last + 1), last_hash = NULL, updated_at = :now
    WHERE chain = :chain AND status = 'running' AND next_block > :last + 1
    """
)


def take_back(session: Session, chain: str, *, last: int, last_hash: str | None, now: datetime) -> None:
    """What was read above `last` counts no more: those blocks are gone, or are to be read again."""
    asked = {"chain": chain, "last": last, "last_hash": last_hash, "now": now}
    session.execute(_REMOVE, asked)
    session.execute(_SHORTEN, asked)
    session.execute(_RESCANS, asked)


_GAPS = text(
    """
    SELECT cursors.chain, lower(gap) AS first, upper(gap) - 1 AS last
    FROM chain_cursors AS cursors
    CROSS JOIN LATERAL unnest(int8multirange(int8range(cursors.first_block, cursors.next_block)) - coalesce(
      (SELECT range_agg(int8range(rows.first_block, rows.last_block, '[]')) FROM chain_coverage AS rows
       WHERE rows.chain = cursors.chain), '{}')) AS gap
    WHERE cursors.first_block < cursors.next_block AND cursors.chain = coalesce(:chain, cursors.chain)
    ORDER BY 1, 2
    """
)


def gaps(session: Session, chain: str | None = None) -> list[Gap]:
    """What no row covers between the first block ever scanned and the cursor; of all chains, or of one."""
    return [Gap(*row) for row in session.execute(_GAPS, {"chain": chain})]


_ENDS = text(
    """
    SELECT last_block, last_hash FROM chain_coverage
    WHERE chain = :chain AND last_block BETWEEN :first AND :last AND last_hash IS NOT NULL
    """
)


def known_hashes(session: Session, chain: str, first: int, last: int) -> dict[int, str]:
    """The hashes that were noted in this range, by block number."""
    return {row[0]: row[1] for row in session.execute(_ENDS, {"chain": chain, "first": first, "last": last})}
