"""What a deployment may set of deposits."""

from datetime import timedelta
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class DepositSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="DEPOSIT_", frozen=True)

    deadline: Duration = timedelta(hours=24)
    """For requests that state none."""
    deadline_max: Duration = timedelta(days=30)
    older_by_max: Duration = timedelta(hours=24)
    """A transaction this much older than the deposit that names it is somebody's old payment, shown again."""
    late_watch: Duration = timedelta(days=7)
    """How long after its deadline a deposit is still looked for, so that late money is noticed."""
    reorg_grace: Duration = timedelta(hours=1)
    """Time that a payment undone by a reorg has to come back, if its deadline leaves it less."""
    part_min_bps: int = Field(default=5_000, ge=0, le=10_000)
    """An underpayment below this share of what is expected is booked by itself, and the deposit waits on."""
    claim: Duration = timedelta(seconds=30)
    """How long a poll has for the deposits it took, before another may take them."""
    poll_limit: int = Field(default=200, ge=1, le=1_000)
    """Deposits that one round of a poll reads together."""
    poll_slowest: Duration = timedelta(minutes=1)
    """The longest pause between two looks at a transaction that does not appear."""
    budget: Duration = timedelta(seconds=20)
    """A poll or a scan starts no further round after this long."""


@cache
def deposit() -> DepositSettings:
    return DepositSettings()
