"""What every source of prices promises, held against a double of each over real HTTP."""

import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args
from urllib.parse import parse_qs, urlsplit

import pytest

from core.errors import TransientError
from local.http_server import Answer
from providers.prices import registry
from providers.prices.base import Pair
from providers.prices.settings import PriceSettings, SourceName
from tests.support.faulty import Fault, dies, garbage, hangs_up, html, other_json, saying, truncates
from tests.support.prices import (
    BTC,
    BTC_USD,
    DOUBLES,
    ETH,
    ETH_USD,
    EUR,
    USD,
    USD_NGN,
    USDC_USD,
    BinanceDouble,
    CoinbaseDouble,
    CoinGeckoDouble,
    PriceDouble,
    dripping,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(params=DOUBLES, ids=lambda double: double.name)
def double(request: pytest.FixtureRequest) -> Iterator[PriceDouble]:
    with request.param() as made:
        made.set(ETH_USD, "1999.95000000")
        made.set(BTC_USD, "98765.4321")
        yield made


def test_every_source_of_the_registry_has_a_double() -> None:
    assert {double.name for double in DOUBLES} == set(registry.ADAPTERS) == set(get_args(SourceName))


def test_a_source_that_there_is_none_of_stops_the_start() -> None:
    with pytest.raises(ValueError, match="binance"):
        PriceSettings(sources=("kraken",))


def test_a_price_is_told_digit_by_digit_with_its_time(double: PriceDouble) -> None:
    double.age = timedelta(seconds=40)
    found = double.source().prices([ETH_USD, BTC_USD])
    assert set(found) == {ETH_USD, BTC_USD}
    assert (found[ETH_USD].pair, Decimal(found[ETH_USD].price)) == (ETH_USD, Decimal("1999.95"))
    assert found[BTC_USD].price == "98765.4321"
    age = datetime.now(UTC) - found[ETH_USD].observed_at
    told = timedelta(seconds=40 if double.tells_times else 0)
    assert told <= age < told + timedelta(seconds=5)
    assert len(double.asked) == 1, "all pairs are one request"


@pytest.mark.parametrize("price", ["12345678901234567.123456789012345678", "0.000000001234567891"])
def test_no_digit_is_lost_to_a_float(double: PriceDouble, price: str) -> None:
    double.set(ETH_USD, price)
    assert double.source().prices([ETH_USD])[ETH_USD].price == price


def test_it_knows_what_its_configuration_says_and_asks_nobody(double: PriceDouble) -> None:
    source = double.source()
    known = {pair for pair in (BTC_USD, ETH_USD, USDC_USD, USD_NGN) if source.knows(pair)}
    assert known == set(double.pairs)
    assert not source.knows(Pair(USD, ETH)) and not source.knows(Pair("iso4217:XXX", USD))
    assert source.prices([]) == {} and source.prices([Pair(USD, ETH)]) == {}
    assert double.asked == []


def test_names_of_pairs_may_be_set_and_taken_away(double: PriceDouble) -> None:
    other = Pair(ETH, EUR)
    name = double.pairs[BTC_USD]
    source = double.source(symbols={f"{ETH} {EUR}": name, f"{BTC} {USD}": None})
    assert source.knows(other) and not source.knows(BTC_USD)
    assert {pair: told.price for pair, told in source.prices([other, BTC_USD]).items()} == {other: "98765.4321"}


@pytest.mark.parametrize(
    "price", ["-1999.95", "0", "0.00", "null", '"NaN"', '"Infinity"', '"a lot"', "[]", "true", '""']
)
def test_what_is_no_price_is_left_out(double: PriceDouble, price: str) -> None:
    double.set(ETH_USD, price)
    assert set(double.source().prices([ETH_USD, BTC_USD])) == {BTC_USD}


def test_what_it_does_not_list_any_more_is_left_out(double: PriceDouble) -> None:
    del double.prices[double.pairs[ETH_USD]]
    assert set(double.source().prices([ETH_USD, BTC_USD])) == {BTC_USD}
    del double.prices[double.pairs[BTC_USD]]
    with pytest.raises(TransientError):
        double.source().prices([ETH_USD, BTC_USD])


def test_a_price_of_another_symbol_is_nobodys(double: PriceDouble) -> None:
    mine, other = (double.pairs[ETH_USD].replace("/usd", ""), "somebody")

    def renamed(asked: object, forward: object) -> Answer:
        answer = double._serve(asked)  # type: ignore[arg-type]
        return Answer(answer.status, answer.body.replace(mine.encode(), other.encode()))

    double.fault = renamed
    assert set(double.source().prices([ETH_USD, BTC_USD])) == {BTC_USD}


@pytest.mark.parametrize(
    "fault",
    [
        saying(500),
        saying(503),
        saying(429, retry_after=7),
        saying(418),
        saying(403),
        saying(401),
        saying(302),
        dies,
        hangs_up,
        truncates,
        garbage,
        html,
        other_json,
        lambda _asked, _forward: Answer(200, b"[]"),
        lambda _asked, _forward: Answer(200, b'[1, "a"]'),
        lambda _asked, _forward: Answer(200, b'{"products": [[]], "data": 1, "bitcoin": [], "ethereum": null}'),
        lambda _asked, _forward: Answer(200, b"[" * 100_000),
        lambda _asked, _forward: Answer(200, b'{"code": -1003, "msg": "Too much request weight used; limit 6000"}'),
    ],
)
def test_whatever_goes_wrong_there_is_transient(double: PriceDouble, fault: Fault) -> None:
    double.fault = fault
    source = double.source()
    with pytest.raises(TransientError) as failed:
        source.prices([ETH_USD])
    assert double.asked
    if failed.value.retry_after is not None:
        assert failed.value.retry_after == timedelta(seconds=7)
    double.fault = None
    assert set(source.prices([ETH_USD])) == {ETH_USD}


def test_a_server_that_drips_is_left_after_the_timeout(double: PriceDouble) -> None:
    with dripping() as url:
        source = double.source(timeout=0.5, base_url=url)
        began = time.monotonic()
        with pytest.raises(TransientError):
            source.prices([ETH_USD])
        assert time.monotonic() - began < 2


def test_one_that_is_away_is_transient(double: PriceDouble) -> None:
    with pytest.raises(TransientError):
        double.source(base_url="http://127.0.0.1:1").prices([ETH_USD])


def test_several_threads_may_ask_at_once(double: PriceDouble) -> None:
    source = double.source()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: source.prices([ETH_USD, BTC_USD]), range(32)))
    assert all(Decimal(answer[ETH_USD].price) == Decimal("1999.95") for answer in answers)


