"""Statements: what an account had, what happened to it, and what it had in the end, by the booked clock.

The period is half open: a line of its first moment is in it, one of its last moment is in the next. The first page
fixes, for each row of the account, the versions that the period has, and the cursor carries them: what is booked while
somebody turns pages changes none of them, and a page costs what it shows, however many entries the account has.

No table knows how much went in and out of an account in a period, only the difference; so debits and credits are added
up from page to page and are the whole period's on the last one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from ledger.chart import Side, rule
from ledger.journals import Entry, entry_of
from ledger.paging import bad_cursor, bounded, moment, opened, runs, sealed, versions

_SUM_MAX = UNITS_MAX * 2**63
"""More than an account's entries, which a bigint counts, can come to."""


@dataclass(frozen=True, slots=True)
class Statement:
    """One page of an account's statement. Balances are on the normal side, all in the asset's smallest unit."""

    tenant: str
    code: str
    asset: str
    normal_side: Side
    since: datetime | None
    """None: from the first entry on."""
    until: datetime | None
    """None: up to the last entry when the first page was read."""
    opening: int
    """Before the period: everything booked before `since`."""
    closing: int
    """After the period."""
    entries: int
    """How many lines the period has on all its pages."""
    lines: tuple[Entry, ...]
    """Oldest first, in the order of their journals' numbers, each with the account's balance after it."""
    debits: int
    """Of the lines up to the end of this page: once `cursor` is None, of the period."""
    credits: int
    cursor: str | None
    """Give it back for the next page; None on the last one."""


@dataclass(frozen=True, slots=True)
class _Period:
    """For each row of the account, by id: the last version before the period, the last one shown, the last one in it.

    `debits` and `credits` are those of what was shown.
    """

    since: datetime | None
    until: datetime | None
    before: Mapping[int, int]
    shown: Mapping[int, int]
    last: Mapping[int, int]
    debits: int = 0
    credits: int = 0


