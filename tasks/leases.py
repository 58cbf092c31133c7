"""Keeps the leases of the jobs that this process works on, from a thread of its own.

A worker that is killed, or whose machine is gone, stops renewing, and its jobs are given to another within a lease. A
worker that hangs is killed by the queue's time limit, and then stops renewing too.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config import settings
from core import db, jobs
from core.jobs import LeasedJob

log = structlog.stdlib.get_logger(__name__)


class LeaseKeeper:
    """One a process. The thread starts with the first batch, so never before a worker has forked its children."""

    def __init__(self) -> None:
        self._held: dict[UUID, LeasedJob] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, leased: Sequence[LeasedJob]) -> Iterator[None]:
        with self._lock:
            self._held.update({job.id: job for job in leased})
            if leased and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                for job in leased:
                    self._held.pop(job.id, None)

    def release(self, job: LeasedJob) -> None:
        """The job is over, one way or another."""
        with self._lock:
            self._held.pop(job.id, None)

    def _keep(self) -> None:
        pause = threading.Event()
        while not pause.wait(settings.jobs().lease.total_seconds() / 3):
            with self._lock:
                held = list(self._held.values())
            if not held:
                continue
            try:
                with db.engine().begin() as connection:
                    jobs.renew(connection, held)
            except SQLAlchemyError as error:
                log.warning("lease.not_renewed", jobs=len(held), error=str(error))


keeper = LeaseKeeper()
