"""Real processes of ours, started and killed by tests."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent.parent

FAST = {
    # The same code at a test's pace.
    "JOBS_LEASE": "2",
    "JOBS_RING_AGAIN_AFTER": "1",
    "JOBS_SWEEP_EVERY": "0.2",
    "JOBS_BACKOFF_BASE": "0.05",
    "LOG_FORMAT": "console",
}


def wait_until(what: Callable[[], object], *, timeout: float = 30.0, every: float = 0.02) -> None:
    """Wait until it is true. Fails the test, saying what was last seen, when it takes too long."""
    ends = time.monotonic() + timeout
    while not (seen := what()):
        if time.monotonic() > ends:
            raise AssertionError(f"not within {timeout} s; last seen: {seen!r}")
        time.sleep(every)


class Fleet:
    """Starts processes with this process's environment, at a test's pace; their output is in one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self.processes):
            self.kill(name)
        for log in sorted(self.folder.glob("*.log")):  # pytest shows it where the test failed
            print(f"--- {log.name}\n{log.read_text(errors='replace')[-6_000:]}")

    def start(self, name: str, arguments: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=os.environ | FAST | {"PYTHONPATH": str(ROOT)} | self.environment | environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.processes[name] = made
        return made

    def relay(self, name: str = "relay", **environment: str) -> subprocess.Popen[bytes]:
        return self.start(name, ["-m", "workers.relay"], **environment)

    def worker(
        self,
        name: str = "worker",
        *,
        queues: str = "maintenance",
        concurrency: int = 2,
        pool: str = "prefork",
        app: str = "tests.support.worker",
        **environment: str,
    ) -> subprocess.Popen[bytes]:
        """A Celery worker that also knows the tasks of tests.support.probes. Returns when it takes messages."""
        made = self.start(
            name,
            ["-m", "celery", "-A", app, "worker", "-Q", queues, "-n", f"{name}@test", "-P", pool,
             "-c", str(concurrency), "--loglevel", "INFO", "--without-mingle", "--without-gossip"],
            **environment,
        )  # fmt: skip
        wait_until(lambda: f"{name}@test ready" in self.log(name) or made.poll() is not None)
        assert made.poll() is None, self.log(name)
        return made

    def beat(self, name: str = "beat", **environment: str) -> subprocess.Popen[bytes]:
        return self.start(
            name,
            ["-m", "celery", "-A", "workers.main", "beat", "--scheduler", "schedules.beat:PeriodScheduler",
             "--pidfile="],
            **environment,
        )  # fmt: skip

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL, *, timeout: float = 30.0) -> int:
        """Send the signal to the process (not to its children), and wait for its end. Returns its exit status."""
        process = self.processes.pop(name)
        if process.poll() is None:
            process.send_signal(how)
        return process.wait(timeout)
