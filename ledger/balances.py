"""Reading the books: balances, accounts, their entries, journals and the trial balance.

Plain values only: no row of the ledger's tables leaves this package. Units and balances are integers in the asset's
smallest unit, and on the account's normal side: a deposit shows as a plus in custody (an asset) and in the user's
account (a liability) alike.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Generic, TypeVar
from uuid import UUID

from sqlalchemy import func, select, text, tuple_
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError
from ledger.chart import Kind, Side
from ledger.models import LedgerAccount, LedgerAsset, LedgerJournal

PAGE_MAX = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Account:
    tenant: str
    code: str
    asset: str
    kind: Kind
    normal_side: Side
    floor: int | None
    balance: int
    version: int
    """How many entries the account has."""


@dataclass(frozen=True, slots=True)
class Entry:
    id: int
    journal_id: UUID
    reference: str
    category: str
    subject: str | None
    code: str
    asset: str
    units: int
    """What the entry changed; negative if the account has less by it."""
    balance: int
    """The account's balance after it."""
    version: int
    effective_at: datetime
    booked_at: datetime


@dataclass(frozen=True, slots=True)
class JournalRecord:
    id: UUID
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


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    rows: tuple[T, ...]
    cursor: str | None
    """Give it back for the next page; None on the last one."""


def balance(session: Session, tenant: str, code: str, asset: str, *, for_update: bool = False) -> int:
    """The account's balance on its normal side; 0 for an account that nothing was posted to yet.

    `for_update` locks the account, so that what the caller decides by the balance still holds when it posts.
    """
    query = select(LedgerAccount.normal_side, LedgerAccount.balance).where(
        LedgerAccount.tenant == tenant, LedgerAccount.code == code, LedgerAccount.asset == asset
    )
    if for_update:
        query = query.with_for_update(key_share=True)
    row = session.execute(query).one_or_none()
    return 0 if row is None else Side(row.normal_side).sign * row.balance


def account(session: Session, tenant: str, code: str) -> tuple[Account, ...]:
    """The code's accounts, one for each asset, by asset. Empty if nothing was ever posted to the code."""
    query = select(*_ACCOUNT).where(LedgerAccount.tenant == tenant, LedgerAccount.code == code)
    return tuple(_account(row) for row in session.execute(query.order_by(LedgerAccount.asset)))


def accounts(
    session: Session, tenant: str, prefix: str = "", *, cursor: str | None = None, limit: int = 100
) -> Page[Account]:
    """The accounts whose code starts with `prefix`, by code and asset."""
    query = select(*_ACCOUNT).where(LedgerAccount.tenant == tenant)
    if prefix:
        # A range of the index on (tenant, code, asset): codes are ASCII and in "C" order, so "~" ends the prefix.
        query = query.where(LedgerAccount.code >= prefix, LedgerAccount.code < prefix + "~")
    if cursor is not None:
        match _opened(cursor):
            case [str(code), str(asset)]:
                query = query.where(tuple_(LedgerAccount.code, LedgerAccount.asset) > (code, asset))
            case _:
                raise _bad_cursor()
    limit = _bounded(limit)
    rows = session.execute(query.order_by(LedgerAccount.code, LedgerAccount.asset).limit(limit + 1)).all()
    made = tuple(_account(row) for row in rows[:limit])
    return Page(made, _sealed([made[-1].code, made[-1].asset]) if len(rows) > limit else None)


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
    # The cursor says, for each account, before which version to go on. An account it doesn't name is newer than it.
    before = newest if cursor is None else {key: upto for key, upto in _versions(cursor).items() if key in newest}
    limit = _bounded(limit)
    rows = session.execute(
        _ENTRIES, {"accounts": list(before), "before": list(before.values()), "limit": limit + 1}
    ).all()
    left = dict(before)
    for row in rows[:limit]:
        left[row.account_id] = row.version
    return Page(
        tuple(_entry(row) for row in rows[:limit]), _sealed(sorted(left.items())) if len(rows) > limit else None
    )


def journal(
    session: Session, tenant: str, *, journal_id: UUID | None = None, reference: str | None = None
) -> JournalRecord | None:
    """One journal with its entries, by id or by reference."""
    if (journal_id is None) == (reference is None):
        raise TypeError("give journal_id or reference")
    by = LedgerJournal.id == journal_id if reference is None else LedgerJournal.reference == reference
    row = session.execute(select(LedgerJournal.__table__).where(LedgerJournal.tenant == tenant, by)).one_or_none()
    return None if row is None else _journal(session, row)


def journals_about(session: Session, tenant: str, subject: str, *, limit: int = 100) -> tuple[JournalRecord, ...]:
    """The journals with this subject, oldest first."""
    query = (
        select(LedgerJournal.__table__)
        .where(LedgerJournal.tenant == tenant, LedgerJournal.subject == subject)
        .order_by(LedgerJournal.booked_at, LedgerJournal.id)
        .limit(_bounded(limit))
    )
    return tuple(_journal(session, row) for row in session.execute(query).all())


