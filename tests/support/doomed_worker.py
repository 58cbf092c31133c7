"""`python -m tests.support.doomed_worker [--statements]`: a worker of payments and payouts that is killed.

Reads lines `<step> <task>...`. For each it does what jobs of these tasks there are, as a worker would, and what follows
of them, until none is left: itself if the step is 0, else in a process that dies as by kill -9 at this step. Steps
are just before and after each commit and each request to a provider, and before each statement if asked for. Answers
each line with `killed`, `done` (nothing is left), or `waits` (its jobs can't be done for now).
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import httpx
from sqlalchemy import Engine, event, text

import tasks.fiat_payments
import tasks.fiat_webhook
import tasks.payout  # noqa: F401
from core import db, redis
from tasks.base import TASKS, run_jobs
from tests.support.stepped import at_commits

KILLED, WAITS = 137, 75
ROUNDS = 20
PAUSE_S = 0.05
"""After each. All rounds take longer than a test lets an unknown payment wait."""

steps_left = [0]
hidden = [False]
"""While this process looks for work, which is the broker's part."""


def step(*_: Any) -> None:
    if hidden[0]:
        return
    steps_left[0] -= 1
    if steps_left[0] == 0:
        os._exit(KILLED)


@contextmanager
def out_of_sight() -> Iterator[None]:
    hidden[0] = True
    try:
        yield
    finally:
        hidden[0] = False


def at_requests() -> None:
    ask = httpx.HTTPTransport.handle_request

    def asked(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        step()
        answer = ask(self, request)
        step()
        return answer

    httpx.HTTPTransport.handle_request = asked  # type: ignore[method-assign]


def due(names: Sequence[str]) -> list[tuple[UUID, str]]:
    """All that are queued; nobody waits for their time."""
    with out_of_sight(), db.transaction() as session:
        session.execute(
            text("UPDATE jobs SET run_at = now() WHERE status = 'queued' AND task = ANY(:names)"), {"names": names}
        )
        rows = session.execute(
            text("SELECT id, task FROM jobs WHERE status = 'queued' AND task = ANY(:names) ORDER BY id"),
            {"names": names},
        )
        return [(row.id, row.task) for row in rows]


def work(names: Sequence[str]) -> int:
    for _ in range(ROUNDS):
        left = due(names)
        if not left:
            return 0
        for job_id, name in left:
            run_jobs(TASKS[name], [job_id])
        if due(names):
            time.sleep(PAUSE_S)
    return WAITS


def child(steps: int, names: Sequence[str]) -> None:
    db.engine().dispose(close=False)  # its statements stay compiled, its connections are the parent's
    redis.dispose()
    steps_left[0] = steps
    try:
        code = work(names)
    except BaseException:  # noqa: BLE001  # a child must not go on as its parent
        sys.excepthook(*sys.exc_info())
        code = 1
    os._exit(code)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is logged is no answer
    at_commits(step)
    at_requests()
    if "--statements" in sys.argv:
        event.listen(Engine, "before_cursor_execute", step)
    for line in sys.stdin:
        steps, *names = line.split()
        if steps == "0":
            code = work(names)
        else:
            pid = os.fork()
            if pid == 0:
                child(int(steps), names)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print({0: "done", KILLED: "killed", WAITS: "waits"}.get(code, f"failed with {code}"), file=answers, flush=True)


if __name__ == "__main__":
    main()
