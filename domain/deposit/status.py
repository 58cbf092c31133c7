"""How each chain is doing, for those who watch over them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from config.assets import registry
from core import clock
from domain.deposit import coverage, scan_queries
from domain.deposit.coverage import Gap
from domain.deposit.rewind import STOPPED
from domain.deposit.scan_models import ChainCursor

FAILING_LATELY = timedelta(minutes=1)
"""A failure is news for so long. Then the chain is failing."""


@dataclass(frozen=True, slots=True)
class ChainStatus:
    """A chain that was read here."""

    cursor: ChainCursor
    now: datetime
    gaps: tuple[Gap, ...]
    head_age_max: timedelta | None

    @property
    def chain(self) -> str:
        return self.cursor.chain

    @property
    def gap_blocks(self) -> int:
        return sum(gap.blocks for gap in self.gaps)

    @property
    def lag_blocks(self) -> int | None:
        """How many blocks are still to be scanned, as far as was told."""
        head, following = self.cursor.head_number, self.cursor.next_block
        return None if head is None or following is None else max(head - following + 1, 0)

    @property
    def head_age(self) -> timedelta | None:
        """How old the newest block is that a node told of."""
        told = self.cursor.head_time
        return None if told is None else max(self.now - told, timedelta(0))

    @property
    def is_stopped(self) -> bool:
        return self.cursor.status == STOPPED

    @property
    def is_stalled(self) -> bool:
        """The nodes answer, and the chain does not move. By its own clock, and by ours in case its is off."""
        cursor = self.cursor
        if self.head_age_max is None or None in (cursor.last_read_at, cursor.head_time, cursor.head_at):
            return False
        since = min(cursor.head_time, cursor.head_at)  # type: ignore[type-var]  # none is None
        return cursor.last_read_at - since > self.head_age_max  # type: ignore[operator]

    def state(self, *, lately: timedelta = FAILING_LATELY) -> str:
        """`stopped`, `failing`, `failing lately`, `stalled` or `running`."""
        cursor = self.cursor
        if self.is_stopped:
            return STOPPED
        if cursor.failing_since is not None:
            return "failing" if self.now - cursor.failing_since > lately else "failing lately"
        return "stalled" if self.is_stalled else "running"


def statuses(session: Session) -> Sequence[ChainStatus]:
    """Every chain that was ever read here."""
    gaps: dict[str, list[Gap]] = {}
    for gap in coverage.gaps(session):
        gaps.setdefault(gap.chain, []).append(gap)
    return [_status(cursor, gaps.get(cursor.chain, [])) for cursor in scan_queries.cursors(session)]


def _status(cursor: ChainCursor, gaps: Sequence[Gap]) -> ChainStatus:
    chain = registry().chains.get(cursor.chain)
    return ChainStatus(cursor, clock.now(), tuple(gaps), chain.head_age_max if chain is not None else None)


def wanted(session: Session, *, now: datetime) -> Mapping[str, tuple[bool, bool]]:
    """For each chain that has nodes, whether it is time for a poll, and for a scan. One statement."""
    chains = [chain.id for chain in registry().chains.values() if chain.nodes]
    return scan_queries.wanted(session, chains, now=now) if chains else {}
