"""The drain: from the streams of the hot store into the books, while a generation lives.

Two things say what is new. The watermark (hot_shards.applied_seq) moves in the transaction that writes the events: it
alone decides what is written. The consumer group hands out each entry once, so that drains need not ask again for what
they have, and shows in its pending list what was taken and not finished. After a takeover, an error or a hole the drain
reads from the watermark on (`catching up`); then the group is read again.
https://valkey.io/topics/streams-intro/#consumer-groups
"""

import time
from collections.abc import Iterator, Sequence
from typing import Any, cast

import structlog
from redis import Redis, RedisCluster
from redis.exceptions import ResponseError
from sqlalchemy import Connection, text

from core.db import transaction
from core.hot import store
from core.hot.books import Books, GenerationOverError, HoleError
from core.hot.events import Event, read
from core.hot.hand import GROUP
from core.hot.keys import STREAM, key
from core.hot.settings import hot as settings

log = structlog.stdlib.get_logger(__name__)

Entry = tuple[str, dict[str, str]]
"""Of a stream: its id and its fields."""
OWN_EVERY_S = 0.5
PACE_S = 0.01
"""At least so long between two batches that are not full: a transaction for each event would cost more than they do."""

_RENEW = text(
    """
    UPDATE hot_shards SET owned_until = clock_timestamp() + :lease
    WHERE generation = :generation AND owner = :owner RETURNING shard
    """
)
_TAKE = text(
    """
    UPDATE hot_shards SET owner = :owner, owned_until = clock_timestamp() + :lease
    WHERE generation = :generation AND shard IN (
      SELECT shard FROM hot_shards
      WHERE generation = :generation AND owner IS DISTINCT FROM :owner
        AND (owner IS NULL OR owned_until < clock_timestamp())
      ORDER BY shard LIMIT :limit FOR UPDATE SKIP LOCKED
    ) RETURNING shard
    """
)
_REACHED = text("SELECT shard, applied_seq FROM hot_shards WHERE generation = :generation AND shard = ANY(:shards)")
_GIVE = text(
    """
    UPDATE hot_shards SET owner = NULL, owned_until = NULL
    WHERE generation = :generation AND owner = :owner AND shard = ANY(:shards)
    """
)

