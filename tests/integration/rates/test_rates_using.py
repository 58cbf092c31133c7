"""Which rate money may be moved by: overrides, inverses, routes."""

from collections.abc import Sequence
from datetime import timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from core.db import transaction
from core.errors import InvalidRequestError
from domain.rates import queries
from domain.rates import service as rates
from providers.prices.base import Pair
from tests.integration.rates.conftest import Market, choose
from tests.support.prices import BTC, BTC_USD, ETH, ETH_USD, EUR, NGN, USD, USD_NGN

EUR_USD = Pair(EUR, USD)


def override(price: str, pair: Pair = ETH_USD, **fields: object) -> None:
    with transaction() as session:
        told = {"source": "desk", "actor": "ann", "reason": "the feed lies"} | fields
        rates.add(session, rates.proposed(pair.asset, pair.currency, price, **told))  # type: ignore[arg-type]


def clear(pair: Pair = ETH_USD) -> Sequence[rates.AssetRate]:
    with transaction() as session:
        return rates.clear(session, pair.asset, pair.currency, actor="bob", reason="it is right again")


# --- overrides -----------------------------------------------------------------------------------------------------


def test_what_a_person_says_wins_while_it_lasts(market: Market) -> None:
    market.round("2000", "2000", "2000")
    with capture_logs() as logs:
        override("1500", lasts=timedelta(minutes=5))
    [line] = [line for line in logs if line["event"] == "rate.overridden"]
    assert (line["actor"], line["reason"]) == ("ann", "the feed lies")
    assert market.said() == "1500"
    assert market.round("", "", "") == "1500", "whatever becomes of its sources"
    override("1600", lasts=timedelta(minutes=1))
    assert market.said() == "1600", "who speaks last is right"
    market.clock.on(60)
    assert market.said() == "1500"
    market.clock.on(240)
    assert market.said() == "too_few_sources"
    with transaction() as session:
        [standing] = rates.standings(session)
        assert not standing.usable and standing.expires_at is None


def test_an_override_is_cleared_once_and_stays_what_it_was(market: Market) -> None:
    market.round("2000", "2000", "2000")
    override("1500")
    held = market.clock.time
    market.clock.on(10)
    [ended] = clear()
    assert (ended.cleared_by, ended.cleared_because) == ("bob", "it is right again")
    assert market.said() == "2000"
    assert market.said(at=held) == "1500"
    assert clear() == []
    with pytest.raises(DBAPIError, match="cleared before"), transaction() as session:
        session.execute(text("UPDATE asset_rates SET cleared_by = 'eve' WHERE cleared_at IS NOT NULL"))