def statement(
    session: Session,
    tenant: str,
    code: str,
    asset: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Statement:
    """One page of what was booked in [since, until). A cursor carries its period: then both times are its own.

    An account that nothing was posted to has an empty statement. Raises InvalidRequestError for times without a zone,
    a period that ends before it begins, a made-up cursor, a page of another size than 1 to 1,000, and a code that the
    chart doesn't know.
    """
    limit = bounded(limit)
    if cursor is None:
        since, until = _times(since, until)
        rows = _rows(session, (tenant, code, asset), since, until)
        before = {row.id: row.before for row in rows}
        period = _Period(since, until, before, before, {row.id: row.last for row in rows})
    else:
        period = _continued(cursor)
        rows = _rows(session, (tenant, code, asset), None, None)
        if not _within(period, rows):
            raise bad_cursor()
    side = Side(rows[0].normal_side) if rows else rule(code).normal_side
    opening, closing = _balances(session, period)
    found = _lines(session, period, limit + 1)
    page = found[:limit]
    shown = replace(
        period,
        shown={**period.shown, **{row.account_id: row.version for row in page}},
        debits=period.debits - sum(int(row.units) for row in page if row.units < 0),
        credits=period.credits + sum(int(row.units) for row in page if row.units > 0),
    )
    return Statement(
        tenant=tenant,
        code=code,
        asset=asset,
        normal_side=side,
        since=period.since,
        until=period.until,
        opening=side.sign * opening,
        closing=side.sign * closing,
        entries=sum(period.last.values()) - sum(period.before.values()),
        lines=tuple(map(entry_of, page)),
        debits=shown.debits,
        credits=shown.credits,
        cursor=_sealed(shown) if len(found) > limit else None,
    )


def _times(since: datetime | None, until: datetime | None) -> tuple[datetime | None, datetime | None]:
    since = None if since is None else moment(since, field="since")
    until = None if until is None else moment(until, field="until")
    if since is not None and until is not None and since > until:
        raise InvalidRequestError("the period ends before it begins", field="until")
    return since, until


def _sealed(period: _Period) -> str:
    return sealed(
        [
            None if period.since is None else period.since.isoformat(),
            None if period.until is None else period.until.isoformat(),
            runs(period.before),
            runs(period.shown),
            runs(period.last),
            period.debits,
            period.credits,
        ]
    )


def _continued(cursor: str) -> _Period:
    """What the cursor carries, which anybody may have made up."""
    match opened(cursor):
        case [str() | None as since, str() | None as until, before, shown, last, int(debits), int(credit)]:
            period = versions(before), versions(shown), versions(last)
        case _:
            raise bad_cursor()
    if not (0 <= debits <= _SUM_MAX and 0 <= credit <= _SUM_MAX):
        raise bad_cursor()
    try:
        return _Period(*_times(_time(since), _time(until)), *period, debits, credit)
    except ValueError:
        raise bad_cursor() from None


def _within(period: _Period, rows: Sequence[Any]) -> bool:
    """Is it a period of this account? So a cursor shows nothing of another."""
    newest = {row.id: row.version for row in rows}
    return period.before.keys() == period.shown.keys() == period.last.keys() == newest.keys() and all(
        period.before[key] <= period.shown[key] <= upto <= newest[key] for key, upto in period.last.items()
    )


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _rows(session: Session, of: tuple[str, str, str], since: datetime | None, until: datetime | None) -> Sequence[Any]:
    """The account's rows, with the last versions before these times; 0 and the newest where there is no time."""
    tenant, code, asset = of
    return session.execute(
        _ROWS, {"tenant": tenant, "code": code, "asset": asset, "since": since, "until": until}
    ).all()


def _balances(session: Session, period: _Period) -> tuple[int, int]:
    """The raw sums of the account's rows, before the period and after it."""
    keys = list(period.before)
    row = session.execute(
        _BALANCES,
        {"accounts": keys, "before": list(period.before.values()), "last": [period.last[key] for key in keys]},
    ).one()
    return int(row.opening), int(row.closing)


def _lines(session: Session, period: _Period, limit: int) -> Sequence[Any]:
    keys = list(period.shown)
    return session.execute(
        _LINES,
        {
            "accounts": keys,
            "shown": list(period.shown.values()),
            "last": [period.last[key] for key in keys],
            "limit": limit,
        },
    ).all()


# One statement, and so one view of all rows. A time has whole microseconds: what was booked before it was booked a
# microsecond before it at the latest.
_ROWS = text("""
    SELECT a.id, a.version, a.normal_side,
           CASE WHEN CAST(:since AS timestamptz) IS NULL THEN 0
                ELSE ledger_version_at(a.id, CAST(:since AS timestamptz) - interval '1 microsecond') END AS before,
           CASE WHEN CAST(:until AS timestamptz) IS NULL THEN a.version
                ELSE ledger_version_at(a.id, CAST(:until AS timestamptz) - interval '1 microsecond') END AS last
    FROM ledger_accounts a
    WHERE a.tenant = :tenant AND a.code = :code AND a.asset = :asset
""")

_BALANCES = text("""
    SELECT coalesce(sum(b.balance), 0) AS opening, coalesce(sum(l.balance), 0) AS closing
    FROM unnest(CAST(:accounts AS bigint[]), CAST(:before AS bigint[]), CAST(:last AS bigint[])) AS k (id, before, last)
    LEFT JOIN LATERAL (
        SELECT balance FROM ledger_entries WHERE account_id = k.id AND version = k.before LIMIT 1
    ) b ON true
    LEFT JOIN LATERAL (
        SELECT balance FROM ledger_entries WHERE account_id = k.id AND version = k.last LIMIT 1
    ) l ON true
""")

# Each row's lines are read from where its index holds the first one not shown yet, then merged. Versions have no gaps,
# so a page is a range of them, whatever the planner believes of the account.
_LINES = text("""
    WITH k AS MATERIALIZED (
        SELECT a.id, a.code, a.asset, a.normal_side, a.stripe, k.shown, k.last
        FROM unnest(CAST(:accounts AS bigint[]), CAST(:shown AS bigint[]), CAST(:last AS bigint[]))
             AS k (account_id, shown, last)
        CROSS JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = k.account_id LIMIT 1) a
    ), carried AS MATERIALIZED (
        SELECT coalesce(sum(e.balance), 0) AS balance
        FROM k CROSS JOIN LATERAL (
            SELECT balance FROM ledger_entries WHERE account_id = k.id AND version = k.shown LIMIT 1
        ) e
    )
    SELECT e.journal_number, e.position, e.account_id, e.version, e.units, e.booked_at, k.code, k.asset, k.normal_side,
           k.stripe, j.id AS journal_id, j.reference, j.category, j.subject, j.effective_at,
           c.balance + sum(e.units) OVER (ORDER BY e.journal_number, e.position) AS balance
    FROM (
        SELECT e.*
        FROM k
        CROSS JOIN LATERAL (
            SELECT * FROM ledger_entries
            WHERE account_id = k.id AND version > k.shown AND version <= least(k.last, k.shown + :limit)
            LIMIT :limit
        ) e
        ORDER BY e.journal_number, e.position LIMIT :limit
    ) e
    JOIN k ON k.id = e.account_id
    CROSS JOIN carried c
    CROSS JOIN LATERAL (SELECT * FROM ledger_journals WHERE number = e.journal_number LIMIT 1) j
    ORDER BY e.journal_number, e.position
""")
