"""The books of one tenant as a file: CSV, JSON lines, or text that beancount reads (`ledger.beancount`).

Each is read in one snapshot of the database by server-side cursors: it is of one moment however long it takes, and it
needs the memory of its largest journal. A period is cut by the booked clock: what was booked from `since` on and before
`until`. The columns, and what they mean: docs/ledger-export.md.
"""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, text

from config import assets
from core import db
from core.errors import InvalidRequestError, NotFoundError
from ledger import beancount
from ledger.beancount import Commodity, fixed
from ledger.chart import Kind, Side

COLUMNS = (
    *("number", "journal_id", "reference", "category", "subject", "booked_at", "effective_at"),
    *("correlation_id", "job_id", "reverses", "metadata"),
    *("position", "account", "kind", "asset", "scale", "side", "units", "amount", "stripe", "version", "balance"),
)
"""Of the CSV: a row for each entry."""
ROWS_AT_ONCE = 1_000
"""Fetched from the database together."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    BEANCOUNT = "beancount"


@dataclass(frozen=True, slots=True)
class _Period:
    """One tenant's books, all or of a period."""

    tenant: str
    since: datetime | None
    until: datetime | None

    def run(self, connection: Connection, statement: Any, **more: Any) -> Iterator[Any]:
        given = {"tenant": self.tenant, "since": self.since, "until": self.until, **more}
        named = {name: given[name] for name in statement.compile().params}
        return iter(connection.execute(statement, named, execution_options=_STREAMING))


_STREAMING = {"stream_results": True, "yield_per": ROWS_AT_ONCE}


