"""How many decisions a tenant may ask for: counted here, and told to Redis from time to time for all processes.

A count in Redis for each request would cost as much as the decision. So a process counts by itself, adds its count
to that in Redis every FLUSH_EVERY, and learns there what the others counted: the limit may be passed by what they
admit in that time, and no further. It protects us from a runaway client; it protects no money. When Redis is away,
each process goes by its own count.

The window moves: of the last full one as much counts as still overlaps, as in api.rate_limit.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from limits import parse
from redis import asyncio as aio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from api.problems import Problem

log = structlog.stdlib.get_logger(__name__)

FLUSH_EVERY = 0.05
ANSWER_WITHIN = 1.0
"""Nobody waits for it."""
LOOK_AGAIN_AFTER = 1.0
_PREFIX = "tallyrail:limits:hot"


@dataclass(slots=True)
class _Count:
    """Of one tenant, in the window that began at `number` times its length."""

    number: int
    before: int = 0
    """In the window before."""
    known: int = 0
    """By all processes, as Redis last said."""
    fresh: int = 0
    """By this one, not yet told."""


class HotLimiter:
    """Raises ValueError if the limit, in the notation of the `limits` library, can't be understood."""

    def __init__(self, limit: str, *, url: str, now: Callable[[], float] = time.time) -> None:
        self._limit = parse(limit)
        self._window = self._limit.get_expiry()
        self._now = now
        self._counts: dict[str, _Count] = {}
        self._store = aio.Redis.from_url(
            url,
            socket_timeout=ANSWER_WITHIN,
            socket_connect_timeout=ANSWER_WITHIN,
            retry=Retry(NoBackoff(), 0),
        )
        self._flusher: asyncio.Task[None] | None = None

    def admit(self, tenant: str, decisions: int) -> None:
        """Count so many. Raises Problem (429), with none of them counted, if they are too many."""
        now = self._now()
        number, into = divmod(now, self._window)
        count = self._counts.get(tenant)
        if count is None or count.number != number:
            count = self._counts[tenant] = self._next(count, int(number))
        used = count.known + count.fresh + math.ceil(count.before * (1 - into / self._window))
        if used + decisions <= self._limit.amount:
            count.fresh += decisions
            return
        wait = max(1, math.ceil(self._window - into))
        raise Problem(
            "rate-limited",
            f"this tenant may ask for {self._limit} decisions",
            headers={
                "Retry-After": str(wait),
                # draft-ietf-httpapi-ratelimit-headers
                "RateLimit-Policy": f'"decisions";q={self._limit.amount};w={self._window}',
                "RateLimit": f'"decisions";r={max(0, self._limit.amount - used)};t={wait}',
            },
        )

    @staticmethod
    def _next(last: _Count | None, number: int) -> _Count:
        # What was not told of the last window isn't any more: at most FLUSH_EVERY of it.
        before = last.known + last.fresh if last is not None and last.number == number - 1 else 0
        return _Count(number, before)

    # --- what the processes tell each other ----------------------------------------------------------------------

    def start(self) -> None:
        self._flusher = asyncio.get_running_loop().create_task(self._flush_for_ever())

    async def stop(self) -> None:
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        await self._store.aclose()

    async def _flush_for_ever(self) -> None:
        alone = False
        while True:
            await asyncio.sleep(FLUSH_EVERY)
            try:
                await self.flush()
                alone = False
            except (RedisError, OSError) as error:
                # What was counted there and not heard of here is told once more: the limit comes sooner, never later.
                if not alone:
                    log.warning("hot_limit.alone", error=str(error))
                alone = True
                await asyncio.sleep(LOOK_AGAIN_AFTER)

    async def flush(self) -> None:
        """Tell what was counted since the last time, and learn what the others did."""
        current = int(self._now() // self._window)
        self._counts = {tenant: count for tenant, count in self._counts.items() if count.number >= current - 1}
        told = [(tenant, count, count.fresh) for tenant, count in self._counts.items() if count.fresh]
        if not told:
            return
        pipeline = self._store.pipeline(transaction=False)
        for tenant, count, fresh in told:
            name = f"{_PREFIX}:{tenant}:{count.number}"
            pipeline.incrby(name, fresh)
            pipeline.expire(name, 2 * self._window + 1)
            pipeline.get(f"{_PREFIX}:{tenant}:{count.number - 1}")
        replies = await pipeline.execute()
        for (_, count, fresh), known, before in zip(told, replies[::3], replies[2::3], strict=True):
            count.known = int(known)
            count.fresh -= fresh
            count.before = max(count.before, int(before or 0))
