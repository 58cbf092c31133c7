"""Keeps the leases of the jobs that this process works on, from a thread of its own.

A worker that is killed, or whose machine is gone, stops renewing, and its jobs are given to another within a lease. A
worker that hangs is killed by the queue's time limit, and then stops renewing too.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config import settings
from core import db, jobs
from core.jobs import LeasedJob

log = structlog.stdlib.get_logger(__name__)

BUDGET = timedelta(seconds=5)
"""A message begins no further job after this long; the rest is handed back. Keeps shutdown prompt and waiting fair."""


class Batch:
    """The jobs of one message: at most one runs, the others wait for it, and may be handed back meanwhile."""

    def __init__(self, leased: Sequence[LeasedJob]) -> None:
        self._lock = threading.Lock()
        self._waiting = {job.id: job for job in leased}
        self._running: LeasedJob | None = None
        self._begun = False
        self._budget_ends = time.monotonic() + BUDGET.total_seconds()

    def begin(self, job: LeasedJob) -> bool:
        """Whether this job is still ours to run. The first of a message always is."""
        if self._begun and self.over():
            self.hand_back()
        with self._lock:
            self._begun = True
            self._running = self._waiting.pop(job.id, None)
            return self._running is not None

    def end(self) -> None:
        """The job that ran is over, one way or another."""
        with self._lock:
            self._running = None

    def over(self) -> bool:
        return time.monotonic() > self._budget_ends

    def hand_back(self) -> None:
        """Give the jobs that wait to other workers, as if they had never been taken."""
        with self._lock:
            unstarted = list(self._waiting.values())
            self._waiting.clear()
        if not unstarted:
            return
        try:
            with db.transaction() as session:
                jobs.hand_back(session, unstarted)
        except SQLAlchemyError as error:
            log.warning("jobs.not_handed_back", jobs=len(unstarted), error=str(error))  # their leases run out

    def held(self) -> list[LeasedJob]:
        with self._lock:
            return [*self._waiting.values(), *([self._running] if self._running else [])]


class LeaseKeeper:
    """One a process. The thread starts with the first batch, so never before a worker has forked its children."""

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def holding(self, leased: Sequence[LeasedJob]) -> Iterator[Batch]:
        batch = Batch(leased)
        with self._lock:
            self._batches.append(batch)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._keep, name="lease-keeper", daemon=True)
                self._thread.start()
        try:
            yield batch
        finally:
            with self._lock:
                self._batches.remove(batch)

    def _keep(self) -> None:
        pause = threading.Event()
        while not pause.wait(settings.jobs().lease.total_seconds() / 3):
            try:
                self._renew()
            except Exception as error:  # noqa: BLE001  # a keeper that ends would cost every job its lease
                log.warning("lease.not_renewed", error=str(error))

    def _renew(self) -> None:
        with self._lock:
            batches = list(self._batches)
        for batch in batches:
            if batch.over():  # its running job is a slow one: those behind it need not wait
                batch.hand_back()
        held = [job for batch in batches for job in batch.held()]
        if held:
            with db.single_statement() as connection:
                jobs.renew(connection, held)


keeper = LeaseKeeper()
