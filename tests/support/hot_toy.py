"""A toy slice of the hot store, and the processes that tests kill.

    python -m tests.support.hot_toy sync               the real sync process, with the toy as its only slice
    python -m tests.support.hot_toy load FILE COUNT    a decider that decides, and notes in FILE what it acknowledged
    python -m tests.support.hot_toy doomed STRIDE N    sync rounds that die at step after step until N rows are there

Its events add a row each, without any care for duplicates: an event that is applied twice fails, and is seen.
"""

import asyncio
import os
import sys
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import redis.connection
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.orm import Session

from config import logging as log_config
from config.queues import QUEUES, Queue
from core import db
from core.db import transaction
from core.errors import InvariantError, OutcomeUnknownError, TransientError
from core.hot import store
from core.hot.client import client
from core.hot.decider import Decider
from core.hot.events import Event, Refused
from core.hot.keys import shard_of
from core.hot.script import Item, Script
from core.hot.settings import hot
from core.hot.store import StoreMode, StoreState
from workers.sync import Sync

TABLE = """
CREATE TABLE toy_rows (id text PRIMARY KEY, generation bigint NOT NULL, shard int, seq bigint, n bigint NOT NULL,
                       UNIQUE (generation, shard, seq));
GRANT ALL ON toy_rows TO tallyrail_app;
"""
ADD = Script(
    name="toy.add",
    body="""
local function decide(K, A)
  local id = ARGV[A + 1]
  if id == 'broken' then redis.call('INCR', KEYS[K + 1]) end
  local n = redis.call('HINCRBY', KEYS[K + 1], 'n', 1)
  if id == 'look' then return tostring(n) end
  return tostring(n), 'toy.added ' .. id .. ' ' .. n
end
""",
    keys=1,
    args=1,
)
QUEUES.setdefault(
    "claim_sync", Queue("claim_sync", batch_max=50, window=16, time_limit=QUEUES["maintenance"].time_limit)
)


def item(name: str, label: str = "") -> Item:
    return Item(shard_of(name), (f"n:{name}",), (label or uuid4().hex,))


def apply(session: Session, events: Sequence[Event]) -> list[Refused]:
    """Ids that say so are refused, or fail."""
    refused = [Refused(each, "told to") for each in events if each.fields[0].startswith("refused")]
    if any(each.fields[0].startswith("poison") for each in events):
        raise InvariantError("a poisoned event")
    rows = [
        {"id": each.fields[0], "g": each.generation, "shard": each.shard, "seq": each.seq, "n": int(each.fields[1])}
        for each in events
        if not each.fields[0].startswith("refused")
    ]
    if rows:
        session.execute(text("INSERT INTO toy_rows VALUES (:id, :g, :shard, :seq, :n)"), rows)
    return refused


def sync() -> Sync:
    return Sync([ADD], {"toy": apply})


def go_round(runner: Sync) -> None:
    """What `run` does, one after the other in this thread, and without its patience with errors."""
    now = runner._look()
    for lane in runner._lanes:
        lane._drain.follow(now.number if now.mode is StoreMode.REDIS else 0)
        lane._drain.step(block=0.05)


# --- a loader ----------------------------------------------------------------------------------------------------


class Loader:
    """Decides as fast as it may until it is stopped. Each acknowledged id is in the file before anything else."""

    def __init__(self, file: Path) -> None:
        self._file = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._decider = Decider()

    async def run(self, at_once: int) -> None:
        await self._decider.start()
        async with asyncio.TaskGroup() as group:
            for number in range(at_once):
                group.create_task(self._ask_for_ever(f"{number % 16}", patient=number % 2 == 0))

    async def _ask_for_ever(self, name: str, *, patient: bool) -> None:
        while True:
            label = uuid4().hex
            try:
                await self._decider.decide(ADD, item(name, label), patient=patient)
            except OutcomeUnknownError:
                continue
            except TransientError:
                now = self._decider.generation
                if now is None or now.mode is not StoreMode.POSTGRES or not await asyncio.to_thread(self._here, label):
                    await asyncio.sleep(0.005)
                    continue
            os.write(self._file, f"{label}\n".encode())
            await asyncio.sleep(0.002)

    @staticmethod
    def _here(label: str) -> bool:
        """Decided by PostgreSQL."""
        try:
            with transaction() as session:
                generation = store.decide_here(session).number
                row = {"id": label, "generation": generation}
                session.execute(text("INSERT INTO toy_rows VALUES (:id, :generation, NULL, NULL, 0)"), row)
        except Exception:  # noqa: BLE001  # whatever it was, nobody is told that it was done
            return False
        return True


# --- one that dies -----------------------------------------------------------------------------------------------

KILLED = 137
DIES_MAX = 3_000
steps_left = [0]


def step(*_: Any) -> None:
    steps_left[0] -= 1
    if steps_left[0] == 0:
        os._exit(KILLED)


@event.listens_for(Engine, "commit")
def before_commit(_: Connection) -> None:
    step()


@event.listens_for(Session, "after_commit")
def after_commit(_: Session) -> None:
    step()


def step_at_redis() -> None:
    """Before each request and after each answer."""
    kind: Any = redis.connection.AbstractConnection
    send, receive = kind.send_packed_command, kind.read_response

    def send_packed_command(self: Any, *args: Any, **options: Any) -> Any:
        step()
        return send(self, *args, **options)

    def read_response(self: Any, *args: Any, **options: Any) -> Any:
        found = receive(self, *args, **options)
        step()
        return found

    kind.send_packed_command, kind.read_response = send_packed_command, read_response


def is_done(rows: int) -> bool:
    with transaction() as session:
        now = store.current(session)
        found: int = session.scalar(text("SELECT count(*) FROM toy_rows")) or 0
        return found >= rows and now.state is StoreState.OPEN and now.mode is StoreMode.REDIS


def doomed(stride: int, rows: int) -> None:
    """Each child does rounds until all is done, and dies a stride of steps later than the one before it."""
    step_at_redis()
    for died in count():
        assert died < DIES_MAX, "it takes more steps than this was made for"
        pid = os.fork()
        if pid == 0:
            steps_left[0] = (died + 1) * stride
            try:
                runner = sync()
                while not is_done(rows):
                    go_round(runner)
            except BaseException:  # noqa: BLE001  # a child must not go on as its parent
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if code == 0:
            print(died)
            return
        assert code == KILLED, f"a child ended with {code}"


def forget() -> None:
    """Addresses have changed."""
    db.dispose()
    client.cache_clear()
    hot.cache_clear()


def main(what: str, *arguments: str) -> None:
    log_config.configure("sync")
    if what == "sync":
        import signal

        running = sync()
        signal.signal(signal.SIGTERM, running.stop)
        running.run()
    elif what == "load":
        asyncio.run(Loader(Path(arguments[0])).run(int(arguments[1])))
    else:
        doomed(int(arguments[0]), int(arguments[1]))


if __name__ == "__main__":
    main(*sys.argv[1:])
