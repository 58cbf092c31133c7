"""A dead letter can be read, mended and replayed, and what was done with it stays known."""

from uuid import UUID

import pytest

from core import db
from core.errors import ConflictError, NotFoundError
from core.ids import new_id
from core.jobs import JobStatus
from domain.dead_letter import service
from tasks.base import TASKS, run_jobs
from tests.support.jobs import Marks, Submit, job


@pytest.fixture
def dead(submit: Submit) -> UUID:
    made = submit("maintenance.probe_typed", deposit_id="no uuid", count=1)
    run_jobs(TASKS["maintenance.probe_typed"], [made])
    assert job(made).current is JobStatus.DEAD
    return made


def test_a_mended_letter_runs_and_the_edit_is_audited(dead: UUID, marks: Marks) -> None:
    mended = {"deposit_id": str(new_id()), "count": 1}
    with db.transaction() as session:
        service.replay(session, dead, actor="ada", reason="typo", args=mended)
    run_jobs(TASKS["maintenance.probe_typed"], [dead])
    assert job(dead).current is JobStatus.SUCCEEDED
    assert sum(marks().values()) == 1
    with db.transaction() as session:
        (action,) = service.actions(session, dead)
    assert (action.actor, action.action, action.reason) == ("ada", "replay", "typo")
    assert action.args_before == {"deposit_id": "no uuid", "count": 1}
    assert action.args_after == mended


def test_replaying_three_times_queues_once(dead: UUID) -> None:
    with db.transaction() as session:
        service.replay(session, dead, actor="ada")
    for _ in range(2):
        with pytest.raises(ConflictError), db.transaction() as session:
            service.replay(session, dead, actor="ada")
    with db.transaction() as session:
        assert len(service.actions(session, dead)) == 1


def test_a_discarded_letter_is_over_and_says_why(dead: UUID) -> None:
    with db.transaction() as session:
        service.discard(session, dead, actor="ada", reason="test data")
    assert job(dead).current is JobStatus.DISCARDED
    with pytest.raises(ConflictError), db.transaction() as session:
        service.replay(session, dead, actor="ada")


def test_letters_are_found_by_what_they_are(dead: UUID) -> None:
    with db.transaction() as session:
        assert [found.id for found in service.find(session, kind="permanent", task="maintenance.probe_typed")] == [dead]
        assert service.find(session, kind="transient") == []
        assert service.find(session, tenant="another") == []
        with pytest.raises(NotFoundError):
            service.replay(session, new_id(), actor="ada")


def test_a_message_that_names_no_job_is_kept_but_cannot_run(database_url: str) -> None:
    with db.transaction() as session:
        service.keep_message(session, task="unreadable", raw="garbage", error={"kind": "permanent"})
        (letter,) = service.find(session)
    with pytest.raises(ConflictError), db.transaction() as session:
        service.replay(session, letter.id, actor="ada")
