"""The one place that reads the time, so that tests can set it. Always UTC.

Decisions about jobs (due, lease, ring again) use PostgreSQL's clock instead: every process agrees on that one.
"""

from datetime import UTC, datetime


def now() -> datetime:
    return datetime.now(UTC)