# --- what only some do -------------------------------------------------------------------------------------------


def test_one_delisted_symbol_costs_binance_the_others_only_a_request_each() -> None:
    with BinanceDouble() as double:
        double.set(ETH_USD, "2000")
        double.set(BTC_USD, "90000")
        assert set(double.source().prices([ETH_USD, BTC_USD, USDC_USD])) == {ETH_USD, BTC_USD}
        assert len(double.asked) == 4


def test_a_halted_product_of_coinbase_has_no_price() -> None:
    with CoinbaseDouble() as double:
        double.set(ETH_USD, "2000")
        double.set(BTC_USD, "90000")
        double.halted.add("ETH-USD")
        assert set(double.source().prices([ETH_USD, BTC_USD])) == {BTC_USD}


def test_coinbase_tells_of_currencies_when_its_market_is_away_and_the_other_way_round() -> None:
    with CoinbaseDouble() as double:
        double.set(ETH_USD, "2000")
        double.set(USD_NGN, "1537.25")
        source = double.source()
        assert {pair: told.price for pair, told in source.prices([ETH_USD, USD_NGN]).items()} == {
            ETH_USD: "2000",
            USD_NGN: "1537.25",
        }
        for away, left in (("/v2", ETH_USD), ("/api", USD_NGN)):
            double.fault = lambda asked, forward, away=away: (
                Answer(500, b"") if asked.path.startswith(away) else forward(asked)
            )
            assert set(source.prices([ETH_USD, USD_NGN])) == {left}


def test_coingecko_tells_currencies_by_a_bitcoin_and_takes_numbers_with_exponents() -> None:
    with CoinGeckoDouble() as double:
        double.set(USD_NGN, "15372.5")  # at ten dollars for a bitcoin
        double.set(ETH_USD, "1.25e-05")
        found = double.source().prices([USD_NGN, ETH_USD])
        assert {pair: told.price for pair, told in found.items()} == {USD_NGN: "1537.25", ETH_USD: "0.0000125"}
        [asked] = double.asked
        assert parse_qs(urlsplit(asked.path).query)["precision"] == ["full"]
        double.prices["bitcoin/usd"] = "0"
        assert set(double.source().prices([USD_NGN, ETH_USD])) == {ETH_USD}


def test_the_key_of_coingecko_is_sent_and_never_told() -> None:
    with CoinGeckoDouble() as double:
        double.set(ETH_USD, "2000")
        source = double.source(key="CG-very-secret")
        source.prices([ETH_USD])
        assert double.asked[0].headers["x-cg-demo-api-key"] == "CG-very-secret"
        double.fault = saying(401)
        with pytest.raises(TransientError) as failed:
            source.prices([ETH_USD])
        assert "secret" not in f"{failed.value!r} {failed.value}"


def test_nothing_imports_ccxt_until_a_price_is_asked_for() -> None:
    """It takes two seconds and 80 MB, of every process that would."""
    said = subprocess.run(
        [sys.executable, "-c", "import sys, tasks.maintenance, schedules.beat, api.main; print('ccxt' in sys.modules)"],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert said.stdout.strip() == "False", said.stderr
