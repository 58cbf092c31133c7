"""What the embedded servers have in common: a folder, a port they try to keep, a lock, and a life."""

import abc
import fcntl
import os
import secrets
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from local.process import Process, Sink, StartError

HOST = "127.0.0.1"
LOCK_TIMEOUT = 15.0
"""How long to wait for a server that is still shutting down, such as after its starter was killed."""


def free_port(wanted: int | None = None) -> int:
    """`wanted` if nobody listens there, else any free port."""
    for port in (wanted, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise StartError("no free TCP port on the loopback interface")


def secret_file(path: Path) -> str:
    """The secret in this file, made on first use, readable by its owner alone."""
    if not path.exists():
        part = path.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(24))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    return path.read_text().strip()


def quiet(_name: str, _line: str) -> None:
    """A sink for output that nobody reads. The last lines are kept by the process and told if a start fails."""


class Server(abc.ABC):
    """A real server on a loopback TCP port, whose data survives it. Gone when this process is gone."""

    name: str

    def __init__(self, data_dir: Path | str, port: int | None = None) -> None:
        """`port`: this one or an error. Without it: the one used last if free, else any."""
        self.data_dir = Path(data_dir).absolute()
        self.port = port or 0
        self._asked_port = port
        self._lock_fd: int | None = None
        self.process: Process | None = None

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """What clients connect with, credentials included."""

    @abc.abstractmethod
    def _prepare(self) -> None:
        """Make the data folder fit to start on. Runs under the lock."""

    @abc.abstractmethod
    def _process(self, lock_fd: int) -> Process:
        """The program for `self.port`. It must inherit `lock_fd`."""

    def _furnish(self) -> None:  # noqa: B027  # most have nothing to add
        """Runs once the server answers, each time; must be safe to repeat."""

    def start(self, sink: Sink = quiet) -> Self:
        """Start, and return when it serves.

        Raises:
            StartError: in one sentence, why not.

        """
        if self.alive():
            return self
        try:
            self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock()
        except PermissionError as error:
            raise StartError(f"{error.filename} belongs to another user: choose another data folder (--data)") from None
        try:
            self._prepare()
            self._start_on_a_port(sink)
            self._furnish()
        except BaseException:
            self.stop()
            raise
        return self

    def _lock(self) -> None:
        """Hold the folder for as long as any process of the server lives: the server inherits the lock."""
        self._lock_fd = os.open(self.data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        ends = time.monotonic() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > ends:
                    self._unlock()
                    raise StartError(f"another {self.name} server is running on {self.data_dir}") from None
                time.sleep(0.02)
            else:
                return

    def _unlock(self) -> None:
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def _start_on_a_port(self, sink: Sink) -> None:
        assert self._lock_fd is not None
        remembered = self.data_dir / "port"
        wanted = self._asked_port or (int(remembered.read_text()) if remembered.exists() else None)
        attempts = 3
        for attempt in range(attempts):
            self.port = free_port(wanted)
            if self._asked_port and self.port != self._asked_port:
                raise StartError(f"port {self._asked_port}, asked for by {self.name}, is taken")
            self.process = self._process(self._lock_fd)
            self.process.start(sink)
            try:
                self.process.wait_ready()
            except StartError:
                # Somebody may have taken the port between our look and the server's.
                taken = free_port(self.port) != self.port
                self.process.stop()
                if self._asked_port or not taken or attempt == attempts - 1:
                    raise
                wanted = None
            else:
                remembered.write_text(str(self.port))
                return

    def stop(self) -> None:
        """Shut down in good order. Safe to repeat."""
        if self.process is not None:
            self.process.stop()
        self._unlock()

    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
