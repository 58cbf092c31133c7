"""What a deployment may set of payouts."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class PayoutSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAYOUT_", frozen=True)

    approval_expires: Duration = timedelta(hours=72)
    """How long one waits for approval before it is rejected."""
    limit_currency: str = Field(default="iso4217:USD", pattern=r"^iso4217:[A-Z]{3}$")
    """What limits and approvals count in: hundredths of it, called cents whatever it is."""


@cache
def payout() -> PayoutSettings:
    return PayoutSettings()
