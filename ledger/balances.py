"""Reading the books: balances, accounts, their entries, journals and the trial balance.

Plain values only: no row of the ledger's tables leaves this package. Units and balances are integers in the asset's
smallest unit, and on the account's normal side: a deposit shows as a plus in custody (an asset) and in the user's
account (a liability) alike. An account that is kept in several rows (stripes) reads like any other: its balance is
their sum, and its entries are theirs, in the order of their journals' numbers.

As of a time: `ledger.asof`. Statements: `ledger.statement`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from ledger.chart import Kind, Side
from ledger.models import LedgerAccount, LedgerJournal
from ledger.paging import PAGE_MAX, Page, bad_cursor, bounded, opened, runs, sealed, versions

__all__ = ["PAGE_MAX", "Page"]


@dataclass(frozen=True, slots=True)
class Account:
    tenant: str
    code: str
    asset: str
    kind: Kind
    normal_side: Side
    floor: int | None
    ceiling: int | None
    balance: int
    held: int
    """What pending holds may still take out of it."""
    version: int
    """How many entries the account has."""
    state: str
    """open, frozen (nothing leaves) or closed."""
    metadata: Mapping[str, Any]
    created_at: datetime

    @property
    def available(self) -> int | None:
        """What can still leave; None for an account without a floor."""
        return None if self.floor is None else self.balance - self.held - self.floor


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


@dataclass(frozen=True, slots=True)
class Total:
    """All accounts of one kind in one asset under a prefix: `user:` gives what we owe all users."""

    asset: str
    scale: int
    kind: Kind
    accounts: int
    balance: int
    held: int


@dataclass(frozen=True, slots=True)
class TrialBalance:
    """One asset. `debits` and `credits` are the balances by the side they stand on; they must be equal."""

    asset: str
    scale: int
    accounts: int
    debits: int
    credits: int
    kinds: Mapping[Kind, int]
    """The sum of each kind's accounts on its normal side."""

    @property
    def difference(self) -> int:
        return self.debits - self.credits


def balance(session: Session, tenant: str, code: str, asset: str, *, for_update: bool = False) -> int:
    """The account's balance on its normal side; 0 for an account that nothing was posted to yet.

    `for_update` locks the account, so that what the caller decides by the balance still holds when it posts.
    """
    if for_update:
        session.execute(select(func.ledger_lock(tenant, code, asset)))
    row = session.execute(
        select(LedgerAccount.normal_side, func.sum(LedgerAccount.balance).label("balance"))
        .where(LedgerAccount.tenant == tenant, LedgerAccount.code == code, LedgerAccount.asset == asset)
        .group_by(LedgerAccount.normal_side)
    ).one_or_none()
    return 0 if row is None else Side(row.normal_side).sign * int(row.balance)


def account(session: Session, tenant: str, code: str) -> tuple[Account, ...]:
    """The code's accounts, one for each asset, by asset. Empty if the code was never opened."""
    wanted = text(_ACCOUNTS.format("a.code = :code"))
    return tuple(_account(row) for row in session.execute(wanted, {"tenant": tenant, "code": code, "limit": None}))


def accounts(
    session: Session, tenant: str, prefix: str = "", *, cursor: str | None = None, limit: int = 100
) -> Page[Account]:
    """The accounts whose code starts with `prefix`, by code and asset."""
    where, parameters = under(prefix)
    if cursor is not None:
        match opened(cursor):
            case [str(code), str(asset)]:
                where += " AND (a.code, a.asset) > (:after_code, :after_asset)"
                parameters |= {"after_code": code, "after_asset": asset}
            case _:
                raise bad_cursor()
    limit = bounded(limit)
    rows = session.execute(text(_ACCOUNTS.format(where)), parameters | {"tenant": tenant, "limit": limit + 1}).all()
    made = tuple(_account(row) for row in rows[:limit])
    return Page(made, sealed([made[-1].code, made[-1].asset]) if len(rows) > limit else None)


def under(prefix: str) -> tuple[str, dict[str, Any]]:
    """A condition on `a.code` and its parameters: a range of the index on (tenant, code, asset, stripe).

    Codes are ASCII and in "C" order, so "~" ends the prefix.
    """
    if not prefix:
        return "true", {}
    return "a.code >= :prefix AND a.code < :prefix_end", {"prefix": prefix, "prefix_end": prefix + "~"}


