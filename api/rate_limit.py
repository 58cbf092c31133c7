"""How many requests a tenant may make, counted in Redis for all processes together.

It protects us from a runaway client; it protects no money. So when Redis is away, requests pass.
"""

import math
import time
from functools import cache

import structlog
from limits import RateLimitItem, parse
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from api.problems import Problem
from config import settings

log = structlog.stdlib.get_logger(__name__)

ANSWER_WITHIN = 0.1
"""Seconds that a request may lose to an unreachable Redis, at most, for each wait on its socket."""
LOOK_AGAIN_AFTER = 1.0


class Limiter:
    def __init__(self, url: str, limit: str) -> None:
        self._limit: RateLimitItem = parse(limit)
        # Two counters a tenant, weighed: a moving window that costs the same however high the limit is.
        self._strategy = SlidingWindowCounterRateLimiter(
            RedisStorage(
                url,
                key_prefix="tallyrail:limits",
                socket_timeout=ANSWER_WITHIN,
                socket_connect_timeout=ANSWER_WITHIN,
                retry=Retry(NoBackoff(), 0),  # type: ignore[arg-type]  # handed on to redis as it is
            )
        )
        self._open_until = 0.0

    def admit(self, tenant: str) -> None:
        """Count one request. Raises Problem (429) when it is one too many."""
        if time.monotonic() < self._open_until:
            return
        try:
            if self._strategy.hit(self._limit, tenant):
                return
            window = self._strategy.get_window_stats(self._limit, tenant)
        except (RedisError, OSError) as error:
            self._open_until = time.monotonic() + LOOK_AGAIN_AFTER
            log.warning("rate_limit.unchecked", error=str(error))
            return
        wait = max(1, math.ceil(window.reset_time - time.time()))
        raise Problem(
            "rate-limited",
            f"this tenant may make {self._limit}",
            headers={
                "Retry-After": str(wait),
                # draft-ietf-httpapi-ratelimit-headers
                "RateLimit-Policy": f'"tenant";q={self._limit.amount};w={self._limit.get_expiry()}',
                "RateLimit": f'"tenant";r={max(0, window.remaining)};t={wait}',
            },
        )


@cache
def limiter() -> Limiter:
    return Limiter(str(settings.servers().redis_url), settings.api().rate_limit)
