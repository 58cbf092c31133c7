"""The queues: one per concern, each a module of tasks. A task's prefix is its queue: `tx_monitor.scan`."""

from datetime import timedelta
from typing import NamedTuple


class Queue(NamedTuple):
    name: str
    batch_max: int
    """Jobs of one task that one message may carry under a backlog. Small where a job waits for the outside world."""
    window: int
    """Messages that may wait in the broker. Backlog beyond stays in PostgreSQL, where it batches and is safe."""
    time_limit: timedelta
    """A message that takes longer has its process killed; its jobs come back by lease."""


QUEUES = {
    queue.name: queue
    for queue in (
        Queue("claim_sync", batch_max=50, window=16, time_limit=timedelta(minutes=5)),
        Queue("tx_monitor", batch_max=50, window=16, time_limit=timedelta(minutes=5)),
        Queue("fiat_webhook", batch_max=20, window=16, time_limit=timedelta(minutes=5)),
        Queue("payout", batch_max=20, window=16, time_limit=timedelta(minutes=5)),
        Queue("maintenance", batch_max=50, window=16, time_limit=timedelta(minutes=30)),
    )
}


def queue_of(task: str) -> Queue | None:
    """The queue that a task's name says, or None if there is no such queue."""
    return QUEUES.get(task.partition(".")[0])
