"""The whole platform on one machine, from nothing but a folder."""

import contextlib
import fcntl
import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from local import leftovers
from local.anvil import Anvil
from local.logs import LogFile
from local.postgres import Postgres
from local.process import Process, Sink, StartError
from local.processes import Addresses, Program, Tallyrail, child_environment
from local.server import Server, free_port, secret_file
from local.supervisor import NAME, Supervisor
from local.valkey import Valkey

DEV_CHAIN_FILE = Path(__file__).with_name("dev-chain.toml")
READY_TIMEOUT = 90.0
MIGRATE_TIMEOUT = 300.0


class Stack:
    """Servers, migrations and processes as one. Without a sink, what they say goes to `run/stack.log` in the folder."""

    def __init__(
        self,
        data_dir: Path | str,
        *,
        api_port: int | None = None,
        dev_chain: bool = False,
        sink: Sink | None = None,
        program: Program | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` (default: ours) may name servers in DATABASE_URL and REDIS_URL; those are used, not started."""
        self.data_dir = Path(data_dir).absolute()
        self._run_dir = self.data_dir / "run"
        self._asked_api_port = api_port
        self._dev_chain = dev_chain
        self._sink = sink
        self._log: LogFile | None = None
        self._program = program or Tallyrail()
        self._given = dict(os.environ if environ is None else environ)
        self._lock_fd: int | None = None
        self._servers: list[Server] = []
        self._environment: dict[str, str] = {}
        self.anvil: Anvil | None = None
        self.addresses = Addresses(0, 0, "")
        self.supervisor = Supervisor(sink=self.say, pid_file=self._run_dir / "pids.json")

    def say(self, name: str, line: str) -> None:
        if self._sink is not None:
            self._sink(name, line)
        elif self._log is not None:
            self._log(name, line)

    @property
    def api_url(self) -> str:
        return self.addresses.api_url

    @property
    def flower_url(self) -> str:
        return self.addresses.flower_url

    @property
    def rpc_url(self) -> str | None:
        return self.anvil.url if self.anvil else None

    @property
    def env(self) -> dict[str, str]:
        """The environment our programs need to work on this stack, such as the command line's."""
        return dict(self._environment)

    def start(self) -> Self:
        """Start everything, and return when it works together.

        Raises:
            StartError: in one sentence, why not. Nothing is left running then.

        """
        try:
            self._lock()
            if self._sink is None:
                self._log = LogFile(self._run_dir / "stack.log")
            leftovers.clear(self._run_dir / "pids.json", lambda line: self.say(NAME, line))
            self._start_servers()
            self._migrate()
            for batch in self._program.batches(self.addresses, self._environment):
                self.supervisor.start(*batch)
            self._wait_ready()
            self._write_facts()
        except BaseException:
            self.stop()
            raise
        return self

    def _lock(self) -> None:
        """One stack a folder. Not inherited by children: what they leave behind, the next start may clear away."""
        try:
            self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock_fd = os.open(self._run_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except PermissionError as error:
            raise StartError(f"{error.filename} belongs to another user: choose another data folder (--data)") from None
        except (FileExistsError, NotADirectoryError) as error:
            raise StartError(f"{error.filename} is not a folder") from None
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_fd)
            self._lock_fd = None
            raise StartError(
                f"another stack is running on {self.data_dir}: stop it, or choose another data folder (--data)"
            ) from None

    def _serve(self, server: Server) -> None:
        self._give_up_if_asked()
        server.start(self.say)
        self._servers.append(server)
        assert server.process is not None
        self.supervisor.adopt(server.process)

    def _give_up_if_asked(self) -> None:
        if self.supervisor.stopping():
            raise StartError("stopped while starting")

    def _start_servers(self) -> None:
        database_url, owner_url = self._given.get("DATABASE_URL"), self._given.get("DATABASE_OWNER_URL")
        redis_url = self._given.get("REDIS_URL")
        if not database_url:
            postgres = Postgres(self.data_dir / "postgres")
            self._serve(postgres)
            database_url, owner_url = postgres.url, postgres.owner_url
        if not redis_url:
            valkey = Valkey(self.data_dir / "valkey")
            self._serve(valkey)
            redis_url = valkey.url
        rpc_urls = {}
        given = {**self._kept_keys(), **self._given, leftovers.RUN_VARIABLE: self.supervisor.run}
        if self._dev_chain:
            given = {"CHAINS_FILE": str(DEV_CHAIN_FILE), **given}
            self.anvil = Anvil(self.data_dir / "anvil")
            self._serve(self.anvil)
            rpc_urls = {f"eip155:{self.anvil.chain_id}": [self.anvil.url]}
        self.addresses = self._choose_addresses()
        self._environment = child_environment(
            given,
            database_url=database_url,
            owner_url=owner_url or database_url,
            redis_url=redis_url,
            rpc_urls=rpc_urls,
        )

    def _kept_keys(self) -> dict[str, str]:
        """Keys that stay with the data: without them no seed of the last run is drawn from and no destination paid."""

        def key(name: str) -> str:
            return hashlib.sha256(secret_file(self.data_dir / name).encode()).hexdigest()

        return {
            "FAIRNESS_KEYS": json.dumps([key("fairness.secret")]),
            "VAULT_KEYS": json.dumps([key("vault.secret")]),
            "VAULT_FINGERPRINT_KEY": key("fingerprint.secret"),
        }

    def _choose_addresses(self) -> Addresses:
        """The ports of the last time where they are free, so that bookmarks and clients stay right."""
        last = self._read_facts().get("ports", {})
        api_port = free_port(self._asked_api_port or last.get("api"))
        if self._asked_api_port and api_port != self._asked_api_port:
            raise StartError(f"port {self._asked_api_port} is taken: choose another (--port)")
        flower_port = free_port(last.get("flower"))
        while flower_port == api_port:
            flower_port = free_port()
        return Addresses(api_port, flower_port, f"operator:{secret_file(self._run_dir / 'flower.password')}")

    def _migrate(self) -> None:
        process = self._program.migrate(self._environment)
        if process is None:
            return
        process.start(self.say)
        ends = time.monotonic() + MIGRATE_TIMEOUT
        try:
            while process.alive():
                self._give_up_if_asked()
                if time.monotonic() > ends:
                    raise StartError(f"the migrations took longer than {MIGRATE_TIMEOUT:.0f} s: {process.last_words()}")
                time.sleep(0.02)
        finally:
            process.stop()
        if process.reap() != 0:
            raise StartError(f"the migrations failed: {process.last_words()}")

    def _wait_ready(self) -> None:
        ends = time.monotonic() + READY_TIMEOUT
        while (missing := self._program.ready(self.addresses)) is not None:
            self._give_up_if_asked()
            if time.monotonic() > ends:
                raise StartError(f"not ready after {READY_TIMEOUT:.0f} s: {missing}")
            time.sleep(0.1)

    def wait_ready(self) -> None:
        """Return when all of it works together again, such as after a kill."""
        self._wait_ready()

    def _facts_file(self) -> Path:
        return self._run_dir / "stack.json"

    def _read_facts(self) -> dict[str, dict[str, int]]:
        with contextlib.suppress(OSError, ValueError):
            facts = json.loads(self._facts_file().read_text())
            if isinstance(facts, dict):
                return facts
        return {}

    def facts(self) -> dict[str, object]:
        """Addresses and credentials, for people and for other programs of the same user."""
        return {
            "ports": {"api": self.addresses.api_port, "flower": self.addresses.flower_port},
            "api": self.api_url,
            "docs": f"{self.api_url}/docs",
            "flower": self.flower_url,
            "flower_login": self.addresses.flower_login,
            "database": self._environment["DATABASE_URL"],
            "database_owner": self._environment["DATABASE_OWNER_URL"],
            "redis": self._environment["REDIS_URL"],
            "rpc": self.rpc_url,
            "chains_file": self._environment.get("CHAINS_FILE"),
            "rpc_urls": self._environment.get("RPC_URLS"),
            "fairness_keys": self._environment["FAIRNESS_KEYS"],
            "vault_keys": self._environment["VAULT_KEYS"],
            "vault_fingerprint_key": self._environment["VAULT_FINGERPRINT_KEY"],
        }

    def _write_facts(self) -> None:
        part = self._facts_file().with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(self.facts(), file, indent=2)
        part.replace(self._facts_file())

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to one process; the supervisor starts it again if it dies of it."""
        self.supervisor.kill(name, number)

    def halt(self, name: str) -> None:
        """Stop one process and leave it stopped."""
        self.supervisor.halt(name)

    def resume(self, name: str) -> None:
        """Start a halted process."""
        self.supervisor.resume(name)

    def restart(self, name: str) -> None:
        """Stop one process in good order and start it again."""
        self.supervisor.restart(name)

    def process(self, name: str) -> Process:
        return self.supervisor.process(name)

    def names(self) -> list[str]:
        return self.supervisor.names()

    def stop(self) -> None:
        """Stop everything in reverse order. Safe to repeat."""
        self.supervisor.stop()
        for server in reversed(self._servers):
            server.stop()
        self._servers.clear()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
