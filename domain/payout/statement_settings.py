"""What a deployment may set of statements."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class PayoutStatementSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAYOUT_STATEMENT_", frozen=True)

    within: Duration = timedelta(days=7)
    """Each day the lines of so long before are asked for again, so that late ones are found."""
    grace: Duration = Field(default=timedelta(days=2), ge=timedelta(hours=1))
    """So long a line may come after its payout, and a payout after its line, before that is a break."""
    under_way: Duration = timedelta(days=5)
    """So long a provider may have taken the money and not say that it is paid: some do so when they begin."""


@cache
def statements() -> PayoutStatementSettings:
    return PayoutStatementSettings()
