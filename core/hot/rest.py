"""The rest of a generation that ends: its streams, and what its deciders wrote down, read together."""

from collections.abc import Iterator
from typing import Any, cast

import structlog
from redis import Redis
from sqlalchemy import text

from core.db import transaction
from core.hot.books import Books
from core.hot.events import Event, read
from core.hot.keys import SEQUENCE, STREAM, key
from core.hot.presence import note_conflict
from core.hot.settings import hot as settings
from core.hot.store import Generation

log = structlog.stdlib.get_logger(__name__)

_SHARDS = text("SELECT shard, applied_seq FROM hot_shards WHERE generation = :generation ORDER BY shard")
_WRITTEN = text(
    """
    SELECT seq, event FROM hot_events WHERE generation = :generation AND shard = :shard AND seq >= :first
    ORDER BY seq LIMIT :limit
    """
)


class Rest:
    """Nothing is added to either while this is read: all deciders have left, and the fence is up."""

    def __init__(self, redis: Redis, books: Books) -> None:
        self._redis = redis
        self._books = books
        self._limit = settings().batch_max

    def settle(self, ending: Generation, *, with_redis: bool) -> None:
        """Everything that is left goes into the books. Done again, it finds nothing.

        Raises RedisError (what was written is written), SQLAlchemyError, NothingAppliesError.
        """
        with transaction() as session:
            shards = {row.shard: row.applied_seq for row in session.execute(_SHARDS, {"generation": ending.number})}
        for shard, applied in shards.items():
            if with_redis:
                self._redis.delete(key(ending.number, shard, SEQUENCE))  # the fence
            for events in self._union(ending.number, shard, applied + 1, with_redis=with_redis):
                self._books.advance(ending.number, events, may_skip=True)
                log.info("hot.rest", generation=ending.number, shard=shard, events=len(events))

    def _union(self, generation: int, shard: int, first: int, *, with_redis: bool) -> Iterator[list[Event]]:
        """In pieces. Of two events under one number the one in Redis counts, and the other is a break."""
        while True:
            streamed = self._streamed(generation, shard, first) if with_redis else {}
            written = self._written(generation, shard, first)
            # As far as both are known: a full page may go on behind its last.
            ends = [max(page) for page in (streamed, written) if len(page) >= self._limit]
            last = min(ends) if ends else max([first, *streamed, *written])
            both = {seq: text for seq, text in (written | streamed).items() if seq <= last}
            if both:
                self._note_conflicts(generation, shard, streamed, written)
                yield [read(generation, shard, seq, both[seq]) for seq in sorted(both)]
            if not ends:
                return
            first = last + 1

    def _streamed(self, generation: int, shard: int, first: int) -> dict[int, str]:
        found: Any = self._redis.xrange(key(generation, shard, STREAM), f"{first}-0", count=self._limit)
        entries = cast("list[tuple[str, dict[str, str]]]", found)
        return {int(entry_id.partition("-")[0]): fields.get("e", "") for entry_id, fields in entries}

    def _written(self, generation: int, shard: int, first: int) -> dict[int, str]:
        asked = {"generation": generation, "shard": shard, "first": first, "limit": self._limit}
        with transaction() as session:
            return {row.seq: row.event for row in session.execute(_WRITTEN, asked)}

    def _note_conflicts(self, generation: int, shard: int, streamed: dict[int, str], written: dict[int, str]) -> None:
        differing = [seq for seq in streamed.keys() & written.keys() if streamed[seq] != written[seq]]
        if differing:
            with transaction() as session:
                for seq in differing:
                    note_conflict(session, generation, shard, seq, kept=streamed[seq], other=written[seq])
