"""Reading the books: balances, accounts, their entries, journals and the trial balance.

Plain values only: no row of the ledger's tables leaves this package. Units and balances are integers in the asset's
smallest unit, and on the account's normal side: a deposit shows as a plus in custody (an asset) and in the user's
account (a liability) alike. An account that is kept in several rows (stripes) reads like any other: its balance is
their sum, and its entries are theirs, in the order of their journals' numbers.

As of a time: `ledger.asof`. Statements: `ledger.statement`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from ledger.chart import Kind, Side
from ledger.journals import Entry, JournalRecord, entries, journal, journals_about
from ledger.models import LedgerAccount
from ledger.paging import PAGE_MAX, Page, bad_cursor, bounded, moment, opened, sealed

__all__ = [
    "PAGE_MAX",
    "Account",
    "Entry",
    "JournalRecord",
    "Page",
    "Total",
    "TrialBalance",
    "account",
    "accounts",
    "balance",
    "balances",
    "entries",
    "journal",
    "journals_about",
    "total",
    "trial_balance",
]


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
    frozen_by: tuple[str, ...]
    """Who wants it frozen (`ledger.freezes`); of a closed account, once it is opened again."""
    metadata: Mapping[str, Any]
    created_at: datetime

    @property
    def available(self) -> int | None:
        """What holds and the floor leave free; None without a floor. Whether it may leave now, `state` says."""
        return None if self.floor is None else self.balance - self.held - self.floor


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


def balances(session: Session, keys: Sequence[tuple[str, str, str]]) -> dict[tuple[str, str, str], int]:
    """The balances of many accounts, each named by (tenant, code, asset), as `balance` tells one; one snapshot."""
    tenants, codes, assets = ([key[part] for key in keys] for part in range(3))
    rows = session.execute(_BALANCES, {"tenants": tenants, "codes": codes, "assets": assets})
    found = {(row.tenant, row.code, row.asset): Side(row.normal_side).sign * int(row.balance) for row in rows}
    return {key: found.get(key, 0) for key in keys}


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
            case [str(code), str(asset)] if (code + asset).isascii() and (code + asset).isprintable():
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


def trial_balance(
    session: Session, tenant: str | None = None, *, at: datetime | None = None
) -> tuple[TrialBalance, ...]:
    """Each asset's debits and credits, of one tenant or of the whole house. Its cost grows with the accounts.

    `at`: of what was booked up to this moment, and of the accounts that had entries by then.
    """
    parameters: dict[str, Any] = {}
    where = "true"
    if tenant is not None:
        where, parameters["tenant"] = "a.tenant = :tenant", tenant
    rows_of = _NOW
    if at is not None:
        rows_of, parameters["at"] = _THEN, moment(at, field="at")
    rows = session.execute(text(_TRIAL.format(rows_of.format(where))), parameters)
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


_BALANCES = text(
    """
    SELECT k.tenant, k.code, k.asset, min(a.normal_side) AS normal_side, sum(a.balance) AS balance
    FROM unnest(cast(:tenants AS text[]), cast(:codes AS text[]), cast(:assets AS text[])) AS k (tenant, code, asset)
    JOIN ledger_accounts a ON a.tenant = k.tenant AND a.code = k.code AND a.asset = k.asset
    GROUP BY k.tenant, k.code, k.asset
    """
)

# One row for each account: stripe 0 says what it is, its stripes' sums how much. Read along the index, so that a page
# costs what it shows.
_ACCOUNTS = """
    SELECT a.tenant, a.code, a.asset, a.kind, a.normal_side, a.floor, a.ceiling, s.balance, s.held, s.version, a.state,
           CASE WHEN a.state <> 'open' THEN ARRAY(
               SELECT f.holder FROM ledger_freezes f
               WHERE f.tenant = a.tenant AND f.code = a.code AND f.asset = a.asset ORDER BY f.holder) END AS frozen_by,
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

_NOW = "SELECT * FROM ledger_accounts a WHERE {}"
_THEN = """
    SELECT a.tenant, a.code, a.asset, a.kind, a.normal_side, e.balance
    FROM ledger_accounts a
    CROSS JOIN LATERAL (SELECT ledger_version_at(a.id, :at) AS version LIMIT 1) v
    CROSS JOIN LATERAL (SELECT balance FROM ledger_entries WHERE account_id = a.id AND version = v.version LIMIT 1) e
    WHERE {}
"""

# By account first: only its whole balance stands on a side.
_TRIAL = """
    SELECT a.asset, g.scale, a.kind, a.normal_side, count(*) AS accounts,
           coalesce(sum(a.balance) FILTER (WHERE a.balance > 0), 0) AS credits,
           coalesce(sum(a.balance) FILTER (WHERE a.balance < 0), 0) AS debits
    FROM (
        SELECT a.tenant, a.code, a.asset, a.kind, a.normal_side, sum(a.balance) AS balance
        FROM ({}) a GROUP BY a.tenant, a.code, a.asset, a.kind, a.normal_side
    ) a
    JOIN ledger_assets g ON g.id = a.asset
    GROUP BY a.asset, g.scale, a.kind, a.normal_side ORDER BY a.asset, a.kind
"""


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
        frozen_by=tuple(row.frozen_by or ()),
        metadata=row.metadata,
        created_at=row.created_at,
    )


def _int(value: Any) -> int | None:
    return None if value is None else int(value)
