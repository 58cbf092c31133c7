"""Processes and servers of the hot store, and what must hold of them whatever was done to them."""

import os
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core import breaks, db
from core.hot import store
from core.hot.client import client
from core.hot.keys import STREAM, key
from core.hot.store import Generation, StoreMode, StoreState
from local.valkey import Valkey
from tests.support.fleet import Fleet, wait_until


@dataclass
class Lab:
    server: Valkey
    fleet: Fleet
    folder: Path

    def sync(self, name: str = "sync") -> Popen[bytes]:
        return self.fleet.start(name, ["-m", "tests.support.hot_toy", "sync"])

    def loader(self, name: str = "loader", at_once: int = 12) -> Popen[bytes]:
        return self.fleet.start(
            name, ["-m", "tests.support.hot_toy", "load", str(self.folder / f"{name}.ids"), str(at_once)]
        )

    def freeze(self, name: str) -> None:
        self.fleet.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.fleet.processes[name].send_signal(signal.SIGCONT)

    # --- what is so

    def now(self) -> Generation:
        with db.transaction() as session:
            return store.current(session)

    def is_open(self, mode: StoreMode = StoreMode.REDIS, *, after: int = 1) -> bool:
        try:
            now = self.now()
        except SQLAlchemyError:
            return False
        return now.state is StoreState.OPEN and now.mode is mode and now.number > after

    def await_open(self, mode: StoreMode = StoreMode.REDIS, *, after: int = 1) -> int:
        wait_until(lambda: self.is_open(mode, after=after))
        return self.now().number

    def acknowledged(self) -> list[str]:
        return [line for file in self.folder.glob("*.ids") for line in file.read_text().split("\n") if len(line) == 32]

    def await_more(self, more: int = 50) -> None:
        """Decisions are acknowledged (again)."""
        before = len(self.acknowledged())
        wait_until(lambda: len(self.acknowledged()) >= before + more)

    def rows(self) -> list[Any]:
        with db.transaction() as session:
            return list(session.execute(text("SELECT * FROM toy_rows ORDER BY generation, shard, seq")))

    def breaks(self) -> Counter[str]:
        with db.transaction() as session:
            return Counter(breaks.count_open(session))

    def parked(self) -> list[Any]:
        with db.transaction() as session:
            return list(session.scalars(text("SELECT args FROM jobs WHERE task = 'claim_sync.apply_parked'")))

    def is_drained(self) -> bool:
        """The store is open, and its streams are empty."""
        try:
            now = self.now()
            if now.state is not StoreState.OPEN:
                return False
            if now.mode is StoreMode.POSTGRES:
                return True
            return not any(client().xlen(key(now.number, shard, STREAM)) for shard in range(now.shards))
        except (RedisError, SQLAlchemyError):
            return False

    def check(self) -> None:
        """The promise: what was acknowledged is there once, and nothing is there twice. Loaders have been stopped."""
        wait_until(self.is_drained)
        acknowledged = self.acknowledged()
        there = Counter(row.id for row in self.rows())
        assert acknowledged
        assert len(set(acknowledged)) == len(acknowledged)
        assert [each for each in acknowledged if there[each] != 1] == []
        assert set(there.values()) == {1}
        assert self.parked() == []
        found = self.breaks()
        assert found["hot.conflict"] == 0

    # --- what is done to the server

    def kill_redis(self) -> None:
        assert self.server.process is not None
        assert self.server.process.pid is not None
        os.kill(self.server.process.pid, signal.SIGKILL)
        wait_until(lambda: not self.server.alive())
        self.server.stop()

    def lose_files(self) -> None:
        shutil.rmtree(self.server.data_dir / "files")

    def start_redis(self) -> None:
        self.server.start()
