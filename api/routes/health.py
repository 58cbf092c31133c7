"""Is it alive, and is it of use. For load balancers and people; neither needs a key, neither tells a secret."""

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from alembic.script import ScriptDirectory
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.hot.engine import Engine
from config.queues import QUEUES
from core import db, redis
from domain.health import service as health

log = structlog.stdlib.get_logger(__name__)
router = APIRouter(tags=["health"])

STALE_AFTER = timedelta(seconds=60)
"""Heartbeats come every ten seconds."""
MIGRATIONS = Path(__file__).parents[2] / "migrations"


@cache
def head() -> str | None:
    """The newest migration that this code was shipped with, or None where the scripts weren't shipped."""
    return ScriptDirectory(str(MIGRATIONS)).get_current_head() if MIGRATIONS.is_dir() else None


@router.get("/health", summary="Is the process alive")
async def alive() -> dict[str, str]:
    """Asks nothing of anybody: restart the process if this doesn't answer."""
    return {"status": "ok"}


def _database() -> str | None:
    with db.transaction() as session:
        session.execute(text("SELECT 1"))
    return None


def _migrations() -> str | None:
    if (wanted := head()) is None:
        return None
    with db.transaction() as session:
        # No table says "nothing was ever migrated", and so may be asked for in peace.
        if session.scalar(text("SELECT to_regclass('alembic_version')")) is None:
            return f"no migration was applied; this code wants {wanted}"
        found = session.scalar(text("SELECT version_num FROM alembic_version"))
    return None if found == wanted else f"the database is at {found}, this code wants {wanted}"


def _redis() -> str | None:
    redis.client().ping()
    return None


def _heartbeats() -> dict[str, str | None]:
    names = [*QUEUES, "relay", "sync", "beat"]
    with db.transaction() as session:
        stale = health.stale(session, names, after=STALE_AFTER)
    told = f"no heartbeat within {STALE_AFTER.total_seconds():.0f} s"
    return {f"heartbeat:{name}": told if name in stale else None for name in names}


def _hot_store(engine: Engine | None) -> str | None:
    if engine is None:
        return "this process has no decider"
    return None if engine.decides else "nothing is decided: no generation of the hot store is open to this process"


def _checked(check: Callable[[], str | None]) -> str | None:
    try:
        return check()
    except (SQLAlchemyError, RedisError, OSError) as error:
        # Without the error's own words: they name hosts and users.
        log.warning("ready.failed", check=check.__name__.strip("_"), error=str(error).splitlines()[0])
        return "it doesn't answer"


@router.get("/ready", summary="Can requests be served and worked on", responses={503: {"description": "Not all of it"}})
def ready(request: Request) -> JSONResponse:
    """Database, migrations, Redis, the hot store, and a fresh heartbeat of each queue, the relay, sync and beat."""
    faults: dict[str, str | None] = {"database": _checked(_database), "redis": _checked(_redis)}
    faults["hot_store"] = _hot_store(request.app.state.engine)
    if faults["database"] is None:
        faults["migrations"] = _checked(_migrations)
    if not any(faults.get(name) for name in ("database", "migrations")):
        faults |= _heartbeats()
    failing = {name: fault for name, fault in faults.items() if fault is not None}
    body: dict[str, Any] = {
        "status": "unready" if failing else "ready",
        "checks": {name: fault or "ok" for name, fault in faults.items()},
    }
    return JSONResponse(body, status_code=503 if failing else 200)
