"""Statements that a person brings, as CSV: docs/payout-statements.md has the columns.

A file is taken whole or not at all: what is wrong is told with the number of its line.
"""

import csv
import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from config.assets import registry
from core import clock
from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from domain.payout import statements
from domain.payout.statement_models import PayoutStatement, PayoutStatementLine
from providers.payout.base import StatementKind, StatementLine

COLUMNS = ("line", "kind", "reference", "provider_ref", "currency", "booked_at")
AMOUNTS = (("units", "fee_units"), ("amount", "fee"))
"""In smallest units, or as decimal numbers."""
BYTES_MAX = 50_000_000
TEXT_LENGTH_MAX = 200
_INTEGER = re.compile(r"-?\d{1,38}")
_DECIMAL = re.compile(r"(-?)(\d{1,38})(?:\.(\d{1,30}))?")
_KNOWN_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class StatementFile:
    sha256: bytes
    lines: Mapping[int, StatementLine]
    """By their number in the file."""

    @property
    def period(self) -> tuple[datetime, datetime]:
        """From its first line to its last one: of that it is taken to have all."""
        times = [line.booked_at for line in self.lines.values()]
        return min(times), max(times) + timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Import:
    lines: int
    new: int
    """Those that weren't known."""


def parsed(content: bytes) -> StatementFile:
    """Raises InvalidRequestError with the first thing that is wrong, and where."""
    if len(content) > BYTES_MAX:
        raise InvalidRequestError(f"a file has at most {BYTES_MAX} bytes", field="file")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _wrong(content[: error.start].count(b"\n") + 1, "it is not UTF-8") from None
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, restkey="")
    found: dict[int, StatementLine] = {}
    names: dict[str, int] = {}
    number = 0
    try:
        amounts = _amounts(reader.fieldnames or ())
        number = reader.line_num
        for row in reader:
            number = reader.line_num
            line = _line(number, row, amounts)
            if line.id in names:
                raise _wrong(number, f"{line.id!r} stands in line {names[line.id]} already")
            names[line.id] = number
            found[number] = line
    except csv.Error as error:
        raise _wrong(number + 1, str(error)) from None
    if not found:
        raise InvalidRequestError("the file has no lines", field="file")
    return StatementFile(hashlib.sha256(content).digest(), found)


