"""What `@task` promises, without a broker: the runner is called as Celery would call it."""

import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

import tests.support.probes  # noqa: F401
from config import settings
from core import db, jobs, redis
from core.errors import InvalidRequestError
from core.jobs import JobStatus, LeaseLostError, NewJob
from tasks.base import TASKS, run_jobs
from tasks.leases import Batch
from tests.support.jobs import Marks, Submit, job
from workers import sweeper


def run(task: str, ids: Sequence[UUID]) -> None:
    run_jobs(TASKS[task], ids)


def make_due() -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET run_at = now() WHERE status = 'queued'"))


def expire_leases() -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET lease_until = now() - interval '1 s' WHERE status = 'running'"))


def test_a_job_and_its_effect_are_one_commit(submit: Submit, marks: Marks) -> None:
    made = submit("maintenance.probe", label="a")
    run("maintenance.probe", [made])
    assert job(made).current is JobStatus.SUCCEEDED
    assert marks() == {"a": 1}


def test_the_same_message_again_does_nothing(submit: Submit, marks: Marks) -> None:
    made = submit("maintenance.probe", label="a")
    for _ in range(3):
        run("maintenance.probe", [made, made])
    assert marks() == {"a": 1}
    assert job(made).attempts == 1


def test_one_bad_job_harms_no_neighbour(submit: Submit, marks: Marks) -> None:
    good = [submit("maintenance.probe_fail", label="good", error="bug", until_attempt=1) for _ in range(3)]
    bad = submit("maintenance.probe_fail", label="bad", error="permanent")
    run("maintenance.probe_fail", [good[0], bad, *good[1:]])
    assert [job(one).status for one in good] == ["succeeded"] * 3
    assert job(bad).current is JobStatus.DEAD
    assert marks() == {"good": 3}


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        ("transient", JobStatus.QUEUED, "transient"),
        ("unknown", JobStatus.QUEUED, "outcome_unknown"),
        ("bug", JobStatus.QUEUED, "unexpected"),
        ("permanent", JobStatus.DEAD, "permanent"),
        ("invariant", JobStatus.DEAD, "invariant"),
        ("conflict", JobStatus.DEAD, "refused"),
    ],
)
def test_each_kind_of_error_has_its_next_step(
    submit: Submit, marks: Marks, error: str, status: JobStatus, kind: str
) -> None:
    made = submit("maintenance.probe_fail", label="x", error=error)
    run("maintenance.probe_fail", [made])
    found = job(made)
    assert found.current is status
    assert found.last_error is not None
    assert found.last_error["kind"] == kind
    assert "asked to fail" in found.last_error["message"]
    assert "probe_fail" in found.last_error["traceback"]
    assert marks() == {}


def test_a_retry_waits_and_then_succeeds(submit: Submit, marks: Marks) -> None:
    made = submit("maintenance.probe_fail", label="x", error="transient", until_attempt=2)
    run("maintenance.probe_fail", [made])
    run("maintenance.probe_fail", [made])  # a message that comes before run_at does nothing
    assert job(made).attempts == 1
    make_due()
    run("maintenance.probe_fail", [made])
    assert job(made).current is JobStatus.SUCCEEDED
    assert marks() == {"x": 1}


def test_attempts_used_up_make_a_dead_letter(submit: Submit) -> None:
    made = submit("maintenance.probe_fail", label="x", error="transient", attempts_max=3)
    for _ in range(5):
        run("maintenance.probe_fail", [made])
        make_due()
    found = job(made)
    assert (found.current, found.attempts) == (JobStatus.DEAD, 3)


@pytest.mark.parametrize(
    "args",
    [{}, {"deposit_id": "no uuid", "count": 1}, {"deposit_id": str(uuid4()), "count": 1, "extra": 1}],
    ids=["missing", "malformed", "unknown"],
)
def test_arguments_that_cannot_be_understood_are_dead_at_once(
    submit: Submit, marks: Marks, args: dict[str, object]
) -> None:
    made = submit("maintenance.probe_typed", **args)
    run("maintenance.probe_typed", [made])
    found = job(made)
    assert found.current is JobStatus.DEAD
    assert found.last_error is not None
    assert "arguments" in found.last_error["message"]
    assert marks() == {}


