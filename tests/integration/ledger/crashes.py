"""Connections that die: at a chosen statement, or whenever somebody feels like it."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

import psycopg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from core import db

T = TypeVar("T")
ENDED = {"57P01", None}
"""admin_shutdown; None: it was found closed. Nothing else may reach a client: above all no deadlock."""


@contextmanager
def crash(superuser_url: str, *, at: int, before: bool) -> Iterator[list[str]]:
    """The connection that runs statement number `at` (from 0) is killed before or after it. Gives what was run."""
    seen: list[str] = []

    def kill(connection: Any, statement: str) -> None:
        seen.append(statement)
        if len(seen) - 1 == at:
            pid = connection.connection.driver_connection.info.backend_pid
            with psycopg.connect(superuser_url, autocommit=True) as superuser:
                superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

    def note(connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        kill(connection, statement)

    name = "before_cursor_execute" if before else "after_cursor_execute"
    event.listen(db.engine(), name, note)
    try:
        yield seen
    finally:
        event.remove(db.engine(), name, note)


class Killer:
    """Ends connections of this database's processes at random, until it is told to stop."""

    def __init__(self, superuser_url: str, seed: int, every: float) -> None:
        self._url, self._chance, self._every = superuser_url, random.Random(seed), every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.killed = 0

    def _run(self) -> None:
        with psycopg.connect(self._url, autocommit=True, application_name="killer") as superuser:
            while not self._stop.wait(self._chance.expovariate(1 / self._every)):
                found = superuser.execute(
                    """SELECT pid FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name = 'tallyrail' AND state <> 'idle'"""
                ).fetchall()
                if found:
                    self.killed += 1
                    superuser.execute("SELECT pg_terminate_backend(%s)", self._chance.choice(found))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def until_answered(work: Callable[[], T]) -> T:
    """Do it again, the same, until there is an answer: what a job does whose worker or connection died."""
    while True:
        try:
            return work()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in ENDED:
                raise
