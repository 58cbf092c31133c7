"""Each payout provider's credentials, its address, and what our contract with it allows.

A provider is one class here and one line in registry.py.
"""

from functools import cache
from typing import Annotated

from pydantic import Field, SecretStr

from providers.settings import BaseUrl, ProviderSettings, provider_config


class FlutterwavePayoutSettings(ProviderSettings):
    model_config = provider_config("PAYOUT_FLUTTERWAVE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`FLWSECK-...` of the v3 API. Flutterwave takes transfers from listed addresses only."""
    base_url: BaseUrl = "https://api.flutterwave.com"


class RazorpayxPayoutSettings(ProviderSettings):
    model_config = provider_config("PAYOUT_RAZORPAYX")
    credentials = ("key_id", "key_secret", "account_number")

    key_id: SecretStr | None = None
    key_secret: SecretStr | None = None
    account_number: SecretStr | None = None
    """Of ours: the current account or customer identifier that payouts are taken from."""
    imps_max: Annotated[int, Field(ge=1)] = 50_000_000
    """Paise. A bank transfer of more goes by NEFT, which takes longer."""
    base_url: BaseUrl = "https://api.razorpay.com"


class StripePayoutSettings(ProviderSettings):
    model_config = provider_config("PAYOUT_STRIPE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`sk_live_...`, or a restricted key that may do what docs/payout-providers.md names."""
    base_url: BaseUrl = "https://api.stripe.com"


@cache
def of(kind: type[ProviderSettings]) -> ProviderSettings:
    return kind()


def reload() -> None:
    """Forget what was read, for tests that change the environment."""
    of.cache_clear()
