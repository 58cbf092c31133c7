"""A hot store of each test's own, which it may kill, empty and freeze."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from local.valkey import Valkey
from tests.conftest import use
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


@pytest.fixture
def lab(toy: None, server: Valkey, fleet: Fleet, tmp_path: Path) -> Lab:
    return Lab(server, fleet, tmp_path)
