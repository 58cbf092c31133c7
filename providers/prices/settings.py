"""Which sources of prices a deployment asks, and under which names they know its pairs."""

from functools import cache
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

SourceName = Literal["binance", "coinbase", "coingecko"]
Symbols = dict[str, str | None]
"""`<asset> <currency>` to the source's name of the pair, over the defaults of `symbols.py`; null: it has none."""


class PriceSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PRICE_", frozen=True, hide_input_in_errors=True)

    sources: tuple[SourceName, ...] | None = None
    """As JSON. None: nobody is asked, and rates are what persons set."""
    timeout: float = Field(default=8.0, gt=0, le=60)
    """Seconds of one request, however slowly its bytes come."""
    binance_base_url: str = "https://api.binance.com"
    binance_symbols: Symbols = {}
    coinbase_base_url: str = "https://api.coinbase.com"
    coinbase_symbols: Symbols = {}
    coingecko_base_url: str = "https://api.coingecko.com/api/v3"
    coingecko_symbols: Symbols = {}
    coingecko_key: SecretStr | None = None


@cache
def prices() -> PriceSettings:
    return PriceSettings()