@pytest.mark.parametrize("lasts", [timedelta(0), timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_an_override_has_an_end_that_is_not_far(market: Market, lasts: timedelta) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        override("1500", lasts=lasts)
    assert refused.value.field == "lasts"


def test_an_override_needs_no_source_and_works_in_both_directions(market: Market) -> None:
    override("2000")
    assert market.said() == "2000"
    assert market.said(Pair(USD, ETH)) == "0.0005"
    with transaction() as session:
        [standing] = rates.standings(session)
        assert standing.usable and standing.expires_at is not None


def test_a_jump_to_what_a_person_says_is_none(market: Market) -> None:
    market.round("2000", "2000", "2000")
    override("3000", lasts=timedelta(seconds=45))
    assert market.round("3010", "3010", "3010") == "3000"
    market.clock.on(20)
    assert market.said() == "3010"


# --- routes ----------------------------------------------------------------------------------------------------------


def through(market: Market) -> None:
    market.says(USD_NGN, "1537.25", "1537.25", "1537.25")
    market.says(EUR_USD, "1.1", "1.1", "1.1")
    market.says(BTC_USD, "90000", "90000", "90000")


def test_what_nobody_quotes_goes_through_the_dollar_exactly(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    through(market)
    choose(monkeypatch, pairs=[[ETH, USD], [USD, NGN], [EUR, USD], [BTC, USD]])
    market.round("2000", "2000", "2000")
    found = market.usable(NGN, ETH)
    # A kobo is a hundredth of 1/1537.25 dollars, of which 2000 buy 10^18 wei.
    assert found.fraction == Fraction(1, 100) / Fraction("1537.25") / 2000 * 10**18
    assert found.source == "a, b, c / a, b, c"
    assert market.usable(ETH, NGN).fraction * found.fraction == 1
    assert market.usable(EUR, NGN).fraction == Fraction("1.1") * Fraction("1537.25")
    assert market.usable(ETH, BTC).fraction == Fraction(2000, 90_000) * 10**8 / 10**18
    assert market.usable(ETH, ETH).fraction == 1


def test_a_route_is_as_old_as_its_oldest_part_and_as_usable_as_its_worst(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    through(market)
    choose(monkeypatch, pairs=[[ETH, USD], [USD, NGN]])
    override("1500", USD_NGN)
    old = market.clock.time
    market.round("2000", "2000", "2000")
    assert market.usable(NGN, ETH).observed_at == old
    assert market.usable(NGN, ETH).source == "desk / a, b, c"
    assert market.round("2000", "", "") == "too_few_sources"
    assert market.said(Pair(NGN, ETH)) == "too_few_sources"
    assert market.said(Pair(NGN, BTC)) == "unknown"


def test_no_route_leads_around_what_its_own_sources_say(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    through(market)
    pair = Pair(ETH, EUR)
    choose(monkeypatch, pairs=[[ETH, USD], [EUR, USD], [ETH, EUR]])
    market.says(pair, "1818", "", "")
    market.round("2000", "2000", "2000")
    assert market.said(pair) == "too_few_sources"
    assert market.said(Pair(EUR, ETH)) == "too_few_sources"


def test_routes_of_the_deployment(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    through(market)
    choose(monkeypatch, pairs=[[ETH, USD], [EUR, USD], [USD, NGN]], routes=[[NGN, USD, EUR]])
    market.round("2000", "2000", "2000")
    assert market.usable(EUR, NGN).fraction * market.usable(NGN, EUR).fraction == 1
    assert market.said(Pair(ETH, NGN)) == "unknown"
    choose(monkeypatch, routes=[["*", EUR, USD, "*"]])
    assert market.usable(ETH, USD).fraction == Fraction(2000 * 100, 10**18)
    choose(monkeypatch, routes=[[ETH, "*", EUR]])
    with pytest.raises(ValueError, match="only the first and the last"):
        market.usable(ETH, NGN)


def test_a_route_that_leads_nowhere_says_nothing_against_the_next(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody quotes ether in dollars, so it doesn't matter that the naira's dollars can't be used."""
    market.says(Pair(ETH, EUR), "1800", "1800", "1800")
    market.says(Pair(EUR, NGN), "1700", "1700", "1700")
    market.says(USD_NGN, "1537", "", "")
    choose(monkeypatch, pairs=[[ETH, EUR], [EUR, NGN], [USD, NGN]], routes=[["*", USD, "*"], ["*", EUR, "*"]])
    assert market.round(pair=Pair(ETH, NGN)) == str(1800 * 1700)
    market.says(Pair(EUR, NGN), "1700", "", "")
    assert market.round(pair=Pair(ETH, NGN)) == "too_few_sources", "and the one that leads there does"


def test_a_rate_is_found_by_an_index_however_many_there_are(market: Market) -> None:
    """Some millions a fortnight: without one each deposit that waits for a rate would have them all read."""
    at = market.clock.time
    asked: list[tuple[str, Any]] = []
    with transaction() as session:
        connection = session.connection()
        event.listen(connection, "before_cursor_execute", lambda *call: asked.append((call[2], call[3])))
        queries.moments(session, {(ETH, USD), (USD, ETH)}, after=at, until=at + timedelta(minutes=15), limit=10)
        queries.newest(session, ETH, USD, at=at)
        queries.told(session, ETH, USD, at=at, since=at - timedelta(minutes=2))
        queries.override(session, ETH, USD, at=at)
        queries.overrides(session, at=at)
        statements = asked.copy()
        session.execute(text("SET LOCAL enable_seqscan = off"))  # of so few rows it would be right
        for statement, parameters in statements:
            plan = "\n".join(connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars())
            assert "ix_asset_rates_" in plan and "Seq Scan" not in plan, plan
    assert len(statements) == 5


def test_what_the_registry_does_not_know_is_refused(market: Market) -> None:
    with transaction() as session:
        for asset, currency, field in (("iso4217:XXX", USD, "asset"), (ETH, "iso4217:XXX", "currency")):
            with pytest.raises(InvalidRequestError) as refused:
                rates.usable(session, asset, currency)
            assert refused.value.field == field
            assert rates.rate_at(session, asset, currency, market.clock.time) is None


PRICE = st.decimals(min_value="0.000001", max_value="1000000", places=6).map(lambda price: f"{price:f}")


@examples(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(eth=PRICE, ngn=PRICE, eur=PRICE)
def test_a_way_there_and_back_is_one_and_ways_add_up(market: Market, eth: str, ngn: str, eur: str) -> None:
    for price, pair in ((eth, ETH_USD), (ngn, USD_NGN), (eur, EUR_USD)):
        override(price, pair)
    there, back = market.usable(ETH, NGN), market.usable(NGN, ETH)
    assert there.fraction * back.fraction == 1
    assert there.fraction == market.usable(ETH, EUR).fraction * market.usable(EUR, NGN).fraction
    assert there.fraction == market.usable(ETH, USD).fraction * market.usable(USD, NGN).fraction
