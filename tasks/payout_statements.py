"""Payout providers' statements, read and matched with our payouts and the books."""

from datetime import datetime, timedelta
from itertools import pairwise

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.jobs import NewJob
from domain.payout import service
from domain.payout.statement_settings import statements as settings
from providers.payout.registry import providers
from tasks.base import task, transaction

log = structlog.stdlib.get_logger(__name__)

READ, MATCH = "payout.read_statement", "payout.match_statement"
AGAIN_AFTER = timedelta(hours=1)
"""What was asked for while matching is answered by then."""


@task("payout.read_statements")
def read_statements(session: Session) -> None:
    """Ask each provider that has statements for the lines of the last days."""
    until = clock.now()
    since = until - settings().within
    names = [name for name, provider in sorted(providers().items()) if provider.abilities.statements]
    jobs.submit_many(session, [_job(READ, name, since, until) for name in names])


@task("payout.read_statement")
def read_statement(provider: str, since: datetime, until: datetime) -> None:
    """Read the lines of that time, and have them matched, day by day."""
    found = providers().get(provider)
    if found is None:
        log.warning("payout.no_provider", provider=provider)
        return
    service.read_statement(found, since, until)
    begins = [since, *service.days_of(since, until)[1:], until]
    with transaction() as session:
        jobs.submit_many(
            session,
            [_job(MATCH, provider, begin, end, rest=end == until, again=True) for begin, end in pairwise(begins)],
        )


@task("payout.match_statement")
def match_statement(provider: str, since: datetime, until: datetime, *, rest: bool = True, again: bool = False) -> None:
    """Match what is known of that time. Then, if need be, once more when the looks that it asked for are done."""
    outcome = service.match_statement(provider, since, until, rest=rest)
    if not again:
        return
    now = clock.now()
    with transaction() as session:
        if outcome.waiting:
            jobs.submit(session, _job(MATCH, provider, since, until, rest=rest, run_at=now + AGAIN_AFTER))
        earlier = outcome.uncovered_since
        if earlier is not None and provider in providers():
            jobs.submit(session, _job(READ, provider, earlier - service.STATEMENT_MARGIN, now))


def _job(
    task: str, provider: str, since: datetime, until: datetime, *, run_at: datetime | None = None, **args: bool
) -> NewJob:
    return NewJob(
        task,
        {"provider": provider, "since": since.isoformat(), "until": until.isoformat(), **args},
        subject=f"payout_provider:{provider}",
        run_at=run_at,
    )
