"""`python -m workers.health NAME`: exits 0 if the queue (or relay, sync, beat) has a fresh heartbeat, for containers.

A heartbeat is a finished job, not an open socket: it proves database, relay, broker and worker at once.
"""

import sys
from datetime import timedelta

from core import db
from domain.health import service as health

STALE_AFTER = timedelta(seconds=60)


def main(names: list[str]) -> int:
    if not names:
        print("usage: python -m workers.health NAME...", file=sys.stderr)  # noqa: T201
        return 2
    with db.transaction() as session:
        stale = health.stale(session, names, after=STALE_AFTER)
    for name in stale:
        print(f"{name}: no heartbeat within {STALE_AFTER.total_seconds():.0f} s", file=sys.stderr)  # noqa: T201
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
