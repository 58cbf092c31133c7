import os
from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import text
from typer.testing import CliRunner, Result

from cli.main import app
from core import db, jobs
from core.jobs import NewJob
from tests.support.jobs import marks, probe_table, submit

__all__ = ["marks", "probe_table", "submit"]

Cli = Callable[..., Result]
Bury = Callable[..., list[UUID]]


@pytest.fixture
def cli(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command on this test's database, and see that it ended as it should."""
    monkeypatch.setenv("USER", "ada")
    monkeypatch.delenv("LOGNAME", raising=False)

    def run(*arguments: object, status: int = 0, columns: int = 200, stdin: str | None = None) -> Result:
        result = CliRunner(env={"COLUMNS": str(columns)}).invoke(app, [str(part) for part in arguments], input=stdin)
        assert result.exit_code == status, f"{arguments}: {result.exit_code}\n{result.output}"
        assert "Traceback" not in result.stderr
        return result

    return run


@pytest.fixture
def bury(database_url: str) -> Bury:
    """Make dead letters, as if all attempts had been used up."""

    def made(
        count: int = 1,
        /,
        *,
        task: str = "maintenance.probe",
        kind: str = "transient",
        tenant: str = "acme",
        message: str = "the node is away",
        **args: object,
    ) -> list[UUID]:
        error = {
            "kind": kind,
            "type": "TransientError",
            "message": message,
            "traceback": "Traceback: ...",
            "at": "then",
        }
        new = [NewJob(task, args or {"label": f"{n}"}, tenant=tenant, subject=f"deposit:{n}") for n in range(count)]
        with db.transaction() as session:
            ids = jobs.submit_many(session, new)
            session.execute(
                text(
                    "UPDATE jobs SET status = 'dead', attempts = attempts_max, finished_at = now(),"
                    " last_error = jsonb_build_object('kind', cast(:kind AS text), 'message', cast(:message AS text),"
                    " 'traceback', cast(:traceback AS text), 'at', cast(:at AS text)) WHERE id = ANY(:ids)"
                ),
                {**error, "ids": ids},
            )
        return ids

    return made


@pytest.fixture
def bare() -> dict[str, str]:
    """The environment without any of our settings."""
    ours = ("DATABASE_", "REDIS_", "JOBS_", "API_", "LOG_", "CHAINS_", "RPC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
