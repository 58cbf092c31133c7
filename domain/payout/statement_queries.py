"""Every SELECT and lock of statements: lines, what is to be matched, and the breaks about it."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import exists, func, select, text
from sqlalchemy.orm import Session

from core.breaks import OPEN, Break
from core.ids import first_id_at
from domain.payout.matching import KINDS
from domain.payout.models import Payout, PayoutAttempt, PayoutProviderRow
from domain.payout.statement_models import PayoutStatement, PayoutStatementLine
from domain.payout.states import AttemptState, PayoutState

SENT_WITHIN = timedelta(days=30)
"""Before a line's time: when a payout of it, or that should have one, may have been sent."""


def lines_of(session: Session, payout_id: UUID, provider: str) -> Sequence[PayoutStatementLine]:
    """All that were ever told of it there, oldest first."""
    line = PayoutStatementLine
    return session.scalars(
        select(line).where(line.payout_id == payout_id, line.provider == provider).order_by(line.booked_at, line.id),
        execution_options={"populate_existing": True},
    ).all()


def unattributed(session: Session, provider: str, *, after: UUID, limit: int) -> Sequence[PayoutStatementLine]:
    """Lines that are about a payout, and nobody knows which."""
    line = PayoutStatementLine
    return session.scalars(
        select(line)
        .where(line.provider == provider, line.state == "unmatched", line.payout_id.is_(None), line.id > after)
        .order_by(line.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def lock_line(session: Session, provider: str, name: str) -> PayoutStatementLine | None:
    return session.scalars(
        select(PayoutStatementLine)
        .where(PayoutStatementLine.provider == provider, PayoutStatementLine.line == name)
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()


def lines_within(session: Session, provider: str, since: datetime, until: datetime) -> Sequence[PayoutStatementLine]:
    """Those that count, by when they were booked there."""
    line = PayoutStatementLine
    return session.scalars(
        select(line).where(
            line.provider == provider, line.booked_at >= since, line.booked_at < until, line.withdrawn_at.is_(None)
        )
    ).all()


def told_of(session: Session, provider: str, since: datetime, until: datetime) -> dict[UUID, bool]:
    """Payouts that lines of that time are of, also such as were withdrawn, and whether all these were matched."""
    line = PayoutStatementLine
    found = session.execute(
        select(line.payout_id, func.bool_and(line.state == "matched"))
        .where(line.provider == provider, line.booked_at >= since, line.booked_at < until)
        .group_by(line.payout_id)
    )
    return {payout_id: matched for payout_id, matched in found if payout_id is not None}


def untold(session: Session, provider: str, since: datetime, until: datetime) -> set[UUID]:
    """Payouts that a provider has paid, as far as we know, and no line is of. By when they were sent.

    By the index on accepted attempts: their ids are their times.
    """
    line, attempt = PayoutStatementLine, PayoutAttempt
    told = exists().where(line.payout_id == attempt.payout_id, line.provider == provider, line.withdrawn_at.is_(None))
    return set(
        session.scalars(
            select(attempt.payout_id)
            .distinct()
            .join(Payout, Payout.id == attempt.payout_id)
            .where(
                attempt.provider == provider,
                attempt.state == AttemptState.ACCEPTED,
                attempt.id >= first_id_at(since),
                attempt.id < first_id_at(until),
                (Payout.state == PayoutState.PAID) | attempt.extra_journal_id.is_not(None),
                ~told,
            )
        ).all()
    )


def covers(session: Session, provider: str, since: datetime, until: datetime, *, read_after: datetime) -> bool:
    """Whether one statement, read to its end and not before `read_after`, has all of that time."""
    one = PayoutStatement
    found = exists().where(one.provider == provider, one.since <= since, one.until >= until, one.read_at >= read_after)
    return bool(session.scalar(select(found)))


def read_until(session: Session, provider: str) -> datetime | None:
    one = PayoutStatement
    return session.scalar(select(func.max(one.until)).where(one.provider == provider, one.read_at.is_not(None)))


def told_by(session: Session) -> Sequence[str]:
    """Providers that there are statements of."""
    return session.scalars(select(PayoutStatement.provider).distinct().order_by(PayoutStatement.provider)).all()


def known(session: Session) -> Sequence[str]:
    """Providers that statements may be of: those of now, and those that there are statements of."""
    names = select(PayoutProviderRow.name).union(select(PayoutStatement.provider))
    return sorted(session.scalars(names))


def currencies(session: Session, provider: str) -> set[str]:
    told = session.scalars(
        select(PayoutStatementLine.currency).distinct().where(PayoutStatementLine.provider == provider)
    )
    row = session.get(PayoutProviderRow, provider)
    return {*told, *(row.currencies if row is not None else ())}


def tenants(session: Session) -> Iterator[str]:
    """Those that ever asked for a payout, one look into the index each."""
    found = session.scalar(_NEXT_TENANT, {"after": ""})
    while found is not None:
        yield found
        found = session.scalar(_NEXT_TENANT, {"after": found})


_NEXT_TENANT = text("SELECT tenant FROM payouts WHERE tenant > :after ORDER BY tenant LIMIT 1")


def existing(session: Session, tenant: str, payouts: Collection[UUID]) -> set[UUID]:
    """Those of them that there are."""
    return (
        set(session.scalars(select(Payout.id).where(Payout.tenant == tenant, Payout.id.in_(payouts))))
        if payouts
        else set()
    )


# --- breaks ---------------------------------------------------------------------------------------------------------


def open_breaks(session: Session, kinds: Collection[str] = KINDS, *, subject: str | None = None) -> Sequence[Break]:
    """Oldest first."""
    query = select(Break).where(Break.state == OPEN, Break.kind.in_(sorted(kinds)))
    if subject is not None:
        query = query.where(Break.subject == subject)
    return session.scalars(query.order_by(Break.id), execution_options={"populate_existing": True}).all()


def last_break(session: Session, kind: str, subject: str) -> Break | None:
    return session.scalars(
        select(Break).where(Break.subject == subject, Break.kind == kind).order_by(Break.id.desc()).limit(1),
        execution_options={"populate_existing": True},
    ).one_or_none()


def settled_breaks(session: Session, kind: str, subject: str) -> Sequence[Break]:
    """Those that a journal settled."""
    return session.scalars(
        select(Break).where(Break.subject == subject, Break.kind == kind, Break.journal_id.is_not(None))
    ).all()


def oldest_open(session: Session) -> datetime | None:
    """When the oldest break about payouts was opened."""
    return session.scalar(select(func.min(Break.opened_at)).where(Break.state == OPEN, Break.kind.like("payout.%")))


# --- figures --------------------------------------------------------------------------------------------------------

SUMS = text(
    """
    SELECT currency,
           count(DISTINCT payout_id) FILTER (WHERE state = 'matched') AS payouts,
           coalesce(-sum(units + fee_units) FILTER (WHERE state = 'matched'), 0) AS gone,
           coalesce(sum(fee_units) FILTER (WHERE state = 'matched'), 0) AS fees,
           count(*) FILTER (WHERE state = 'unmatched') AS unmatched,
           coalesce(sum(units) FILTER (WHERE kind = 'other'), 0) AS other,
           count(*) AS lines
    FROM payout_statement_lines
    WHERE provider = :provider AND booked_at >= :since AND booked_at < :until AND withdrawn_at IS NULL
    GROUP BY currency ORDER BY currency
    """
)
