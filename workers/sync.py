"""The sync process: from the hot store into the books, and from one of its generations to the next. docs/hot.md.

`python -m workers.sync`. Several may run: each drains its share of the shards, and one of them keeps the generations.
No Celery worker, as the broker may be the very Redis whose loss this must survive; and no job, as it never ends.
"""

import gc
import importlib
import os
import secrets
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import structlog
from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from config import logging as log_config
from core import db
from core.errors import TransientError
from core.hot import drain
from core.hot.books import Books, NothingAppliesError
from core.hot.client import client
from core.hot.drain import Drain
from core.hot.events import Applier
from core.hot.script import Script
from core.hot.settings import hot as settings
from core.hot.store import Generation, StoreMode
from core.hot.turn import Keeper
from domain.health import service as health

log = structlog.stdlib.get_logger(__name__)

SLICES = ("domain.claim.sync", "domain.bet.sync")
"""Each has SCRIPTS, what it decides by, and `apply`, which writes the events whose kind begins with its name."""
TICK_S = 0.1
HEARTBEAT_EVERY_S = 5.0
PAUSE_S = 0.2
"""After an error."""
PAUSE_BROKEN_S = 5.0
"""After many events failed in a row: a person must look."""

# A process that is stopped, or whose machine vanished, is to hold its locks no longer than it holds anything else.
_LET_GO = text(
    """
    SELECT set_config('idle_session_timeout', :lease, false), set_config('tcp_keepalives_idle', '5', false),
           set_config('tcp_keepalives_interval', '2', false), set_config('tcp_keepalives_count', '3', false)
    """
)


def slices() -> tuple[list[Script], Mapping[str, Applier]]:
    """Scripts and appliers of all slices."""
    scripts: list[Script] = []
    appliers: dict[str, Applier] = {}
    for name in SLICES:
        module = importlib.import_module(name)
        scripts += module.SCRIPTS
        appliers[name.split(".")[1]] = module.apply
    return scripts, appliers


class Lane(threading.Thread):
    """Drains its share of the shards. While PostgreSQL writes for one lane, Python makes ready for another."""

    def __init__(self, drain: Drain) -> None:
        super().__init__(name=drain.owner, daemon=True)
        self.generation = 0
        """To drain from now on, as the keeper has seen it; 0: none."""
        self.failure: Exception | None = None
        """What ended it."""
        self._drain = drain
        self._ending = threading.Event()

    def end(self) -> None:
        """After the batch that is under way."""
        self._ending.set()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                self._step()
            self._release()
        except Exception as error:  # noqa: BLE001  # the process ends with it
            self.failure = error

    def _step(self) -> None:
        try:
            self._drain.follow(self.generation)
            self._drain.step(block=TICK_S)
        except RedisError as error:
            log.warning("sync.without_redis", error=_line(error))
            pause = PAUSE_S
        except (SQLAlchemyError, TransientError) as error:
            log.warning("sync.without_postgresql", error=_line(error))
            pause = PAUSE_S
        except NothingAppliesError as error:
            log.critical("sync.nothing_applies", error=_line(error))
            pause = PAUSE_BROKEN_S
        else:
            return
        self._drain.forget()
        self._ending.wait(pause)

    def _release(self) -> None:
        try:
            self._drain.release()
        except SQLAlchemyError as error:
            log.warning("sync.left_in_silence", error=_line(error))


class Sync:
    """`run` returns when `stop` was called, between two batches."""

    def __init__(self, scripts: Sequence[Script], appliers: Mapping[str, Applier]) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._keeper = Keeper(client(), Books(appliers), scripts)
        lanes = settings().lanes
        self._lanes = [
            Lane(Drain(client(), Books(appliers), owner=f"{self.name}:{number}", lanes=lanes))
            for number in range(lanes)
        ]
        self._stopping = threading.Event()
        self._next_beat = 0.0
        # Its one connection holds the locks that say that we are here, and that we are the keeper.
        self._engine: Engine = db.own_engine(1)
        self._connection: Connection | None = None

    def stop(self, *_: int | FrameType | None) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Raises what a lane ended with, if one did."""
        log.info("sync.started", name=self.name, lanes=len(self._lanes))
        for lane in self._lanes:
            lane.start()
        try:
            while not self._stopping.is_set() and all(lane.is_alive() for lane in self._lanes):
                self._keep()
        finally:
            for lane in self._lanes:
                lane.end()
            for lane in self._lanes:
                lane.join()
            self._disconnect()
            self._engine.dispose()
        for lane in self._lanes:
            if lane.failure is not None:
                raise lane.failure
        log.info("sync.stopped")

    def _keep(self) -> None:
        """One look at the generation, and a pause."""
        pause = TICK_S
        try:
            now = self._look()
            for lane in self._lanes:
                lane.generation = now.number if now.mode is StoreMode.REDIS else 0
        except RedisError as error:
            log.warning("sync.without_redis", error=_line(error))
            pause = PAUSE_S
        except (SQLAlchemyError, TransientError) as error:
            log.warning("sync.without_postgresql", error=_line(error))
            self._disconnect()
            pause = PAUSE_S
        except NothingAppliesError as error:
            log.critical("sync.nothing_applies", error=_line(error))
            pause = PAUSE_BROKEN_S
        self._stopping.wait(pause)

    def _look(self) -> Generation:
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            lease = f"{settings().lease.total_seconds():.3f}s"
            self._connection.execute(_LET_GO, {"lease": lease})
            drain.enter(self._connection)
        now = self._keeper.tick(self._connection)
        if time.monotonic() >= self._next_beat:
            with db.transaction() as session:
                health.beat(session, "sync")
            self._next_beat = time.monotonic() + HEARTBEAT_EVERY_S
        return now

    def _disconnect(self) -> None:
        self._keeper.forget()
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def main() -> None:
    log_config.configure("sync")
    sync = Sync(*slices())
    # Thousands of short-lived objects a batch have the collector look often: not through the imported world as well.
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGTERM, sync.stop)
    signal.signal(signal.SIGINT, sync.stop)
    sync.run()


if __name__ == "__main__":
    main()
