"""So many requests a second and no more, for all workers together: a counter in Redis for each provider and second.

Nothing about money depends on it: a provider that gets too many says so, which proves that nothing was done. So where
Redis is away, or slow, nobody waits for it.
"""

import time

import structlog
from redis.exceptions import RedisError

from core import redis

log = structlog.stdlib.get_logger(__name__)

WAIT_S = 3
KEPT_S = 5


def wait(provider: str, per_second: int) -> bool:
    """Until it is this request's turn. False: not within a few seconds."""
    deadline = time.monotonic() + WAIT_S
    while True:
        if _turn(provider, per_second):
            return True
        pause = 1 - time.time() % 1
        if time.monotonic() + pause > deadline:
            return False
        time.sleep(pause)


def _turn(provider: str, per_second: int) -> bool:
    try:
        with redis.client(timeout=1, attempts=1).pipeline(transaction=False) as pipe:
            key = f"tallyrail:payout:rate:{provider}:{int(time.time())}"
            pipe.incr(key)
            pipe.expire(key, KEPT_S)
            count = pipe.execute()[0]
    except (RedisError, OSError):
        log.warning("payout.unthrottled", provider=provider)
        return True
    return int(count) <= max(per_second, 1)
