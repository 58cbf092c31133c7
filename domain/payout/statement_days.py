"""What moved at a provider in a day that is of no payout: its statement's lines against the books.

Over a day that is over the sum of the lines and the movement of our account there must agree, but for what is known
apart: payouts (each matched by itself, as its line and its journal may be of two days), lines that nobody knows (each a
break), and money that we moved there or away (top-ups, and what a provider calls `other`), which is told beside. What
is left are fees that a provider took for no payout, and journals that nobody there knows.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core.breaks import Difference
from core.errors import InvariantError
from domain.payout import statement_queries
from domain.payout.matching import BALANCE
from domain.payout.statement_breaks import heal, note, settled_units
from domain.payout.statement_settings import statements as settings
from domain.payout.statements import NOTED
from ledger import balances, chart, statement
from ledger.balances import Entry
from providers.payout.base import StatementKind

DAY = timedelta(days=1)
OWN = ("custody:", "gateway:")
"""Accounts of what is ours elsewhere: from and to them it is a top-up."""
_PAGE = 1_000
_PAYOUT, _STATEMENT = "payout:", "statement:"


@dataclass
class Day:
    """One currency. All in what it adds to our balance there."""

    provider: str
    currency: str
    begin: datetime
    told: int = 0
    """All lines."""
    fees: int = 0
    """Of them, fees of no payout."""
    other: int = 0
    """Of them, what belongs to no payout and is no fee."""
    booked: int = 0
    """All entries of our account there."""
    moved: int = 0
    """Of them, what came from what is ours elsewhere, or went there."""
    strange: int = 0
    """Of them, what is neither of a payout, nor moved, nor settles a break."""
    touched: set[UUID] = field(default_factory=set)
    """Payouts whose journals these are."""

    @property
    def end(self) -> datetime:
        return self.begin + DAY

    @property
    def subject(self) -> str:
        return f"{_STATEMENT}{self.provider}:{self.currency}:{self.begin.date().isoformat()}"


def read(session: Session, provider: str, since: datetime, until: datetime, *, broken: bool) -> list[Day]:
    """The days of that time, and `broken`: those that a break is open about."""
    begins = {*begins_of(since, until), *(_broken(session, provider) if broken else ())}
    return [
        day
        for begin in sorted(begins)
        for day in _days(session, provider, sorted(statement_queries.currencies(session, provider)), begin)
    ]


def match(session: Session, provider: str, days: Iterable[Day]) -> None:
    """Open and heal breaks of those days that are over, and whose statement was read late enough."""
    grace = settings().grace
    for day in days:
        if not statement_queries.covers(session, provider, day.begin, day.end, read_after=day.end + grace):
            continue
        units = unbooked(session, day)
        if units:
            note(session, _difference(day, units))
        else:
            heal(session, {BALANCE}, day.subject, "they agree now")


def unbooked(session: Session, day: Day) -> int:
    """What the provider's fees add to our balance, less what the books have of it."""
    return day.fees - day.strange - settled_units(session, BALANCE, day.subject, day.provider, day.currency)


def of_subject(session: Session, subject: str) -> Day:
    """The day that a break is about."""
    parts = subject.split(":")
    begin = datetime.combine(datetime.fromisoformat(parts[-1]), time(), UTC)
    provider, currency = ":".join(parts[1:-3]), ":".join(parts[-3:-1])
    return next(iter(_days(session, provider, [currency], begin)))


def _difference(day: Day, units: int) -> Difference:
    return Difference(
        kind=BALANCE,
        subject=day.subject,
        expected=f"{day.fees - units} {day.currency} booked that is of no payout",
        found=f"{day.fees} {day.currency} of fees",
        asset=day.currency,
        detail={
            "provider": day.provider,
            "units": str(units),
            "lines": str(day.told),
            "books": str(day.booked),
            "other_lines": str(day.other),
            "moved": str(day.moved),
        },
    )


def _broken(session: Session, provider: str) -> Iterator[datetime]:
    for found in statement_queries.open_breaks(session, {BALANCE}):
        if found.detail.get("provider") == provider:
            yield datetime.combine(datetime.fromisoformat(found.subject.rpartition(":")[2]), time(), UTC)


def begins_of(since: datetime, until: datetime) -> list[datetime]:
    """Of the days of UTC that the time is of."""
    first = datetime.combine(since.astimezone(UTC).date(), time(), UTC)
    return [first + number * DAY for number in range(-((first - until) // DAY))]


def _days(session: Session, provider: str, currencies: Sequence[str], begin: datetime) -> Iterator[Day]:
    lines = statement_queries.lines_within(session, provider, begin, begin + DAY)
    for currency in currencies:
        day = Day(provider, currency, begin)
        for line in lines:
            if line.currency != currency:
                continue
            day.told += line.units
            day.other += line.units if line.kind == StatementKind.OTHER else 0
            lump = line.kind == StatementKind.FEE and line.state == NOTED and line.break_id is None
            day.fees += line.units if lump and line.payout_id is None else 0
        for tenant in statement_queries.tenants(session):
            _add_books(session, tenant, day)
        yield day


def _add_books(session: Session, tenant: str, day: Day) -> None:
    found: list[Entry] = []
    cursor: str | None = None
    while True:
        page = statement.statement(
            session, tenant, chart.payout_custody(day.provider), day.currency, since=day.begin, until=day.end,
            cursor=cursor, limit=_PAGE,
        )  # fmt: skip
        found += page.lines
        cursor = page.cursor
        if cursor is None:
            break
    known = statement_queries.existing(session, tenant, {payout for entry in found if (payout := _payout(entry))})
    for entry in found:
        payout = _payout(entry)
        day.booked += entry.units
        if payout in known and payout is not None:
            day.touched.add(payout)
        elif (entry.subject or "").startswith(_STATEMENT):
            continue  # of a line, or of a day, whose break it settled
        elif _is_own_move(session, tenant, entry):
            day.moved += entry.units
        else:
            day.strange += entry.units


def _payout(entry: Entry) -> UUID | None:
    subject = entry.subject or ""
    try:
        return UUID(subject.removeprefix(_PAYOUT)) if subject.startswith(_PAYOUT) else None
    except ValueError:
        return None


def _is_own_move(session: Session, tenant: str, entry: Entry) -> bool:
    """A journal's entries are in pairs: a source, and its destination."""
    journal = balances.journal(session, tenant, journal_id=entry.journal_id)
    if journal is None:
        raise InvariantError(f"the journal of {entry.reference} is gone")
    other = next(each for each in journal.entries if each.position == entry.position ^ 1)
    return other.code.startswith(OWN)
