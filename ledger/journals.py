"""Entries and journals, read. Units and balances are on the account's normal side; `ledger.balances` says the rest.

The entries of an account that is kept in several rows (stripes) are merged in the order of their journals' numbers,
which is their order along each row. A journal may commit after one of a higher number in another row: what a listing
has shown by then stays as it is, and the next listing has it in its place.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from ledger.chart import Side
from ledger.models import LedgerAccount, LedgerJournal
from ledger.paging import Page, bad_cursor, bigint, bounded, opened, runs, sealed, versions


@dataclass(frozen=True, slots=True)
class Entry:
    number: int
    """Its journal's place in the books."""
    position: int
    """Its place in the journal."""
    journal_id: UUID
    reference: str
    category: str
    subject: str | None
    code: str
    asset: str
    units: int
    """What the entry changed; negative if the account has less by it."""
    balance: int
    """The account's balance after it, in the order of (number, position)."""
    stripe: int
    version: int
    """Counts the entries of the account from 1; of its stripe, if it has several."""
    effective_at: datetime
    booked_at: datetime


@dataclass(frozen=True, slots=True)
class JournalRecord:
    id: UUID
    number: int
    tenant: str
    reference: str
    category: str
    subject: str | None
    effective_at: datetime
    booked_at: datetime
    correlation_id: str | None
    job_id: UUID | None
    metadata: Mapping[str, Any]
    reverses: UUID | None
    reversed_by: UUID | None
    entries: tuple[Entry, ...]
    """By posting: its source, then its destination."""


def entries(
    session: Session, tenant: str, code: str, *, asset: str | None = None, cursor: str | None = None, limit: int = 100
) -> Page[Entry]:
    """The code's entries, newest first, each with the running balance of its account; of one asset or of all.

    Pages stay put while money moves: what is booked after the first page was read appears on no later page.
    """
    known = select(LedgerAccount.id, LedgerAccount.version).where(
        LedgerAccount.tenant == tenant, LedgerAccount.code == code
    )
    if asset is not None:
        known = known.where(LedgerAccount.asset == asset)
    newest = {row.id: row.version + 1 for row in session.execute(known)}
    before = newest
    if cursor is not None:
        # Before which version to go on, for each row. One that the cursor doesn't name has ended, or is newer than it.
        before = {key: min(upto, newest[key]) for key, upto in versions(opened(cursor)).items() if key in newest}
    limit = bounded(limit)
    rows = session.execute(
        _ENTRIES, {"accounts": list(before), "before": list(before.values()), "limit": limit + 1}
    ).all()
    left = dict(before)
    for row in rows[:limit]:
        left[row.account_id] = row.version
    more = sealed(runs({key: upto for key, upto in left.items() if upto > 1})) if len(rows) > limit else None
    return Page(tuple(entry_of(row) for row in rows[:limit]), more)


def journal(
    session: Session, tenant: str, *, journal_id: UUID | None = None, reference: str | None = None
) -> JournalRecord | None:
    """One journal with its entries, by id or by reference."""
    if (journal_id is None) == (reference is None):
        raise TypeError("give journal_id or reference")
    by = LedgerJournal.id == journal_id if reference is None else LedgerJournal.reference == reference
    found = session.execute(select(LedgerJournal.__table__).where(LedgerJournal.tenant == tenant, by)).all()
    return next(iter(_journals(session, found)), None)


def journals_about(
    session: Session, tenant: str, subject: str, *, cursor: str | None = None, limit: int = 100
) -> Page[JournalRecord]:
    """The journals with this subject, oldest first."""
    query = select(LedgerJournal.__table__).where(LedgerJournal.tenant == tenant, LedgerJournal.subject == subject)
    if cursor is not None:
        match opened(cursor):
            case [number] if bigint(number):
                query = query.where(LedgerJournal.number > number)
            case _:
                raise bad_cursor()
    limit = bounded(limit)
    rows = session.execute(query.order_by(LedgerJournal.number).limit(limit + 1)).all()
    more = sealed([rows[limit - 1].number]) if len(rows) > limit else None
    return Page(tuple(_journals(session, rows[:limit])), more)


