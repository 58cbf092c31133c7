"""What a deployment may set of rates."""

from datetime import timedelta
from functools import cache

from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class RatesSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="RATES_", frozen=True)

    age_max: Duration = timedelta(minutes=15)
    """How old a rate may be at the moment that is asked about. An older one says nothing."""


@cache
def rates() -> RatesSettings:
    return RatesSettings()
