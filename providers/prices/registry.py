"""Which sources of prices a deployment asks. Adapters are imported when they are first asked for."""

import importlib
from collections.abc import Sequence
from functools import cache

from providers.prices.base import Source
from providers.prices.settings import SourceName
from providers.prices.settings import prices as settings

# ccxt takes two seconds and 80 MB to import: only a process that asks for prices pays for it.
ADAPTERS: dict[SourceName, str] = {
    "binance": "providers.prices.binance:Binance",
    "coinbase": "providers.prices.coinbase:Coinbase",
    "coingecko": "providers.prices.coingecko:CoinGecko",
}


def get(name: SourceName) -> Source:
    """A new one, as the settings say."""
    module, adapter = ADAPTERS[name].split(":")
    made: Source = getattr(importlib.import_module(module), adapter)(settings())
    return made


@cache
def sources() -> Sequence[Source]:
    """Those that PRICE_SOURCES names, made once a process."""
    return tuple(get(name) for name in settings().sources or ())


def reload() -> None:
    """Forget what was read, for tests that change the environment."""
    settings.cache_clear()
    sources.cache_clear()
