"""Dead letters are read, mended, replayed at a bounded rate and discarded; nothing happens without --commit."""

import json
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from cli import letters
from core import db
from core.ids import new_id
from core.jobs import JobStatus
from domain.dead_letter import service
from tasks.base import TASKS, run_jobs
from tests.integration.cli.conftest import Bury, Cli
from tests.support import probes
from tests.support.jobs import Marks, job, statuses

TYPED = "maintenance.probe_typed"
assert TYPED in TASKS, probes


def actions(letter: UUID) -> list[tuple[str, str, str | None]]:
    with db.transaction() as session:
        return [(done.action, done.actor, done.reason) for done in service.actions(session, letter)]


def test_a_plan_changes_nothing(cli: Cli, bury: Bury) -> None:
    [letter] = bury()
    for command in (
        ("replay", letter),
        ("replay", "--all"),
        ("replay", letter, "--args", '{"label": "x"}', "--reason", "typo"),
        ("discard", letter, "--reason", "test data"),
    ):
        result = cli("dlq", *command)
        assert "Nothing was done. Add --commit to do it." in result.stdout
        assert str(letter) in result.stdout
    assert job(letter).current is JobStatus.DEAD
    assert job(letter).args == {"label": "0"}
    assert actions(letter) == []


def test_replaying_three_times_queues_once(cli: Cli, bury: Bury, marks: Marks) -> None:
    [letter] = bury()
    assert "1 queued" in cli("dlq", "replay", letter, "--commit", "--reason", "node is back").stdout
    for _ in range(2):
        again = cli("dlq", "replay", letter, "--commit", status=1)
        assert again.stderr == f"tallyrail: nothing to do: {letter}: it is queued, not dead\n"
    assert job(letter).attempts == 0
    run_jobs(TASKS["maintenance.probe"], [letter])
    assert marks() == {"0": 1}
    assert actions(letter) == [("replay", "ada", "node is back")]


def test_a_storm_is_replayed_at_a_bounded_rate(cli: Cli, bury: Bury) -> None:
    bury(2_000)
    bury(3, tenant="other")
    plan = cli("dlq", "replay", "--tenant", "acme", "--rate", "100/s")
    assert "2000" in plan.stdout
    assert "the last 19.99 s after the first" in plan.stdout
    result = cli("dlq", "replay", "--tenant", "acme", "--rate", "100/s", "--commit")
    assert "2000 queued, 0 left alone." in result.stdout
    assert statuses() == {"queued": 2_000, "dead": 3}
    with db.transaction() as session:
        due = session.scalars(text("SELECT run_at FROM jobs WHERE status = 'queued' ORDER BY id")).all()
    assert due == sorted(due), "those that died first begin first"
    # However a second is laid over them, it holds no more than the rate.
    gaps = [later - sooner for sooner, later in zip(due, due[100:], strict=False)]
    assert min(gaps) >= timedelta(seconds=1) - timedelta(milliseconds=1)
    assert due[-1] - due[0] >= timedelta(seconds=19.98)


