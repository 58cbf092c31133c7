"""The API under a real uvicorn, asked over real sockets."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
import uvicorn
from sqlalchemy import text

from api.main import create_app
from api.rate_limit import limiter
from config import assets, settings
from core import db
from core.hot import client as hot_client
from core.hot.settings import hot
from domain.access import service as access
from domain.access.service import IssuedKey
from domain.claim.loading import remembered
from domain.deposit import service as deposits
from tests.integration.api.hot import HotStore

NewKey = Callable[..., IssuedKey]
Ask = Callable[..., httpx.Response]


CHAIN = "eip155:1"
HOT_WALLET = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
POOL = ["0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359", "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB"]


@pytest.fixture
def hot_environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hot store's settings for an API that may have none, and then isn't to wait for it."""
    monkeypatch.setenv("HOT_WAIT", "0.01")
    hot_client.dispose()
    hot.cache_clear()
    remembered.clear()
    yield
    hot_client.dispose()
    hot.cache_clear()


@pytest.fixture
def hot_store(hot_environment: None, monkeypatch: pytest.MonkeyPatch) -> HotStore:
    """Ready to decide. To be asked for before the API, which then can from its start."""
    monkeypatch.setenv("HOT_WAIT", "0.3")
    return HotStore()


class PromptServer(uvicorn.Server):
    """Its own looks every tenth of a second whether it is to end, which hundreds of tests would wait for."""

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter = (counter + 1) % 864_000
            await asyncio.sleep(0.01)


@pytest.fixture
def api_url(hot_environment: None, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An API server of this test's own, on its own database."""
    monkeypatch.setenv("RPC_URLS", f'{{"{CHAIN}": ["http://127.0.0.1:1"]}}')  # watched; the API itself asks no node
    settings.reload()
    assets.reload()
    access.forget()
    limiter.cache_clear()
    config = uvicorn.Config(
        create_app(), host="127.0.0.1", port=0, log_config=None, access_log=False, ws="none", lifespan="on"
    )
    server = PromptServer(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
    settings.reload()


@pytest.fixture
def new_key(database_url: str) -> NewKey:
    """Makes a key, and its tenant if need be."""

    def made(tenant: str = "shop", **options: object) -> IssuedKey:
        with db.transaction() as session:
            if access.get_tenant(session, tenant) is None:
                access.create_tenant(session, tenant, name=tenant.title())
            return access.create_key(session, tenant, **{"name": "test"} | options)  # type: ignore[arg-type]

    return made


@pytest.fixture
def client(api_url: str, new_key: NewKey) -> Iterator[httpx.Client]:
    """A client with a key of the tenant `shop` that may do everything."""
    with httpx.Client(base_url=api_url, timeout=20) as made:
        made.headers["Authorization"] = f"Bearer {new_key().secret}"
        yield made


@pytest.fixture
def hot_wallet(database_url: str) -> str:
    """A shared address of the shop."""
    with db.transaction() as session:
        deposits.register_addresses(session, "shop", CHAIN, [HOT_WALLET], shared=True)
    return HOT_WALLET


@pytest.fixture
def pool(database_url: str) -> list[str]:
    """Free addresses of the shop."""
    with db.transaction() as session:
        deposits.register_addresses(session, "shop", CHAIN, POOL)
    return POOL


def count(table: str) -> int:
    with db.transaction() as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def is_problem(reply: httpx.Response, status: int, kind: str) -> dict[str, object]:
    """Check that the reply is this problem, whole and well-formed. Returns it."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = reply.json()
    assert document["type"] == f"/problems/{kind}"
    assert document["status"] == status
    assert document["title"] and document["detail"]
    assert document["correlation_id"] == reply.headers["x-correlation-id"]
    return document
