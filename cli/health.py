"""`tallyrail health`."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import typer
from redis.exceptions import RedisError
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cli.output import Column, age, document, table
from config.queues import QUEUES
from core import db, jobs, redis
from domain.deposit.models import ChainCursor
from domain.health import service as heartbeats

PARTS = (*QUEUES, "relay", "beat")


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
    Column("Last read", lambda row: "never" if row["read_age"] is None else f"{age(row['read_age'])} ago", right=True),
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
        and all(chain["state"] in {"running", "failing lately"} for chain in chains)
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


def chain_rows(session: Session, limit: timedelta = timedelta(minutes=1)) -> list[dict[str, Any]]:
    """Every chain that was ever read here. A failure is news for as long as a heartbeat may be old."""
    rows: Iterable[Any] = session.execute(
        select(
            ChainCursor,
            (func.now() - ChainCursor.last_read_at).label("read_age"),
            (func.now() - ChainCursor.failing_since).label("failing_for"),
        ).order_by(ChainCursor.chain)
    )
    found = []
    for cursor, read_age, failing_for in rows:
        failing = "running" if failing_for is None else "failing" if failing_for > limit else "failing lately"
        found.append(
            {
                "chain": cursor.chain,
                "state": "stopped" if cursor.status == "stopped" else failing,
                "next_block": cursor.next_block,
                "read_age": read_age,
                "failing_for": failing_for,
                "error": cursor.last_error,
            }
        )
    return found


def _state(old: timedelta | None, limit: timedelta) -> str:
    return "never" if old is None else "stale" if old > limit else "fresh"


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except (RedisError, OSError):
        return False