def export(tenant: str, form: Format, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[str]:
    """The tenant's journals in the order of their numbers, as pieces of text to be written one after the other.

    Opens a connection and keeps it until the last piece was taken. Raises InvalidRequestError for times that are no
    period and NotFoundError for a tenant without accounts, before the first piece.
    """
    for name, at in (("since", since), ("until", until)):
        if at is not None and at.tzinfo is None:
            raise InvalidRequestError(f"{name} needs a time zone", field=name)
    if since is not None and until is not None and since >= until:
        raise InvalidRequestError("a period begins before it ends", field="until")
    return _pieces(_Period(tenant, since, until), form)


def _pieces(of: _Period, form: Format) -> Iterator[str]:
    with _snapshot() as connection:
        if not connection.scalar(_KNOWN, {"tenant": of.tenant}):
            raise NotFoundError(f"nothing is booked for {of.tenant!r}", field="tenant")
        match form:
            case Format.CSV:
                yield from _csv(of, connection)
            case Format.JSONL:
                yield from _jsonl(of, connection)
            case Format.BEANCOUNT:
                yield from _Text(of, connection).pieces()


@contextmanager
def _snapshot() -> Iterator[Connection]:
    """A connection on which every statement sees the books of one moment."""
    with db.engine().connect() as pooled:
        connection = pooled.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            # Whoever takes the pieces may be a person who reads page by page.
            connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = '1h'"))
            yield connection


def _journals(of: _Period, connection: Connection) -> Iterator[Sequence[Any]]:
    """The entries of each journal, by number and position."""
    for _, rows in groupby(of.run(connection, _ENTRIES), key=attrgetter("number")):
        yield list(rows)


def _csv(of: _Period, connection: Connection) -> Iterator[str]:
    # RFC 4180 with its CRLF: the module then quotes every line break within a field, of either kind.
    piece = io.StringIO(newline="")
    writer = csv.writer(piece, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    yield _taken(piece)
    for rows in _journals(of, connection):
        head = _head(rows[0])
        for row in rows:
            writer.writerow({**head, "metadata": _ascii(row.metadata), **_entry(row)}.values())
        yield _taken(piece)


def _taken(piece: io.StringIO) -> str:
    taken = piece.getvalue()
    piece.seek(0)
    piece.truncate()
    return taken


def _jsonl(of: _Period, connection: Connection) -> Iterator[str]:
    for rows in _journals(of, connection):
        said = json.dumps({**_head(rows[0]), "entries": [_entry(row) for row in rows]}, separators=(",", ":"))
        # Metadata is passed on as the database has it: read as numbers here, some would become floats.
        yield f'{said[:-1]},"metadata":{_ascii(rows[0].metadata)}}}\n'


def _head(row: Any) -> dict[str, Any]:
    return {
        "number": row.number,
        "journal_id": str(row.id),
        "reference": row.reference,
        "category": row.category,
        "subject": row.subject,
        "booked_at": _stamp(row.booked_at),
        "effective_at": _stamp(row.effective_at),
        "correlation_id": row.correlation_id,
        "job_id": _text(row.job_id),
        "reverses": _text(row.reverses),
    }


def _entry(row: Any) -> dict[str, Any]:
    """Amounts are strings: few readers keep 38 digits of a number."""
    units = int(row.units)
    return {
        "position": row.position,
        "account": row.code,
        "kind": row.kind,
        "asset": row.asset,
        "scale": row.scale,
        "side": (Side.CREDIT if units > 0 else Side.DEBIT).value,
        "units": str(abs(units)),
        "amount": fixed(abs(units), row.scale),
        "stripe": row.stripe,
        "version": row.version,
        "balance": str(Side(row.normal_side).sign * int(row.balance)),
    }


def _stamp(at: datetime) -> str:
    """A moment in UTC, to the microsecond, as PostgreSQL keeps it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _text(value: object) -> str | None:
    return None if value is None else str(value)


_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]")


def _ascii(document: str) -> str:
    """JSON without letters beyond ASCII, some of which end a line for some readers. They stand in its strings only."""
    return _BEYOND_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], document)


class _Text:
    """The beancount file: options, commodities, accounts, opening balances, transactions, closing balances.

    Its dates are those of the booked clock in UTC, by which the period is cut: with another clock the opening and the
    closing balances would not be those of its transactions.
    """

    def __init__(self, of: _Period, connection: Connection) -> None:
        self.of, self.connection = of, connection
        self.last: date | None = None
        """The day of the last transaction."""
        self.openings: Counter[str] = Counter()
        """The larger parts of the opening balances that were written, by asset."""
        wide = {row.asset for row in of.run(connection, _WIDE, limit=beancount.EXACT)}
        scales = {row.id: row.scale for row in connection.execute(_ASSETS)}
        names = beancount.commodity_names({asset: _symbol(asset) for asset in scales})
        self.commodities = {
            asset: Commodity(asset, names[asset], scale, asset in wide) for asset, scale in scales.items()
        }

    def pieces(self) -> Iterator[str]:
        yield beancount.header(f"The books of {self.of.tenant}")
        yield from self._accounts()
        for rows in _journals(self.of, self.connection):
            yield self._transaction(rows)
        if self.last is not None:
            yield from self._closing(self.last + timedelta(days=1))

    def _balances(self) -> Iterator[tuple[str, list[Any]]]:
        """By code: a row for each asset, with the account's raw balance before and after the period."""
        wide = [asset for asset, commodity in self.commodities.items() if commodity.wide]
        rows = self.of.run(self.connection, _BALANCES, wide=wide, part=beancount.PART)
        for code, found in groupby(rows, key=attrgetter("code")):
            yield code, list(found)

    def _accounts(self) -> Iterator[str]:
        """Opened on the day of the first entry, or with a balance from before, on the period's first day."""
        begun: set[str] = set()
        for code, rows in self._balances():
            days = [_day(self.of.since) if row.opening and self.of.since else _day(row.first) for row in rows]
            for asset in sorted({row.asset for row in rows} - begun):
                begun.add(asset)
                yield from self.commodities[asset].directives(min(days))
            for kind in sorted({row.kind for row in rows}):
                yield beancount.opened(min(days), beancount.account_name(Kind(kind), code), code)
            lines = [line for row in rows for line in self._opening(row, code)]
            if lines and self.of.since is not None:
                self.last = _day(self.of.since)
                yield beancount.transaction(self.last, "opening balance", {}, iter(lines))
        if self.openings and self.of.since is not None:
            yield beancount.opened(_day(self.of.since), beancount.OPENING)

    def _opening(self, row: Any, code: str) -> Iterator[str]:
        units = -int(row.opening)  # beancount's debits are positive
        if units == 0:
            return
        commodity = self.commodities[row.asset]
        self.openings[row.asset] += beancount.parts(units)[0] if commodity.wide else 0
        for name, signed in ((beancount.account_name(Kind(row.kind), code), units), (beancount.OPENING, -units)):
            for amount in commodity.amounts(signed):
                yield beancount.posting(name, amount)

    def _transaction(self, rows: Sequence[Any]) -> str:
        first = rows[0]
        day = _day(first.booked_at)
        self.last = day if self.last is None else max(self.last, day)
        lines = (
            beancount.posting(beancount.account_name(Kind(row.kind), row.code), amount)
            for row in rows
            for amount in self.commodities[row.asset].amounts(-int(row.units))
        )
        notes = {name: _text(value) for name, value in _head(first).items() if name != "category"}
        # A journal and the one that reverses it are joined by the link.
        links = (str(first.id),) if first.reverses is None else (str(first.id), str(first.reverses))
        if first.metadata != "{}":
            notes["metadata"] = _ascii(first.metadata)
        return beancount.transaction(day, first.category, notes, lines, links)

    def _closing(self, day: date) -> Iterator[str]:
        """What the ledger says that each account has: beancount sees whether its entries come to that."""
        for code, rows in self._balances():
            for row in rows:
                commodity, larger = self.commodities[row.asset], 0
                if commodity.wide:
                    larger = beancount.parts(-int(row.opening))[0] - int(row.larger)
                for amount in commodity.balances(-int(row.closing), larger):
                    yield beancount.balance(day, beancount.account_name(Kind(row.kind), code), amount)
        # Before the period too, everything summed to zero.
        for asset, larger in sorted(self.openings.items()):
            for amount in self.commodities[asset].balances(0, -larger):
                yield beancount.balance(day, beancount.OPENING, amount)


def _symbol(asset: str) -> str:
    known = assets.registry().assets.get(asset)
    return known.symbol if known else asset.removeprefix("iso4217:") if asset.startswith("iso4217:") else ""


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


_KNOWN = text("SELECT EXISTS (SELECT FROM ledger_accounts WHERE tenant = :tenant)")
_ASSETS = text("SELECT id, scale FROM ledger_assets ORDER BY id")

_WITHIN = """(CAST(:since AS timestamptz) IS NULL OR booked_at >= CAST(:since AS timestamptz))
      AND (CAST(:until AS timestamptz) IS NULL OR booked_at < CAST(:until AS timestamptz))"""

_ENTRIES = text(f"""
    SELECT j.number, j.id, j.reference, j.category, j.subject, j.booked_at, j.effective_at, j.correlation_id, j.job_id,
           j.reverses, CAST(j.metadata AS text) AS metadata,
           e.position, e.units, e.version, e.balance, a.code, a.kind, a.normal_side, a.stripe, a.asset, s.scale
    FROM (SELECT * FROM ledger_journals WHERE tenant = :tenant AND {_WITHIN}) j
    JOIN ledger_entries e ON e.journal_number = j.number
    JOIN ledger_accounts a ON a.id = e.account_id
    JOIN ledger_assets s ON s.id = a.asset
    ORDER BY j.number, e.position
""")  # noqa: S608  # a constant of this module

# The largest balance that each row of an account ever had bounds each of its sums, and half of each of its entries.
_WIDE = text("""
    SELECT asset
    FROM (
        SELECT a.asset, max(abs(e.balance)) AS peak
        FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
        WHERE a.tenant = :tenant AND (CAST(:until AS timestamptz) IS NULL OR e.booked_at < CAST(:until AS timestamptz))
        GROUP BY a.id
    ) p
    GROUP BY asset HAVING sum(peak) >= CAST(:limit AS numeric)
""")

# Along an account's versions booked_at never falls, so a period is a run of versions.
_BALANCES = text("""
    SELECT a.code, a.asset, min(a.kind) AS kind, min(f.booked_at) AS first,
           coalesce(sum(o.balance), 0) AS opening, coalesce(sum(c.balance), 0) AS closing,
           coalesce(sum(l.larger), 0) AS larger
    FROM ledger_accounts a
    CROSS JOIN LATERAL (
        SELECT CASE WHEN CAST(:since AS timestamptz) IS NULL THEN 0
                    ELSE ledger_version_at(a.id, CAST(:since AS timestamptz) - interval '1 microsecond') END AS before,
               CASE WHEN CAST(:until AS timestamptz) IS NULL THEN a.version
                    ELSE ledger_version_at(a.id, CAST(:until AS timestamptz) - interval '1 microsecond') END AS upto
        OFFSET 0
    ) v
    LEFT JOIN LATERAL (SELECT balance FROM ledger_entries WHERE account_id = a.id AND version = v.before) o ON true
    LEFT JOIN LATERAL (SELECT balance FROM ledger_entries WHERE account_id = a.id AND version = v.upto) c ON true
    LEFT JOIN LATERAL (
        SELECT booked_at FROM ledger_entries
        WHERE account_id = a.id AND version = v.before + 1 AND v.before < v.upto
    ) f ON true
    LEFT JOIN LATERAL (
        SELECT sum(div(units, CAST(:part AS numeric))) AS larger FROM ledger_entries
        WHERE account_id = a.id AND version > v.before AND version <= v.upto AND a.asset = ANY (CAST(:wide AS text[]))
    ) l ON true
    WHERE a.tenant = :tenant AND v.upto > 0
    GROUP BY a.code, a.asset
    HAVING count(f.booked_at) > 0 OR sum(o.balance) <> 0
    ORDER BY a.code, a.asset
""")
