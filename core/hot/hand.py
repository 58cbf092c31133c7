"""Decisions asked for one after the other: by workers, tools and tests. Who answers people uses a decider instead.

Nothing is remembered here, so only what nobody was promised may be decided this way: should Redis lose it, it was
never decided, and is decided again.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from core.hot.client import node_of
from core.hot.errors import StoreAwayError, UndecidedError
from core.hot.keys import SEQUENCE, STREAM, key
from core.hot.script import COLD, ITEMS_MAX, Item, Reply, Script, parse_reply

GROUP = "books"
"""The consumer group of every stream."""
VERSION_MIN = 7
"""Of Redis; every Valkey says that it is one. Before, a server with replicas wrote its scripts into its files, and knew
them after a restart: a turn would not be noticed."""


def arguments(script: Script, generation: int, shard: int, items: Sequence[Item]) -> list[str | int]:
    """What follows EVALSHA."""
    keys = [key(generation, shard, SEQUENCE), key(generation, shard, STREAM)]
    keys += [key(generation, shard, name) for item in items for name in item.keys]
    return [script.sha(generation), len(keys), *keys, *(arg for item in items for arg in item.args)]


class Hand:
    """Of one generation. Raises StoreAwayError if it is over or Redis can't be reached, UndecidedError if the answer
    was lost.
    """

    def __init__(self, store: Redis, generation: int) -> None:
        self._store = store
        self.generation = generation

    def decide(self, script: Script, items: Sequence[Item]) -> list[Reply]:
        """In order. Items of several shards are several calls: should one fail, the ones before it are decided."""
        by_shard: dict[int, list[int]] = defaultdict(list)
        for place, item in enumerate(items):
            by_shard[item.shard].append(place)
        replies: dict[int, Reply] = {}
        for shard, places in by_shard.items():
            for first in range(0, len(places), ITEMS_MAX):
                part = places[first : first + ITEMS_MAX]
                found = self._call(script, shard, [items[place] for place in part])
                replies |= zip(part, found, strict=True)
        return [replies[place] for place in range(len(items))]

    def _call(self, script: Script, shard: int, items: Sequence[Item]) -> list[Reply]:
        try:
            sha, keys, *rest = arguments(script, self.generation, shard, items)
            raw = self._store.evalsha(str(sha), int(keys), *rest)
        except NoScriptError:
            raise StoreAwayError(f"generation {self.generation} of the hot store is over") from None
        except ResponseError as error:
            if str(error).startswith(COLD):
                raise StoreAwayError(f"generation {self.generation} of the hot store is over") from None
            raise
        except (RedisTimeoutError, RedisConnectionError) as error:
            raise UndecidedError(f"the hot store did not answer: {type(error).__name__}") from error
        return [parse_reply(each) for each in raw]


def unfit(store: Redis, shards: int) -> str | None:
    """Why decisions can't be kept there, or None. Raises RedisError."""
    for shard in range(shards):
        about: Any = node_of(store, key(0, shard, SEQUENCE)).info()
        if int(str(about["redis_version"]).partition(".")[0]) < VERSION_MIN:
            return f"it is older than version {VERSION_MIN}: it may keep scripts over a restart"
        if about.get("maxmemory_policy") != "noeviction":
            return f"its maxmemory-policy is {about.get('maxmemory_policy')}: it may drop keys"
    return None


def is_pristine(store: Redis, generation: int, shards: int) -> bool:
    """Whether nothing was ever decided under this number here. Raises RedisError."""
    for shard in range(shards):
        seq: Any = store.get(key(generation, shard, SEQUENCE))
        if seq not in (None, "0"):
            return False
        stream = key(generation, shard, STREAM)
        if store.exists(stream):
            about: Any = store.xinfo_stream(stream)
            if about["last-generated-id"] != "0-0":
                return False
    return True


def prepare(store: Redis, generation: int, shards: int, scripts: Sequence[Script]) -> None:
    """Make an empty generation ready: its sequences, streams and scripts. Safe to repeat until it is opened."""
    for shard in range(shards):
        sequence, stream = key(generation, shard, SEQUENCE), key(generation, shard, STREAM)
        server = node_of(store, sequence)
        for script in scripts:
            server.script_load(script.text(generation))
        store.set(sequence, 0, nx=True)
        try:
            store.xgroup_create(stream, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise


def is_ready(store: Redis, generation: int, shards: int, scripts: Sequence[Script]) -> bool:
    """Whether this generation can be decided in. Raises RedisError if there is no answer."""
    for shard in range(shards):
        sequence = key(generation, shard, SEQUENCE)
        if store.get(sequence) is None:
            return False
        known: Sequence[bool] = node_of(store, sequence).script_exists(*(one.sha(generation) for one in scripts))
        if not all(known):
            return False
    return True


__all__ = ["GROUP", "Hand", "RedisError", "arguments", "is_pristine", "is_ready", "prepare", "unfit"]
