"""What a deployment may set of payouts."""

from datetime import timedelta
from functools import cache
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration

Cents = Annotated[int, Field(ge=0, lt=10**30)]
Count = Annotated[int, Field(ge=0, lt=10**12)]
LimitName = Literal[
    "each",
    "account_day",
    "account_week",
    "account_day_count",
    "account_week_count",
    "destination_day",
    "destination_week",
    "destination_day_count",
    "destination_week_count",
    "tenant_day",
    "tenant_week",
    "tenant_day_count",
    "tenant_week_count",
]
TIERS = ((10_000, 1), (100_000, 2))
"""If PAYOUT_APPROVALS says nothing: one approver from 100 USD on, two from 1,000 USD on."""


class PayoutSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="PAYOUT_", frozen=True)

    fees: dict[str, tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0, le=5_000)]]] = {}
    """As JSON: asset -> [units, hundredths of a percent], both taken on top. Not named: no fee."""
    approval_expires: Duration = timedelta(hours=72)
    """How long one waits for approval before it is rejected."""
    approvals: tuple[tuple[Cents, Annotated[int, Field(ge=0, le=2)]], ...] | None = None
    """As JSON: [[cents, approvers], ...], rising: from that value on so many people must agree."""
    review_score: int = Field(default=50, ge=1)
    """Findings whose scores sum up to this have a person look."""
    refuse_score: int = Field(default=100, ge=1)
    """Findings whose scores sum up to this refuse the payout."""
    first_by_hand: int = Field(default=1_000, ge=0, le=1_000_000)
    """Until so many payouts of a tenant are paid, a person looks at each."""
    destination_cooling: Duration = timedelta(hours=24)
    """A person looks at payouts to a destination that was verified less long ago."""
    requests_hourly: int = Field(default=5, ge=1, le=100_000)
    """Payouts, or batches of them, that an account may ask for in any hour."""

    limit_currency: str = Field(default="iso4217:USD", pattern=r"^iso4217:[A-Z]{3}$")
    """What limits and approvals count in: hundredths of it, called cents whatever it is."""
    limit_each: Cents = 50_000
    limit_account_day: Cents = 100_000
    limit_account_week: Cents = 300_000
    limit_account_day_count: Count = 10
    limit_account_week_count: Count = 30
    limit_destination_day: Cents = 100_000
    limit_destination_week: Cents = 300_000
    limit_destination_day_count: Count = 10
    limit_destination_week_count: Count = 30
    limit_tenant_day: Cents = 2_000_000
    limit_tenant_week: Cents = 10_000_000
    limit_tenant_day_count: Count = 1_000
    limit_tenant_week_count: Count = 5_000
    limit_review_percent: int = Field(default=80, ge=1, le=100)
    """A person looks at what takes an account, a destination or a tenant over this part of a limit."""
    tenant_limits: dict[str, dict[LimitName, Annotated[int, Field(ge=0, lt=10**30)]]] = {}
    """As JSON: tenant -> {limit: most}, such as {"shop": {"each": 100000}}, instead of those above."""

    def limit(self, tenant: str, name: LimitName) -> int:
        """The most that this tenant's limit of that name allows."""
        chosen = self.tenant_limits.get(tenant, {}).get(name)
        most: int = getattr(self, f"limit_{name}")
        return most if chosen is None else chosen

    @property
    def tiers(self) -> tuple[tuple[int, int], ...]:
        return TIERS if self.approvals is None else self.approvals

    @model_validator(mode="after")
    def _rising(self) -> Self:
        values = [value for value, _ in self.tiers]
        if values != sorted(set(values)) or [n for _, n in self.tiers] != sorted(n for _, n in self.tiers):
            raise ValueError("PAYOUT_APPROVALS must rise: more money never needs fewer people")
        if self.refuse_score < self.review_score:
            raise ValueError("PAYOUT_REFUSE_SCORE can't be below PAYOUT_REVIEW_SCORE")
        return self


@cache
def payout() -> PayoutSettings:
    return PayoutSettings()
