"""A hot store of each test's own, which it may kill, empty and freeze."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from local.postgres import Postgres
from local.valkey import Valkey
from tests.conftest import fresh_database, use
from tests.support import hot_toy
from tests.support.fleet import Fleet
from tests.support.hot_lab import Lab

PACE = {"HOT_LEASE": "1.5", "HOT_FALLBACK_AFTER": "0.4", "HOT_WAIT": "1", "HOT_SHARDS": "3"}


@contextmanager
def hot_settings(url: str, **more: str) -> Iterator[None]:
    back = use({"HOT_REDIS_URL": url, **PACE, **more})
    hot_toy.forget()
    yield
    back()
    hot_toy.forget()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path / "hot") as made:
        yield made


@pytest.fixture
def toy(server: Valkey, superuser_url: str) -> Iterator[None]:
    """Settings that name this store, and the toy's table."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(hot_toy.TABLE)
    with hot_settings(server.url):
        yield


@pytest.fixture(scope="module")
def lab(postgres: Postgres, template: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One for all tests of a module: processes take seconds to start, and what is killed is only that."""
    folder = tmp_path_factory.mktemp("lab")
    back = use({"REDIS_URL": valkey.url})
    with fresh_database(postgres, template) as url, Valkey(folder / "hot") as server, Fleet(folder) as fleet:
        with psycopg.connect(postgres.url_of("postgres", url.rsplit("/", 1)[1]), autocommit=True) as connection:
            connection.execute(hot_toy.TABLE)
        with hot_settings(server.url):
            yield Lab(server, fleet, folder)
    back()


@pytest.fixture
def busy(lab: Lab) -> Iterator[Lab]:
    """Decisions are being acknowledged. Afterwards they still are, and the promise holds."""
    lab.settle_down()
    yield lab
    lab.await_more()
    lab.check()
