"""What goes wrong is one plain sentence on stderr with exit status 1, never a traceback; and help comes at once."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from config import settings
from core import db, jobs, redis
from local.postgres import Postgres
from tests.integration.cli.conftest import Cli

ROOT = Path(__file__).parents[3]


def tallyrail(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Have these settings and no others."""

    def forget() -> None:
        db.dispose()
        redis.dispose()
        settings.reload()

    def use(**wanted: str) -> None:
        for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "REDIS_URL"):
            monkeypatch.delenv(name, raising=False)
        for name, value in wanted.items():
            monkeypatch.setenv(name, value)
        forget()

    yield use
    monkeypatch.undo()
    forget()


def test_without_settings_each_command_says_which_are_missing(cli: Cli, setting: Callable[..., None]) -> None:
    setting()
    for command in (("jobs", "list"), ("health",), ("migrate",), ("ledger", "verify"), ("dlq", "replay", "--all")):
        told = cli(*command, status=1).stderr
        assert told.startswith("tallyrail: DATABASE_URL and REDIS_URL are not set")
        assert told.count("\n") == 1
    setting(REDIS_URL="redis://127.0.0.1:1")
    assert cli("health", status=1).stderr.startswith("tallyrail: DATABASE_URL is not set")


def test_a_wrong_setting_is_named_and_its_value_is_not_repeated(cli: Cli, setting: Callable[..., None]) -> None:
    setting(DATABASE_URL="mysql://me:s3cret@there/x", REDIS_URL="redis://127.0.0.1:1")
    told = cli("jobs", "list", status=1).stderr
    assert told.startswith("tallyrail: DATABASE_URL: ")
    assert "s3cret" not in told
    assert told.count("\n") == 1


def test_a_database_that_is_away_is_one_sentence(cli: Cli, setting: Callable[..., None]) -> None:
    setting(DATABASE_URL="postgresql://me:s3cret@127.0.0.1:1/x", REDIS_URL="redis://127.0.0.1:1")
    for command in (("jobs", "list"), ("health",), ("ledger", "verify"), ("migrate",)):
        result = cli(*command, status=1)
        assert result.stderr.startswith("tallyrail: the database can't be used: ")
        assert "s3cret" not in result.stderr
        assert result.stderr.count("\n") == 1
        assert result.stdout == ""


def test_a_fault_of_ours_is_one_sentence_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr(jobs, "page", broken)
    told = cli("jobs", "list", status=1).stderr
    assert told == "tallyrail: a fault of ours, KeyError: 'x' (set TALLYRAIL_TRACEBACK=1 for more)\n"


def test_redis_away_costs_a_warning_and_no_result(database_url: str, bare: dict[str, str]) -> None:
    """What is written is written; the relay finds it by itself. Nothing strays into what a script reads."""
    env = {**bare, "DATABASE_URL": os.environ["DATABASE_URL"], "REDIS_URL": "redis://127.0.0.1:1"}
    assert tallyrail(env, "tenants", "create", "acme").returncode == 0
    made = tallyrail(env, "keys", "create", "acme", "--json")
    assert json.loads(made.stdout)["tenant"] == "acme"


def test_a_fresh_database_is_migrated(postgres: Postgres, database_url: str, bare: dict[str, str]) -> None:
    with psycopg.connect(postgres.url_of("postgres", "postgres"), autocommit=True) as connection:
        name = f"fresh_{os.getpid()}"
        connection.execute(f"CREATE DATABASE {name} OWNER tallyrail_owner")
        try:
            env = {
                **bare,
                "DATABASE_URL": postgres.url_of("tallyrail_login", name),
                "DATABASE_OWNER_URL": postgres.url_of("tallyrail_owner", name),
                "REDIS_URL": os.environ["REDIS_URL"],
            }
            before = tallyrail(env, "jobs", "list")
            assert before.returncode == 1
            assert "run `tallyrail migrate`" in before.stderr
            first = tallyrail(env, "migrate")
            assert first.returncode == 0, first.stderr
            assert "The schema went from nothing to" in first.stderr
            assert "more assets" in first.stderr
            again = tallyrail(env, "migrate")
            assert "The schema is at" in again.stderr
            assert "The ledger knows every asset of the registry." in again.stderr
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_servers_of_a_running_stack_can_be_named_by_its_folder(
    database_url: str, bare: dict[str, str], tmp_path: Path
) -> None:
    told = tallyrail(bare, "--stack", str(tmp_path), "tenants", "list")
    assert told.returncode == 1
    assert told.stderr.startswith(f"tallyrail: no stack has run on {tmp_path}")
    (tmp_path / "run").mkdir()
    facts = {
        "database": os.environ["DATABASE_URL"],
        "database_owner": os.environ["DATABASE_OWNER_URL"],
        "redis": os.environ["REDIS_URL"],
    }
    (tmp_path / "run" / "stack.json").write_text(json.dumps(facts))
    result = tallyrail(bare, "--stack", str(tmp_path), "tenants", "list")  # also the whole program, as it is started
    assert (result.returncode, result.stdout) == (0, "There are no tenants.\n")


def test_help_comes_at_once_and_loads_nothing_heavy(bare: dict[str, str]) -> None:
    code = (
        "import sys, cli.main\ntry:\n    cli.main.app(['--help'])\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-c", code], env=bare, cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert time.monotonic() - began < 5, "0.2 s on an idle machine"
    assert "dlq" in result.stdout
    loaded = set(result.stderr.split())
    assert loaded.isdisjoint({"sqlalchemy", "celery", "alembic", "web3", "fastapi", "core.jobs", "tasks.base"})


@pytest.mark.parametrize("arguments", [("nothing",), ("jobs", "nothing"), ("jobs", "show"), ("jobs", "show", "no-id")])
def test_wrong_usage_exits_2(cli: Cli, arguments: tuple[str, ...]) -> None:
    cli(*arguments, status=2)


def test_a_stack_that_can_not_start_says_why(bare: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file stands where the folder should")
    result = tallyrail(bare, "up", "--data", str(tmp_path / "data"))
    assert result.returncode == 1
    assert result.stderr.startswith("tallyrail")
    assert str(tmp_path) in result.stderr
    assert result.stderr.count("\n") == 1
