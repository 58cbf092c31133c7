"""Rounds: what sources tell becomes a rate, or a reason why there is none."""

import json
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from structlog.testing import capture_logs

import config.settings
from core import clock, db, redis
from core.db import transaction
from domain.rates import copy, refresh
from domain.rates import service as rates
from domain.rates.models import AssetPrice, AssetRate, RateChange, RatePair
from domain.rates.settings import rates as settings
from providers.prices import registry
from providers.prices.base import Pair, Price
from tasks import maintenance
from tests.integration.rates.conftest import Market, Says, choose
from tests.support.faulty import html, saying
from tests.support.prices import BTC_USD, DOUBLES, ETH, ETH_USD, NGN, USD, USD_NGN, PriceDouble


def test_the_median_of_what_sources_tell_is_kept_with_all_that_they_told(market: Market) -> None:
    assert market.round("2000", "2001.50", "9999") == "2001.5"
    assert market.round("2000", "2001", "") == "2000.5"
    with transaction() as session:
        told = session.scalars(select(AssetPrice).order_by(AssetPrice.id)).all()
        assert [(row.source, rates.price(row), row.dropped) for row in told] == [
            ("a", "2000", None),
            ("b", "2001.5", None),
            ("c", "9999", "outlier"),
            ("a", "2000", None),
            ("b", "2001", None),
        ]
        first, second = session.scalars(select(AssetRate).order_by(AssetRate.id)).all()
        assert (first.source, second.source, first.expires_at) == ("a, b", "a, b", None)
        assert second.observed_at == market.clock.time
        [pair] = session.scalars(select(RatePair)).all()
        assert (pair.usable, pair.sources, pair.spread_bps, pair.changes) == (True, 2, 5, 1)


def test_each_reason_makes_it_unusable_at_once_and_is_kept_logged_and_counted(market: Market) -> None:
    with capture_logs() as logs:
        said = [
            market.round("2000", "2001", "2002"),
            market.round("2000", "", ""),
            market.round("", "", ""),
            market.round("1962", "2000", "2038"),
            market.round("2300", "2300", "2300"),
            market.round("2000", "2001", "2002"),
        ]
    assert said == ["2001", "too_few_sources", "too_few_sources", "spread", "jump", "2001"]
    changes = [
        (line["event"], line.get("reason")) for line in logs if line["event"] in ("rate.usable", "rate.unusable")
    ]
    assert changes == [
        ("rate.usable", None),
        ("rate.unusable", "too_few_sources"),
        ("rate.unusable", "spread"),
        ("rate.unusable", "jump"),
        ("rate.usable", None),
    ]
    with transaction() as session:
        kept = session.scalars(select(RateChange).order_by(RateChange.id)).all()
        assert [row.reason for row in kept] == [None, "too_few_sources", "spread", "jump", None]
        [standing] = rates.standings(session)
        assert (standing.changes, standing.usable, standing.since) == (5, True, market.clock.time)


def test_a_jump_that_holds_for_three_rounds_is_believed(market: Market) -> None:
    said = [market.round(price, price, price) for price in ("2000", "3000", "3010", "3005", "3100")]
    assert said == ["2000", "jump", "jump", "3005", "3100"]
    # A round without an answer in between: it has not held.
    said = [market.round(price, price, price) for price in ("4000", "4000", "", "4000", "4000", "4000")]
    assert said == ["jump", "jump", "too_few_sources", "jump", "jump", "4000"]


def test_prices_that_are_old_are_not_used_and_a_rate_grows_old(market: Market) -> None:
    market.sources[2].age = timedelta(minutes=3)
    assert market.round("2000", "2001", "3000") == "2000.5"
    market.sources[1].age = timedelta(minutes=3)
    assert market.round() == "stale"
    market.sources[1].age = timedelta(0)
    assert market.round() == "2000.5"
    market.clock.on(120)
    assert market.said() == "2000.5"
    market.clock.on(1)
    assert market.said() == "stale", "nobody refreshed it"
    with transaction() as session:
        [standing] = rates.standings(session)
        assert (standing.usable, standing.reason) == (False, "stale")


def test_a_rate_of_the_past_is_what_could_be_used_then(market: Market) -> None:
    market.round("2000", "2000", "2000")
    good = market.clock.time
    market.round("2000", "", "")
    bad = market.clock.time
    market.round("2050", "2050", "2050")
    market.clock.on(3_600)
    second = timedelta(seconds=1)
    assert market.said(at=good - second) == "unknown"
    assert market.said(at=good) == market.said(at=bad - second) == "2000"
    assert market.said(at=bad) == "too_few_sources"
    with transaction() as session:
        at_once = rates.rate_at(session, ETH, USD, good)
        later = rates.rate_for(session, ETH, USD, bad)
        assert at_once is not None and later is not None
        assert (rates.price(at_once), rates.price(later)) == ("2000", "2050")
        assert rates.rate_at(session, ETH, USD, bad) is None
        assert rates.rate_for(session, ETH, USD, bad + timedelta(minutes=5)) is None


