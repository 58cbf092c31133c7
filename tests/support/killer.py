"""`celery -A tests.support.killer`: the real worker, whose processes die at the step that the test asks for.

The steps of a job are the moments just before and just after each commit and each reading of the chain. KILL_FILE
holds how many are left; the process that takes the last one dies as by kill -9, and the file stays at zero.
"""

import fcntl
import os
import signal
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from chains import registry
from core.jobs import current
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


@event.listens_for(Engine, "commit")
def before_commit(_: Connection) -> None:
    step()


@event.listens_for(Session, "after_commit")
def after_commit(_: Session) -> None:
    step()


class SteppedReader:
    """A reader whose every call is two steps."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        if not callable(found):
            return found

        def stepped(*args: Any, **kwargs: Any) -> Any:
            step()
            answer = found(*args, **kwargs)
            step()
            return answer

        return stepped


_get = registry.get


def _get_stepped(chain: str) -> Any:
    return SteppedReader(_get(chain))


registry.get = _get_stepped  # type: ignore[assignment]
