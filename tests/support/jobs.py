"""Fixtures for tests of jobs: the probes' table, a way to submit, and a way to count."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from core import db, jobs
from core.jobs import Job, NewJob
from tests.support.probes import TABLE

Submit = Callable[..., UUID]
Marks = Callable[[], Counter[str]]


@pytest.fixture
def probe_table(superuser_url: str) -> str:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(TABLE)
        connection.execute("GRANT ALL ON probe_marks TO tallyrail_app")
        connection.execute("GRANT ALL ON probe_marks_id_seq TO tallyrail_app")
    return "probe_marks"


@pytest.fixture
def submit(probe_table: str) -> Submit:
    """Submit one job of a probe and commit."""

    def made(task: str, *, attempts_max: int = 8, tenant: str = "test", **args: Any) -> UUID:
        with db.transaction() as session:
            return jobs.submit(session, NewJob(task, args, tenant=tenant, attempts_max=attempts_max))

    return made


@pytest.fixture
def marks(probe_table: str) -> Marks:
    """How often each label was marked (and committed)."""

    def counted() -> Counter[str]:
        with db.transaction() as session:
            return Counter(session.scalars(text("SELECT label FROM probe_marks")).all())

    return counted


def job(job_id: UUID) -> Job:
    with db.transaction() as session:
        found = jobs.get(session, job_id)
        assert found is not None
        return found


def statuses() -> Counter[str]:
    with db.transaction() as session:
        return Counter(session.scalars(text("SELECT status FROM jobs")).all())