def test_a_task_that_names_no_queue_is_refused(database_url: str) -> None:
    with pytest.raises(InvalidRequestError), db.transaction() as session:
        jobs.submit(session, NewJob("nowhere.work", {}))


def test_a_run_whose_lease_went_to_another_commits_nothing(submit: Submit, marks: Marks) -> None:
    made = submit("maintenance.probe", label="first")
    with db.engine().begin() as connection:
        (stale,) = jobs.lease(connection, task="maintenance.probe", ids=[made], worker="slow")
    expire_leases()
    sweeper.sweep()
    run("maintenance.probe", [made])
    with pytest.raises(LeaseLostError), db.transaction() as session:  # noqa: PT012  # the commit is what must fail
        session.execute(text("INSERT INTO probe_marks (label) VALUES ('stale')"))
        jobs.finish(session, stale)
    token = jobs.current.set(stale)
    try:
        with pytest.raises(LeaseLostError), jobs.transaction() as session:
            session.execute(text("INSERT INTO probe_marks (label) VALUES ('stale')"))
    finally:
        jobs.current.reset(token)
    assert marks() == {"first": 1}
    assert job(made).current is JobStatus.SUCCEEDED


def test_a_stale_run_can_neither_retry_nor_bury_what_another_finished(submit: Submit) -> None:
    made = submit("maintenance.probe", label="x")
    with db.engine().begin() as connection:
        (stale,) = jobs.lease(connection, task="maintenance.probe", ids=[made], worker="slow")
    expire_leases()
    sweeper.sweep()
    run("maintenance.probe", [made])
    with db.transaction() as session:
        jobs.retry(session, stale, delay=timedelta(0), error={"kind": "x"})
        jobs.bury(session, stale, error={"kind": "x"})
        jobs.hand_back(session, [stale])
    assert job(made).current is JobStatus.SUCCEEDED


def test_many_runners_of_one_job_run_it_once(submit: Submit, marks: Marks) -> None:
    made = submit("maintenance.probe", label="x")
    barrier = threading.Barrier(8)

    def race() -> None:
        barrier.wait()
        run("maintenance.probe", [made])

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert marks() == {"x": 1}


def test_a_job_that_kills_its_worker_each_time_is_parked(submit: Submit) -> None:
    made = submit("maintenance.probe", label="x", attempts_max=3)
    for _ in range(3):
        with db.engine().begin() as connection:
            assert jobs.lease(connection, task="maintenance.probe", ids=[made], worker="doomed")
        expire_leases()
        sweeper.sweep()
    found = job(made)
    assert found.current is JobStatus.DEAD
    assert found.last_error is not None
    assert found.last_error["kind"] == "worker_lost"


def test_an_error_that_quotes_what_postgresql_cannot_keep_is_recorded(submit: Submit, marks: Marks) -> None:
    bad = submit("maintenance.probe_fail", label="x", error="quoting")
    good = submit("maintenance.probe_fail", label="good", error="bug", until_attempt=1)
    run("maintenance.probe_fail", [bad, good])
    error = job(bad).last_error
    assert error is not None
    assert error["message"] == "\\x00 and \\udc80"
    assert marks() == {"good": 1}


def test_a_slow_job_does_not_hold_up_those_behind_it(submit: Submit, marks: Marks) -> None:
    slow = submit("maintenance.probe", label="slow")
    behind = [submit("maintenance.probe", label="behind") for _ in range(3)]
    with db.engine().begin() as connection:
        leased = jobs.lease(connection, task="maintenance.probe", ids=[slow, *behind], worker="one")
    batch = Batch(leased)
    assert batch.begin(leased[0])
    batch.hand_back()  # what the keeper does when the budget is over
    assert [batch.begin(waiting) for waiting in leased[1:]] == [False] * 3
    assert [job(one).status for one in behind] == ["queued"] * 3
    assert {job(one).attempts for one in behind} == {0}
    run("maintenance.probe", behind)
    assert marks() == {"behind": 3}


