"""Housekeeping."""

from datetime import timedelta

import structlog
from sqlalchemy.orm import Session

from core import jobs
from core.jobs import NewJob
from domain.quote import service as quotes
from domain.rates import service as rates
from domain.timetable import service as timetable
from ledger import audit, holds, seals
from ledger.audit import Cursor, Kind, Phase
from providers.prices import registry as prices
from tasks.base import task, transaction

log = structlog.stdlib.get_logger(__name__)

REMOVE_LIMIT = 10_000
"""Rows one transaction deletes."""
EXPIRE_LIMIT = 500
"""Holds one transaction lets go: their accounts are locked as long."""
SEAL_BUDGET = AUDIT_BUDGET = timedelta(seconds=3)
"""How long one job seals or audits; the next goes on. Less than a message's budget, so that nobody waits behind it."""
KEEP_AUDITS = timedelta(days=30)
"""For this long it can be seen that an audit found nothing. What one has found stays."""


@task("maintenance.remove_finished_jobs")
def remove_finished_jobs(session: Session) -> None:
    """Remove succeeded, cancelled and discarded jobs past their time. Dead letters stay until somebody decides."""
    if jobs.remove_finished(session, limit=REMOVE_LIMIT) == REMOVE_LIMIT:  # there is more
        jobs.submit(session, NewJob("maintenance.remove_finished_jobs", {}))


@task("maintenance.remove_old_periods")
def remove_old_periods(session: Session) -> None:
    """Remove periods of schedules that are long past; the last of each stays."""
    timetable.remove_old(session, keep=timedelta(days=7))


@task("maintenance.expire_holds")
def expire_holds(session: Session) -> None:
    """Let go of holds past their deadline. Posts that need the money don't wait for this."""
    if holds.expire_due(session, EXPIRE_LIMIT) == EXPIRE_LIMIT:  # there may be more
        jobs.submit(session, NewJob("maintenance.expire_holds", {}))


@task("maintenance.seal_ledger")
def seal_ledger() -> None:
    """Link what was booked since the last run into the hash chain, and ask for its audit."""
    upto = seals.settle()
    if upto is None:
        log.warning("ledger.not_settled")  # somebody's transaction is long; the next run sees to it
        return
    sealed, whole = seals.seal(upto, budget=SEAL_BUDGET)
    with transaction() as session:
        if sealed:
            # A line in a log that is kept elsewhere is an exported head.
            heads = {str(head.shard): f"{head.number}:{head.journals}:{head.hash}" for head in seals.heads(session)}
            log.info("ledger.sealed", journals=sealed, heads=heads)
        jobs.submit(session, NewJob("maintenance.audit_ledger", {}))
        if not whole:
            jobs.submit(session, NewJob("maintenance.seal_ledger", {}))


@task("maintenance.audit_ledger")
def audit_ledger(
    session: Session,
    kind: Kind = "incremental",
    audit_id: int | None = None,
    phase: Phase = "journals",
    after: int = 0,
) -> None:
    """Prove a piece of the books and ask for the next. What is wrong is logged and kept; nothing is stopped."""
    cursor = audit.begin(session, kind) if audit_id is None else Cursor(audit_id, phase, after)
    if cursor is None:
        log.info("ledger.audit_at_work", kind=kind)
        return
    step = audit.step(session, cursor, budget=AUDIT_BUDGET)
    for wrong in step.violations:
        log.error(
            "ledger.violation",
            audit=cursor.audit,
            rule=wrong.rule,
            row=wrong.row,
            message=wrong.message,
            count=wrong.count,
        )
    if step.cursor is not None:
        following = {"audit_id": cursor.audit, "phase": step.cursor.phase, "after": step.cursor.after}
        jobs.submit(session, NewJob("maintenance.audit_ledger", {"kind": kind, **following}))


@task("maintenance.remove_old_audits")
def remove_old_audits(session: Session) -> None:
    """Remove audits that are long past and found nothing; the last of each kind stays."""
    audit.remove_old(session, keep=KEEP_AUDITS)


@task("maintenance.refresh_rates")
def refresh_rates() -> None:
    """Ask the sources for prices, and judge what they tell. Safe to run any number of times."""
    rates.refresh(prices.sources())


@task("maintenance.remove_old_rates")
def remove_old_rates(session: Session) -> None:
    """Remove what sources told long ago, and quotes that nobody used. What persons set and what was used stays."""
    removed = (rates.remove_old(session, limit=REMOVE_LIMIT), quotes.remove_old(session, limit=REMOVE_LIMIT))
    if max(removed) == REMOVE_LIMIT:  # there may be more
        jobs.submit(session, NewJob("maintenance.remove_old_rates", {}))