def test_what_happened_without_a_rate_is_judged_by_the_first_one_after_it_for_a_quarter_of_an_hour(
    market: Market,
) -> None:
    market.round("2000", "", "")
    at = market.clock.time
    market.clock.on(15 * 60 - 60)
    market.round("2100", "2100", "2100")
    with transaction() as session:
        later = rates.rate_for(session, ETH, USD, at)
        assert later is not None and rates.price(later) == "2100"
        assert rates.rate_for(session, ETH, USD, at - timedelta(minutes=1)) is None
        inverse = rates.rate_for(session, USD, ETH, at)
        assert inverse is not None and inverse.fraction * later.fraction == 1


def test_a_pair_that_is_not_asked_for_any_more_is_nobodys(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    market.says(BTC_USD, "90000", "90000", "90000")
    assert market.round("2000", "2000", "2000") == "2000"
    choose(monkeypatch, pairs=[[BTC_USD.asset, USD]])
    assert market.round() == "unknown"
    assert market.said(BTC_USD) == "90000"
    choose(monkeypatch, pairs=[[BTC_USD.asset, USD], [ETH, USD], ["iso4217:XXX", USD]])
    with capture_logs() as logs:
        assert market.round() == "2000"
    assert [line["asset"] for line in logs if line["event"] == "rate.pair_unknown"] == ["iso4217:XXX"]


def test_the_first_two_rounds_may_be_at_once(market: Market) -> None:
    """Neither finds a row of the pair to lock."""
    market.says(ETH_USD, "2000", "2000", "2000")
    wanted, prices = refresh.wanted_pairs(market.sources), refresh.ask(market.sources, [ETH_USD])
    first, second = market.clock.time, market.clock.time + timedelta(milliseconds=1)
    failed: list[Exception] = []

    def overtake() -> None:
        try:
            with transaction() as session:
                refresh.record(session, wanted, prices, asked_at=second)
        except SQLAlchemyError as error:
            failed.append(error)

    with transaction() as session:
        refresh.record(session, wanted, prices, asked_at=first)
        other = threading.Thread(target=overtake)
        other.start()
        other.join(0.3)
        assert other.is_alive()
    other.join(10)
    assert not failed
    with transaction() as session:
        [pair] = session.scalars(select(RatePair)).all()
        assert (pair.asked_at, pair.changes) == (second, 1)
        assert len(session.scalars(select(AssetRate)).all()) == 2


@pytest.mark.parametrize("price", ["2000." + "0" * 5_000, "1e3", "-1", "2000.5."])
def test_a_price_that_is_none_costs_nobody_else_his(market: Market, price: str) -> None:
    assert market.round("2000", price, "2001") == "2000.5"


def test_a_source_that_is_broken_costs_nobody_else_his(market: Market) -> None:
    with capture_logs() as logs:
        assert market.round("2000", 2000, "2001") == "2000.5"  # type: ignore[arg-type]  # what is broken about it
    assert [(line["event"], line["source"]) for line in logs if line["event"] == "rate.source_broken"] == [
        ("rate.source_broken", "b")
    ]


def test_a_round_that_was_overtaken_changes_nothing(market: Market) -> None:
    market.round("2000", "2000", "2000")
    newest = market.clock.time
    market.clock.time = newest - timedelta(seconds=5)
    market.says(ETH_USD, "1900", "1900", "1900")
    rates.refresh(market.sources)
    market.clock.time = newest
    assert market.said() == "2000"
    with transaction() as session:
        assert len(session.scalars(select(AssetRate)).all()) == 1


# --- sources that fail ---------------------------------------------------------------------------------------------


class Broken(Says):
    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        raise KeyError(len(pairs))


class Hanging(Says):
    over: threading.Event

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        self.over.wait(10)
        return {}


class Mistaken(Says):
    """Tells the price of another pair under this one's name, and of pairs that nobody asked for."""

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        other = Pair("iso4217:XXX", USD)
        return {pair: Price(BTC_USD, "1", clock.now()) for pair in pairs} | {other: Price(other, "1", clock.now())}


def test_one_that_fails_hangs_or_lies_is_left_out_and_the_others_are_not(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose(monkeypatch, wait="0.3")
    market.says(ETH_USD, "2000", "2001", "2002")
    market.sources[2].away = True
    broken, hanging, mistaken = Broken("broken"), Hanging("hanging"), Mistaken("mistaken")
    early, junk = Says("early"), Says("junk")
    early.age = timedelta(minutes=-1)
    hanging.over = threading.Event()
    for source in (broken, hanging, mistaken, early, junk):
        source.told[ETH_USD] = "-1" if source is junk else "1"
    market.sources += [broken, hanging, mistaken, early, junk]
    began = time.monotonic()
    with capture_logs() as logs:
        market.clock.on()
        rates.refresh(market.sources)
    assert time.monotonic() - began < 3
    hanging.over.set()
    assert market.said() == "2000.5"
    failed = {line["source"]: line["event"] for line in logs if "source" in line}
    assert failed == {
        "c": "rate.source_failed",
        "broken": "rate.source_broken",
        "hanging": "rate.source_late",
        "mistaken": "rate.price_refused",
        "early": "rate.price_refused",
        "junk": "rate.price_refused",
    }
    with transaction() as session:
        assert [row.source for row in session.scalars(select(AssetPrice).order_by(AssetPrice.source))] == ["a", "b"]


def test_sources_are_asked_at_once_and_outside_of_any_transaction(market: Market) -> None:
    gate = threading.Barrier(3, timeout=5)

    class Waiting(Says):
        def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
            gate.wait()  # only if all three are asked at once does anybody pass
            with db.engine().connect() as connection:
                open_ = connection.execute(
                    text("SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'")
                ).scalar_one()
            assert open_ == 0
            return super().prices(pairs)

    market.sources = [Waiting("a"), Waiting("b"), Waiting("c")]
    assert market.round("2000", "2000", "2000") == "2000"


@pytest.fixture
def doubles(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[PriceDouble]]:
    """All three over HTTP, as a worker is configured for them."""
    with ExitStack() as stack:
        made = [stack.enter_context(double()) for double in DOUBLES]
        for double in made:
            monkeypatch.setenv(f"PRICE_{double.name.upper()}_BASE_URL", double.url)
        monkeypatch.setenv("PRICE_SOURCES", json.dumps([double.name for double in made]))
        choose(monkeypatch, pairs=[[ETH, USD], [USD, NGN]])
        registry.reload()
        yield made
        registry.reload()


def test_the_task_asks_all_three_over_http_and_stands_the_loss_of_one(doubles: list[PriceDouble]) -> None:
    binance, coinbase, coingecko = doubles
    for double, price in zip(doubles, ("2000", "2001", "2003"), strict=True):
        double.set(ETH_USD, price)
    coinbase.set(USD_NGN, "1537")
    coingecko.set(USD_NGN, "15380")

    def said(asset: str, currency: str) -> str:
        maintenance.refresh_rates()
        with transaction() as session:
            try:
                return rates.price(rates.usable(session, asset, currency))
            except rates.RateUnusableError as error:
                return error.reason.value

    assert said(ETH, USD) == "2001"
    assert said(USD, NGN) == "1537.5"
    binance.fault = saying(500)
    assert said(ETH, USD) == "2002"
    coingecko.fault = saying(429)
    assert said(ETH, USD) == "too_few_sources"
    binance.fault, coingecko.fault, coinbase.fault = None, None, html
    assert said(ETH, USD) == "2001.5"
    coingecko.age = timedelta(minutes=5)
    assert said(ETH, USD) == "stale"
    coinbase.fault = None
    binance.set(ETH_USD, "-2000")
    coingecko.age = timedelta(0)
    assert said(ETH, USD) == "2002"


# --- the copy, and what is removed -----------------------------------------------------------------------------------


def test_the_copy_in_redis_says_what_postgresql_says(market: Market) -> None:
    market.says(BTC_USD, "90000", "", "")
    market.round("2000", "2000", "2000")
    copied = {pair: json.loads(told) for pair, told in redis.client().hgetall(copy.KEY).items()}
    eth, btc = copied[f"{ETH} {USD}"], copied[f"{BTC_USD.asset} {USD}"]
    assert (eth["usable"], eth["price"], eth["override"]) == (True, "2000", False)
    assert int(eth["numerator"]) * 5 * 10**12 == int(eth["denominator"])
    assert (btc["usable"], btc["reason"], btc["price"]) == (False, "too_few_sources", None)
    left = redis.client().pttl(copy.KEY)
    assert isinstance(left, int) and 100_000 < left <= 150_000


def test_redis_away_stops_nothing(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    config.settings.reload()
    redis.dispose()
    with capture_logs() as logs:
        assert market.round("2000", "2000", "2000") == "2000"
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["rate.copy_failed"]


def test_old_history_goes_and_what_persons_set_stays(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    choose(monkeypatch, keep="P8D")
    now = market.clock.time
    market.clock.time = now - timedelta(days=9)
    market.round("2000", "2000", "2000")
    with transaction() as session:
        rates.add(session, rates.proposed(ETH, USD, "2100", source="desk", actor="ann", reason="x"))
    market.clock.time = now - timedelta(days=7)
    market.round("2000", "2000", "2000")
    market.clock.time = now

    def counts() -> list[int]:
        with transaction() as session:
            tables = ("asset_prices", "asset_rates", "rate_changes")
            return [session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in tables]

    assert counts() == [6, 3, 1]
    with transaction() as session:
        maintenance.remove_old_rates(session)
    assert counts() == [3, 2, 1]
    settings.cache_clear()
    with transaction() as session:  # not even the database's own function removes the last week
        removed = session.execute(text("SELECT rates_remove_old(now() + interval '1 day', 100)")).scalar_one()
    assert removed == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE asset_rates SET numerator = 1",
        "UPDATE asset_rates SET expires_at = now() + interval '1 year'",
        "DELETE FROM asset_rates",
        "UPDATE rate_changes SET usable = true",
        "DELETE FROM rate_changes",
    ],
)
def test_what_money_was_judged_by_cannot_be_rewritten(market: Market, statement: str) -> None:
    market.round("2000", "2000", "2000")
    with pytest.raises(DBAPIError, match="permission denied"), transaction() as session:
        session.execute(text(statement))
