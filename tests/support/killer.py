"""`celery -A tests.support.killer`: the real worker, whose processes die at the step that the test asks for.

KILL_FILE holds how many steps of jobs (stepped.py) are left; the process that takes the last one dies as by kill -9,
and the file stays at zero.
"""

import fcntl
import os
import signal

from chains import registry
from chains.base import ChainReader
from core.jobs import current
from tests.support.stepped import at_commits, stepped
from workers.main import app

__all__ = ["app"]


def step() -> None:
    job = current.get()
    if job is None or job.task.endswith("heartbeat"):
        return
    with open(os.environ["KILL_FILE"], "r+") as file:  # noqa: PTH123  # locked and rewritten in place
        fcntl.flock(file, fcntl.LOCK_EX)
        left = int(file.read() or 0)
        if left == 0:
            return
        file.seek(0)
        file.write(f"{left - 1:9}")
    if left == 1:
        os.kill(os.getpid(), signal.SIGKILL)


_get = registry.get


def _get_stepped(chain: str) -> ChainReader:
    return stepped(_get(chain), step)


at_commits(step)
registry.get = _get_stepped  # type: ignore[assignment]
