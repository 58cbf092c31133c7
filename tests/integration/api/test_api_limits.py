"""What is refused before anything is done, and how it is said."""

import asyncio
import socket
import time
from collections.abc import Iterator

import httpx
import pytest

from api.main import create_app
from api.problems import KINDS
from api.rate_limit import ANSWER_WITHIN, limiter
from config import settings
from core import db
from tests.integration.api.conftest import count, is_problem

JSON = {"Content-Type": "application/json", "Idempotency-Key": "k"}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_BODY_BYTES_MAX", "2048")


@pytest.fixture
def three_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_RATE_LIMIT", "3/minute")


def test_a_body_over_the_limit_is_413_with_and_without_its_length(small: None, client: httpx.Client) -> None:
    def endless() -> Iterator[bytes]:
        yield b'{"asset":"'
        for _ in range(40):
            yield b"x" * 100

    for content in (b'{"asset":"' + b"x" * 4_000, endless()):
        is_problem(client.post("/v1/deposits", content=content, headers=JSON), 413, "body-too-large")
    assert client.get("/v1/jobs").status_code == 200
    assert count("idempotency_keys") == 0


def test_a_body_that_ends_early_leaves_the_server_well(client: httpx.Client) -> None:
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address) as raw:
        raw.sendall(
            b"POST /v1/deposits HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
            b"Authorization: " + client.headers["Authorization"].encode() + b"\r\nIdempotency-Key: k\r\n\r\n{"
        )
    assert client.get("/v1/jobs").status_code == 200


def test_only_json_is_read(client: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin-1", ""):
        reply = client.post("/v1/deposits", content=b"{}", headers={**JSON, "Content-Type": kind})
        is_problem(reply, 415, "unsupported-media-type")
    for body in (b"", b"{", b"\xff", b'{"a":NaN}', b'{"a":"\\ud800"}', b"[" * 5_000, b"[]", b"7", b"null",
                 b'{"units":' + b"9" * 5_000 + b"}"):  # fmt: skip
        is_problem(client.post("/v1/deposits", content=body, headers=JSON), 400, "bad-request")
        is_problem(client.post("/v1/jobs:batch", content=body, headers=JSON), 400, "bad-request")


def test_addresses_that_lead_nowhere_are_problems_too(client: httpx.Client) -> None:
    for path in ("/", "/v2", "/v1/jobs/7", "/v1/deposits/x", "/problems/none", "/v1/accounts/nobody:knows"):
        is_problem(client.get(path), 404, "not-found")
    reply = client.delete("/v1/jobs")
    is_problem(reply, 405, "method-not-allowed")
    assert reply.headers["allow"] == "GET"


def test_bytes_that_are_no_text_break_nothing(client: httpx.Client) -> None:
    for path in (
        "/%00", "/v1/accounts/%00", "/v1/accounts/%ff", "/v1/accounts/user:%F0%9F:available", "/v1/jobs?task=%ff",
        "/v1/jobs?cursor=%ff%fe", "/v1/accounts/user:42:available/entries?cursor=" + "W1tb" * 900,
        "/v1/accounts/user:42:available/entries?cursor=bnVsbA", "/v1/accounts/user:42:available?asset=%00",
    ):  # fmt: skip
        assert client.get(path).status_code in (400, 404, 422), path


def test_every_problem_leads_to_its_description(client: httpx.Client) -> None:
    for kind in KINDS:
        assert client.get(f"/problems/{kind}").json()["status"] == KINDS[kind].status


def test_an_error_that_nobody_foresaw_tells_nothing_of_itself(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("SELECT secret FROM api_keys")

    monkeypatch.setattr("core.jobs.page", broken)
    reply = client.get("/v1/jobs")
    is_problem(reply, 500, "internal")
    assert "SELECT" not in reply.text and "Traceback" not in reply.text


def test_a_database_that_is_away_is_503_and_told_by_ready(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.get("/v1/jobs").status_code == 200
    db.dispose()
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hidden@127.0.0.1:1/none")
    settings.reload()
    try:
        reply = client.get("/v1/jobs")
        is_problem(reply, 503, "unavailable")
        assert reply.headers["retry-after"] == "1"
        ready = client.get("/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"] == "it doesn't answer"
        assert client.get("/health").status_code == 200
        assert "tallyrail_database_up 0.0" in client.get("/metrics").text
        assert "hidden" not in reply.text + ready.text
    finally:
        db.dispose()


def test_correlation_ids_go_in_and_out(client: httpx.Client) -> None:
    given = "order-1001:retry.2"
    assert client.get("/v1/jobs", headers={"X-Correlation-Id": given}).headers["x-correlation-id"] == given
    for bad in ("", "a b", "x" * 129, "<script>", 'a"b'):
        made = client.get("/health", headers={"X-Correlation-Id": bad}).headers["x-correlation-id"]
        assert made != bad
        assert len(made) == 36


def test_every_answer_has_the_security_headers(client: httpx.Client) -> None:
    for path in ("/health", "/v1/jobs", "/nowhere", "/docs", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["tallyrail-version"]


def test_a_tenant_that_asks_too_often_is_told_when_to_come_back(
    three_a_minute: None, client: httpx.Client, new_key: object
) -> None:
    for _ in range(3):
        assert client.get("/v1/jobs").status_code == 200
    reply = client.get("/v1/jobs")
    is_problem(reply, 429, "rate-limited")
    assert 1 <= int(reply.headers["retry-after"]) <= 120
    assert reply.headers["ratelimit-policy"] == '"tenant";q=3;w=60'
    assert reply.headers["ratelimit"].startswith('"tenant";r=0;t=')
    casino = new_key("casino").secret  # type: ignore[operator]
    assert client.get("/v1/jobs", headers={"Authorization": f"Bearer {casino}"}).status_code == 200
    assert client.get("/health").status_code == 200


@pytest.fixture
def silent_redis(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Redis that takes connections and never says a word: worse than one that is gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{server.getsockname()[1]}/0")
        yield


def test_without_redis_requests_pass_soon(silent_redis: None, three_a_minute: None, client: httpx.Client) -> None:
    began = time.monotonic()
    for _ in range(100):
        assert client.get("/v1/jobs").status_code == 200
    assert time.monotonic() - began < 100 * ANSWER_WITHIN  # far from each of them waiting for it
    ready = client.get("/ready")
    assert ready.status_code == 503
    assert ready.json()["checks"]["redis"] == "it doesn't answer"
    assert ready.json()["checks"]["database"] == "ok"


def test_a_bad_rate_limit_ends_the_start(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_RATE_LIMIT", "often")
    settings.reload()
    limiter.cache_clear()
    app = create_app()

    async def start() -> None:
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(ValueError, match="often"):
        asyncio.run(start())
    monkeypatch.undo()
    settings.reload()
