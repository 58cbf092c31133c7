"""`celery -A bench.worker`: the real worker, with a task of one small local step, and a stamp where a look begins."""

import time
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import redis
from tasks.base import TASKS, task
from workers.main import app

__all__ = ["app"]

_INSERT = text("INSERT INTO bench_work (label) VALUES (:label)")


@task("maintenance.bench_step")
def bench_step(session: Session, label: str) -> None:
    """One small local step: the same row that bench.bare's step writes."""
    session.execute(_INSERT, {"label": label})


def _stamp(deposit_id: UUID) -> None:
    redis.client().rpush("bench:starts", f"{deposit_id} {time.time():.6f}")


# A look at a deposit, up to where its function begins: what happens on the chain is not the platform's latency.
object.__setattr__(TASKS["tx_monitor.look"], "function", _stamp)
object.__setattr__(TASKS["tx_monitor.look"], "takes_session", False)
