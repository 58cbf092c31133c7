"""Three embedded servers that are a cluster: slots dealt out, met, and agreed."""

import signal
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from redis import Redis
from redis.exceptions import RedisError

from local.server import HOST, free_port
from local.valkey import _program
from tests.support.fleet import wait_until

SLOTS = 16_384


class Cluster:
    def __init__(self, folder: Path, size: int = 3) -> None:
        self.folder = folder
        self.ports = [free_port() for _ in range(size)]
        self._buses = [free_port() for _ in range(size)]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * size

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.ports[0]}/0"

    def start(self, place: int) -> None:
        folder = self.folder / f"node{place}"
        folder.mkdir(exist_ok=True)
        options = {
            "port": self.ports[place], "cluster-port": self._buses[place], "bind": HOST, "dir": folder, "save": "",
            "appendonly": "yes", "cluster-enabled": "yes", "cluster-node-timeout": 1_000, "loglevel": "warning",
        }  # fmt: skip
        with (folder / "log").open("ab") as log:
            arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
            self._processes[place] = subprocess.Popen([str(_program()), *arguments], stdout=log, stderr=log)
        wait_until(lambda: self._answers(place))

    def _answers(self, place: int) -> bool:
        try:
            with self.node(place) as node:
                return bool(node.ping())
        except RedisError:
            return False

    def node(self, place: int) -> Redis:
        return Redis(host=HOST, port=self.ports[place], decode_responses=True)

    def kill(self, place: int) -> None:
        process = self._processes[place]
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        self._processes[place] = None

    def __enter__(self) -> Self:
        size = len(self.ports)
        for place in range(size):
            self.start(place)
        for place in range(size):
            first, last = place * SLOTS // size, (place + 1) * SLOTS // size - 1
            self._tell(place, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for place in range(1, size):
            self._tell(0, "CLUSTER", "MEET", HOST, self.ports[place], self._buses[place])
        wait_until(self.is_whole)
        return self

    def is_whole(self) -> bool:
        return all("cluster_state:ok" in str(self._tell(place, "CLUSTER", "INFO")) for place in range(len(self.ports)))

    def _tell(self, place: int, *words: Any) -> Any:
        with self.node(place) as node:
            raw: Any = node
            found = raw.execute_command(*words)
        # redis-py makes a table of INFO.
        return "\n".join(f"{name}:{value}" for name, value in found.items()) if isinstance(found, dict) else found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place, process in enumerate(self._processes):
            if process is not None:
                self.kill(place)
