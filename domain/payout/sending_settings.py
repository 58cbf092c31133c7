"""What a deployment may set of sending payouts."""

from datetime import timedelta
from enum import StrEnum
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class Negative(StrEnum):
    """What becomes of an account that had its money back, and spent it, when the payout turned out to be paid."""

    DEBT = "debt"
    """The rest is owed; the account goes on as before."""
    FREEZE = "freeze"
    """The rest is owed, and nothing leaves the account until a person lifts that."""


class PayoutSendingSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAYOUT_", frozen=True)

    priorities: dict[str, int] = {}
    """As JSON: provider -> a number; of those that can take a payout the lowest is asked first. Default: 100 each."""
    attempts_max: int = Field(default=6, ge=1, le=50)
    """Providers that may refuse a payout before it fails, each try counted."""
    resends_max: int = Field(default=3, ge=0, le=20)
    """How often what nobody knows about is sent again, under the same key and within its window."""
    unknown_after: Duration = timedelta(minutes=2)
    """So long a call may be under way before another run takes it for lost."""
    unknown_window: Duration = timedelta(minutes=1)
    """So long what nobody knows about is only looked up before it is sent again."""
    send_within: Duration = timedelta(seconds=30)
    """A worker that was held up for longer between its intent and its call doesn't call."""
    balance_pause: Duration = timedelta(minutes=5)
    """Before a provider that had too little of ours is asked again."""
    limit_pause: Duration = timedelta(hours=1)
    """Likewise one to which it was too much."""
    down_after: int = Field(default=3, ge=1, le=100)
    """Calls without an answer in a row after which nothing is sent to a provider."""
    down_for: Duration = timedelta(minutes=1)
    """For so long after the last of them; then one payout tries."""
    poll_limit: int = Field(default=500, ge=1, le=5_000)
    """Payouts that one round of the poll asks for."""
    negative_balance: Negative = Negative.DEBT


@cache
def sending() -> PayoutSendingSettings:
    return PayoutSendingSettings()