def total(session: Session, tenant: str, prefix: str = "") -> tuple[Total, ...]:
    """The accounts whose code starts with `prefix`, summed by asset and kind. Its cost grows with their number."""
    where, parameters = under(prefix)
    rows = session.execute(text(_TOTAL.format(where)), parameters | {"tenant": tenant})
    return tuple(
        Total(
            row.asset,
            row.scale,
            Kind(row.kind),
            row.accounts,
            Side(row.normal_side).sign * int(row.balance),
            int(row.held),
        )
        for row in rows
    )


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
            case [int(number)] if 0 <= number < 2**63:
                query = query.where(LedgerJournal.number > number)
            case _:
                raise bad_cursor()
    limit = bounded(limit)
    rows = session.execute(query.order_by(LedgerJournal.number).limit(limit + 1)).all()
    more = sealed([rows[limit - 1].number]) if len(rows) > limit else None
    return Page(tuple(_journals(session, rows[:limit])), more)


def trial_balance(session: Session, tenant: str | None = None) -> tuple[TrialBalance, ...]:
    """Each asset's debits and credits, of one tenant or of the whole house. Its cost grows with the accounts."""
    where = "true" if tenant is None else "a.tenant = :tenant"
    rows = session.execute(text(_TRIAL.format(where)), {"tenant": tenant} if tenant is not None else {})
    lines = []
    for (asset, scale), group in groupby(rows, key=lambda row: (row.asset, row.scale)):
        of_kinds = list(group)
        lines.append(
            TrialBalance(
                asset=asset,
                scale=scale,
                accounts=sum(row.accounts for row in of_kinds),
                debits=-int(sum(row.debits for row in of_kinds)),
                credits=int(sum(row.credits for row in of_kinds)),
                kinds={Kind(row.kind): Side(row.normal_side).sign * int(row.credits + row.debits) for row in of_kinds},
            )
        )
    return tuple(lines)


# One row for each account: stripe 0 says what it is, its stripes' sums how much. Read along the index, so that a page
# costs what it shows.
_ACCOUNTS = """
    SELECT a.tenant, a.code, a.asset, a.kind, a.normal_side, a.floor, a.ceiling, s.balance, s.held, s.version, a.state,
           a.metadata, a.created_at
    FROM ledger_accounts a
    CROSS JOIN LATERAL (
        SELECT sum(balance) AS balance, sum(held) AS held, sum(version) AS version
        FROM ledger_accounts WHERE tenant = a.tenant AND code = a.code AND asset = a.asset
    ) s
    WHERE a.tenant = :tenant AND a.stripe = 0 AND {}
    ORDER BY a.code, a.asset LIMIT :limit
"""

_TOTAL = """
    SELECT a.asset, g.scale, a.kind, a.normal_side, count(*) FILTER (WHERE a.stripe = 0) AS accounts,
           sum(a.balance) AS balance, sum(a.held) AS held
    FROM ledger_accounts a JOIN ledger_assets g ON g.id = a.asset
    WHERE a.tenant = :tenant AND {}
    GROUP BY a.asset, g.scale, a.kind, a.normal_side ORDER BY a.asset, a.kind
"""

# By account first: only its whole balance stands on a side.
_TRIAL = """
    SELECT a.asset, g.scale, a.kind, a.normal_side, count(*) AS accounts,
           coalesce(sum(a.balance) FILTER (WHERE a.balance > 0), 0) AS credits,
           coalesce(sum(a.balance) FILTER (WHERE a.balance < 0), 0) AS debits
    FROM (
        SELECT a.tenant, a.code, a.asset, a.kind, a.normal_side, sum(a.balance) AS balance
        FROM ledger_accounts a WHERE {} GROUP BY a.tenant, a.code, a.asset, a.kind, a.normal_side
    ) a
    JOIN ledger_assets g ON g.id = a.asset
    GROUP BY a.asset, g.scale, a.kind, a.normal_side ORDER BY a.asset, a.kind
"""

# Each row's page is read from the end of its own index, however many entries there are, then merged. The newest entry's
# balance is the sum of all rows at this point; each older one's follows from it. LATERAL with LIMIT: a look into an
# index for each row, whatever the planner believes.
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
            SELECT * FROM ledger_entries WHERE account_id = k.id AND version < k.before
            ORDER BY version DESC LIMIT :limit
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


def _account(row: Any) -> Account:
    side = Side(row.normal_side)
    return Account(
        tenant=row.tenant,
        code=row.code,
        asset=row.asset,
        kind=Kind(row.kind),
        normal_side=side,
        floor=_int(row.floor),
        ceiling=_int(row.ceiling),
        balance=side.sign * int(row.balance),
        held=int(row.held),
        version=int(row.version),
        state=row.state,
        metadata=row.metadata,
        created_at=row.created_at,
    )


def _int(value: Any) -> int | None:
    return None if value is None else int(value)


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
