"""Processes and servers of the hot store, and what must hold of them whatever was done to them."""

import os
import shutil
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from core import breaks, db
from core.hot import store
from core.hot.store import Generation, StoreMode, StoreState
from local.postgres import Postgres
from local.valkey import Valkey
from tests.support import hot_toy
from tests.support.fleet import Fleet, wait_until


@dataclass
class Lab:
    server: Valkey
    fleet: Fleet
    folder: Path

    def sync(self, name: str = "sync") -> Popen[bytes]:
        return self.fleet.start(name, ["-m", "tests.support.hot_toy", "sync"])

    def loader(self, name: str = "loader", at_once: int = 16) -> Popen[bytes]:
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

    def ids_of(self, name: str) -> list[str]:
        file = self.folder / f"{name}.ids"
        return file.read_text().split() if file.exists() else []

    def await_more_of(self, name: str, more: int = 20) -> None:
        before = len(self.ids_of(name))
        wait_until(lambda: len(self.ids_of(name)) >= before + more)

    def owners(self) -> set[str]:
        """The sync processes that drain the shards."""
        with db.transaction() as session:
            query = "SELECT owner FROM hot_shards JOIN hot_store USING (generation)"
            lanes = session.scalars(text(query)).all()
        return {(lane or "").rpartition(":")[0] for lane in lanes}

    def rows(self) -> list[Any]:
        with db.transaction() as session:
            return list(session.execute(text("SELECT * FROM toy_rows ORDER BY generation, shard, seq")))

    def breaks(self) -> Counter[str]:
        with db.transaction() as session:
            return Counter(breaks.count_open(session))

    def parked(self) -> list[Any]:
        with db.transaction() as session:
            return list(session.scalars(text("SELECT args FROM jobs WHERE task = 'claim_sync.apply_parked'")))

    def check(self) -> None:
        """The promise: what was acknowledged is there once; nothing is there twice (the table's keys see to that, and
        what fails there is parked). Loaders may go on meanwhile.
        """
        acknowledged = self.acknowledged()
        assert acknowledged
        assert len(set(acknowledged)) == len(acknowledged)
        wait_until(lambda: not set(acknowledged) - self.ids(), timeout=15)
        assert self.parked() == []
        found = self.breaks()
        assert found["hot.conflict"] == 0
        with db.transaction() as session:
            late = set(session.scalars(text("SELECT split_part(event, ' ', 2) FROM hot_events"))) - self.ids()
        assert late & set(acknowledged) == set()

    def ids(self) -> set[str]:
        with db.transaction() as session:
            return set(session.scalars(text("SELECT id FROM toy_rows")))

    def orphans_are_unanswered(self) -> bool:
        with db.transaction() as session:
            found = breaks.page(session, kind="hot.orphan", limit=1_000)
        told = {event.split(" ")[1] for each in found for event in each.detail["events"]}
        return not told & (set(self.acknowledged()) - self.ids())

    def settle_down(self, *, pairs: bool = False) -> None:
        """One sync process and one loader, or two of each; Redis there and deciding."""
        if not self.server.alive():
            self.start_redis()
        wanted = ["sync", "loader", *(["sync2", "loader2"] if pairs else [])]
        for name in [each for each in self.fleet.processes if each not in wanted]:
            self.fleet.kill(name)
        for name in wanted:
            if name not in self.fleet.processes:
                (self.loader if name.startswith("loader") else self.sync)(name)
        for name in [each for each in wanted if each.startswith("sync")]:
            # It says so once it can be asked to end.
            wait_until(lambda name=name: f":{self.fleet.processes[name].pid}:" in self.fleet.log(name))  # type: ignore[misc]
        self.await_open()
        for name in [each for each in wanted if each.startswith("loader")]:
            self.await_more_of(name)

    # --- what is done to the server

    def kill_redis(self) -> None:
        assert self.server.process is not None
        assert self.server.process.pid is not None
        os.kill(self.server.process.pid, signal.SIGKILL)
        wait_until(lambda: not self.server.alive())
        self.server.stop()

    def restart_postgres(self, postgres: Postgres) -> None:
        """As by a crash: it ends at once, and finds its way back by its log."""
        assert postgres.process is not None
        postgres.process.signal(signal.SIGQUIT)
        wait_until(lambda: not postgres.alive())
        postgres.stop()
        postgres.start()
        hot_toy.forget()

    def lose_files(self) -> None:
        shutil.rmtree(self.server.data_dir / "files")

    def start_redis(self) -> None:
        self.server.start()
