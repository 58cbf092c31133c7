"""`celery -A tests.support.killer`: the real worker, which kills itself at the step that the test asks for.

The steps of a job are the moments just before and just after each commit and each reading of the chain. They are
counted across processes in KILL_FILE; at the KILL_AT-th the process dies as by kill -9, and never again after.
"""

import os
import signal
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from chains import registry
from core.jobs import current
from workers.main import app

__all__ = ["app"]

STEPS = Path(os.environ["KILL_FILE"])
KILL_AT = int(os.environ["KILL_AT"])


def step(name: str) -> None:
    job = current.get()
    if job is None or not job.task.startswith("tx_monitor.") or job.task.endswith("heartbeat"):
        return
    with STEPS.open("ab") as file:
        file.write(f"{job.task} {name}\n".encode())
        count = file.tell()
    if len(STEPS.read_bytes()[:count].splitlines()) == KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)


@event.listens_for(Engine, "commit")
def before_commit(_: Connection) -> None:
    step("before commit")


@event.listens_for(Session, "after_commit")
def after_commit(_: Session) -> None:
    step("after commit")


class SteppedReader:
    """A reader whose every call is two steps."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._reader, name)
        if not callable(found):
            return found

        def stepped(*args: Any, **kwargs: Any) -> Any:
            step(f"before {name}")
            answer = found(*args, **kwargs)
            step(f"after {name}")
            return answer

        return stepped


_get = registry.get
registry.get = lambda chain: SteppedReader(_get(chain))  # type: ignore[assignment,return-value]
