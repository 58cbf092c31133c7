"""Which worker serves which queue. One Celery parent moves about 1,000 messages a second whatever its pool, so a busy
queue gets more parents, not a larger pool; a queue that waits for the outside world gets more children.
"""

from typing import NamedTuple


class Group(NamedTuple):
    """One Celery parent: `celery -A workers.main worker -Q <queues> -P <pool> -c <concurrency>`."""

    name: str
    queues: tuple[str, ...]
    pool: str
    concurrency: int


FLEET = (
    # Prefork, because a time limit can only end a process, and because a killed child harms no other.
    Group("claims", ("claim_sync",), pool="prefork", concurrency=1),
    Group("chains", ("tx_monitor",), pool="prefork", concurrency=2),
    Group("fiat", ("fiat_webhook",), pool="prefork", concurrency=2),
    Group("payouts", ("payout",), pool="prefork", concurrency=2),
    Group("maintenance", ("maintenance",), pool="prefork", concurrency=1),
)
