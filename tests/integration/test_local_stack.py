"""The stack as a whole, on real servers, with a small program in place of the platform."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from local.process import Process, StartError
from local.processes import Addresses, Tallyrail, answers, child_environment
from local.stack import Stack
from tests.integration.test_local_supervisor import eventually, session_of

ROOT = Path(__file__).resolve().parents[2]

UP = """
import sys
from pathlib import Path
from local.up import run
from tests.integration.test_local_stack import Small
sys.exit(run(Path(sys.argv[1]), program=Small()))
"""


class Small:
    """A web server as the API, a sleeper as the worker, and a table as the schema."""

    def __init__(self, migration: str = "CREATE TABLE IF NOT EXISTS migrated ()") -> None:
        self.migration = migration

    def migrate(self, env: Mapping[str, str]) -> Process:
        code = (
            "import os, sys, psycopg\n"
            "url = os.environ['DATABASE_OWNER_URL'].replace('+psycopg', '')\n"
            "with psycopg.connect(url) as connection: connection.execute(sys.argv[1])"
        )
        return Process("migrate", [sys.executable, "-c", code, self.migration], env, restart=False)

    def batches(self, addresses: Addresses, env: Mapping[str, str]) -> Iterable[list[Process]]:
        serve = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", str(ROOT / "docs"), str(addresses.api_port)]
        yield [Process("api", [sys.executable, *serve], env)]
        sleeper = "import os, time; print('redis', os.environ['REDIS_URL'], flush=True); time.sleep(60)"
        yield [Process("worker-small", [sys.executable, "-c", sleeper], env, death_signal=signal.SIGKILL)]

    def ready(self, addresses: Addresses) -> str | None:
        return None if answers(addresses.api_url) else "the API does not answer"


@pytest.fixture(autouse=True)
def _no_servers_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL", "RPC_URLS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests that mind no earlier data: making a database cluster anew costs more than the rest of a test."""
    return tmp_path_factory.mktemp("used")


def up(data: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", UP, str(data)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], part: str) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if part in line:
            return seen
    pytest.fail(f"no {part!r} in:\n{seen}")


def test_a_stack_starts_restarts_what_dies_and_keeps_data_and_addresses(tmp_path: Path) -> None:
    with Stack(tmp_path, dev_chain=True, program=Small(), environ={"PATH": os.environ["PATH"]}) as stack:
        facts = json.loads((tmp_path / "run" / "stack.json").read_text())
        assert (tmp_path / "run" / "stack.json").stat().st_mode & 0o777 == 0o600
        assert facts["api"] == stack.api_url
        assert json.loads(stack.env["RPC_URLS"]) == {"eip155:31337": [stack.rpc_url]}
        assert stack.env["DATABASE_URL"].startswith("postgresql+psycopg://tallyrail_login:")
        assert stack.names() == ["postgres", "valkey", "anvil", "api", "worker-small"]
        with psycopg.connect(stack.env["DATABASE_OWNER_URL"].replace("+psycopg", "")) as connection:
            connection.execute("SELECT * FROM migrated")
        with Redis.from_url(stack.env["REDIS_URL"]) as client:
            client.set("kept", "here")
        for name in ("worker-small", "valkey"):
            pid = stack.process(name).pid
            stack.kill(name)
            assert eventually(lambda name=name, pid=pid: stack.process(name).pid != pid)  # type: ignore[misc]
        first = stack.addresses
    assert f"worker-small       | redis {stack.env['REDIS_URL']}" in (tmp_path / "run" / "stack.log").read_text()
    with Stack(tmp_path, program=Small(), environ={"PATH": os.environ["PATH"]}) as stack:
        assert stack.addresses == first
        with Redis.from_url(stack.env["REDIS_URL"]) as client:
            assert client.get("kept") == b"here"


def test_a_second_stack_on_the_folder_is_refused_in_one_sentence(used: Path) -> None:
    with up(used) as first:
        shown = read_until(first, "stack.json")
        assert "Tallyrail is up" in shown
        assert "login operator:" in shown
        with up(used) as second:
            assert second.stdout is not None
            said = second.stdout.read()
            assert second.wait(timeout=10) == 1
        assert said == (
            f"tallyrail up: another stack is running on {used}: stop it, or choose another data folder (--data)\n"
        )
        first.send_signal(signal.SIGINT)
        read_until(first, "database system is shut down")
        assert first.wait(timeout=15) == 0


def test_a_killed_stack_leaves_nothing_and_starts_again(used: Path) -> None:
    with up(used) as first:
        read_until(first, "stack.json")
        pids = [row["pid"] for row in json.loads((used / "run" / "pids.json").read_text())["processes"]]
        assert len(pids) == 4
        first.kill()
    assert eventually(lambda: [session_of(pid) for pid in pids] == [[]] * 4)
    with Stack(used, program=Small()) as stack:
        assert answers(stack.api_url)


def test_migrations_that_fail_stop_the_start_and_leave_nothing(used: Path) -> None:
    stack = Stack(used, program=Small(migration="CREATE NONSENSE"))
    with pytest.raises(StartError, match="the migrations failed"):
        stack.start()
    assert stack.names() == []
    assert not (used / "run" / "pids.json").exists()


def test_servers_of_ones_own_are_used_and_none_started(tmp_path: Path, used: Path) -> None:
    with Stack(used, program=Small()) as one:
        given = {**os.environ, "DATABASE_URL": one.env["DATABASE_URL"], "REDIS_URL": one.env["REDIS_URL"]}
        given["DATABASE_OWNER_URL"] = one.env["DATABASE_OWNER_URL"]
        with Stack(tmp_path / "two", program=Small(), environ=given) as two:
            assert two.names() == ["api", "worker-small"]
            assert two.env["DATABASE_URL"] == one.env["DATABASE_URL"]
            assert two.env["REDIS_URL"] == one.env["REDIS_URL"]


def test_the_platform_names_each_process_and_hides_what_is_secret() -> None:
    env = child_environment(
        {"RPC_URLS": '{"eip155:1": ["http://own"]}'},
        database_url="postgres://a:b@c/d", owner_url="postgresql+psycopg://o@c/d", redis_url="redis://r",
        rpc_urls={"eip155:31337": ["http://dev"]},
    )  # fmt: skip
    assert env["DATABASE_URL"] == "postgresql+psycopg://a:b@c/d"
    assert env["DATABASE_OWNER_URL"] == "postgresql+psycopg://o@c/d"
    assert json.loads(env["RPC_URLS"]) == {"eip155:1": ["http://own"], "eip155:31337": ["http://dev"]}
    batches = list(Tallyrail().batches(Addresses(1, 2, "operator:secret"), env))
    names = [process.name for batch in batches for process in batch]
    assert names[:3] == ["api", "relay", "sync"]
    assert names[-2:] == ["beat", "flower"]
    assert all(name.startswith("worker-") for name in names[3:-2])
    arguments = [word for batch in batches for process in batch for word in process.argv]
    assert not any("secret" in word or "a:b" in word for word in arguments)
