"""The relay: the one process that publishes. It reads due jobs from PostgreSQL and rings their workers.

Several may run. It marks rows and publishes inside one transaction: killed between the two, the mark is rolled back
and the jobs are published again, which a lease makes harmless. The broker never holds more than a queue's window, so a
backlog stays in PostgreSQL, where it is safe, seen, and can be bundled many to a message.
"""

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import Any
from uuid import UUID

import structlog
from kombu.exceptions import KombuError
from redis.exceptions import RedisError
from sqlalchemy import Row, text
from sqlalchemy.exc import SQLAlchemyError

from config import logging as log_config
from config import settings
from config.queues import QUEUES
from core import db, jobs, redis
from domain.health import service as health
from tasks.app import app
from workers import sweeper

log = structlog.stdlib.get_logger(__name__)

MESSAGES_AT_ONCE = 8
"""A backlog is spread over this many messages before they grow: small ones keep every worker busy, large ones save
Celery's cost of about a millisecond each."""
HELD_BACK_POLL = 0.01
"""Seconds until a full queue is looked at again."""
HEARTBEAT_EVERY = 5.0

_TAKE_DUE = text(
    f"""
    UPDATE jobs SET published_at = now()
    FROM (
      SELECT due.id FROM unnest(cast(:queues AS text[]), cast(:limits AS int[])) AS open (queue, n)
      CROSS JOIN LATERAL (
        SELECT id FROM jobs
        WHERE queue = open.queue AND status = 'queued' AND published_at IS NULL AND run_at <= now()
        ORDER BY run_at LIMIT open.n FOR UPDATE SKIP LOCKED
      ) AS due
    ) AS taken
    WHERE jobs.id = taken.id
    RETURNING jobs.queue, jobs.task,
      -- A job that may have killed its worker, or that has one attempt left, travels alone: it harms no neighbour, and
      -- no neighbour uses up its attempt.
      coalesce(jobs.last_error ->> 'kind' = 'worker_lost', false) OR jobs.attempts + 1 >= jobs.attempts_max AS alone,
      jobs.run_at, jobs.id, {jobs.ASYNC_COMMIT}
    """  # noqa: S608  # a constant of ours
)


_UNTAKE = text("UPDATE jobs SET published_at = NULL WHERE id = ANY(:ids)")


