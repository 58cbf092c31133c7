"""Locked quotes: promised, used once, booked to the unit."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import clock
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError, TransientError
from domain.quote import service as quotes
from domain.quote.service import Fixed, NewQuote, Quote
from domain.quote.settings import quotes as settings
from ledger import balances, chart, conversions, posting
from ledger.assets import sync_assets

ETH, USD = "eip155:1/slip44:60", "iso4217:USD"


@dataclass(frozen=True)
class Market:
    """Of cents in wei."""

    dollars: Fraction = Fraction(2_000)
    observed_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    source: str = "a, b"

    @property
    def numerator(self) -> int:
        return (Fraction(10**18, 100) / self.dollars).numerator

    @property
    def denominator(self) -> int:
        return (Fraction(10**18, 100) / self.dollars).denominator


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """What the clock shows, to be turned."""
    shown = [datetime.now(UTC)]
    monkeypatch.setattr(clock, "now", lambda: shown[0])
    return shown


def quoted(units: int = 100_00, fixed: Fixed = Fixed.IN, **fields: str) -> Quote:
    new = {"tenant": "shop", "from_asset": USD, "to_asset": ETH} | fields
    with transaction() as session:
        return quotes.create(session, NewQuote(fixed=fixed, units=units, **new), lambda *_: Market())


def consume(quote_id: UUID, subject: str = "fiat_payment:1", tenant: str = "shop") -> Quote:
    with transaction() as session:
        return quotes.consume(session, quote_id, tenant, subject)


def test_a_quote_keeps_both_sides_its_rate_and_its_end(database_url: str, now: list[datetime]) -> None:
    made = quoted()
    with transaction() as session:
        kept = quotes.get(session, made.id, tenant="shop")
        assert quotes.get(session, made.id, tenant="casino") is None
    assert kept is not None
    assert (kept.units_in, kept.spread_units, kept.spread_bps) == (100_00, 50, 50)
    assert kept.units_out == 9_950 * 10**18 // 100 // 2_000
    assert kept.rate == Fraction(1, 2_000)
    assert (kept.rate_source, kept.rate_at) == ("a, b", Market.observed_at)
    assert kept.expires_at == now[0] + timedelta(seconds=30)
    assert (kept.used_at, kept.used_by) == (None, None)


def test_a_tenant_may_have_a_spread_of_its_own(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUOTE_SPREADS", '{"shop": 0}')
    settings.cache_clear()
    assert (quoted().spread_units, quoted(tenant="casino").spread_units) == (0, 50)


def test_without_a_usable_rate_nothing_is_promised(database_url: str) -> None:
    def none(*_: object) -> Market:
        raise TransientError("stale")

    with pytest.raises(TransientError), transaction() as session:
        quotes.create(session, NewQuote("shop", USD, ETH, Fixed.IN, 100), none)
    with pytest.raises(InvalidRequestError), transaction() as session:
        quotes.create(session, NewQuote("shop", USD, USD, Fixed.IN, 100), none)


def test_a_quote_is_used_once_and_by_the_same_again_and_again(database_url: str, now: list[datetime]) -> None:
    made = quoted()
    first = consume(made.id)
    assert (first.used_by, first.used_at) == ("fiat_payment:1", now[0])
    with pytest.raises(ConflictError, match="used before"):
        consume(made.id, "fiat_payment:2")
    now[0] += timedelta(days=1)
    again = consume(made.id)
    assert again.used_at == first.used_at


def test_a_quote_that_is_over_or_anothers_is_refused(database_url: str, now: list[datetime]) -> None:
    made = quoted()
    with pytest.raises(NotFoundError):
        consume(made.id, tenant="casino")
    with pytest.raises(NotFoundError):
        consume(uuid4())
    now[0] += timedelta(seconds=29, milliseconds=999)
    assert consume(made.id).id == made.id
    late = quoted()
    now[0] += timedelta(seconds=30)
    with pytest.raises(ConflictError, match="ended"):
        consume(late.id)


def test_of_many_at_once_one_gets_it(database_url: str) -> None:
    made = quoted()

    def try_(number: int) -> str | None:
        try:
            return consume(made.id, f"fiat_payment:{number}").used_by
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [subject for subject in pool.map(try_, range(16)) if subject is not None]
    assert len(won) == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE quotes SET units_out = 1",
        "UPDATE quotes SET expires_at = now() + interval '1 year'",
        "TRUNCATE quotes",
    ],
)
def test_what_was_promised_cannot_be_rewritten(database_url: str, statement: str) -> None:
    quoted()
    with pytest.raises(DBAPIError, match="permission denied"), transaction() as session:
        session.execute(text(statement))


@pytest.mark.parametrize("statement", ["DELETE FROM quotes", "UPDATE quotes SET used_at = NULL, used_by = NULL"])
def test_a_quote_that_was_used_stays_as_it_is(database_url: str, statement: str) -> None:
    used, other = quoted(), quoted()
    consume(used.id)
    with pytest.raises(DBAPIError, match="is kept as it is"), transaction() as session:
        session.execute(text(statement))
    with transaction() as session:
        session.execute(text("DELETE FROM quotes WHERE id = :id"), {"id": other.id})  # nobody used that one


@pytest.mark.parametrize("fixed", Fixed)
def test_a_quote_is_booked_to_the_unit_in_one_journal(session: Session, fixed: Fixed) -> None:
    sync_assets(session)
    session.commit()
    made = quoted(333_33 if fixed is Fixed.IN else 166_665_000_000_000_001, fixed)
    offer = quotes.offer_of(made)
    gateway = chart.deposit_suspense()
    posting.post(
        session,
        conversions.journal(
            tenant="shop",
            reference=f"fiat:{made.id}:credit",
            source=gateway,
            destination=chart.user_available("42"),
            rate=offer.rate,
            converted=offer.converted,
            rounding=offer.rounding,
            fees=offer.fees(gateway),
        ),
    )
    session.commit()

    def units(account: str, asset: str) -> int:
        return sum(row.balance for row in balances.account(session, "shop", account) if row.asset == asset)

    assert units(chart.user_available("42"), ETH) == made.units_out == -units(chart.fx_clearing(), ETH)
    assert units(gateway, USD) == -made.units_in
    ours = units(chart.fees(), USD), units(chart.rounding(), USD), units(chart.fx_clearing(), USD)
    assert sum(ours) == made.units_in
    assert ours[0] == made.spread_units


def test_quotes_that_nobody_used_go_after_a_month(database_url: str, now: list[datetime]) -> None:
    used, unused = quoted(), quoted()
    consume(used.id)
    now[0] += timedelta(days=29)
    with transaction() as session:
        assert quotes.remove_old(session, limit=10) == 0
    now[0] += timedelta(days=2)
    with transaction() as session:
        assert quotes.remove_old(session, limit=10) == 1
        assert quotes.get(session, used.id, tenant="shop") is not None
        assert quotes.get(session, unused.id, tenant="shop") is None


def test_a_quote_has_slipped_beyond_the_setting(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = quoted()
    # What comes in is dollars: they are worth less when an ether costs more.
    assert [quotes.slipped(made, Market(Fraction(dollars))) for dollars in (1_000, 2_000, 2_020, 2_021)] == [
        False, False, False, True,
    ]  # fmt: skip
    monkeypatch.setenv("QUOTE_SLIPPAGE_BPS", "0")
    settings.cache_clear()
    assert quotes.slipped(made, Market(Fraction(2_001)))
