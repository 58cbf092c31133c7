"""Real relays and real Celery workers, killed, cut off and lied to. Each test ends by counting what was done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from config.queues import QUEUES
from core import db, jobs, redis
from core.jobs import JobStatus, NewJob
from local.valkey import Valkey
from tasks.app import app
from tests.conftest import use
from tests.support.fleet import Fleet, wait_until
from tests.support.jobs import Marks, Submit, job, statuses
from workers.relay import Relay

PREFIX = "tallyrail:"


def almost(**parts: object) -> str:
    """A message but for these parts of it."""
    properties = {"delivery_info": {}, "delivery_tag": "1", "body_encoding": "base64"}
    inside = {name: parts.pop(name) for name in list(parts) if name in properties}
    whole = {"body": "W10=", "headers": {}, "content-type": "application/json", "content-encoding": "utf-8"}
    return json.dumps(whole | parts | {"properties": properties | inside})


def raws() -> list[str]:
    with db.transaction() as session:
        query = "SELECT left(args ->> 'message', 150) || last_error::text FROM jobs WHERE queue = 'unreadable'"
        return list(session.scalars(text(query)))


GARBAGE = (
    "{",
    "5",
    "[" * 100_000,
    json.dumps({"body": "%%%", "headers": {}, "properties": {}}),
    json.dumps({"__type__": "x", "__value__": 1}),
    almost(body_encoding="foo"),
    almost(delivery_info=5),
)


def submit_many(count: int, task: str = "maintenance.probe", **args: object) -> list[UUID]:
    with db.transaction() as session:
        return jobs.submit_many(
            session, [NewJob(task, {"label": f"n{n}", **args}, tenant="test") for n in range(count)]
        )


def all_are(status: JobStatus) -> bool:
    return set(statuses()) == {status}


def test_a_job_runs_within_moments_of_its_commit(fleet: Fleet, submit: Submit, marks: Marks) -> None:
    fleet.relay()
    fleet.worker()
    submit("maintenance.probe", label="x")
    wait_until(lambda: marks() == {"x": 1}, timeout=10)


def test_a_message_goes_to_its_own_queue_and_no_other(fleet: Fleet, database_url: str) -> None:
    with db.transaction() as session:
        jobs.submit_many(session, [NewJob(f"{queue}.heartbeat", {}) for queue in QUEUES])
    fleet.relay()
    wait_until(lambda: all(redis.client().llen(f"{PREFIX}{queue}") == 1 for queue in QUEUES))


def test_all_of_redis_lost_while_200_jobs_are_queued(fleet: Fleet, probe_table: str, marks: Marks) -> None:
    """FLUSHALL: every accepted job ends, each once, unaided."""
    ids = submit_many(200)
    fleet.relay()
    wait_until(lambda: redis.client().llen(f"{PREFIX}maintenance"))
    redis.client().flushall()
    fleet.worker()
    time.sleep(0.2)
    redis.client().flushall()
    wait_until(lambda: all_are(JobStatus.SUCCEEDED), timeout=60)
    assert marks() == {f"n{n}": 1 for n in range(len(ids))}


def test_the_relay_killed_between_publish_and_commit(
    fleet: Fleet, submit: Submit, marks: Marks, superuser_url: str
) -> None:
    """It has published and can't commit its mark: killed there, the job is published again and done once."""
    made = submit("maintenance.probe", label="x")
    # A deferred constraint trigger runs inside COMMIT: the relay hangs there, after its publish.
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(
            """
            CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
              PERFORM pg_sleep(60); RETURN NULL; END $$;
            CREATE CONSTRAINT TRIGGER hang AFTER UPDATE ON jobs DEFERRABLE INITIALLY DEFERRED
              FOR EACH ROW WHEN (NEW.published_at IS NOT NULL AND OLD.published_at IS NULL) EXECUTE FUNCTION hang();
            """
        )
        fleet.relay()
        wait_until(lambda: redis.client().llen(f"{PREFIX}maintenance") == 1)
        fleet.kill("relay")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query = 'COMMIT' AND state = 'active' AND datname = current_database()"
        )
        connection.execute("DROP TRIGGER hang ON jobs")
    assert job(made).published_at is None
    fleet.relay("relay2")
    wait_until(lambda: redis.client().llen(f"{PREFIX}maintenance") >= 2)
    fleet.worker()
    wait_until(lambda: all_are(JobStatus.SUCCEEDED))
    wait_until(lambda: redis.client().llen(f"{PREFIX}maintenance") == 0)
    assert marks() == {"x": 1}