def test_a_fence_is_never_given_out_twice_even_if_the_lease_was_forgotten(submit: Submit) -> None:
    """A crash of PostgreSQL may undo a lease that was not yet on disk."""
    made = submit("maintenance.probe", label="x")
    with db.engine().connect() as connection:
        (forgotten,) = jobs.lease(connection, task="maintenance.probe", ids=[made], worker="one")
        connection.rollback()
    time.sleep(0.01)
    with db.engine().begin() as connection:
        (again,) = jobs.lease(connection, task="maintenance.probe", ids=[made], worker="two")
    assert again.fence > forgotten.fence


def test_a_bell_in_a_savepoint_rings_at_the_commit(submit: Submit) -> None:
    redis.client().delete(jobs.BELL)
    with db.transaction() as session:
        with session.begin_nested():
            jobs.submit(session, NewJob("maintenance.probe", {"label": "x"}))
        assert redis.client().llen(jobs.BELL) == 0
    assert redis.client().llen(jobs.BELL) == 1


def test_jobs_of_a_queue_that_is_no_more_are_seen(submit: Submit) -> None:
    submit("maintenance.probe", label="x")
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET queue = 'retired'"))
        assert {depth.queue: depth.waiting for depth in jobs.depths(session)}["retired"] == 1


def test_expired_leases_are_left_alone_while_nobody_could_renew_them(submit: Submit) -> None:
    made = submit("maintenance.probe", label="x", attempts_max=1)
    with db.engine().begin() as connection:
        jobs.lease(connection, task="maintenance.probe", ids=[made], worker="one")
    expire_leases()
    sweeper.sweep(reclaim=False)
    assert job(made).current is JobStatus.RUNNING
    sweeper.sweep()
    assert job(made).current is JobStatus.DEAD


def test_a_sweep_is_bounded(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_SWEEP_LIMIT", "3")
    settings.jobs.cache_clear()
    for _ in range(5):
        submit("maintenance.probe", label="x")
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET published_at = now() - interval '1 h'"))
    assert [sweeper.sweep() for _ in range(3)] == [3, 2, 0]


def test_only_a_queued_job_can_be_cancelled(submit: Submit, marks: Marks) -> None:
    from core.errors import ConflictError, NotFoundError

    made = submit("maintenance.probe", label="x")
    with db.transaction() as session:
        assert jobs.cancel(session, made).current is JobStatus.CANCELLED
        assert jobs.cancel(session, made).current is JobStatus.CANCELLED
    run("maintenance.probe", [made])
    assert marks() == {}
    done = submit("maintenance.probe", label="y")
    run("maintenance.probe", [done])
    with db.transaction() as session:
        with pytest.raises(ConflictError):
            jobs.cancel(session, done)
        with pytest.raises(NotFoundError):
            jobs.cancel(session, uuid4())
        with pytest.raises(NotFoundError):
            jobs.cancel(session, done, tenant="another")


def test_a_rolled_back_change_leaves_no_job(database_url: str) -> None:
    job_id = None
    with pytest.raises(ZeroDivisionError), db.transaction() as session:  # noqa: PT012  # the rollback is the point
        job_id = jobs.submit(session, NewJob("maintenance.probe", {"label": "x"}))
        raise ZeroDivisionError
    assert job_id is not None
    with db.transaction() as session:
        assert jobs.get(session, job_id) is None


def test_finished_jobs_are_removed_in_time_and_dead_ones_kept(submit: Submit, monkeypatch: pytest.MonkeyPatch) -> None:
    done, dead = submit("maintenance.probe", label="x"), submit("maintenance.probe_fail", label="x", error="permanent")
    run("maintenance.probe", [done])
    run("maintenance.probe_fail", [dead])
    with db.transaction() as session:
        assert jobs.remove_finished(session) == 0
        monkeypatch.setenv("JOBS_KEEP_FINISHED", "0.01")
        settings.jobs.cache_clear()
        time.sleep(0.1)
        assert jobs.remove_finished(session) == 1
        assert jobs.get(session, dead) is not None