def trial_balance(session: Session, tenant: str | None = None) -> tuple[TrialBalance, ...]:
    """Each asset's debits and credits, of one tenant or of the whole house."""
    query = (
        select(
            LedgerAccount.asset,
            LedgerAsset.scale,
            LedgerAccount.kind,
            LedgerAccount.normal_side,
            func.count().label("accounts"),
            func.coalesce(func.sum(LedgerAccount.balance).filter(LedgerAccount.balance > 0), 0).label("credits"),
            func.coalesce(func.sum(LedgerAccount.balance).filter(LedgerAccount.balance < 0), 0).label("debits"),
        )
        .join(LedgerAsset, LedgerAsset.id == LedgerAccount.asset)
        .group_by(LedgerAccount.asset, LedgerAsset.scale, LedgerAccount.kind, LedgerAccount.normal_side)
        .order_by(LedgerAccount.asset, LedgerAccount.kind)
    )
    if tenant is not None:
        query = query.where(LedgerAccount.tenant == tenant)
    lines = []
    for (asset, scale), group in groupby(session.execute(query), key=lambda row: (row.asset, row.scale)):
        rows = list(group)
        lines.append(
            TrialBalance(
                asset=asset,
                scale=scale,
                accounts=sum(row.accounts for row in rows),
                debits=-int(sum(row.debits for row in rows)),
                credits=int(sum(row.credits for row in rows)),
                kinds={Kind(row.kind): Side(row.normal_side).sign * int(row.credits + row.debits) for row in rows},
            )
        )
    return tuple(lines)


_ACCOUNT = (
    LedgerAccount.tenant,
    LedgerAccount.code,
    LedgerAccount.asset,
    LedgerAccount.kind,
    LedgerAccount.normal_side,
    LedgerAccount.floor,
    LedgerAccount.balance,
    LedgerAccount.version,
)

_ENTRY = """e.id, e.journal_id, e.account_id, j.reference, j.category, j.subject, a.code, a.asset, a.normal_side,
           e.units, e.balance, e.version, j.effective_at, j.booked_at"""

# Each account's page is read from the end of its own index, however many entries there are, then merged by id.
_ENTRIES = text(f"""
    SELECT {_ENTRY}
    FROM (
        SELECT e.*
        FROM unnest(CAST(:accounts AS bigint[]), CAST(:before AS bigint[])) AS k (account_id, before)
        CROSS JOIN LATERAL (
            SELECT * FROM ledger_entries
            WHERE account_id = k.account_id AND version < k.before
            ORDER BY version DESC LIMIT :limit
        ) e
        ORDER BY e.id DESC LIMIT :limit
    ) e
    JOIN ledger_journals j ON j.id = e.journal_id
    JOIN ledger_accounts a ON a.id = e.account_id
    ORDER BY e.id DESC
""")  # noqa: S608  # a constant of this module

_JOURNAL_ENTRIES = text(f"""
    SELECT {_ENTRY}
    FROM ledger_entries e
    JOIN ledger_journals j ON j.id = e.journal_id
    JOIN ledger_accounts a ON a.id = e.account_id
    WHERE e.journal_id = :journal_id
    ORDER BY e.position
""")  # noqa: S608  # a constant of this module


def _account(row: Any) -> Account:
    side = Side(row.normal_side)
    return Account(
        row.tenant, row.code, row.asset, Kind(row.kind), side, row.floor, side.sign * row.balance, row.version
    )


def _entry(row: Any) -> Entry:
    sign = Side(row.normal_side).sign
    return Entry(
        id=row.id,
        journal_id=row.journal_id,
        reference=row.reference,
        category=row.category,
        subject=row.subject,
        code=row.code,
        asset=row.asset,
        units=sign * int(row.units),
        balance=sign * int(row.balance),
        version=row.version,
        effective_at=row.effective_at,
        booked_at=row.booked_at,
    )


def _journal(session: Session, row: Any) -> JournalRecord:
    reversed_by = session.scalar(select(LedgerJournal.id).where(LedgerJournal.reverses == row.id))
    found = session.execute(_JOURNAL_ENTRIES, {"journal_id": row.id})
    return JournalRecord(
        id=row.id,
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
        reversed_by=reversed_by,
        entries=tuple(_entry(entry) for entry in found),
    )


def _bounded(limit: int) -> int:
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidRequestError(f"a page has 1 to {PAGE_MAX} rows", field="limit")
    return limit


def _sealed(content: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(content, separators=(",", ":")).encode()).decode().rstrip("=")


def _opened(cursor: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error):
        raise _bad_cursor() from None


def _versions(cursor: str) -> dict[int, int]:
    """Versions by account id, from a cursor that anybody may have made up."""
    content = _opened(cursor)
    if not isinstance(content, list):
        raise _bad_cursor()
    made = {}
    for pair in content:
        match pair:
            case [int(key), int(upto)] if 0 <= key < 2**63 and 0 <= upto < 2**63:
                made[key] = upto
            case _:
                raise _bad_cursor()
    return made


def _bad_cursor() -> InvalidRequestError:
    return InvalidRequestError("this cursor was not made by this listing", field="cursor")
