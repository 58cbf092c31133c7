"""Keeps a set of processes running: started in order, restarted when they die, stopped in reverse order."""

import contextlib
import signal
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from local import leftovers
from local.process import Process, Sink, StartError, describe_exit

NAME = "supervisor"
POLL = 0.05
BACKOFF_FIRST = 0.5
BACKOFF_MAX = 30.0
HEALTHY_AFTER = 30.0
"""A child that has run this long is given the first, short backoff again."""


@dataclass
class _Watched:
    process: Process
    wanted: bool = True
    backoff: float = BACKOFF_FIRST
    started: float = field(default_factory=time.monotonic)
    restart_at: float | None = None


class Supervisor:
    """Several processes as one. Starts a batch at a time, tends them in a thread of its own, leaves none behind."""

    def __init__(self, processes: Iterable[Process] = (), *, sink: Sink, pid_file: Path | None = None) -> None:
        """`processes` are started by `start_all`, one after the other; `start` takes batches as they come."""
        self._first = list(processes)
        self._sink = sink
        self._pid_file = pid_file
        self.run = uuid.uuid4().hex
        self._batches: list[list[_Watched]] = []
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._signals = 0

    # A plain counter: a lock taken in a signal handler may be held by the very code the signal interrupted.
    def stopping(self) -> bool:
        """Whether somebody has asked for an end."""
        return self._signals > 0

    def hurried(self) -> bool:
        """Whether they asked twice."""
        return self._signals > 1

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Take Ctrl-C and SIGTERM as the wish to stop in good order; a second one as the wish to stop now."""

        def handle(_number: int, _frame: object) -> None:
            self._signals += 1

        chosen = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [signal.signal(number, handle) for number in chosen]
        try:
            yield
        finally:
            for number, handler in zip(chosen, before, strict=True):
                signal.signal(number, handler)

    def wait(self) -> None:
        """Block until somebody asks for an end."""
        while not self.stopping():
            time.sleep(POLL)

    def start_all(self) -> None:
        for process in self._first:
            self.start(process)

    def start(self, *processes: Process) -> None:
        """Start a batch together, return when each is ready.

        Raises:
            StartError: one is not. All that was started before it still runs, until `stop`.

        """
        batch = [_Watched(process) for process in processes]
        for process in processes:
            if self.stopping():
                raise StartError("stopped while starting")
            process.start(self._sink)
        self.adopt(*batch)
        for process in processes:
            process.wait_ready(give_up=self.stopping)

    def adopt(self, *batch: "_Watched | Process") -> None:
        """Take over processes that somebody else has started."""
        with self._lock:
            self._batches.append([item if isinstance(item, _Watched) else _Watched(item) for item in batch])
            self._record()
            if self._thread is None:
                self._closing = False
                self._thread = threading.Thread(target=self._tend, name=NAME, daemon=True)
                self._thread.start()

    def _all(self) -> list[_Watched]:
        return [watched for batch in self._batches for watched in batch]

    def _find(self, name: str) -> _Watched:
        with self._lock:
            for watched in self._all():
                if watched.process.name == name:
                    return watched
            raise KeyError(f"no process {name}; there are: {', '.join(self.names())}")

    def names(self) -> list[str]:
        return [watched.process.name for watched in self._all()]

    def process(self, name: str) -> Process:
        return self._find(name).process

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process, as an outsider would: if it dies it is restarted."""
        self._find(name).process.signal(number)

    def halt(self, name: str) -> None:
        """Stop one process in good order and leave it stopped."""
        watched = self._find(name)
        with self._lock:  # not while the tender is starting it again
            watched.wanted = False
        watched.process.stop()
        self._record()

    def resume(self, name: str) -> None:
        """Start a halted process again and return when it is ready."""
        watched = self._find(name)
        self._launch(watched)
        watched.wanted = True
        watched.process.wait_ready(give_up=self.stopping)

    def restart(self, name: str) -> None:
        """Stop one process in good order and start it again."""
        self.halt(name)
        self.resume(name)

    def _launch(self, watched: _Watched) -> None:
        watched.started, watched.restart_at = time.monotonic(), None
        watched.process.start(self._sink)
        self._record()

    def _record(self) -> None:
        if self._pid_file is not None:
            with self._lock:
                leftovers.record(self._pid_file, self.run, [watched.process for watched in self._all()])

    def _tend(self) -> None:
        while not self._closing:
            with self._lock:
                watched_now = self._all()
            for watched in watched_now:
                if watched.wanted and not watched.process.alive() and not self._closing:
                    self._bury_or_restart(watched)
            time.sleep(POLL)

    def _bury_or_restart(self, watched: _Watched) -> None:
        now = time.monotonic()
        if watched.restart_at is None:
            outcome = f"{watched.process.name} {describe_exit(watched.process.reap())}"
            if not watched.process.restart:
                watched.wanted = False
                self._sink(NAME, outcome)
                return
            if now - watched.started > HEALTHY_AFTER:
                watched.backoff = BACKOFF_FIRST
            watched.restart_at = now + watched.backoff
            self._sink(NAME, f"{outcome}; starting it again in {watched.backoff:g} s")
            watched.backoff = min(watched.backoff * 2, BACKOFF_MAX)
        elif now >= watched.restart_at:
            with self._lock:
                if not watched.wanted:
                    return
                self._launch(watched)
            self._sink(NAME, f"{watched.process.name} was started again")

    def stop(self) -> None:
        """Stop everything, the last batch first, and kill what does not end in time. Safe to repeat."""
        self._closing = True
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        while self._batches:
            self._stop_batch([watched.process for watched in self._batches.pop()])
            self._record()
        if self._pid_file is not None:
            self._pid_file.unlink(missing_ok=True)

    def _stop_batch(self, batch: Sequence[Process]) -> None:
        def stop(process: Process) -> None:
            if process.alive() and not process.stop(hurry=self.hurried):
                self._sink(NAME, f"{process.name} did not end within {process.stop_timeout:g} s and was killed")
            process.reap()

        if batch:
            with ThreadPoolExecutor(len(batch)) as pool:
                list(pool.map(stop, batch))
