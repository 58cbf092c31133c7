"""What a deployment may set of quotes."""

from datetime import timedelta
from functools import cache
from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration

Bps = Annotated[int, Field(ge=0, le=5_000)]


class QuoteSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="QUOTE_", frozen=True)

    spread_bps: Bps = 50
    """What we keep of what comes in, in hundredths of a percent."""
    spreads: dict[str, Bps] = {}
    """As JSON: tenant -> its spread, where it is another."""
    expiry: Duration = timedelta(seconds=30)
    slippage_bps: Bps = 100
    """How far the rate may have moved against us until a quote is honoured."""
    keep: Duration = timedelta(days=30)
    """How long a quote that nobody used is kept."""

    def spread_of(self, tenant: str) -> int:
        return self.spreads.get(tenant, self.spread_bps)


@cache
def quotes() -> QuoteSettings:
    return QuoteSettings()
