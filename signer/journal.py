"""What was signed: SQLite, written to the disk before any signature leaves.

By it the signer keeps what no single request shows, in one transaction that has the file for itself (BEGIN IMMEDIATE),
so that requests at the same time, and two signers on one file, can't pass a rule together:

- The same request gets the same bytes, for ever. Other content under the same reference and number is refused.
- Who gets how much under one reference never changes.
- An input belongs to the first reference that it was signed for, for ever.
- Each two versions of an order share an input, so that the chain takes one of them at most. Where a chain knows no
  inputs, an order has one version.
- What cancels an order comes after a version of it.
- Day limits. An order counts once, on the day (UTC) of its first version. Of fees, each version counts by how much it
  may cost more than all versions of its order before it, on the day when it is signed: so an order counts by the
  dearest of its versions, the only one that may be paid, and what is stuck can be raised on another day.

Rows are only ever added. Whoever has an older copy of the file has a signer that forgot (docs/signer.md).
"""

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from chains.sending import Order, Terms
from chains.signing import order_body, terms_body
from signer.base import Signed
from signer.errors import BootError, ContradictionError, RefusedError

APPLICATION_ID = 0x7461_6C79
SCHEMA_VERSION = 1
BUSY_TIMEOUT_S = 10.0
_TABLES = ("orders", "versions", "inputs")
# Amounts are text: they have up to 256 bits, SQLite's integers 64. `day_units` and `day_fees` are what the day comes to
# with this row, of the wallet and (units) the asset: the newest row tells it without a look at the others.
_SCHEMA = """
CREATE TABLE orders (
    reference TEXT PRIMARY KEY, chain TEXT NOT NULL, wallet TEXT NOT NULL, asset TEXT NOT NULL, units TEXT NOT NULL,
    body TEXT NOT NULL, day TEXT NOT NULL, day_units TEXT NOT NULL
) STRICT;
CREATE INDEX orders_day ON orders (chain, wallet, asset, day);
CREATE TABLE versions (
    reference TEXT NOT NULL REFERENCES orders, number INTEGER NOT NULL, terms TEXT NOT NULL, cancels INTEGER NOT NULL,
    conflicts TEXT NOT NULL, ends TEXT, fee_max TEXT NOT NULL, chain_tx TEXT NOT NULL,
    raw TEXT NOT NULL, signed_at TEXT NOT NULL, chain TEXT NOT NULL, wallet TEXT NOT NULL, day TEXT NOT NULL,
    day_fees TEXT NOT NULL, PRIMARY KEY (reference, number)
) STRICT;
CREATE INDEX versions_day ON versions (chain, wallet, day);
CREATE TABLE inputs (
    chain TEXT NOT NULL, input TEXT NOT NULL, reference TEXT NOT NULL REFERENCES orders, PRIMARY KEY (chain, input)
) STRICT, WITHOUT ROWID;
""" + "".join(
    f"CREATE TRIGGER {table}_{what.lower()} BEFORE {what} ON {table} "
    f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are only ever added'); END;\n"
    for table in _TABLES
    for what in ("UPDATE", "DELETE")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayLimits:
    units_max: int
    """Of the order's asset, asked for with its first version."""
    fee_max: int


class _Request:
    """What is asked for, and one text for each of its two parts, so that equal is equal to the byte."""

    def __init__(self, order: Order, number: int, terms: Terms) -> None:
        self.order, self.number, self.terms = order, number, terms
        self.body, self.wanted = _canonical(order_body(order)), _canonical(terms_body(terms))


@dataclass(frozen=True, slots=True)
class _Before:
    """A version of the order that was signed before."""

    number: int
    conflicts: frozenset[str]
    fee_max: int


class Journal:
    """Safe to use from several threads and processes. Its methods may raise sqlite3.Error: nothing was signed then."""

    def __init__(self, path: Path, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Raises BootError if there is none: an empty one would know nothing of what was signed."""
        if not path.is_file():
            raise BootError(f"there is no journal {path}: see docs/signer.md before you make a new one")
        self._now = now
        self._lock = threading.Lock()
        try:
            self._rows = _opened(path)
        except sqlite3.Error as error:
            raise BootError(f"the journal {path} can't be used: {error}") from None

    @staticmethod
    def create(path: Path) -> None:
        """An empty one. Raises BootError if the file is there."""
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            raise BootError(f"the journal {path} can't be made: {error.strerror}") from None
        rows = sqlite3.connect(path, isolation_level=None)
        try:
            rows.executescript(
                f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; BEGIN; {_SCHEMA}"
                f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            )
        finally:
            rows.close()

    def close(self) -> None:
        with self._lock:
            self._rows.close()

    def check(self) -> None:
        """Raises sqlite3.Error if it can't be read."""
        with self._lock:
            self._rows.execute("SELECT 1 FROM orders LIMIT 1").fetchone()

    def once(
        self, order: Order, number: int, terms: Terms, build: Callable[[], tuple[Signed, DayLimits]]
    ) -> tuple[Signed, bool]:
        """What was signed for this request, now or before, and whether it was now. On the disk when this returns.

        `build` signs it, or raises what it likes: then nothing is kept. Raises ContradictionError, RefusedError.
        """
        asked = _Request(order, number, terms)
        with self._lock, self._transaction() as rows:
            known = rows.execute("SELECT body FROM orders WHERE reference = ?", (order.reference,)).fetchone()
            if known is not None and known[0] != asked.body:
                raise ContradictionError("order_changed", "another order was signed under this reference")
            found = _found(rows, asked)
            if found is not None:
                return found, False
            before = _before(rows, order.reference)
            if terms.cancels and not any(each.number < number for each in before):
                raise ContradictionError("nothing_to_cancel", "no version before this one was signed")
            signed, limits = build()
            _check_conflicts(rows, order, signed, before)
            now = self._now().astimezone(UTC)
            if known is None:
                _add_order(rows, asked, _day_units(rows, order, now, limits), now)
            fee_added = max(0, signed.fee_max - max((each.fee_max for each in before), default=0))
            _add_version(rows, asked, signed, _day_fees(rows, order, now, fee_added, limits), now)
        return signed, True

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Alone on the file from the first read on; on the disk when it ends."""
        self._rows.execute("BEGIN IMMEDIATE")
        try:
            yield self._rows
            self._rows.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                self._rows.execute("ROLLBACK")
            raise


def _opened(path: Path) -> sqlite3.Connection:
    rows = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        wrong = _wrong(rows)
        if wrong is None:
            rows.execute("PRAGMA journal_mode = WAL")
            rows.execute("PRAGMA synchronous = FULL")
            rows.execute("PRAGMA foreign_keys = ON")
            return rows
    except BaseException:
        rows.close()
        raise
    rows.close()
    raise BootError(f"the journal {path} {wrong}")


def _wrong(rows: sqlite3.Connection) -> str | None:
    kind = [rows.execute(f"PRAGMA {each}").fetchone()[0] for each in ("application_id", "user_version")]
    if kind != [APPLICATION_ID, SCHEMA_VERSION]:
        return "is none that this version knows"
    state: str = rows.execute("PRAGMA quick_check(1)").fetchone()[0]
    return None if state == "ok" else f"is damaged: {state}"


def _canonical(body: object) -> str:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _found(rows: sqlite3.Connection, asked: _Request) -> Signed | None:
    row = rows.execute(
        "SELECT terms, chain_tx, raw, fee_max, conflicts, ends FROM versions WHERE reference = ? AND number = ?",
        (asked.order.reference, asked.number),
    ).fetchone()
    if row is None:
        return None
    terms, chain_tx, raw, fee_max, conflicts, ends = row
    if terms != asked.wanted:
        raise ContradictionError("terms_changed", "this version was signed with other terms")
    return Signed(
        chain_tx=chain_tx,
        raw=raw,
        fee_max=int(fee_max),
        conflicts=frozenset(json.loads(conflicts)),
        ends=None if ends is None else int(ends),
    )


def _before(rows: sqlite3.Connection, reference: str) -> list[_Before]:
    found = rows.execute("SELECT number, conflicts, fee_max FROM versions WHERE reference = ?", (reference,))
    return [_Before(number, frozenset(json.loads(conflicts)), int(fee)) for number, conflicts, fee in found]


def _check_conflicts(rows: sqlite3.Connection, order: Order, signed: Signed, before: list[_Before]) -> None:
    for each in before:
        if not signed.conflicts and not each.conflicts:
            raise ContradictionError("one_version", "this chain knows no inputs, so an order has one version")
        if not signed.conflicts & each.conflicts:
            raise ContradictionError("no_shared_input", f"version {each.number} could be taken beside this one")
    for used in sorted(signed.conflicts):
        owner = rows.execute("SELECT reference FROM inputs WHERE chain = ? AND input = ?", (order.chain, used))
        found = owner.fetchone()
        if found is not None and found[0] != order.reference:
            raise ContradictionError("input_taken", f"the input {used} is the order {found[0]}'s")


def _day_units(rows: sqlite3.Connection, order: Order, now: datetime, limits: DayLimits) -> int:
    newest = rows.execute(
        "SELECT day_units FROM orders WHERE chain = ? AND wallet = ? AND asset = ? AND day = ?"
        " ORDER BY rowid DESC LIMIT 1",
        (order.chain, order.wallet, order.asset, _day(now)),
    )
    units = _first(newest) + order.units
    if units > limits.units_max:
        raise RefusedError("day_max", f"orders of one day may be {limits.units_max} units at most")
    return units


def _day_fees(rows: sqlite3.Connection, order: Order, now: datetime, fee_added: int, limits: DayLimits) -> int:
    newest = rows.execute(
        "SELECT day_fees FROM versions WHERE chain = ? AND wallet = ? AND day = ? ORDER BY rowid DESC LIMIT 1",
        (order.chain, order.wallet, _day(now)),
    )
    fees = _first(newest) + fee_added
    if fees > limits.fee_max:
        raise RefusedError("fee_day_max", f"fees of one day may be {limits.fee_max} units at most")
    return fees


def _first(found: sqlite3.Cursor) -> int:
    row = found.fetchone()
    return 0 if row is None else int(row[0])


def _add_order(rows: sqlite3.Connection, asked: _Request, day_units: int, now: datetime) -> None:
    order = asked.order
    values = (order.reference, order.chain, order.wallet, order.asset, str(order.units), asked.body)
    rows.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*values, _day(now), str(day_units)))


def _add_version(rows: sqlite3.Connection, asked: _Request, signed: Signed, day_fees: int, now: datetime) -> None:
    order = asked.order
    rows.executemany(
        "INSERT INTO inputs VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        [(order.chain, used, order.reference) for used in sorted(signed.conflicts)],
    )
    values = {
        "reference": order.reference,
        "number": asked.number,
        "terms": asked.wanted,
        "cancels": int(asked.terms.cancels),
        "conflicts": _canonical(sorted(signed.conflicts)),
        "ends": None if signed.ends is None else str(signed.ends),
        "fee_max": str(signed.fee_max),
        "chain_tx": signed.chain_tx,
        "raw": signed.raw,
        "signed_at": now.isoformat(),
        "chain": order.chain,
        "wallet": order.wallet,
        "day": _day(now),
        "day_fees": str(day_fees),
    }
    rows.execute(f"INSERT INTO versions VALUES ({', '.join(f':{name}' for name in values)})", values)  # noqa: S608


def _day(now: datetime) -> str:
    return now.date().isoformat()
