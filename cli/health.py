"""`tallyrail health`."""

from datetime import timedelta

import typer
from redis.exceptions import RedisError

from cli.output import Column, age, document, table
from config.queues import QUEUES
from core import db, jobs, redis
from domain.health import service as heartbeats

PARTS = (*QUEUES, "relay", "beat")


def health(*, stale_after: int, as_json: bool) -> bool:
    """Show it, and say whether all is well."""
    with db.transaction() as session:
        ages = heartbeats.ages(session, PARTS)
        depths = jobs.depths(session)
    limit = timedelta(seconds=stale_after)
    parts = [{"part": name, "age": old, "state": _state(old, limit)} for name, old in ages.items()]
    redis_answers = _redis_answers()
    well = redis_answers and all(part["state"] == "fresh" for part in parts)
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
        document({"well": well, "redis": redis_answers, "heartbeats": parts, "queues": queues})
        return well
    table(
        parts,
        [
            Column("Heartbeat", "part"),
            Column("Last", lambda row: "never" if row["age"] is None else f"{age(row['age'])} ago", right=True),
            Column("State", "state"),
        ],
    )
    typer.echo("")
    table(
        queues,
        [
            Column("Queue", "queue"),
            Column("Waiting", "waiting", right=True),
            Column("Running", "running", right=True),
            Column("Dead", "dead", right=True),
            Column("Oldest due", "oldest_due", right=True),
        ],
    )
    typer.echo(f"\nRedis {'answers' if redis_answers else 'does not answer'}.")
    return well


def _state(old: timedelta | None, limit: timedelta) -> str:
    return "never" if old is None else "stale" if old > limit else "fresh"


def _redis_answers() -> bool:
    try:
        return bool(redis.client().ping())
    except (RedisError, OSError):
        return False
