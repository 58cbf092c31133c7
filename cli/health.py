"""`tallyrail health`."""

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import typer
from redis.exceptions import RedisError
from sqlalchemy.orm import Session

from cli.output import Column, age, document, table
from config.queues import QUEUES
from core import db, jobs, redis
from domain.deposit import service as deposits
from domain.health import service as heartbeats

PARTS = (*QUEUES, "relay", "sync", "beat")


HEARTBEATS = (
    Column("Heartbeat", "part"),
    Column("Last", lambda row: "never" if row["age"] is None else f"{age(row['age'])} ago", right=True),
    Column("State", "state"),
)
DEPTHS = (
    Column("Queue", "queue"),
    Column("Waiting", "waiting", right=True),
    Column("Running", "running", right=True),
    Column("Dead", "dead", right=True),
    Column("Oldest due", "oldest_due", right=True),
)
CHAINS = (
    Column("Chain", "chain"),
    Column("State", "state"),
    Column("Next block", "next_block", right=True),
    Column("Behind", "lag_blocks", right=True),
    Column("Gaps", lambda row: row["gap_blocks"] or "none", right=True),
    Column("Newest block", lambda row: "" if row["head_age"] is None else f"{age(row['head_age'])} old", right=True),
    Column("Last read", lambda row: "never" if row["read_age"] is None else f"{age(row['read_age'])} ago", right=True),
    Column("Held up", lambda row: ", ".join(f"{count} for {what}" for what, count in row["held_up"].items())),
    Column("Error", lambda row: str(row["error"] or "").strip().split("\n", 1)[0], free=True),
)


def health(*, stale_after: int, as_json: bool) -> bool:
    """Show it, and say whether all is well."""
    limit = timedelta(seconds=stale_after)
    with db.transaction() as session:
        ages = heartbeats.ages(session, PARTS)
        depths = jobs.depths(session)
        chains = chain_rows(session, limit)
    parts = [{"part": name, "age": old, "state": _state(old, limit)} for name, old in ages.items()]
    redis_answers = _redis_answers()
    well = (
        redis_answers
        and all(part["state"] == "fresh" for part in parts)
        and all(chain["state"] in {"running", "failing lately"} and not chain["gap_blocks"] for chain in chains)
    )
    queues = [
        {
            "queue": depth.queue,
            "waiting": depth.waiting,
            "running": depth.running,
            "dead": depth.dead,
            "oldest_due": depth.oldest_due,
        }
        for depth in depths
    ]
    if as_json:
        document({"well": well, "redis": redis_answers, "heartbeats": parts, "queues": queues, "chains": chains})
        return well
    table(parts, HEARTBEATS)
    typer.echo("")
    table(queues, DEPTHS)
    if chains:
        typer.echo("")
        table(chains, CHAINS)
    typer.echo(f"\nRedis {'answers' if redis_answers else 'does not answer'}.")
    return well


def chain_rows(session: Session, limit: timedelta = deposits.FAILING_LATELY) -> list[dict[str, Any]]:
    """Every chain that was ever read here. A failure is news for as long as a heartbeat may be old."""
    held_up: dict[str, dict[str, int]] = defaultdict(dict)
    for waiting in deposits.count_waiting(session):
        held_up[waiting.chain][waiting.what.value] = waiting.count
    return [
        {
            "chain": status.chain,
            "state": status.state(lately=limit),
            "next_block": status.cursor.next_block,
            "next_scan_at": status.cursor.next_scan_at,
            "head_number": status.cursor.head_number,
            "head_age": status.head_age,
            "lag_blocks": status.lag_blocks,
            "gap_blocks": status.gap_blocks,
            "held_up": held_up.get(status.chain, {}),
            "range_blocks": status.cursor.range_blocks,
            "read_age": _since(status.now, status.cursor.last_read_at),
            "failing_for": _since(status.now, status.cursor.failing_since),
            "error": status.cursor.last_error,
        }
        for status in deposits.statuses(session)
    ]


def _since(now: datetime, at: datetime | None) -> timedelta | None:
    return None if at is None else now - at


def _state(old: timedelta | None, limit: timedelta) -> str:
    return "never" if old is None else "stale" if old > limit else "fresh"


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except (RedisError, OSError):
        return False
