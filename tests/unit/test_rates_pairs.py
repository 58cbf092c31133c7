"""Which pairs are asked for, and when: by the shipped registry and the sources that a deployment names."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from config import assets, settings
from domain.rates import refresh
from domain.rates.settings import rates
from providers.prices import registry
from providers.prices.base import Pair
from schedules import beat
from tests.support.prices import BTC_USD, ETH_USD, EUR, NGN, USD, USD_NGN, USDC_USD

GHS = "iso4217:GHS"
TRX = "tron:728126428/slip44:195"


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    def forget() -> None:
        for each in (settings, assets, registry):
            each.reload()
        rates.cache_clear()

    forget()
    yield
    forget()


def asked(monkeypatch: pytest.MonkeyPatch, sources: str) -> set[Pair]:
    monkeypatch.setenv("PRICE_SOURCES", sources)
    registry.reload()
    return set(refresh.wanted_pairs(registry.sources()))


def test_without_a_choice_it_is_what_enough_sources_know(monkeypatch: pytest.MonkeyPatch) -> None:
    found = asked(monkeypatch, '["binance", "coinbase", "coingecko"]')
    assert {ETH_USD, BTC_USD, USDC_USD, USD_NGN, Pair(USD, EUR), Pair(TRX, USD)} <= found
    assert Pair(USD, GHS) not in found, "CoinGecko knows no cedi, and one source is not enough"
    assert {pair.currency if pair.asset == USD else pair.asset for pair in found} <= set(assets.registry().assets)
    coins = {asset.id for asset in assets.registry().assets.values() if asset.chain is not None}
    assert {pair.asset for pair in found} == coins | {USD}, "each coin of the shipped registry has its sources"
    two = asked(monkeypatch, '["binance", "coingecko"]')
    assert ETH_USD in two and USD_NGN not in two
    monkeypatch.setenv("RATE_SOURCES_MIN", "1")
    rates.cache_clear()
    assert asked(monkeypatch, '["coinbase"]') >= {ETH_USD, USD_NGN, Pair(USD, GHS)}


def test_what_is_chosen_is_asked_whoever_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RATE_PAIRS", f'[["{USD}", "{NGN}"]]')
    rates.cache_clear()
    assert asked(monkeypatch, '["binance"]') == {USD_NGN}


def test_it_is_on_the_timetable_where_there_are_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def periods() -> list[timedelta]:
        return [schedule.every for schedule in beat.timetable() if schedule.task == "maintenance.refresh_rates"]

    monkeypatch.delenv("PRICE_SOURCES", raising=False)
    registry.reload()
    assert periods() == [] and refresh.wanted_pairs(registry.sources()) == []
    monkeypatch.setenv("PRICE_SOURCES", '["coingecko"]')
    registry.reload()
    assert periods() == [timedelta(seconds=30)]