def test_an_interrupted_replay_is_finished_by_the_same_command(
    cli: Cli, bury: Bury, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters, "CHUNK", 10)
    ids = bury(35)
    replayed = service.replay
    calls = 0

    def killed(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 26:
            raise KeyboardInterrupt
        return replayed(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(service, "replay", killed)
    stopped = cli("dlq", "replay", "--task", "maintenance.probe", "--commit", status=130)
    assert "Stopped: 20 of 35 are done." in stopped.stderr
    assert statuses() == {"queued": 20, "dead": 15}
    cli("dlq", "replay", "--task", "maintenance.probe", "--commit")
    assert statuses() == {"queued": 35}
    assert all(len(actions(letter)) == 1 for letter in ids)


def test_letters_that_somebody_else_took_are_left_and_named(cli: Cli, bury: Bury) -> None:
    first, second = bury(2)
    cli("dlq", "discard", first, "--reason", "test data", "--commit")
    result = cli("dlq", "replay", first, second, "--commit")
    assert "1 queued, 1 left alone." in result.stdout
    assert f"Left alone: {first}: it is discarded, not dead" in result.stderr
    assert actions(first) == [("discard", "ada", "test data")]


def test_filters_choose(cli: Cli, bury: Bury) -> None:
    [wanted] = bury(task=TYPED, kind="permanent", tenant="other")
    bury(3)
    for filters in (("--task", TYPED), ("--kind", "permanent"), ("--tenant", "other")):
        found = json.loads(cli("dlq", "list", *filters, "--json").stdout)["letters"]
        assert [letter["id"] for letter in found] == [str(wanted)]
    assert len(json.loads(cli("dlq", "list", "--since", "1h", "--json").stdout)["letters"]) == 4
    assert json.loads(cli("dlq", "list", "--since", "2999-01-01", "--json").stdout) == {"letters": []}
    assert "narrow the filters" in cli("dlq", "list", "--limit", "2").stderr
    plan = json.loads(cli("dlq", "replay", "--all", "--limit", "2", "--json").stdout)
    assert (len(plan["letters"]), plan["more"], plan["committed"], plan["done"]) == (2, True, False, 0)
    assert "No dead letter fits" in cli("dlq", "replay", "--task", "maintenance.none", "--commit").stdout


def test_edited_arguments_run_and_are_audited(cli: Cli, bury: Bury, marks: Marks) -> None:
    [letter] = bury(task=TYPED, deposit_id="no uuid", count=1)
    after = {"deposit_id": str(new_id()), "count": 1}
    command = ("dlq", "replay", letter, "--args", json.dumps(after), "--reason", "typo", "--actor", "grace")
    plan = cli(*command).stdout
    assert '-  "deposit_id": "no uuid"' in plan
    assert f'+  "deposit_id": "{after["deposit_id"]}"' in plan
    cli(*command, "--commit")
    run_jobs(TASKS[TYPED], [letter])
    assert job(letter).current is JobStatus.SUCCEEDED
    assert marks() == {f"{after['deposit_id']}:1": 1}
    [done] = json.loads(cli("dlq", "show", letter, "--json").stdout)["actions"]
    assert (done["actor"], done["reason"], done["action"]) == ("grace", "typo", "replay")
    assert (done["args_before"], done["args_after"]) == ({"deposit_id": "no uuid", "count": 1}, after)
    assert "edited" in cli("dlq", "show", letter).stdout


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('{"deposit_id": "no uuid", "count": 1}', "deposit_id: Input should be a valid UUID"),
        ('{"count": 1}', "deposit_id: Field required"),
        ('{"deposit_id": "0190163d-8694-739b-aea5-966c26f8ad91", "count": 1, "more": 2}', "more: Extra inputs"),
        ('{"deposit_id": "0190163d-8694-739b-aea5-966c26f8ad91", "count": NaN}', "--args is not JSON"),
        ("{", "--args is not JSON"),
        ("[1]", "--args must be a JSON object"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(cli: Cli, bury: Bury, given: str, told: str) -> None:
    [letter] = bury(task=TYPED, deposit_id="first", count=1)
    result = cli("dlq", "replay", letter, "--args", given, "--reason", "typo", "--commit", status=1)
    assert told in result.stderr
    assert result.stderr.count("\n") == 1
    assert job(letter).current is JobStatus.DEAD
    assert job(letter).args == {"deposit_id": "first", "count": 1}
    assert actions(letter) == []


def test_an_edit_for_an_unknown_task_is_refused(cli: Cli, bury: Bury) -> None:
    [letter] = bury(task="maintenance.gone")
    result = cli("dlq", "replay", letter, "--args", "{}", "--reason", "typo", "--commit", status=1)
    assert result.stderr == "tallyrail: there is no task 'maintenance.gone' in this version\n"


def test_discarding_needs_a_reason_and_is_audited(cli: Cli, bury: Bury) -> None:
    first, second = bury(2)
    cli("dlq", "discard", first, "--commit", status=2)
    cli("dlq", "discard", first, "--reason", " ", "--commit", status=2)
    assert job(first).current is JobStatus.DEAD
    cli("dlq", "discard", "--kind", "transient", "--reason", "test data", "--commit")
    for letter in (first, second):
        assert job(letter).current is JobStatus.DISCARDED
        assert actions(letter) == [("discard", "ada", "test data")]
    assert "test data" in cli("dlq", "show", first).stdout


def test_wrong_usage_is_told_from_wrong_ids(cli: Cli, bury: Bury) -> None:
    [letter] = bury()
    cli("dlq", "replay", status=2)
    cli("dlq", "replay", letter, "--all", status=2)
    cli("dlq", "replay", "no-id", status=2)
    cli("dlq", "replay", "--all", "--rate", "fast", status=2)
    cli("dlq", "replay", "--all", "--args", "{}", "--reason", "typo", status=2)
    cli("dlq", "replay", letter, "--args", "{}", status=2)
    cli("dlq", "list", "--since", "yesterday", status=2)
    unknown = new_id()
    for command in (("show", unknown), ("replay", letter, unknown, "--commit")):
        assert cli("dlq", *command, status=1).stderr == f"tallyrail: there is no job {unknown}\n"
    assert job(letter).current is JobStatus.DEAD


def test_a_message_without_a_job_can_only_be_discarded(cli: Cli, database_url: str) -> None:
    with db.transaction() as session:
        service.keep_message(session, task="", raw="\x1b[31mred", error={"kind": "unreadable", "message": "no ids"})
    [letter] = json.loads(cli("dlq", "list", "--json").stdout)["letters"]
    assert "\x1b" not in cli("dlq", "show", letter["id"]).stdout
    told = cli("dlq", "replay", letter["id"], "--commit", status=1).stderr
    assert "there is nothing to run" in told
    cli("dlq", "discard", letter["id"], "--reason", "noise", "--commit")
