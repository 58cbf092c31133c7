"""Turns: how one generation of the hot store ends and the next begins. docs/hot.md draws it, ADR 18 says why so.

One keeper at a time works (an advisory lock of PostgreSQL); any other may take over at any point, for each step says
in PostgreSQL what it has done, or may be done twice:

1. the generation is closing (hot_store.state): whoever saw that Redis lost something has said so;
2. every decider has left it, having written down what it remembers, or was silent for HOT_LEASE and is taken for dead;
3. the fence: the sequence of each shard is deleted, so that no script of this generation decides anything more;
4. the rest of the streams and what the deciders wrote down, together, in order of their numbers, go into the books;
5. the next generation is made ready in Redis, and opened.
"""

import time
from collections.abc import Sequence

import structlog
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, text

from core.db import transaction
from core.hot import hand, store
from core.hot.books import Books
from core.hot.keys import key
from core.hot.leftovers import Leftovers
from core.hot.rest import Rest
from core.hot.script import Script
from core.hot.settings import hot as settings
from core.hot.store import Generation, StoreMode, StoreState

log = structlog.stdlib.get_logger(__name__)

LOOK_EVERY_S = 1.0
"""How often an open generation's Redis is looked at."""
STEADY_S = 1.0
"""How long Redis must have answered before it decides again."""

_KEEPING = 0x7472_0003
_TRY_KEEPING = text("SELECT pg_try_advisory_lock(:lock)")
_TO_LEAVE = text(
    """
    SELECT count(*) FILTER (WHERE NOT silent) AS living, count(*) FILTER (WHERE silent) AS silent FROM (
      SELECT greatest(seen_at, (SELECT changed_at FROM hot_store)) < clock_timestamp() - :lease AS silent
      FROM hot_deciders WHERE left_generation < :generation
    ) AS each
    """
)
_TAKE_FOR_DEAD = text(
    """
    UPDATE hot_deciders SET left_generation = :generation, lost_generation = :generation
    WHERE left_generation < :generation
      AND greatest(seen_at, (SELECT changed_at FROM hot_store)) < clock_timestamp() - :lease
    RETURNING name
    """
)
_IS_ANY_LOST = text("SELECT EXISTS (SELECT FROM hot_deciders WHERE lost_generation = :generation)")
_LOCK_SHARDS = text("SELECT shard FROM hot_shards WHERE generation = :generation ORDER BY shard FOR UPDATE")


