"""Redis (or Valkey): pooled clients, with every wait bounded."""

from functools import cache

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config import settings


@cache
def client(*, timeout: float = 1.0, attempts: int = 2) -> "Redis":
    """One pool a process for each pair of arguments. A server that hangs costs `timeout` seconds an attempt; callers
    that can do without an answer catch RedisError.
    """
    return Redis.from_url(
        str(settings.servers().redis_url),
        socket_connect_timeout=timeout,
        socket_timeout=timeout,
        socket_keepalive=True,
        health_check_interval=30,
        retry=Retry(NoBackoff(), attempts - 1),
        decode_responses=True,
    )


def dispose() -> None:
    """Forget the pools: needed after a fork, and where the address has changed. Unused connections close themselves."""
    client.cache_clear()
