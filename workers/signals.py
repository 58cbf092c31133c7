"""What a worker process does besides tasks: log, forget forked connections, die with its parent, keep what no task
understands.
"""

import ctypes
import os
import signal
import sys
from typing import Any
from uuid import UUID

import structlog
from celery import signals
from celery.worker.consumer import Consumer

from config import logging as log_config
from core import db, jobs, redis
from workers.unreadable import keep

log = structlog.stdlib.get_logger(__name__)

PR_SET_PDEATHSIG = 1
PARENT = os.getpid()
"""This module is imported before the worker forks its children. (In a container the parent may well be process 1.)"""


@signals.setup_logging.connect
def configure_logging(**_: Any) -> None:
    log_config.configure(next((word for word in ("worker", "beat", "flower") if word in sys.argv), "celery"))


@signals.worker_process_init.connect
def begin_child(**_: Any) -> None:
    """Drop what was inherited by the fork; end with the parent, so that kill -9 of it leaves no work half watched."""
    db.dispose(close=False)
    redis.dispose()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != PARENT:  # it went before we could ask to go with it
        os._exit(1)


def _ids_of(body: Any) -> list[UUID]:
    """The job ids in a message's body (Celery protocol 2: [args, kwargs, embed]), as far as they can be read."""
    try:
        return [UUID(job_id) for job_id in body[0][0]]
    except (TypeError, ValueError, KeyError, IndexError, AttributeError):
        return []


@signals.task_unknown.connect
def bury_jobs_of_unknown_task(name: str, message: Any, **_: Any) -> None:
    """A job whose task no worker has can't run: it waits for a person, not in a loop."""
    reason = f"no worker knows the task {name!r}"
    ids = _ids_of(message.payload)
    if not ids:
        keep(name, repr(message.body), LookupError(reason))
        return
    with db.transaction() as session:
        jobs.bury_unreadable(session, ids, error={"kind": "permanent", "type": "NotRegistered", "message": reason})
    log.error("message.unknown_task", task=name, jobs=len(ids))


@signals.task_rejected.connect
def keep_rejected(message: Any, exc: BaseException | None = None, **_: Any) -> None:
    keep("unreadable", repr(message.body), exc or ValueError("not a message of a task"))


class KeepingConsumer(Consumer):
    """Celery drops a message that it can't decode. We keep it."""

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        keep("unreadable", repr(message.body), exc)
        super().on_decode_error(message, exc)