# Each row's page is read from the end of its own index, however many entries there are, then merged. The newest entry's
# balance is the sum of all rows at this point; each older one's follows from it. Versions have no gaps, so a page is a
# range of them. LATERAL with LIMIT: a look into an index for each row, whatever the planner believes.
_ENTRIES = text("""
    WITH k AS MATERIALIZED (
        SELECT a.id, a.code, a.asset, a.normal_side, a.stripe, k.before
        FROM unnest(CAST(:accounts AS bigint[]), CAST(:before AS bigint[])) AS k (account_id, before)
        CROSS JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = k.account_id LIMIT 1) a
    ), newest AS MATERIALIZED (
        SELECT k.asset, sum(e.balance) AS balance
        FROM k CROSS JOIN LATERAL (
            SELECT balance FROM ledger_entries WHERE account_id = k.id AND version = k.before - 1 LIMIT 1
        ) e
        GROUP BY k.asset
    )
    SELECT e.journal_number, e.position, e.account_id, e.version, e.units, e.booked_at, k.code, k.asset, k.normal_side,
           k.stripe, j.id AS journal_id, j.reference, j.category, j.subject, j.effective_at,
           n.balance - coalesce(sum(e.units) OVER (
               PARTITION BY k.asset ORDER BY e.journal_number DESC, e.position DESC
               ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS balance
    FROM (
        SELECT e.*
        FROM k
        CROSS JOIN LATERAL (
            SELECT * FROM ledger_entries WHERE account_id = k.id AND version < k.before AND version >= k.before - :limit
            LIMIT :limit
        ) e
        ORDER BY e.journal_number DESC, e.position DESC LIMIT :limit
    ) e
    JOIN k ON k.id = e.account_id
    JOIN newest n ON n.asset = k.asset
    CROSS JOIN LATERAL (SELECT * FROM ledger_journals WHERE number = e.journal_number LIMIT 1) j
    ORDER BY e.journal_number DESC, e.position DESC
""")

# A striped account's balance after an entry: its own row's, and what the other rows had come to by this journal.
_JOURNAL_ENTRIES = text("""
    WITH e AS MATERIALIZED (
        SELECT e.*, a.tenant, a.code, a.asset, a.normal_side, a.stripe, a.stripes, j.id AS journal_id, j.reference,
               j.category, j.subject, j.effective_at
        FROM unnest(CAST(:numbers AS bigint[])) AS k (number)
        CROSS JOIN LATERAL (SELECT * FROM ledger_journals WHERE number = k.number LIMIT 1) j
        JOIN ledger_entries e ON e.journal_number = k.number
        CROSS JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = e.account_id LIMIT 1) a
    ), others AS MATERIALIZED (
        SELECT d.journal_number, d.account_id, sum(o.balance) AS balance
        FROM (SELECT DISTINCT journal_number, account_id, tenant, code, asset FROM e WHERE stripes > 1) d
        JOIN ledger_accounts s ON s.tenant = d.tenant AND s.code = d.code AND s.asset = d.asset AND s.id <> d.account_id
        CROSS JOIN LATERAL (SELECT ledger_version_upto(s.id, d.journal_number) AS version LIMIT 1) v
        CROSS JOIN LATERAL (
            SELECT balance FROM ledger_entries WHERE account_id = s.id AND version = v.version LIMIT 1
        ) o
        GROUP BY d.journal_number, d.account_id
    )
    SELECT e.journal_number, e.position, e.account_id, e.version, e.units, e.booked_at, e.code, e.asset, e.normal_side,
           e.stripe, e.journal_id, e.reference, e.category, e.subject, e.effective_at,
           e.balance + coalesce(o.balance, 0) AS balance
    FROM e LEFT JOIN others o ON o.journal_number = e.journal_number AND o.account_id = e.account_id
    ORDER BY e.journal_number, e.position
""")


def entry_of(row: Any) -> Entry:
    sign = Side(row.normal_side).sign
    return Entry(
        number=row.journal_number,
        position=row.position,
        journal_id=row.journal_id,
        reference=row.reference,
        category=row.category,
        subject=row.subject,
        code=row.code,
        asset=row.asset,
        units=sign * int(row.units),
        balance=sign * int(row.balance),
        stripe=row.stripe,
        version=row.version,
        effective_at=row.effective_at,
        booked_at=row.booked_at,
    )


def _journals(session: Session, rows: Sequence[Any]) -> Iterable[JournalRecord]:
    if not rows:
        return
    reversals = select(LedgerJournal.reverses, LedgerJournal.id).where(
        LedgerJournal.reverses.in_([row.id for row in rows])
    )
    reversed_by = {row.reverses: row.id for row in session.execute(reversals)}
    found = session.execute(_JOURNAL_ENTRIES, {"numbers": [row.number for row in rows]})
    of = {number: tuple(map(entry_of, group)) for number, group in groupby(found, key=lambda e: e.journal_number)}
    for row in rows:
        yield JournalRecord(
            id=row.id,
            number=row.number,
            tenant=row.tenant,
            reference=row.reference,
            category=row.category,
            subject=row.subject,
            effective_at=row.effective_at,
            booked_at=row.booked_at,
            correlation_id=row.correlation_id,
            job_id=row.job_id,
            metadata=row.metadata,
            reverses=row.reverses,
            reversed_by=reversed_by.get(row.id),
            entries=of.get(row.number, ()),
        )
