"""PostgreSQL: one engine a process, short transactions, and the role that may not rewrite the books."""

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, DateTime, Engine, MetaData, Text, create_engine, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Session, mapped_column

from config import settings
from core.ids import new_id

APP_ROLE = "tallyrail_app"
"""Every session runs as this role, whatever it logged in as: it has no UPDATE, DELETE or TRUNCATE on the books."""

# Named by rule, so that migrations and error messages know each constraint.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map = {datetime: DateTime(timezone=True), dict[str, Any]: JSONB, str: Text}  # noqa: RUF012


def plain_array(values: Iterable[object]) -> str:
    """PostgreSQL's text of an array whose elements, as `str` writes them, never need quotes; None is NULL.

    Where a statement takes thousands, the driver, which asks each element for its type, costs more than the database.
    https://www.postgresql.org/docs/current/arrays.html#ARRAYS-IO
    """
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Iterable[str | None]) -> str:
    """As `plain_array`, for any text."""
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"


def _quoted(value: str) -> str:
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'


IdColumn = Annotated[UUID, mapped_column(primary_key=True, default=new_id)]
CreatedAt = Annotated[datetime, mapped_column(default=lambda: datetime.now(UTC), server_default=func.now())]


def _pool(*, connections: int | None = None, **options: Any) -> Engine:
    chosen = settings.servers()
    return create_engine(
        str(chosen.database_url),
        pool_size=connections or chosen.database_pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=False,  # a lost connection fails one step, which its job repeats; a ping would tax every step
        pool_use_lifo=True,
        use_native_hstore=False,  # we have none; looking for it costs each process a round trip
        connect_args={
            "application_name": "tallyrail",
            "options": f"-c role={APP_ROLE} -c timezone=UTC -c idle_in_transaction_session_timeout=60000",
            "connect_timeout": 5,
            # A server that vanished without a word is noticed in about ten seconds, not in the kernel's two hours.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
        },
        **options,
    )


@cache
def _engine() -> Engine:
    return _pool()


@cache
def _direct_engine() -> Engine:
    """A pool of its own for `direct`, as going into and out of autocommit costs a quarter of such a statement."""
    return _pool(isolation_level="AUTOCOMMIT", pool_reset_on_return=None)


_making = threading.Lock()
# A fork while another thread holds it would leave it held in the child for ever.
os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_making.release)


def engine() -> Engine:
    """The process's pool. A forked child must call `dispose` first: connections can't be shared across a fork."""
    with _making:  # `cache` alone lets two threads that come first make two
        return _engine()


def own_engine(connections: int) -> Engine:
    """A pool for what must not wait until busy threads give connections back. Its owner disposes of it."""
    return _pool(connections=connections)


def dispose(*, close: bool = True) -> None:
    """Drop the pools. `close=False` after a fork: the parent still uses the sockets."""
    for pool in (_engine, _direct_engine):
        if pool.cache_info().currsize:
            pool().dispose(close=close)
            pool.cache_clear()


@contextmanager
def single_statement() -> Iterator[Connection]:
    """A connection on which each statement is a transaction of its own: one round trip instead of three."""
    with engine().connect() as connection:
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


class Direct:
    """A driver's connection on which each statement is a transaction of its own, for the one hot path that needs it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    def scalar(self, statement: LiteralString, parameters: Sequence[Any]) -> Any:
        """The first column of the first row."""
        row = self._connection.execute(statement, parameters).fetchone()
        return None if row is None else row[0]


@contextmanager
def direct() -> Iterator[Direct]:
    """Like `single_statement`, without SQLAlchemy's share of the work, about 60 us of CPU. Raises the same errors."""
    with _making:
        pool = _direct_engine()
    try:
        pooled = pool.raw_connection()
    except psycopg.Error as error:
        raise DBAPIError.instance(None, None, error, psycopg.Error) from error
    driver: psycopg.Connection[Any] = pooled.driver_connection  # type: ignore[assignment]
    try:
        yield Direct(driver)
    except psycopg.Error as error:
        raise DBAPIError.instance(None, None, error, psycopg.Error) from error
    finally:
        # Nobody resets it: what was lost, torn amid a statement or left in a transaction must go no further.
        if driver.pgconn.transaction_status != TransactionStatus.IDLE:
            pooled.invalidate()
        pooled.close()


@contextmanager
def transaction() -> Iterator[Session]:
    """One transaction: committed at the end, rolled back on any error. Make no outside call inside it."""
    with Session(engine(), expire_on_commit=False) as session, session.begin():
        yield session
