"""Everything the stack runs besides the servers, in one list."""

import importlib
import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from local.process import Process
from local.server import HOST

ROOT = Path(__file__).resolve().parent.parent
WORKER_GRACE = 40.0
"""How long a worker may finish what it has begun. Longer than a lease, shorter than anybody's patience."""


class Group(Protocol):
    """One worker of the fleet: which queues it serves, and how."""

    name: str
    queues: tuple[str, ...]
    pool: str
    concurrency: int


@dataclass(frozen=True)
class Addresses:
    """What the stack decided before anything runs."""

    api_port: int
    flower_port: int
    flower_login: str

    @property
    def api_url(self) -> str:
        return f"http://{HOST}:{self.api_port}"

    @property
    def flower_url(self) -> str:
        return f"http://{HOST}:{self.flower_port}"


class Program(Protocol):
    """What a stack runs. Tests bring a smaller one."""

    def migrate(self, env: Mapping[str, str]) -> Process | None: ...
    def batches(self, addresses: Addresses, env: Mapping[str, str]) -> Iterable[list[Process]]: ...
    def ready(self, addresses: Addresses) -> str | None:
        """None when all of it works together, else what is missing."""
        ...


class Tallyrail:
    """The platform itself."""

    def migrate(self, env: Mapping[str, str]) -> Process:
        return _python("migrate", "cli.main", "migrate", env=env, restart=False)

    def batches(self, addresses: Addresses, env: Mapping[str, str]) -> Iterable[list[Process]]:
        """Batches start one after the other and stop the other way round: workers stop while the API still answers."""
        yield [
            self._api(addresses, env),
            _python("relay", "workers.relay", env=env),
            _python("sync", "workers.sync", env=env),
        ]
        yield [*(self._worker(group, env) for group in fleet()), self._beat(env), self._flower(addresses, env)]

    def _api(self, addresses: Addresses, env: Mapping[str, str]) -> Process:
        arguments = (
            "api.main:app",
            "--host",
            HOST,
            "--port",
            str(addresses.api_port),
            "--no-access-log",
            "--no-server-header",
            "--no-proxy-headers",  # whose word is believed, WEBHOOK_PROXIES says
        )
        return _python("api", "uvicorn", *arguments, env=env, ready=lambda: answers(f"{addresses.api_url}/health"))

    def _worker(self, group: Group, env: Mapping[str, str]) -> Process:
        # The name is unique in this stack only, so the machine's name follows.
        arguments = (
            "-A", "workers.main", "worker", "-Q", ",".join(group.queues), "-n", f"{group.name}@%h",
            "-P", group.pool, "-c", str(group.concurrency), "--loglevel", "INFO",
        )  # fmt: skip
        return _python(f"worker-{group.name}", "celery", *arguments, env=env, stop_timeout=WORKER_GRACE)

    def _beat(self, env: Mapping[str, str]) -> Process:
        return _python(
            "beat", "celery", "-A", "workers.main", "beat", "--scheduler", "schedules.beat:PeriodScheduler", env=env
        )

    def _flower(self, addresses: Addresses, env: Mapping[str, str]) -> Process:
        arguments = ("-A", "workers.main", "flower", f"--address={HOST}", f"--port={addresses.flower_port}")
        # By environment: every user of the machine can read the arguments.
        env = {**env, "FLOWER_BASIC_AUTH": addresses.flower_login}
        # Killed, because asked to end it hangs on its own threads; it keeps nothing.
        return _python("flower", "celery", *arguments, env=env, stop_signal=signal.SIGKILL)

    def ready(self, addresses: Addresses) -> str | None:
        """The API knows: its readiness covers database, Redis, migrations and a heartbeat of each queue."""
        status, body = fetch(f"{addresses.api_url}/ready")
        return None if status == 200 else body  # noqa: PLR2004


def fleet() -> Iterable[Group]:
    """The workers to run. By name: `local` stands beside `workers` and may not import it."""
    return cast("Iterable[Group]", importlib.import_module("workers.fleet").FLEET)


def _python(
    name: str,
    module: str,
    *arguments: str,
    env: Mapping[str, str],
    restart: bool = True,
    ready: Callable[[], bool] | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    stop_timeout: float = 10.0,
) -> Process:
    return Process(
        name,
        [sys.executable, "-m", module, *arguments],
        env,
        restart=restart,
        ready=ready,
        stop_signal=stop_signal,
        stop_timeout=stop_timeout,
        # When the supervisor is killed the servers go too, so there is nothing left to finish with. A worker that
        # tried would linger; killed, it takes its children along, and its leases run out.
        death_signal=signal.SIGKILL,
        cwd=ROOT,
    )


def child_environment(
    given: Mapping[str, str], *, database_url: str, owner_url: str, redis_url: str, rpc_urls: Mapping[str, list[str]]
) -> dict[str, str]:
    """What every child gets: the caller's environment, and where the servers are."""
    return {
        **given,
        "DATABASE_URL": _with_driver(database_url),
        "DATABASE_OWNER_URL": _with_driver(owner_url),
        "REDIS_URL": redis_url,
        **({"RPC_URLS": json.dumps({**json.loads(given.get("RPC_URLS") or "{}"), **rpc_urls})} if rpc_urls else {}),
        "PYTHONUNBUFFERED": "1",
        # An editable install puts our packages behind site-packages, where a foreign `config` would shadow ours.
        "PYTHONPATH": str(ROOT),
    }


def _with_driver(url: str) -> str:
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+psycopg://" + url.removeprefix(scheme)
    return url


def fetch(url: str) -> tuple[int, str]:
    """Status and body, or 0 and the reason why there was no answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy knows this machine's loopback
    try:
        with opener.open(url, timeout=5) as reply:
            return reply.status, reply.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")
    except OSError as error:
        return 0, str(error)


def answers(url: str) -> bool:
    return fetch(url)[0] == 200  # noqa: PLR2004
