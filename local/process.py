"""One child process: started so that it can't be left behind, read line by line, stopped with a grace time."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

LAUNCH = Path(__file__).with_name("launch.py")


Sink = Callable[[str, str], None]
"""Takes (process name, line)."""


class StartError(Exception):
    """Something could not be started. Its text is one sentence for the person at the terminal."""


class _Spawner:
    """Forks every child from one thread that lives as long as this process.

    The kernel sends the parent-death signal when the *thread* that forked ends: a child started from a short-lived
    thread would be killed with it.
    """

    def __init__(self) -> None:
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._pid = 0

    def _serve(self) -> None:
        while True:
            self._requests.get()()

    def popen(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._pid != os.getpid():  # first use, or a fork that did not take the thread along
                self._pid = os.getpid()
                self._requests = queue.SimpleQueue()
                threading.Thread(target=self._serve, name="spawner", daemon=True).start()
        answer: queue.SimpleQueue[subprocess.Popen[bytes] | BaseException] = queue.SimpleQueue()

        def request() -> None:
            try:
                answer.put(start())
            except BaseException as error:  # noqa: BLE001  # handed to whoever asked
                answer.put(error)

        self._requests.put(request)
        result = answer.get()
        if isinstance(result, BaseException):
            raise result
        return result


_spawner = _Spawner()


def launcher(*, death_signal: int, options: Sequence[str] = ()) -> list[str]:
    """What to put before a command so that it dies with this process."""
    return [
        sys.executable, "-I", "-S", str(LAUNCH), "--parent", str(os.getpid()), "--signal", str(int(death_signal)),
        *options, "--",
    ]  # fmt: skip


class Process:
    """A program that is started, read, and stopped together with all it started itself."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        restart: bool = True,
        ready: Callable[[], bool] | None = None,
        ready_timeout: float = 60.0,
        stop_signal: signal.Signals = signal.SIGTERM,
        stop_timeout: float = 10.0,
        death_signal: signal.Signals | None = None,
        launch_options: Sequence[str] = (),
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        """`death_signal` is what the kernel sends when we are killed; default: the stop signal."""
        self.name = name
        self.argv = list(argv)
        self.env = None if env is None else dict(env)
        self.restart = restart
        self.ready = ready
        self.ready_timeout = ready_timeout
        self.stop_signal = stop_signal
        self.stop_timeout = stop_timeout
        self.death_signal = death_signal or stop_signal
        self.launch_options = list(launch_options)
        self.cwd = cwd
        self.pass_fds = tuple(pass_fds)
        self.tail: deque[str] = deque(maxlen=50)
        self._popen: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        return self._popen.pid if self._popen else None

    def start(self, sink: Sink) -> None:
        """Start it. Its output goes to `sink` a line at a time. A program already running is left alone."""
        with self._lock:
            if self.alive():
                return
            self.tail.clear()
            argv = [*launcher(death_signal=self.death_signal, options=self.launch_options), *self.argv]
            self._popen = _spawner.popen(
                lambda: subprocess.Popen(
                    argv,
                    env=self.env,
                    cwd=self.cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    # Its own group: Ctrl-C at the terminal reaches us alone, and we stop things in order.
                    start_new_session=True,
                    pass_fds=self.pass_fds,
                )
            )
            assert self._popen.stdout is not None
            self._reader = threading.Thread(
                target=self._read, args=(self._popen.stdout, sink), name=f"log {self.name}", daemon=True
            )
            self._reader.start()

    def _read(self, stream: IO[bytes], sink: Sink) -> None:
        with stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip()
                self.tail.append(line)
                sink(self.name, line)

    def alive(self) -> bool:
        """Whether it runs. Doesn't reap it, so that its process group stays its own until `reap`."""
        popen = self._popen
        if popen is None or popen.returncode is not None:
            return False
        try:
            return os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def signal(self, number: int) -> None:
        """Send a signal to the program itself, not to what it started."""
        with self._lock:
            if self.alive() and self.pid:
                os.kill(self.pid, number)

    def reap(self) -> int | None:
        """Kill what a dead program left running in its group, and return its exit status."""
        with self._lock:
            if self._popen is None:
                return None
            if self._popen.returncode is None:
                # The unreaped leader keeps the group's number from being given to strangers.
                self._kill_group()
                self._popen.wait()
                if self._reader is not None:
                    self._reader.join(timeout=1.0)
            return self._popen.returncode

    def _kill_group(self) -> None:
        assert self._popen is not None
        # PermissionError is what macOS says of a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def stop(self, timeout: float | None = None, *, hurry: Callable[[], bool] = lambda: False) -> bool:
        """Ask it to end, wait, then kill it and its group. True if it ended by itself in time."""
        with self._lock:
            self.signal(self.stop_signal)
            ends = time.monotonic() + (self.stop_timeout if timeout is None else timeout)
            while self.alive() and time.monotonic() < ends and not hurry():
                time.sleep(0.01)
            ended = not self.alive()
            self.reap()
            return ended

    def wait_ready(self, *, give_up: Callable[[], bool] = lambda: False) -> None:
        """Return when it serves.

        Raises:
            StartError: it died, was too slow, or `give_up` said to stop waiting.

        """
        ends = time.monotonic() + self.ready_timeout
        while True:
            if not self.alive():
                raise StartError(f"{self.name} did not start: {self.last_words()}")
            if self.ready is None or self.ready():
                return
            if give_up():
                raise StartError("stopped while starting")
            if time.monotonic() > ends:
                raise StartError(f"{self.name} was not ready within {self.ready_timeout:.0f} s: {self.last_words()}")
            time.sleep(0.02)

    def last_words(self) -> str:
        """The last line it wrote, which mostly says what is wrong."""
        if not self.alive() and self._reader is not None:
            self._reader.join(timeout=1.0)
        return next((line for line in reversed(self.tail) if line.strip()), "it wrote nothing")


def describe_exit(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "is gone"
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"