def bundles(ids: Sequence[UUID], *, batch_max: int, messages: int) -> Iterator[Sequence[UUID]]:
    """One id a message when there is little to do; under a backlog up to batch_max, in this many messages if it can."""
    size = min(batch_max, max(1, -(-len(ids) // max(messages, 1))))
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


class Relay:
    """Publishes due jobs, and sweeps. `run` returns when `stop` was called."""

    def __init__(self) -> None:
        self._stopping = False
        self._pool = app.amqp.producer_pool
        self._failed_at = float("-inf")
        self._narrow: set[str] = set()
        """The queues whose last jobs travelled alone."""

    def stop(self, *_: int | FrameType | None) -> None:
        self._stopping = True

    def run(self) -> None:
        chosen = settings.jobs()
        poll = chosen.relay_poll.total_seconds()
        bell = redis.client(timeout=poll + 1.0)
        next_sweep = next_beat = time.monotonic()
        wait = poll
        log.info("relay.started")
        while not self._stopping:
            try:
                if time.monotonic() >= next_sweep:
                    self._sweep()
                    next_sweep = time.monotonic() + chosen.sweep_every.total_seconds()
                if time.monotonic() >= next_beat:
                    with db.transaction() as session:
                        health.beat(session, "relay")
                    next_beat = time.monotonic() + HEARTBEAT_EVERY
                published, held_back = self.publish_due(limit=chosen.relay_limit)
                if published >= chosen.relay_limit:
                    continue
                # A full queue is looked at often while its workers make room, and less and less while they don't.
                wait = min(HELD_BACK_POLL if published else wait * 2, poll) if held_back else poll
                bell.blpop([jobs.BELL], timeout=wait)
            except (RedisError, KombuError, SQLAlchemyError, OSError) as error:
                # The broker or the database is away. Nothing was published that isn't marked; go on when it is back.
                if isinstance(error, SQLAlchemyError):
                    self._failed_at = time.monotonic()
                log.warning("relay.waiting", error=str(error).splitlines()[0] if str(error) else type(error).__name__)
                time.sleep(0.5)
        log.info("relay.stopped")

    def _sweep(self) -> None:
        try:
            waiting = [name for name, depth in self._depths().items() if depth]
        except RedisError:
            waiting = list(QUEUES)  # nothing could be published anyway; leases are still looked after
        # When we could not reach the database, the workers may not have reached it to renew their leases.
        reclaim = time.monotonic() - self._failed_at > settings.jobs().lease.total_seconds()
        sweeper.sweep(waiting=waiting, reclaim=reclaim)

    def publish_due(self, *, limit: int) -> tuple[int, bool]:
        """One round: how many jobs were published, and whether a full queue held some back."""
        room = {name: QUEUES[name].window - depth for name, depth in self._depths().items()}
        open_queues = {name: messages for name, messages in room.items() if messages > 0}
        held_back = len(open_queues) < len(room)
        if not open_queues:
            return 0, True
        names = list(open_queues)
        # Where jobs travel alone, as many rows as messages fit; elsewhere as many as the messages can carry.
        limits = [
            min(limit, open_queues[name] * (1 if name in self._narrow else QUEUES[name].batch_max)) for name in names
        ]
        with db.engine().begin() as connection:
            due = connection.execute(_TAKE_DUE, {"queues": names, "limits": limits}).all()
            unsent = self._publish(due, open_queues) if due else []
            if unsent:
                connection.execute(_UNTAKE, {"ids": unsent})
        self._narrow = {row.queue for row in due if row.alone}
        return len(due) - len(unsent), held_back or bool(unsent)

    def _depths(self) -> Mapping[str, int]:
        """How many messages the broker holds in each queue."""
        with redis.client().pipeline(transaction=False) as pipe:
            for name in QUEUES:
                pipe.llen(f"{app.conf.broker_transport_options['global_keyprefix']}{name}")
            return dict(zip(QUEUES, pipe.execute(), strict=True))

    def _publish(self, due: Sequence[Row[Any]], room: Mapping[str, int]) -> list[UUID]:
        """Send messages, the longest due task's first, while there is room. Returns the jobs that found none."""
        groups: dict[tuple[str, str, bool], list[UUID]] = {}
        for row in sorted(due, key=lambda row: (row.run_at, row.id)):
            groups.setdefault((row.queue, row.task, row.alone), []).append(row.id)
        left = dict(room)
        unsent: list[UUID] = []
        with self._pool.acquire(block=True, timeout=5) as producer:
            for (queue, task, alone), ids in groups.items():
                batch_max = 1 if alone else QUEUES[queue].batch_max
                for bundle in bundles(ids, batch_max=batch_max, messages=min(MESSAGES_AT_ONCE, left[queue])):
                    if left[queue] == 0:
                        unsent += bundle
                        continue
                    left[queue] -= 1
                    app.send_task(
                        task,
                        args=([str(job_id) for job_id in bundle],),
                        producer=producer,
                        # By the queue alone Celery takes the anonymous exchange, which leads to the list of that name:
                        # no binding that FLUSHALL could take away.
                        queue=queue,
                        declare=(),
                        # Bounded: a broker that is away must not hold the transaction open.
                        retry=False,
                    )
        return unsent


def main() -> None:
    log_config.configure("relay")
    relay = Relay()
    signal.signal(signal.SIGTERM, relay.stop)
    signal.signal(signal.SIGINT, relay.stop)
    relay.run()


if __name__ == "__main__":
    main()
