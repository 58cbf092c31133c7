"""Redis (or Valkey): one pooled client a process, with every wait bounded."""

from functools import cache

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import settings


@cache
def client() -> "Redis":
    """A blocked server costs at most the timeouts below; callers that can do without an answer catch RedisError."""
    return Redis.from_url(
        str(settings.servers().redis_url),
        socket_connect_timeout=1.0,
        socket_timeout=1.0,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )


def dispose() -> None:
    """Drop the pool: needed after a fork, and where the address has changed."""
    if client.cache_info().currsize:
        client().close()
        client.cache_clear()