class Keeper:
    """Looks after the generations. `tick` several times a second; errors are the caller's to wait out.

    After an error of PostgreSQL `forget` must be called: the lock may be another's by now.
    """

    def __init__(self, redis: Redis, books: Books, scripts: Sequence[Script]) -> None:
        self._redis = redis
        self._scripts = scripts
        self._chosen = settings()
        self._rest = Rest(redis, books)
        self._leftovers = Leftovers(redis)
        self._is_keeper = False
        self._watching_since = 0.0
        self._look_at = 0.0
        self._answers_since: float | None = None
        self._away_since: float | None = None

    def forget(self) -> None:
        self._is_keeper = False

    def tick(self, connection: Connection) -> Generation:
        """One look, and whatever it asks for. `connection` holds the lock for as long as it lasts.

        Returns what is open or closing now. Raises SQLAlchemyError, NothingAppliesError; never for want of Redis.
        """
        if not self._is_keeper:
            self._is_keeper = bool(connection.execute(_TRY_KEEPING, {"lock": _KEEPING}).scalar_one())
            self._watching_since = time.monotonic()
        else:
            connection.execute(text("SELECT 1"))  # raises if the connection is lost, and the lock with it
        with transaction() as session:
            now = store.current(session)
        if not self._is_keeper:
            return now
        try:
            if now.state is StoreState.CLOSING:
                return self._turn(now) or now
            self._look_after(now)
        except RedisError as error:
            log.warning("keeper.redis_away", error=str(error).splitlines()[0] if str(error) else type(error).__name__)
            self._note_answer(is_there=False)
        return now

    # --- while a generation is open

    def _look_after(self, now: Generation) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_EVERY_S
        is_there = self._ask_redis()
        if now.mode is StoreMode.POSTGRES:
            if is_there and self._has_been_there() and not self._is_unfit():
                self._close(now, "Redis answers again")
            return
        if not is_there:
            if self._is_away():
                self._close(now, "Redis is away")
            return
        if not hand.is_ready(self._redis, now.number, now.shards, self._scripts):
            self._close(now, "Redis has lost something")
        elif self._is_unfit():
            self._close(now, "Redis is not fit to decide")
        elif now.shards != self._chosen.shards:
            self._close(now, f"HOT_SHARDS is {self._chosen.shards} now")
        else:
            self._leftovers.clear(now)

    def _ask_redis(self) -> bool:
        """Whether every server that we need answers."""
        try:
            for shard in range(self._chosen.shards):
                # Any command that reads: a server that loads its file, or a cluster without a part of it, refuses it.
                self._redis.exists(key(0, shard, "any"))
        except RedisError:
            self._note_answer(is_there=False)
            return False
        self._note_answer(is_there=True)
        return True

    def _is_unfit(self) -> bool:
        """A server that would lose decisions without a word is not decided in."""
        why = hand.unfit(self._redis, self._chosen.shards)
        if why is not None:
            log.critical("hot.redis_is_unfit", why=why)
        return why is not None

    def _note_answer(self, *, is_there: bool) -> None:
        now = time.monotonic()
        self._answers_since = (self._answers_since or now) if is_there else None
        self._away_since = None if is_there else (self._away_since or now)

    def _has_been_there(self) -> bool:
        return self._answers_since is not None and time.monotonic() - self._answers_since >= STEADY_S

    def _is_away(self) -> bool:
        return (
            self._away_since is not None
            and time.monotonic() - self._away_since >= self._chosen.fallback_after.total_seconds()
        )

    def _close(self, now: Generation, reason: str) -> None:
        with transaction() as session:
            done = store.close(session, now.number, reason=reason)
        if done:
            log.warning("hot.closing", generation=now.number, reason=reason)

    # --- a turn

    def _turn(self, ending: Generation) -> Generation | None:
        """As far as it can go now. None: not there yet."""
        is_there = self._ask_redis()
        if not self._have_all_left(ending, may_bury=is_there or ending.mode is StoreMode.POSTGRES):
            return None
        if ending.mode is StoreMode.POSTGRES:
            with transaction() as session:
                store.await_decisions(session)
        else:
            if not is_there and not self._may_go_without(ending):
                return None
            self._rest.settle(ending, with_redis=is_there)
        if is_there:
            return self._open_in_redis(ending)
        return self._open(ending, StoreMode.POSTGRES, None) if self._is_away() else None

    def _have_all_left(self, ending: Generation, *, may_bury: bool) -> bool:
        """Whoever is silent is buried only while Redis answers: what it promised last is nowhere else."""
        asked = {"generation": ending.number, "lease": self._chosen.lease}
        with transaction() as session:
            living, silent = session.execute(_TO_LEAVE, asked).one()
            if living or not silent:
                return not living
            # Silence counts while we listen: PostgreSQL may have been away for all of them.
            listened = time.monotonic() - self._watching_since
            if not may_bury or listened < self._chosen.lease.total_seconds():
                return False
            for name in session.scalars(_TAKE_FOR_DEAD, asked):
                log.warning("hot.decider_taken_for_dead", generation=ending.number, decider=name)
        return self._have_all_left(ending, may_bury=False)

    def _may_go_without(self, ending: Generation) -> bool:
        """Whether what Redis has not told yet was answered to nobody."""
        with transaction() as session:
            is_any_lost = session.execute(_IS_ANY_LOST, {"generation": ending.number}).scalar_one()
        return self._is_away() and not is_any_lost

    def _open_in_redis(self, ending: Generation) -> Generation | None:
        if self._is_unfit():
            return self._open(ending, StoreMode.POSTGRES, None)
        number = ending.number + 1
        # A name that was used before, as by a database that was restored to an older state, is left alone.
        while not hand.is_pristine(self._redis, number, self._chosen.shards):
            number += 1
        hand.prepare(self._redis, number, self._chosen.shards, self._scripts)
        return self._open(ending, StoreMode.REDIS, number)

    def _open(self, ending: Generation, mode: StoreMode, number: int | None) -> Generation | None:
        with transaction() as session:
            # Drains hold these rows while they write: none of them goes on in a generation that is over.
            session.execute(_LOCK_SHARDS, {"generation": ending.number})
            made = store.open_next(
                session, ending.number, mode=mode, shards=self._chosen.shards, reason="turned", number=number
            )
        if made is not None:
            log.warning("hot.opened", generation=made.number, mode=str(made.mode), shards=made.shards)
        return made


__all__ = ["Keeper"]
