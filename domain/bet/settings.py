"""What a deployment may set of bets."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class BetSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="BET_", frozen=True)

    per_second: int = Field(default=100, ge=1, le=1_000_000)
    """Bets that one user may try in a second."""
    idle: Duration = timedelta(minutes=30)
    """A player who decided nothing for so long, and has nothing staked, is unloaded into the books."""


@cache
def bet() -> BetSettings:
    return BetSettings()