@pytest.mark.faults
def test_a_thousand_deliveries_of_one_job_to_two_workers(fleet: Fleet, submit: Submit, marks: Marks) -> None:
    made = submit("maintenance.probe", label="x")
    for _ in range(1_000):
        app.send_task("maintenance.probe", args=([str(made)],), queue="maintenance")
    fleet.worker("one")
    fleet.worker("two")
    wait_until(lambda: redis.client().llen(f"{PREFIX}maintenance") == 0, timeout=60)
    assert marks() == {"x": 1}
    assert job(made).attempts == 1


@pytest.mark.parametrize("stage", ["intent", "call", "record"])
def test_a_worker_killed_at_each_step_of_an_outside_call(
    fleet: Fleet, submit: Submit, marks: Marks, stage: str
) -> None:
    """One intent, one effect outside, one record, wherever the process dies."""
    fleet.relay()
    fleet.worker()
    made = submit("maintenance.probe_steps", label="p", die_after=stage)
    wait_until(lambda: job(made).current is JobStatus.SUCCEEDED, timeout=30)
    assert marks() == {"p:intent": 1, "p:effect": 1, "p:record": 1}
    assert job(made).attempts == 2


def test_a_whole_worker_killed_with_work_in_flight(fleet: Fleet, submit: Submit, marks: Marks) -> None:
    """kill -9 of the parent takes its children along; another worker finishes, and nothing is done twice."""
    fleet.relay()
    fleet.worker("doomed")
    slow = submit("maintenance.probe_slow", label="slow", seconds=2)
    wait_until(lambda: job(slow).current is JobStatus.RUNNING)
    fleet.kill("doomed")
    ids = submit_many(20)
    fleet.worker("heir")
    wait_until(lambda: all_are(JobStatus.SUCCEEDED), timeout=30)
    assert marks() == {"slow:begun": 1, "slow": 1} | {f"n{n}": 1 for n in range(len(ids))}
    assert job(slow).attempts == 2


def test_a_task_that_kills_its_process_is_parked_and_its_neighbours_live(
    fleet: Fleet, submit: Submit, marks: Marks
) -> None:
    fleet.relay()
    fleet.worker()
    poison = submit("maintenance.probe_poison", label="p", attempts_max=2)
    ids = submit_many(20)
    wait_until(lambda: job(poison).current is JobStatus.DEAD, timeout=60)
    wait_until(lambda: statuses()[JobStatus.SUCCEEDED] == len(ids))
    error = job(poison).last_error
    assert error is not None
    assert error["kind"] == "worker_lost"
    assert job(poison).attempts == 2


def test_a_poison_job_costs_its_neighbours_at_most_one_attempt(fleet: Fleet, submit: Submit, marks: Marks) -> None:
    """It travels with others once; whoever was lost with it travels alone from then on."""
    poison = submit("maintenance.probe_poison", label="p", attempts_max=3)
    with db.transaction() as session:
        innocent = jobs.submit_many(
            session,
            [NewJob("maintenance.probe_poison", {"label": "fine"}, tenant="test", attempts_max=2) for _ in range(40)],
        )
    fleet.relay()
    fleet.worker()
    wait_until(lambda: all(job(one).current is JobStatus.SUCCEEDED for one in innocent), timeout=60)
    wait_until(lambda: job(poison).current is JobStatus.DEAD, timeout=60)
    assert marks() == {"fine": len(innocent)}


def test_sigterm_finishes_what_is_begun_and_takes_no_more(fleet: Fleet, submit: Submit, marks: Marks) -> None:
    fleet.relay()
    fleet.worker(concurrency=1)
    slow = submit("maintenance.probe_slow", label="slow", seconds=2)
    wait_until(lambda: job(slow).current is JobStatus.RUNNING)
    submit("maintenance.probe", label="later")
    assert fleet.kill("worker", signal.SIGTERM) == 0
    assert job(slow).current is JobStatus.SUCCEEDED
    assert job(slow).attempts == 1
    fleet.worker("next")
    wait_until(lambda: all_are(JobStatus.SUCCEEDED))
    assert marks() == {"slow:begun": 1, "slow": 1, "later": 1}


def test_messages_that_nobody_understands_become_dead_letters(fleet: Fleet, submit: Submit, marks: Marks) -> None:
    fleet.worker()
    unknown = submit("maintenance.no_such_task", label="x")
    app.send_task("maintenance.no_such_task", args=([str(unknown)],), queue="maintenance")
    app.send_task("maintenance.stranger", args=("not ids",), queue="maintenance")
    for garbage in GARBAGE:
        redis.client().lpush(f"{PREFIX}maintenance", garbage)
    with app.connection_for_write() as connection:
        for body, kind, encoding in ((b"\x80\x05pickle", "application/x-python-serialize", "binary"),
                                     (b"not json", "application/json", "utf-8")):  # fmt: skip
            with app.amqp.Producer(connection) as producer:
                producer.publish(
                    body, content_type=kind, content_encoding=encoding, exchange="", routing_key="maintenance",
                    headers={"task": "maintenance.probe", "id": "1"},
                )  # fmt: skip
    wait_until(lambda: job(unknown).current is JobStatus.DEAD)
    fine = submit("maintenance.probe", label="fine")
    fleet.relay()
    wait_until(lambda: job(fine).current is JobStatus.SUCCEEDED)
    with db.transaction() as session:
        kept = session.execute(text("SELECT task FROM jobs WHERE queue = 'unreadable' ORDER BY id")).scalars().all()
    assert "maintenance.stranger" in kept
    assert kept.count("unreadable") >= len(GARBAGE) + 1, "\n".join(raws())
    assert marks() == {"fine": 1}


