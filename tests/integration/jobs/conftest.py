from collections.abc import Iterator

import pytest

from config import settings
from tests.support.jobs import marks, probe_table, submit

__all__ = ["marks", "probe_table", "short_leases", "submit"]


@pytest.fixture(autouse=True)
def short_leases(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Shorter than the age of the session's PostgreSQL: the sweeper spares leases for one lease after its start."""
    monkeypatch.setenv("JOBS_LEASE", "1")
    settings.jobs.cache_clear()
    yield
    settings.jobs.cache_clear()
