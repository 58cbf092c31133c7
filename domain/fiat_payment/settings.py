"""What a deployment may set of payments by card, bank and wallet."""

from datetime import timedelta
from enum import StrEnum
from functools import cache

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration

DAY = timedelta(days=1)


class Negative(StrEnum):
    """What becomes of an account whose payment went back after its money was spent."""

    DEBT = "debt"
    """The rest is owed; the account goes on as before."""
    FREEZE = "freeze"
    """The rest is owed, and nothing leaves the account until it is there again or a person lifts it."""


class FiatPaymentSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="FIAT_", frozen=True)

    expires_in: Duration = timedelta(hours=1)
    """For payments that state none."""
    expires_in_max: Duration = timedelta(days=7)
    fee_bps: int = Field(default=0, ge=0, le=5_000)
    """What we keep of a payment, in hundredths of a percent. Noted on the payment when it is made."""
    negative_balance: Negative = Negative.DEBT
    unknown_window: Duration = timedelta(minutes=2)
    """For this long what nobody answered for is looked up, before the same gateway is asked again."""
    late_watch: Duration = DAY
    """How long after its end a payment that was never paid is still asked about."""
    paid_watch: Duration = timedelta(days=120)
    """How long a paid one is looked at, ever more seldom: chargebacks come late."""
    quoted_for: Duration = timedelta(minutes=15)
    """The longest that the payer of one at a quote has: so long the rate is promised, and we bear how it moves."""
    poll_limit: int = Field(default=500, ge=1, le=5_000)
    """Payments that one round of the poll asks for."""
    priorities: dict[str, int] = {}
    """As JSON: gateway -> a number; the automatic choice takes the lowest first. Default: 100 each."""
    webhook_base_url: str | None = None
    """Of our API, `https://api.example.com`, for gateways that are told with each order where to send webhooks."""
    down_after: int = Field(default=3, ge=1, le=100)
    """Failures in a row after which the automatic choice prefers other gateways."""
    down_for: Duration = timedelta(minutes=1)
    """How long it does so after the last failure."""
    payer_key: SecretStr | None = Field(default=None, min_length=64, max_length=64)
    """AES-256, 64 hexadecimal digits: seals a payer's address for the moments until the order is made."""
    settled_within: Duration = timedelta(days=3)
    """How far back each day's settlement lines are read again."""
    settled_after: Duration = timedelta(days=10)
    """A payment that no settlement has named so long after it was paid is a break."""
    house_tenant: str | None = Field(default=None, min_length=1)
    """In whose books what gateways charge or change belongs that is of no payment. None: in nobody's, a break each."""


@cache
def fiat_payment() -> FiatPaymentSettings:
    return FiatPaymentSettings()