def test_redis_restarted_under_a_consuming_worker(fleet: Fleet, probe_table: str, marks: Marks, tmp_path: Path) -> None:
    with Valkey(tmp_path / "valkey") as own:
        back = use({"REDIS_URL": own.url})
        try:
            fleet.relay()
            fleet.worker()
            submit_many(5)
            wait_until(lambda: all_are(JobStatus.SUCCEEDED))
            own.stop()
            submit_many(5)
            time.sleep(1)
            own.start()
            wait_until(lambda: all_are(JobStatus.SUCCEEDED), timeout=60)
        finally:
            back()
    assert marks() == {f"n{n}": 2 for n in range(5)}


@pytest.mark.faults
def test_a_backlog_stays_in_postgresql_and_travels_in_bundles(fleet: Fleet, probe_table: str, marks: Marks) -> None:
    queue = QUEUES["maintenance"]
    submit_many(queue.window * queue.batch_max + 500)
    fleet.relay()
    wait_until(lambda: redis.client().llen(f"{PREFIX}maintenance") >= queue.window // 2)
    time.sleep(0.5)
    assert redis.client().llen(f"{PREFIX}maintenance") <= queue.window * 2
    fleet.worker()
    wait_until(lambda: all_are(JobStatus.SUCCEEDED), timeout=90)
    assert set(marks().values()) == {1}


def test_jobs_that_travel_alone_keep_to_the_window_too(probe_table: str) -> None:
    window = QUEUES["maintenance"].window
    with db.transaction() as session:
        jobs.submit_many(
            session,
            [NewJob("maintenance.probe", {"label": "x"}, tenant="test", attempts_max=1) for _ in range(3 * window)],
        )
    relay = Relay()
    published = [relay.publish_due(limit=1_000) for _ in range(3)]
    assert published == [(window, True), (0, True), (0, True)]
    assert redis.client().llen(f"{PREFIX}maintenance") == window


def test_leases_are_looked_after_while_redis_is_away(fleet: Fleet, submit: Submit) -> None:
    made = submit("maintenance.probe", label="x")
    with db.engine().begin() as connection:
        jobs.lease(connection, task="maintenance.probe", ids=[made], worker="dead")
    fleet.relay(REDIS_URL="redis://127.0.0.1:1/0", JOBS_LEASE="0.5")
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET lease_until = now() - interval '1 s'"))
    wait_until(lambda: job(made).current is JobStatus.QUEUED, timeout=15)


@pytest.mark.faults
def test_two_relays_share_the_work(fleet: Fleet, probe_table: str, marks: Marks) -> None:
    fleet.relay("one")
    fleet.relay("two")
    fleet.worker()
    submit_many(500)
    wait_until(lambda: all_are(JobStatus.SUCCEEDED), timeout=60)
    assert marks() == {f"n{n}": 1 for n in range(500)}


def test_postgresql_gone_for_a_moment_loses_nothing(
    fleet: Fleet, probe_table: str, marks: Marks, superuser_url: str
) -> None:
    """Every connection of ours is cut, again and again, while work is done."""
    fleet.relay()
    fleet.worker()
    ids = submit_many(300)
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        for _ in range(10):
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            time.sleep(0.2)
    db.dispose()
    wait_until(lambda: all_are(JobStatus.SUCCEEDED), timeout=60)
    assert marks() == {f"n{n}": 1 for n in range(len(ids))}


def test_nothing_is_left_of_a_worker_killed_with_9(fleet: Fleet, submit: Submit) -> None:
    made = fleet.worker(concurrency=2)
    children = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(made.pid)], capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(children) >= 2
    fleet.kill("worker")
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), timeout=5)


@pytest.mark.faults
def test_the_health_command_tells_a_fresh_queue_from_a_stale_one(fleet: Fleet, database_url: str) -> None:
    def healthy() -> bool:
        command = [sys.executable, "-m", "workers.health", "maintenance", "relay", "beat"]
        return subprocess.run(command, check=False, capture_output=True, env=os.environ).returncode == 0

    assert not healthy()
    fleet.relay()
    fleet.beat()
    fleet.worker()
    wait_until(healthy, timeout=40, every=0.5)
