"""Jobs are listed, shown and cancelled; every id can be copied whatever the width."""

import json
from uuid import UUID

import pytest

from core import db
from core.ids import new_id
from core.jobs import JobStatus, NewJob, submit_many
from tests.integration.cli.conftest import Bury, Cli
from tests.support.jobs import job


def queued(count: int, *, tenant: str = "acme", task: str = "maintenance.probe") -> list[UUID]:
    with db.transaction() as session:
        return submit_many(
            session,
            [NewJob(task, {"label": f"{n}"}, tenant=tenant, subject=f"deposit:{new_id()}") for n in range(count)],
        )


def test_filters_and_pages_find_each_job_once(cli: Cli, bury: Bury) -> None:
    wanted = queued(5)
    queued(2, tenant="other")
    bury(2)
    command = ("jobs", "list", "--tenant", "acme", "--status", "queued", "--limit", "2", "--json")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = json.loads(cli(*command, *(("--cursor", cursor) if cursor else ())).stdout)
        seen += [row["id"] for row in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [str(job_id) for job_id in reversed(wanted)]
    assert "More: --cursor" in cli("jobs", "list", "--limit", "2").stdout
    subject = job(wanted[0]).subject
    [row] = json.loads(cli("jobs", "list", "--subject", subject, "--json").stdout)["jobs"]
    assert row["id"] == str(wanted[0])
    assert "no such jobs" in cli("jobs", "list", "--task", "maintenance.none").stdout
    cli("jobs", "list", "--status", "lost", status=2)


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_ids_are_whole_at_every_width(cli: Cli, bury: Bury, columns: int) -> None:
    ids = queued(2) + bury(2, message="a long story " * 30)
    listed = cli("jobs", "list", columns=columns).stdout
    letters = cli("dlq", "list", columns=columns).stdout
    plan = cli("dlq", "replay", "--all", columns=columns).stdout
    for job_id in ids:
        assert str(job_id) in listed
        assert str(job(job_id).subject) in listed
    for letter in ids[2:]:
        assert str(letter) in letters
        assert str(letter) in plan
    assert "…" not in listed + letters + plan


def test_one_job_is_shown_whole(cli: Cli, bury: Bury) -> None:
    [dead] = bury()
    shown = cli("jobs", "show", dead).stdout
    for part in (
        str(dead),
        "maintenance.probe",
        "20 of 20",
        '"label": "0"',
        "transient: the node is away",
        "Traceback",
    ):
        assert part in shown
    assert json.loads(cli("jobs", "show", dead, "--json").stdout)["last_error"]["kind"] == "transient"
    unknown = new_id()
    assert cli("jobs", "show", unknown, status=1).stderr == f"tallyrail: there is no job {unknown}\n"


def test_only_what_has_not_begun_is_cancelled(cli: Cli, bury: Bury) -> None:
    [waiting], [dead] = queued(1), bury()
    for _ in range(2):
        assert "is cancelled" in cli("jobs", "cancel", waiting).stderr
    assert job(waiting).current is JobStatus.CANCELLED
    told = cli("jobs", "cancel", dead, status=1).stderr
    assert told == f"tallyrail: the job {dead} is dead; only a queued job can be cancelled\n"
    cli("jobs", "cancel", new_id(), status=1)
