"""Sources that say what a test wants, a clock that it turns, and the settings of rates."""

import json
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core import clock
from core.db import transaction
from core.errors import TransientError
from domain.rates import service as rates
from domain.rates.service import Rate
from domain.rates.settings import rates as settings
from providers.prices.base import Pair, Price
from tests.support.prices import ETH_USD


class Says:
    """A source in this process."""

    def __init__(self, name: str, **_: Any) -> None:
        self.name = name
        self.told: dict[Pair, str] = {}
        self.age = timedelta(0)
        self.away = False
        self.asked: list[Collection[Pair]] = []

    def knows(self, pair: Pair) -> bool:
        return pair in self.told

    def prices(self, pairs: Collection[Pair]) -> Mapping[Pair, Price]:
        self.asked.append(pairs)
        if self.away:
            raise TransientError("it is away")
        at = clock.now() - self.age
        return {pair: Price(pair, self.told[pair], at) for pair in pairs if self.told[pair]}


class Clock:
    def __init__(self) -> None:
        self.time = datetime.now(UTC)

    def on(self, seconds: int = 30) -> datetime:
        """Turn it, and say what it shows."""
        self.time += timedelta(seconds=seconds)
        return self.time


class Market:
    """Three sources, rounds of them, and what comes of them."""

    def __init__(self, turning: Clock) -> None:
        self.clock = turning
        self.sources = [Says("a"), Says("b"), Says("c")]

    def says(self, pair: Pair, *prices: str) -> None:
        """From now on. An empty text: the source has none for now."""
        for source, price in zip(self.sources, prices, strict=True):
            source.told[pair] = price

    def round(self, *prices: str, pair: Pair = ETH_USD) -> str:
        """Half a minute later; what can be used then, or why nothing can."""
        if prices:
            self.says(pair, *prices)
        self.clock.on()
        rates.refresh(self.sources)
        return self.said(pair)

    def said(self, pair: Pair = ETH_USD, at: datetime | None = None) -> str:
        with transaction() as session:
            try:
                return rates.price(rates.usable(session, pair.asset, pair.currency, at))
            except rates.RateUnusableError as error:
                return error.reason.value

    def usable(self, asset: str, currency: str) -> Rate:
        with transaction() as session:
            return rates.usable(session, asset, currency)


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATE_WAIT", "5")
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
def turning(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(clock, "now", lambda: made.time)
    return made


@pytest.fixture
def market(database_url: str, turning: Clock) -> Market:
    return Market(turning)


def choose(monkeypatch: pytest.MonkeyPatch, **values: object) -> None:
    """Settings of rates from now on, JSON where they aren't text."""
    for name, value in values.items():
        monkeypatch.setenv(f"RATE_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
    settings.cache_clear()
