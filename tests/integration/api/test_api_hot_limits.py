"""How many decisions a tenant may ask for, and that it is counted over all processes."""

import asyncio
from typing import Any

import httpx
import pytest

from api.hot.limit import HotLimiter
from api.problems import Problem
from tests.integration.api.conftest import NewKey, is_problem
from tests.integration.api.hot import HotStore


class Clock:
    def __init__(self) -> None:
        self.time = 1_000_000_000.0

    def __call__(self) -> float:
        return self.time


def _admitted(limiter: HotLimiter, times: int, decisions: int = 1) -> int:
    done = 0
    for _ in range(times):
        try:
            limiter.admit("shop", decisions)
        except Problem:
            continue
        done += decisions
    return done


def test_processes_learn_what_the_others_admitted(redis_url: str) -> None:
    clock = Clock()

    async def run() -> None:
        one, other = (HotLimiter("100/second", url=redis_url, now=clock) for _ in range(2))
        assert _admitted(one, 70) == 70
        await one.flush()
        assert _admitted(other, 10) == 10  # it has heard of nothing yet
        await other.flush()
        assert _admitted(other, 50) == 20
        await other.flush()
        assert _admitted(one, 50) == 30  # it knew of its own 70 only, so the limit is passed by what the other admitted
        await one.flush()
        assert _admitted(one, 5) == _admitted(other, 5) == 0
        clock.time += 1.5
        assert 0 < _admitted(one, 200) <= 60  # half of the window before still counts
        clock.time += 10
        assert _admitted(one, 200) == 100
        await one.stop()
        await other.stop()

    asyncio.run(run())


def test_a_batch_that_is_too_large_counts_nothing(redis_url: str) -> None:
    async def run() -> None:
        limiter = HotLimiter("100/second", url=redis_url, now=Clock())
        assert _admitted(limiter, 1, 101) == 0
        assert _admitted(limiter, 1, 100) == 100
        with pytest.raises(Problem) as raised:
            limiter.admit("shop", 1)
        assert raised.value.headers["Retry-After"] == "1"
        assert raised.value.headers["RateLimit-Policy"] == '"decisions";q=100;w=1'
        limiter.admit("casino", 100)  # another tenant's count is another
        await limiter.stop()

    asyncio.run(run())


def test_without_redis_each_process_counts_alone() -> None:
    async def run() -> None:
        limiter = HotLimiter("100/minute", url="redis://127.0.0.1:1/0")
        limiter.start()
        assert _admitted(limiter, 60) == 60
        await asyncio.sleep(0.2)
        assert _admitted(limiter, 60) == 40
        await limiter.stop()

    asyncio.run(run())


@pytest.fixture
def ten_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_HOT_RATE_LIMIT", "10/minute")


def test_each_of_a_batch_counts(ten_a_minute: None, hot_store: HotStore, client: httpx.Client, new_key: NewKey) -> None:
    def batch(size: int, **headers: Any) -> httpx.Response:
        claims = [{"packet_id": "019aa3c0-0000-7000-8000-000000000001", "user": f"u{n}"} for n in range(size)]
        return client.post("/v1/claims:batch", json={"claims": claims}, headers=headers)

    assert batch(6).status_code == 200
    reply = batch(6)
    is_problem(reply, 429, "rate-limited")
    assert int(reply.headers["retry-after"]) <= 60
    assert batch(3).status_code == 200  # the refused one counted as the one request that it was
    is_problem(batch(1), 429, "rate-limited")
    casino = new_key("casino").secret
    assert batch(3, Authorization=f"Bearer {casino}").status_code == 200
    assert client.get("/v1/jobs").status_code == 200  # what is not decided is counted elsewhere
