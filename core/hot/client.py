"""Clients of the hot store. Waits are bounded, and nothing is sent twice: what was sent may have been decided."""

from functools import cache
from typing import Any, cast

from redis import Redis, RedisCluster
from redis import asyncio as aio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from core.hot.settings import hot as settings

TIMEOUT_S = 1.0
"""For a connection, and for an answer. Longer than any script takes, shorter than a person's patience."""


@cache
def client() -> Redis:
    """For sync processes, workers and tests. One pool a process."""
    options: dict[str, Any] = {
        "socket_connect_timeout": TIMEOUT_S,
        "socket_timeout": TIMEOUT_S,
        "socket_keepalive": True,
        "decode_responses": True,
    }
    if settings().redis_cluster:
        return cast("Redis", RedisCluster.from_url(settings().url, cluster_error_retry_attempts=0, **options))
    return Redis.from_url(settings().url, retry=Retry(NoBackoff(), 0), **options)


def new_async_client() -> "aio.Redis":
    """For a decider, which owns and closes it."""
    options: dict[str, Any] = {
        "socket_connect_timeout": TIMEOUT_S,
        "socket_timeout": TIMEOUT_S,
        "socket_keepalive": True,
        "decode_responses": True,
    }
    if settings().redis_cluster:
        return cast("aio.Redis", aio.RedisCluster.from_url(settings().url, cluster_error_retry_attempts=0, **options))
    return aio.Redis.from_url(settings().url, retry=AsyncRetry(NoBackoff(), 0), **options)


def node_of(store: Redis, key: str) -> Redis:
    """The client of the server that has this key: for what must be told to one server, such as a script to load."""
    if isinstance(store, RedisCluster):
        node = cast("ClusterNode", store.get_node_from_key(key))
        return store.get_redis_connection(node)
    return store


def dispose() -> None:
    """Forget the pools: after a fork, and where the address has changed."""
    client.cache_clear()
