"""What is left of generations that are over: removed while nobody waits for it, and looked at before.

Also the place where those on the list of deciders who died are crossed off, once nothing can depend on them any more.
"""

import time
from typing import Any
from uuid import UUID

import structlog
from redis import Redis, RedisCluster
from redis.exceptions import RedisError
from sqlalchemy import text

from core.db import transaction
from core.hot.keys import SEQUENCE, STREAM, key, parts_of
from core.hot.presence import note_orphans
from core.hot.settings import hot as settings
from core.hot.store import Generation

log = structlog.stdlib.get_logger(__name__)

FOUND_IN_REDIS = UUID(int=0)
"""In hot_events, in place of a decider."""
BUDGET_S = 0.1
"""Of each look, so that the one who clears away can also keep watch."""
PAGE = 1_000
SWEEP_EVERY_S = 60.0

_SHARDS = text("SELECT shard, applied_seq FROM hot_shards WHERE generation = :generation ORDER BY shard")
_SILENT = text("SELECT id, name FROM hot_deciders WHERE seen_at < clock_timestamp() - :lease")
_CROSS_OFF = text("DELETE FROM hot_deciders WHERE id = ANY(:ids) AND seen_at < clock_timestamp() - :lease")


class Leftovers:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._current = 0
        self._examined: set[int] = set()
        self._cursors: dict[str, int] = {}
        self._next_sweep = 0.0

    def clear(self, now: Generation) -> None:
        """A little of it. Raises RedisError, SQLAlchemyError."""
        self._cross_off(now)
        if now.number != self._current:
            self._current, self._next_sweep, self._cursors = now.number, 0.0, {}
        ends = time.monotonic() + BUDGET_S
        while time.monotonic() >= self._next_sweep and time.monotonic() < ends:
            if not self._sweep(now.number):
                self._next_sweep = time.monotonic() + SWEEP_EVERY_S

    def _sweep(self, current: int) -> bool:
        """One page of each server's keys. False when all of them were seen."""
        servers = self._servers()
        if not self._cursors:
            self._cursors = dict.fromkeys(servers, 0)
        for name, cursor in list(self._cursors.items()):
            if name not in servers:
                del self._cursors[name]
                continue
            found: Any = servers[name].scan(cursor, match="tr:{h*", count=PAGE)
            old = [each for each in found[1] if 0 < parts_of(each)[1] < current]
            for generation in sorted({parts_of(each)[1] for each in old} - self._examined):
                self._examine(generation)
            for each in old:
                servers[name].unlink(each)
            if found[0] == 0:
                del self._cursors[name]
            else:
                self._cursors[name] = found[0]
        return bool(self._cursors)

    def _servers(self) -> dict[str, Redis]:
        if not isinstance(self._redis, RedisCluster):
            return {"": self._redis}
        return {node.name: self._redis.get_redis_connection(node) for node in self._redis.get_primaries()}

    def _examine(self, generation: int) -> None:
        """Events beyond the watermark of a generation that ended without Redis: kept, and put on the list of breaks."""
        with transaction() as session:
            shards = {row.shard: row.applied_seq for row in session.execute(_SHARDS, {"generation": generation})}
        orphans: dict[int, list[tuple[int, str]]] = {}
        for shard, applied in shards.items():
            entries: Any = self._redis.xrange(key(generation, shard, STREAM), f"{applied + 1}-0")
            if entries:
                orphans[shard] = [(int(each[0].partition("-")[0]), each[1].get("e", "")) for each in entries]
        if orphans:
            log.error(
                "hot.orphans", generation=generation, events={shard: len(found) for shard, found in orphans.items()}
            )
            with transaction() as session:
                why = "Redis was away when the generation ended, and came back with them"
                note_orphans(session, FOUND_IN_REDIS, generation, orphans, why=why)
        self._examined.add(generation)

    def _cross_off(self, now: Generation) -> None:
        """Those that are silent, once all that was decided until now is in the books: nothing they said is missing."""
        lease = settings().lease
        with transaction() as session:
            silent = session.execute(_SILENT, {"lease": lease}).all()
        if not silent:
            return
        decided: dict[int, int] = {}
        for shard in range(now.shards):
            seq: Any = self._redis.get(key(now.number, shard, SEQUENCE))
            if seq is None:
                raise RedisError("a sequence is missing")
            decided[shard] = int(seq)
        with transaction() as session:
            applied = {row.shard: row.applied_seq for row in session.execute(_SHARDS, {"generation": now.number})}
            if all(applied.get(shard, 0) >= seq for shard, seq in decided.items()):
                session.execute(_CROSS_OFF, {"ids": [row.id for row in silent], "lease": lease})
                log.info("hot.crossed_off", deciders=[row.name for row in silent])
