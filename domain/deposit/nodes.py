"""Whether a chain can be read, noted where operators look: failures of nodes are weather, not dead letters."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal

from sqlalchemy import ColumnElement, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chains.base import ChainReader
from core import clock
from core.db import transaction
from domain.deposit.scan_models import ChainCursor, ChainNode

Reading = Literal["poll", "scan"]
"""They ask a node for different things: one may fail for days while the other goes on, and must not hide it."""


def note_failure(session: Session, chain: str, error: Exception, *, by: Reading, now: datetime) -> None:
    """The first of the two to fail stands there until it has read again."""
    statement = insert(ChainCursor).values(
        chain=chain, last_error=f"{by}: {error}"[:2_000], failing_since=now, updated_at=now
    )
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={
                "last_error": statement.excluded.last_error,
                "failing_since": func.coalesce(ChainCursor.failing_since, statement.excluded.failing_since),
                "updated_at": now,
            },
            # Why it was stopped must not be overwritten.
            where=(ChainCursor.status == "running") & _is_own(by),
        )
    )


def note_read(session: Session, chain: str, *, by: Reading, now: datetime) -> None:
    statement = insert(ChainCursor).values(chain=chain, last_read_at=now, updated_at=now)
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["chain"],
            set_={
                "last_read_at": now,
                "failing_since": case((_is_own(by), None), else_=ChainCursor.failing_since),
                "last_error": case((_is_own(by), None), else_=ChainCursor.last_error),
                "updated_at": now,
            },
            where=ChainCursor.status == "running",
        )
    )


def _is_own(by: Reading) -> ColumnElement[bool]:
    return ChainCursor.last_error.is_(None) | ChainCursor.last_error.startswith(f"{by}: ")


# --- each endpoint -----------------------------------------------------------------------------------------------

KEPT_EVERY_NS = 10 * 10**9
"""What a process has seen of a chain's nodes is written at most so often."""
FRESH = timedelta(minutes=2)
"""A process that has written nothing for so long has stopped, or has nothing to do with the chain any more."""
FORGOTTEN = timedelta(hours=1)

_kept_at: dict[str, int] = {}


@dataclass(frozen=True, slots=True)
class NodeState:
    """One endpoint, as all our processes together see it."""

    chain: str
    label: str
    up: bool
    """It answers at least one of them."""
    head_number: int | None
    head_time: datetime | None
    latency_ms: int | None
    """The mean of theirs."""
    calls: int
    failures: int
    failing_since: datetime | None
    """The longest that it has failed for one of them."""
    last_error: str | None
    open_until: datetime | None
    trouble: str | None
    processes: int
    updated_at: datetime


def keep_health(reader: ChainReader, *, process: str) -> None:
    """Write how the chain's endpoints do, as this process sees them. Asks none of them; often does nothing."""
    ticks = time.monotonic_ns()
    if reader.id in _kept_at and ticks < _kept_at[reader.id] + KEPT_EVERY_NS:
        return
    _kept_at[reader.id] = ticks
    now = clock.now()
    rows = [
        {
            "chain": reader.id,
            "label": node.label,
            "process": process,
            "head_number": node.head_number,
            "head_time": node.head_time,
            "latency_ms": None if node.latency_ms is None else round(node.latency_ms),
            "calls": node.calls,
            "failures": node.failures,
            "failing_since": node.failing_since,
            "last_error": None if node.last_error is None else _keepable(node.last_error),
            "open_until": node.open_until,
            "trouble": node.trouble,
            "updated_at": now,
        }
        for node in reader.nodes()
    ]
    with transaction() as session:
        if rows:
            statement = insert(ChainNode).values(rows)
            keys = ["chain", "label", "process"]
            news = {name: statement.excluded[name] for name in rows[0] if name not in keys}
            session.execute(statement.on_conflict_do_update(index_elements=keys, set_=news))
        session.execute(delete(ChainNode).where(ChainNode.chain == reader.id, ChainNode.updated_at < now - FORGOTTEN))


def _keepable(words: str) -> str:
    """PostgreSQL keeps neither U+0000 nor half a surrogate pair, and a node may answer anything."""
    return words[:500].replace("\x00", "\\x00").encode(errors="backslashreplace").decode()


def node_states(session: Session, chain: str | None = None) -> Sequence[NodeState]:
    """Every endpoint that a process of ours has asked lately."""
    query = select(ChainNode).where(ChainNode.updated_at > clock.now() - FRESH)
    if chain is not None:
        query = query.where(ChainNode.chain == chain)
    rows = session.scalars(query.order_by(ChainNode.chain, ChainNode.label, ChainNode.updated_at.desc()))
    return [_state(list(seen)) for _, seen in groupby(rows, key=lambda row: (row.chain, row.label))]


def _state(seen: Sequence[ChainNode]) -> NodeState:
    """`seen`: the newest first."""
    latencies = [row.latency_ms for row in seen if row.latency_ms is not None]
    heads = [row for row in seen if row.head_number is not None]
    newest = max(heads, key=lambda row: row.head_number or 0, default=None)
    return NodeState(
        chain=seen[0].chain,
        label=seen[0].label,
        up=any(row.failing_since is None for row in seen),
        head_number=newest.head_number if newest is not None else None,
        head_time=newest.head_time if newest is not None else None,
        latency_ms=sum(latencies) // len(latencies) if latencies else None,
        calls=sum(row.calls for row in seen),
        failures=sum(row.failures for row in seen),
        failing_since=min((row.failing_since for row in seen if row.failing_since is not None), default=None),
        last_error=next((row.last_error for row in seen if row.last_error is not None), None),
        open_until=max((row.open_until for row in seen if row.open_until is not None), default=None),
        trouble=next((row.trouble for row in seen if row.trouble is not None), None),
        processes=len(seen),
        updated_at=seen[0].updated_at,
    )