def bring(
    session: Session,
    provider: str,
    file: StatementFile,
    *,
    actor: str,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Import:
    """Keep all its lines. The same file, or lines that overlap, change nothing.

    Raises InvalidRequestError for lines of another time, or that are known and told otherwise here.
    """
    first, end = file.period
    since, until = since or first, until or end
    if until > clock.now():
        raise InvalidRequestError("a statement of a time that isn't over yet lacks lines", field="until")
    for number, line in file.lines.items():
        if not since <= line.booked_at < until:
            raise _wrong(number, f"{line.booked_at.isoformat()} isn't within the time of the statement")
    new = _check_known(session, provider, file)
    statement = statements.begin(
        session, provider, since, until, source=statements.OF_FILE, actor=actor, file_sha256=file.sha256
    )
    lines = list(file.lines.values())
    for place in range(0, len(lines), statements.BATCH):
        statements.keep(session, provider, statement.id, lines[place : place + statements.BATCH])
    statement.lines, statement.added, statement.read_at = len(lines), new, clock.now()
    return Import(len(lines), new)


def brought(session: Session, provider: str, file: StatementFile) -> PayoutStatement | None:
    """Who brought the same file before."""
    return session.scalars(
        select(PayoutStatement)
        .where(PayoutStatement.provider == provider, PayoutStatement.file_sha256 == file.sha256)
        .order_by(PayoutStatement.id)
        .limit(1)
    ).one_or_none()


def _check_known(session: Session, provider: str, file: StatementFile) -> int:
    """How many aren't known. A person's file doesn't overwrite what was told: one of both is wrong."""
    new, numbered = 0, list(file.lines.items())
    for place in range(0, len(numbered), _KNOWN_BATCH):
        batch = numbered[place : place + _KNOWN_BATCH]
        known = {
            row.line: row
            for row in session.scalars(
                select(PayoutStatementLine).where(
                    PayoutStatementLine.provider == provider,
                    PayoutStatementLine.line.in_([line.id for _, line in batch]),
                )
            )
        }
        for number, line in batch:
            row = known.get(line.id)
            if row is None:
                new += 1
                continue
            for name in ("kind", "reference", "provider_ref", "currency", "units", "fee_units", "booked_at"):
                if getattr(row, name) != getattr(line, name):
                    told = f"{line.id!r} is known with {name} {getattr(row, name)}, not {getattr(line, name)}"
                    raise _wrong(number, told)
    return new


def _amounts(header: object) -> tuple[str, str]:
    names = list(header) if isinstance(header, list | tuple) else []
    missing = [name for name in COLUMNS if name not in names]
    pairs = [pair for pair in AMOUNTS if set(pair) <= set(names)]
    unknown = [name for name in names if name not in {*COLUMNS, *AMOUNTS[0], *AMOUNTS[1]}]
    if missing or unknown or len(pairs) != 1 or len(set(names)) != len(names) or len(names) != len(COLUMNS) + 2:
        wanted = f"{', '.join(COLUMNS)}, and either units and fee_units or amount and fee"
        raise _wrong(1, f"the columns are {wanted}")
    return pairs[0]


def _line(number: int, row: Mapping[str | None, str | None], amounts: tuple[str, str]) -> StatementLine:
    if "" in row or None in row.values():
        raise _wrong(number, "it has not as many fields as the first line")
    told = {str(name): str(value).strip() for name, value in row.items()}
    for name in ("line", "reference", "provider_ref"):
        if len(told[name]) > TEXT_LENGTH_MAX or not told[name].isprintable():
            raise _wrong(number, f"{name} has at most {TEXT_LENGTH_MAX} printable characters")
    if not told["line"]:
        raise _wrong(number, "line is empty")
    if told["kind"] not in set(StatementKind):
        raise _wrong(number, f"kind is one of {', '.join(StatementKind)}, not {told['kind']!r}")
    if told["currency"] not in registry().assets:
        raise _wrong(number, f"there is no asset {told['currency']!r}: write it as iso4217:NGN")
    units, fee = (_units(number, name, told[name], told["currency"]) for name in amounts)
    return StatementLine(
        id=told["line"],
        kind=StatementKind(told["kind"]),
        reference=told["reference"] or None,
        provider_ref=told["provider_ref"] or None,
        currency=told["currency"],
        units=units,
        fee_units=fee,
        booked_at=_moment(number, told["booked_at"]),
    )


def _units(number: int, name: str, text: str, currency: str) -> int:
    """Exact: a decimal number with more places than the currency has is refused, not rounded."""
    if name in AMOUNTS[0]:
        if not _INTEGER.fullmatch(text):
            raise _wrong(number, f"{name} is an integer in the smallest unit, not {text!r}")
        return int(text)
    scale = registry().assets[currency].scale
    found = _DECIMAL.fullmatch(text)
    if found is None:
        raise _wrong(number, f"{name} is a decimal number such as -1250.75, not {text!r}")
    places = (found[3] or "").rstrip("0")
    if len(places) > scale:
        raise _wrong(number, f"{name} {text} has more than the {scale} places of {currency}")
    units = int(found[2] + places.ljust(scale, "0"))
    if units > UNITS_MAX:
        raise _wrong(number, f"{name} {text} is more than 38 digits")
    return -units if found[1] else units


def _moment(number: int, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(number, f"booked_at is a time such as 2026-01-31T12:00:00Z, not {text!r}") from None
    if moment.tzinfo is None:
        raise _wrong(number, f"booked_at {text} has no time zone")
    return moment.astimezone(UTC)


def _wrong(number: int, why: str) -> InvalidRequestError:
    return InvalidRequestError(f"line {number}: {why}", field="file")
