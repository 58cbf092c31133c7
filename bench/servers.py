"""Servers and processes for a benchmark: the embedded ones, with the durability they have everywhere else."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from local.postgres import Postgres
from local.valkey import Valkey

# Standard output is for figures: what our code says as it works stays out of it.
structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("warning"))

ROOT = Path(__file__).parent.parent


@contextmanager
def servers() -> Iterator[dict[str, str]]:
    """Fresh PostgreSQL and Valkey with migrations applied; this process's environment points to them."""
    with tempfile.TemporaryDirectory(prefix="tallyrail-bench-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        with Postgres(Path(folder) / "postgres") as postgres, Valkey(Path(folder) / "valkey") as valkey:
            environment = {
                "DATABASE_URL": postgres.url,
                "DATABASE_OWNER_URL": postgres.owner_url,
                "REDIS_URL": valkey.url,
                "LOG_LEVEL": "WARNING",
                # Deposits are taken for chains that are watched; no benchmark asks this node anything.
                "RPC_URLS": '{"eip155:1": ["http://127.0.0.1:1"]}',
                "API_RATE_LIMIT": "100000/second",
                "PYTHONPATH": str(ROOT),
            }
            os.environ.update(environment)
            run(["-m", "cli.main", "migrate"])
            yield environment


def run(arguments: Sequence[str]) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def process(arguments: Sequence[str], *, stop_timeout: float = 20.0) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours with this environment, stopped in good order."""
    made = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
    try:
        yield made
    finally:
        made.terminate()
        try:
            made.wait(stop_timeout)
        except subprocess.TimeoutExpired:
            made.kill()
            made.wait()


def worker(app: str, queues: str, *, concurrency: int, pool: str = "prefork") -> Sequence[str]:
    """The same pool and number of processes for whichever application."""
    return ["-m", "celery", "-A", app, "worker", "-Q", queues, "-P", pool, "-c", str(concurrency),
            "--loglevel", "WARNING", "--without-mingle", "--without-gossip"]  # fmt: skip


def wait_until(what: Callable[[], bool], *, timeout: float = 300.0, every: float = 0.02) -> None:
    ends = time.monotonic() + timeout
    while not what():
        if time.monotonic() > ends:
            raise TimeoutError(f"the benchmark did not get there within {timeout:.0f} s")
        time.sleep(every)
