"""The sweeper: rings again for whatever was lost on the way. Runs beside the relay, so that it needs no broker."""

from collections.abc import Collection, Sequence
from typing import Any

import structlog
from sqlalchemy import Row, text

from config import settings
from core import db, jobs

log = structlog.stdlib.get_logger(__name__)

# A worker that is silent for a lease is taken for dead. The attempt was counted when the lease was taken, so a job
# that kills its worker each time ends here, as a dead letter, and not in a loop.
_RECLAIM = text(
    """
    UPDATE jobs SET
      status = CASE WHEN attempts >= attempts_max THEN 'dead' ELSE 'queued' END,
      finished_at = CASE WHEN attempts >= attempts_max THEN now() END,
      published_at = NULL, lease_until = NULL, run_at = greatest(run_at, now()),
      last_error = jsonb_build_object('kind', 'worker_lost', 'type', 'WorkerLost', 'attempt', attempts, 'at', now(),
        'message', format('the worker %s was silent for a lease; it may have been killed', worker))
    WHERE id IN (
      SELECT id FROM jobs WHERE status = 'running' AND lease_until < now()
      ORDER BY lease_until LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    RETURNING id, task, status
    """
)

# Published, and no worker took it: the broker lost it, or a worker did on the way. While messages still wait in the
# queue it is more likely that they wait among them, so those get more patience.
_RING_AGAIN = text(
    """
    UPDATE jobs SET published_at = NULL
    WHERE id IN (
      SELECT id FROM jobs WHERE status = 'queued' AND published_at < now() - :after
        AND (NOT queue = ANY(:waiting) OR published_at < now() - :after * :patience)
      ORDER BY published_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    """
)


PATIENCE = 6

_JUST_BACK = text("SELECT now() < pg_postmaster_start_time() + :lease")


def sweep(*, waiting: Collection[str] = (), reclaim: bool = True) -> int:
    """One bounded round. The rows it touches are due again at once; the relay publishes them. Returns how many.

    `waiting`: the queues in which the broker holds messages. `reclaim=False` leaves expired leases alone, as a
    PostgreSQL that has just started does: their holders may live, and not have been able to say so.
    """
    chosen = settings.jobs()
    reclaimed: Sequence[Row[Any]] = []
    with db.engine().begin() as connection:
        if reclaim and not connection.execute(_JUST_BACK, {"lease": chosen.lease}).scalar_one():
            reclaimed = connection.execute(_RECLAIM, {"limit": chosen.sweep_limit}).all()
        rung = connection.execute(
            _RING_AGAIN,
            {
                "after": chosen.ring_again_after,
                "limit": chosen.sweep_limit,
                "waiting": list(waiting),
                "patience": PATIENCE,
            },
        ).rowcount
    for row in reclaimed:
        log.warning("job.reclaimed", job_id=str(row.id), task=row.task, status=row.status)
    if rung:
        log.info("jobs.rung_again", count=rung)
    if reclaimed or rung:
        jobs.ring()
    return len(reclaimed) + rung
