"""How providers' statements stand: what is matched, and what differs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from core.breaks import Break
from domain.payout import statement_queries
from domain.payout.models import PayoutProviderRow
from ledger import balances, chart


@dataclass(frozen=True, slots=True)
class Sums:
    """The lines of a time, of one provider and currency."""

    provider: str
    currency: str
    lines: int
    payouts: int
    """Those that all three agree about."""
    gone_units: int
    """What left for them."""
    fee_units: int
    unmatched: int
    """Lines of which something differs, or isn't known yet."""
    other_units: int
    """What belongs to no payout, such as top-ups: they add to our balance there."""
    books_units: int
    """What the books have there now, in all tenants'."""
    there_units: int | None
    """What could be sent there when it was last asked."""
    read_until: datetime | None


@dataclass(frozen=True, slots=True)
class Report:
    sums: Sequence[Sums]
    breaks: Sequence[Break]
    """All that are open, whatever their time, oldest first."""


def report(session: Session, since: datetime, until: datetime, *, providers: Sequence[str]) -> Report:
    sums = [each for provider in providers for each in _sums(session, provider, since, until)]
    found = [one for one in statement_queries.open_breaks(session) if one.detail.get("provider") in providers]
    return Report(sums, found)


def _sums(session: Session, provider: str, since: datetime, until: datetime) -> Iterator[Sums]:
    custody, tenants = chart.payout_custody(provider), list(statement_queries.tenants(session))
    known = session.get(PayoutProviderRow, provider, populate_existing=True)
    read_until = statement_queries.read_until(session, provider)
    for row in session.execute(statement_queries.SUMS, {"provider": provider, "since": since, "until": until}):
        there = None if known is None else known.balances.get(row.currency)
        books = balances.balances(session, [(tenant, custody, row.currency) for tenant in tenants])
        yield Sums(
            provider=provider,
            currency=row.currency,
            lines=row.lines,
            payouts=row.payouts,
            gone_units=int(row.gone),
            fee_units=int(row.fees),
            unmatched=row.unmatched,
            other_units=int(row.other),
            books_units=sum(books.values()),
            there_units=None if there is None else int(there["units"]),
            read_until=read_until,
        )