# A process that drains holds this lock together with all others that do. How many hold it is how many there are.
# What follows locks shards: who is frozen then must not keep them from others for long (as in core.hot.books).
_DRAINING = 0x7472_0002
_ENTER = text("SELECT pg_advisory_lock_shared(:lock)")
_COUNT = text(
    """
    SELECT count(*), set_config('idle_in_transaction_session_timeout', '5s', true) FROM pg_locks
    WHERE locktype = 'advisory' AND classid = 0 AND objid = :lock AND objsubid = 1 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)


def enter(connection: Connection) -> None:
    """Be counted among those who drain, for as long as this connection lasts."""
    connection.execute(_ENTER, {"lock": _DRAINING})


class Drain:
    """Of one lane. `step` again and again; errors of PostgreSQL and Redis are the caller's to wait out.

    Args:
        redis, books: its own.
        owner: what it is called among all drains.
        lanes: drains of its process, which all take equal shares.

    """

    def __init__(self, redis: Redis, books: Books, *, owner: str, lanes: int = 1) -> None:
        self._redis = redis
        self._books = books
        self.owner = owner
        self._lanes = lanes
        self._chosen = settings()
        self.generation = 0
        self._applied: dict[int, int] = {}
        """Of the shards that we own."""
        self._catching_up: set[int] = set()
        self._own_at = 0.0
        self._last_batch = 0.0

    def follow(self, generation: int) -> None:
        """Drain this one from now on. 0: none."""
        if generation != self.generation:
            self.generation = generation
            self.forget()

    def forget(self) -> None:
        """After an error: what was read and not written will be read again."""
        self._applied = {}
        self._own_at = 0.0

    def own(self) -> None:
        """Renew what we own; take our share of what is free, leave what is beyond it to others."""
        if self.generation == 0 or time.monotonic() < self._own_at:
            return
        mine = {"generation": self.generation, "owner": self.owner, "lease": self._chosen.lease / 2}
        with transaction() as session:
            shards = store.current(session).shards
            here = max(1, session.execute(_COUNT, {"lock": _DRAINING}).scalar_one())
            share = -(-shards // (here * self._lanes))
            owned = sorted(session.scalars(_RENEW, mine))
            surplus = owned[share:]
            if surplus:
                session.execute(_GIVE, {**mine, "shards": surplus})
            free = share - len(owned)
            taken = session.execute(_TAKE, {**mine, "limit": free}).all() if free > 0 else []
            ours = set(owned) - set(surplus)
            unknown = ours - self._applied.keys()
            for row in session.execute(
                text(
                    "SELECT shard, applied_seq FROM hot_shards WHERE generation = :generation AND shard = ANY(:shards)"
                ),
                {"generation": self.generation, "shards": [*unknown, *(row.shard for row in taken)]},
            ):
                self._applied[row.shard] = row.applied_seq
                self._catching_up.add(row.shard)
        for shard in self._applied.keys() - ours - {row.shard for row in taken}:
            del self._applied[shard]
        self._catching_up &= self._applied.keys()
        self._own_at = time.monotonic() + OWN_EVERY_S

    def step(self, *, block: float) -> int:
        """Write what there is. Waits up to `block` seconds if there is nothing. Returns how many events were new.

        Raises SQLAlchemyError, RedisError, NothingAppliesError; `forget` then.
        """
        self.own()
        if not self._applied:
            time.sleep(block)
            return 0
        try:
            done = sum(self._catch_up(shard) for shard in sorted(self._catching_up))
            live = sorted(self._applied.keys() - self._catching_up)
            return done + self._read_live(live, 0.0 if done or self._catching_up else block)
        except GenerationOverError:
            self.follow(0)
            return 0
        except ResponseError as error:
            if "NOGROUP" not in str(error):
                raise
            self._close("a stream is missing")  # Redis was emptied
            time.sleep(block)
            return 0

    def _catch_up(self, shard: int) -> int:
        """One batch from the watermark on, whoever has its entries pending."""
        stream = key(self.generation, shard, STREAM)
        self._claim(stream, self._applied[shard])
        limit = self._chosen.batch_max
        entries: list[Entry] = cast("Any", self._redis.xrange(stream, f"{self._applied[shard] + 1}-0", count=limit))
        if len(entries) < limit:
            self._catching_up.discard(shard)
        try:
            return self._write([self._event(shard, *entry) for entry in entries])
        except HoleError as error:
            # Read twice and not there: it was lost. If somebody was answered, the turn finds it with its decider.
            self._close(str(error))
            self._catching_up.add(shard)
            time.sleep(PACE_S)
            return 0

    def _claim(self, stream: str, applied: int) -> None:
        """Take over the entries of whoever owned the shard before; what is in the books is acknowledged with ours."""
        start = 0
        while True:
            ids: list[str] = self._redis.xautoclaim(
                stream, GROUP, self.owner, 0, f"{start}-0", count=1_000, justid=True
            )
            if not ids:
                return
            seqs = [int(each.partition("-")[0]) for each in ids]
            done = [f"{seq}-0" for seq in seqs if seq <= applied]
            if done:
                self._redis.xack(stream, GROUP, *done)
            start = seqs[-1] + 1

    def _read_live(self, shards: Sequence[int], block: float) -> int:
        pause = self._last_batch + PACE_S - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        events = [event for shard, entries in self._read(shards, block) for event in self._events(shard, entries)]
        events.sort(key=lambda event: (event.shard, event.seq))
        done = 0
        limit = self._chosen.batch_max
        for first in range(0, len(events), limit):
            part = events[first : first + limit]
            try:
                done += self._write(part)
            except HoleError as error:
                # Another consumer may have it pending. All of this shard is read again, from the watermark on.
                log.info("drain.hole", shard=error.shard, error=str(error))
                self._catching_up.update({event.shard for event in part})
        if done < limit // 4:
            self._last_batch = time.monotonic()
        return done

    def _read(self, shards: Sequence[int], block: float) -> Iterator[tuple[int, list[Entry]]]:
        streams = {key(self.generation, shard, STREAM): shard for shard in shards}
        if not streams:
            time.sleep(block)
            return
        count = self._chosen.batch_max
        found: list[Any] = []
        if isinstance(self._redis, RedisCluster):  # one call can't name streams of several slots
            for stream in streams:
                found += cast("list[Any]", self._redis.xreadgroup(GROUP, self.owner, {stream: ">"}, count=count) or [])
            if not found:
                time.sleep(min(block, 2 * PACE_S))
        else:
            wait = max(1, int(block * 1_000)) if block else None
            answer = self._redis.xreadgroup(GROUP, self.owner, dict.fromkeys(streams, ">"), count=count, block=wait)
            found = cast("list[Any]", answer or [])
        for stream, entries in found:
            yield streams[stream], entries

    def _events(self, shard: int, entries: list[Entry]) -> Iterator[Event]:
        return (self._event(shard, *entry) for entry in entries)

    def _event(self, shard: int, entry_id: str, fields: dict[str, str]) -> Event:
        return read(self.generation, shard, int(entry_id.partition("-")[0]), fields.get("e", ""))

    def _write(self, events: Sequence[Event]) -> int:
        """Into the books, and then off the streams: acknowledged and trimmed is only what was committed."""
        if not events:
            return 0
        before = dict(self._applied)
        reached = self._books.advance(self.generation, events, owner=self.owner)
        by_shard: dict[int, list[str]] = {}
        for event in events:
            if event.shard in reached:
                by_shard.setdefault(event.shard, []).append(f"{event.seq}-0")
            else:
                self._own_at = 0.0  # it is another's by now
        self._applied |= reached
        with self._redis.pipeline(transaction=False) as pipe:
            for shard, ids in by_shard.items():
                stream = key(self.generation, shard, STREAM)
                pipe.xack(stream, GROUP, *ids)
                pipe.xtrim(stream, minid=f"{reached[shard] + 1}-0", approximate=False)
            pipe.execute()
        return sum(seq - before.get(shard, seq) for shard, seq in reached.items())

    def _close(self, reason: str) -> None:
        with transaction() as session:
            if store.close(session, self.generation, reason=reason):
                log.error("drain.closed_the_generation", generation=self.generation, reason=reason)

    def release(self) -> None:
        """Leave our shards to others at once."""
        if self.generation:
            with transaction() as session:
                session.execute(
                    _GIVE, {"generation": self.generation, "owner": self.owner, "shards": list(self._applied)}
                )
        self.forget()
