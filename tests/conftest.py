"""Real servers for the tests: PostgreSQL and Valkey run once a session, each test has a database of its own."""

import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import structlog
from alembic import command
from alembic.config import Config
from sqlalchemy.orm import Session

from config import assets, settings
from core import db, redis
from local.postgres import Postgres
from local.valkey import Valkey
from tests.support.fleet import Fleet

# Its own way of writing a traceback shows every variable of every frame, which takes seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


RECURSION = sys.getrecursionlimit()


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """What a test may leave behind in this process."""
    # A library that only tests import (py_ecc, by eth_account) raises it so far that deep JSON ends the process.
    sys.setrecursionlimit(RECURSION)
    # A command of the CLI that runs here has its own way of logging.
    before = structlog.get_config()
    yield
    structlog.configure(**before)


ROOT = Path(__file__).parent.parent
TEMPLATE = "tallyrail_template"
IN_MEMORY = "tallyrail-tests-"
IN_MEMORY_MIN = 6 * 2**30
"""Bytes. Several runs share it."""


@contextmanager
def quick_folder(otherwise: Path) -> Iterator[Path]:
    """A folder in memory, where there is room, or `otherwise`. What a killed run left is removed by the next."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < IN_MEMORY_MIN:
        yield otherwise
        return
    for left in memory.glob(f"{IN_MEMORY}*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    made = Path(tempfile.mkdtemp(prefix=f"{IN_MEMORY}{os.getpid()}-", dir=memory))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    # Thousands of databases are made and dropped: each would wait for the disk, and no test takes the power away.
    with (
        quick_folder(tmp_path_factory.mktemp("postgres")) as folder,
        Postgres(folder, survives_power_loss=False) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def use(environment: dict[str, str]) -> Callable[[], None]:
    """Set the environment and forget what was read from it. Returns the way back."""
    before = {name: os.environ.get(name) for name in environment}

    def forget() -> None:
        db.dispose()
        redis.dispose()
        settings.reload()
        assets.reload()

    os.environ.update(environment)
    forget()

    def back() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        forget()

    return back


@pytest.fixture(scope="session")
def template(postgres: Postgres) -> str:
    """A database with every migration applied, which each test copies."""
    with psycopg.connect(postgres.url_of("postgres", "postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE} OWNER tallyrail_owner")
    back = use(
        {
            "DATABASE_URL": postgres.url_of("tallyrail_owner", TEMPLATE),
            "DATABASE_OWNER_URL": postgres.url_of("tallyrail_owner", TEMPLATE),
            "REDIS_URL": "redis://127.0.0.1:1/0",
        }
    )
    command.upgrade(Config(ROOT / "alembic.ini"), "head")
    back()
    return TEMPLATE


@pytest.fixture
def redis_url(valkey: Valkey) -> Iterator[str]:
    """An empty Valkey."""
    # No database: a test that wants one asks for `database_url`.
    back = use({"REDIS_URL": valkey.url, "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"})
    redis.client().flushall()
    yield valkey.url
    back()


@contextmanager
def fresh_database(postgres: Postgres, template: str) -> Iterator[str]:
    """A migrated database that the settings point to, and gone afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    admin = postgres.url_of("postgres", "postgres")
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy OWNER tallyrail_owner")
    url = postgres.url_of("tallyrail_login", name)
    back = use({"DATABASE_URL": url, "DATABASE_OWNER_URL": postgres.url_of("tallyrail_owner", name)})
    try:
        yield url
    finally:
        back()
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(postgres: Postgres, template: str, redis_url: str) -> Iterator[str]:
    """A database of this test's own."""
    with fresh_database(postgres, template) as url:
        yield url


@pytest.fixture
def superuser_url(postgres: Postgres, database_url: str) -> str:
    """The same database as its superuser: for what no process of ours may do."""
    return postgres.url_of("postgres", database_url.rsplit("/", 1)[1])


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    """A session that the test commits."""
    with Session(db.engine(), expire_on_commit=False) as made:
        yield made


@pytest.fixture
def fleet(database_url: str, tmp_path: Path) -> Iterator[Fleet]:
    """Real processes (relay, workers, beat) on this test's servers, all gone after it."""
    with Fleet(tmp_path) as made:
        yield made
