"""The baseline: Celery as it is commonly used. acks_late, Redis, no outbox: a lost message is lost work."""

import os
import time
from typing import Any

import psycopg
import redis
from celery import Celery, signals

app = Celery("bare", broker=os.environ.get("REDIS_URL", "redis://"))
app.conf.update(
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    task_ignore_result=True,
    worker_send_task_events=False,
    task_default_queue="bare",
    broker_connection_retry_on_startup=True,
)

_state: dict[str, Any] = {}


@signals.worker_process_init.connect
def _open(**_: Any) -> None:
    _state["connection"] = psycopg.connect(os.environ["DATABASE_URL"], autocommit=True)
    _state["redis"] = redis.Redis.from_url(os.environ["REDIS_URL"])


@app.task(name="bare.step")
def step(label: str) -> None:
    """One small transaction: the same row that bench.worker's step writes."""
    connection = _state["connection"]
    with connection.transaction():
        connection.execute("INSERT INTO bench_work (label) VALUES (%s)", [label])


@app.task(name="bare.start")
def start(stamp: str) -> None:
    """Says when it began."""
    _state["redis"].rpush("bench:starts", f"{stamp} {time.time():.6f}")
