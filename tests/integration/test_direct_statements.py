"""core.db.direct: whatever goes wrong on one of its connections, the next statement is a transaction of its own."""

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy.exc import DBAPIError

from core.db import Direct, direct


class TornError(Exception):
    """What a signal's handler raises, as a worker's time limit does."""


def divide(connection: Direct) -> None:
    connection.scalar("SELECT 1 / 0", ())


def begin(connection: Direct) -> None:
    connection._connection.execute("BEGIN")


def begin_and_fail(connection: Direct) -> None:
    begin(connection)
    divide(connection)


def encode(connection: Direct) -> None:
    connection.scalar("SELECT %s::text", ("\0",))


def die(connection: Direct) -> None:
    connection.scalar("SELECT pg_terminate_backend(pg_backend_pid())", ())


def cancel(connection: Direct) -> None:
    connection.scalar("SELECT pg_cancel_backend(pg_backend_pid()), pg_sleep(5)", ())


def tear(connection: Direct) -> None:
    def torn(_signal: int, _frame: FrameType | None) -> None:
        raise TornError

    before = signal.signal(signal.SIGALRM, torn)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        connection.scalar("SELECT pg_sleep(5)", ())
    finally:
        signal.signal(signal.SIGALRM, before)


def raise_ours(connection: Direct) -> None:
    connection.scalar("SELECT 1", ())
    raise TornError


@pytest.mark.parametrize("harm", [divide, begin, begin_and_fail, encode, die, cancel, tear, raise_ours])
def test_a_connection_that_was_harmed_is_whole_or_gone_the_next_time(
    database_url: str, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Direct], Any]
) -> None:
    monkeypatch.setenv("DATABASE_POOL_SIZE", "1")  # so that a slot that is lost is missed
    for _ in range(3):
        try:
            with direct() as connection:
                harm(connection)
        except (DBAPIError, TornError) as error:
            assert isinstance(error, TornError) or isinstance(error.orig, psycopg.Error)  # noqa: PT017
        with direct() as connection:
            assert connection.scalar("SELECT 42", ()) == 42
            assert connection._connection.info.transaction_status is TransactionStatus.IDLE
