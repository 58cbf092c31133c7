"""What the benchmarks of claims and bets run against: the API, a bare app beside it, and the sync process."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psycopg

from bench import servers
from bench.load import Outcome, Plan, run, written
from bench.pipelines import Plan as PipelinePlan
from bench.pipelines import run as run_pipelines
from config import logging
from core import db
from core.hot.hand import arguments
from core.hot.script import Item, Script
from domain.access import service as access
from domain.claim import service as claims
from domain.claim.service import NewPacket, Shares
from ledger.assets import sync_assets
from ledger.posting import Journal, Posting, book
from local.server import free_port

TENANT, ASSET, SENDER = "bench", "iso4217:EUR", "user:sender:available"
CONNECTIONS = 64
ENVIRONMENT = {
    # Counted as ever, and never reached.
    "API_HOT_RATE_LIMIT": "10000000/second",
    "BET_PER_SECOND": "1000000",
}


@dataclass
class World:
    folder: Path
    redis_url: str
    key: str
    api: int
    bare: int
    wired: int
    """Ports: of the API, and of bench.bare_hot's two apps."""

    @property
    def client(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.Client(base_url=f"http://127.0.0.1:{self.api}", headers=headers, timeout=30)

    def load(self, requests: Sequence[tuple[str, Any]], *, expect: str, connections: int = CONNECTIONS) -> Outcome:
        """Send each of the requests to the API. `expect` stands once in the answer to each thing asked for."""
        path = written(self.folder / "requests", requests)
        return _sound(run(Plan(self.api, self.key, path, connections, expect)))

    def load_bare(self, port: int, script: Script, items: Sequence[Item]) -> Outcome:
        """Ask a bare app for each of the items, one a request."""
        path = written(self.folder / "requests", [("/", {"words": each}) for each in self._words(script, items)])
        return _sound(run(Plan(port, self.key, path, CONNECTIONS, '"result"')))

    def pipeline(self, script: Script, items: Sequence[Item]) -> float:
        """EVALSHA for each of the items, a second."""
        path = self.folder / "calls"
        path.write_text("".join(json.dumps(each) + "\n" for each in self._words(script, items)))
        return run_pipelines(PipelinePlan(self.redis_url, str(path)))

    @staticmethod
    def _words(script: Script, items: Sequence[Item]) -> Iterator[list[str]]:
        generation = one("SELECT generation FROM hot_store")
        for item in items:
            yield ["EVALSHA", *map(str, arguments(script, generation, item.shard, [item]))]


def _sound(outcome: Outcome) -> Outcome:
    assert set(outcome.statuses) == {"200"}, outcome.statuses
    return outcome


def one(query: str) -> int:
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


@contextmanager
def world(environment: dict[str, str], folder: Path) -> Iterator[World]:
    """Both servers, with a tenant whose sender has money, and a generation that is open."""
    os.environ.update(ENVIRONMENT)
    logging.configure("bench")
    with db.transaction() as session:
        sync_assets(session)
        access.create_tenant(session, TENANT, name="Benchmark")
        secret = access.create_key(session, TENANT, name="bench", scopes=list(access.Scope)).secret
    fund(SENDER, 10**15)
    with syncing():
        servers.wait_until(lambda: one("SELECT count(*) FROM hot_store WHERE state = 'open'") == 1)
    made = World(folder, environment["REDIS_URL"], secret, free_port(), free_port(), free_port())
    with (
        _server("api.main:app", made.api),
        _server("bench.bare_hot:app", made.bare),
        _server("bench.bare_hot:wired", made.wired),
    ):
        with made.client as client:
            servers.wait_until(lambda: _answers(client))
        yield made


@contextmanager
def _server(app: str, port: int) -> Iterator[None]:
    """As local.processes runs the API: one process, its loop and parser in C."""
    arguments = [
        "-m",
        "uvicorn",
        app,
        "--port",
        str(port),
        "--no-access-log",
        "--no-proxy-headers",
        "--no-server-header",
        "--log-level",
        "warning",
    ]
    with servers.process(arguments):
        yield


@contextmanager
def syncing() -> Iterator[None]:
    with servers.process(["-m", "workers.sync"]):
        yield


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def fund(account: str, units: int) -> None:
    move = Posting(source="house:fees", destination=account, asset=ASSET, units=units)
    book(Journal(tenant=TENANT, reference=f"fund:{account}", category="bench", postings=[move]))


def packet(count: int) -> UUID:
    """An open one of so many shares."""
    new = NewPacket(
        tenant=TENANT,
        sender=SENDER,
        asset=ASSET,
        units=count * 5,
        count=count,
        kind=Shares.EQUAL,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )
    with db.transaction() as session:
        return claims.open_packet(session, claims.create(session, new).id).id
