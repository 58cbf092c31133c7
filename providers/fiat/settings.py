"""Each gateway's credentials, its address, and what our contract with it allows.

A gateway is one class here and one line in registry.py.
"""

from functools import cache

from pydantic import Field, SecretStr

from providers.settings import BaseUrl, ProviderSettings, provider_config


class StripeSettings(ProviderSettings):
    model_config = provider_config("FIAT_STRIPE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`sk_live_...`, or a restricted key that may do what docs/gateways.md names."""
    base_url: BaseUrl = "https://api.stripe.com"


class RazorpaySettings(ProviderSettings):
    model_config = provider_config("FIAT_RAZORPAY")
    credentials = ("key_id", "key_secret")

    key_id: SecretStr | None = None
    key_secret: SecretStr | None = None
    base_url: BaseUrl = "https://api.razorpay.com"


class FlutterwaveSettings(ProviderSettings):
    model_config = provider_config("FIAT_FLUTTERWAVE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`FLWSECK-...` of the v3 API."""
    base_url: BaseUrl = "https://api.flutterwave.com"


class UnlimitSettings(ProviderSettings):
    model_config = provider_config("FIAT_UNLIMIT")
    credentials = ("terminal_code", "password")

    terminal_code: SecretStr | None = None
    password: SecretStr | None = None
    """The terminal's. The callback secret is one of WEBHOOK_SECRETS."""
    base_url: BaseUrl = "https://cardpay.com"


class AlchemyPaySettings(ProviderSettings):
    model_config = provider_config("FIAT_ALCHEMY_PAY")
    credentials = ("app_id", "app_secret", "address")

    app_id: SecretStr | None = None
    app_secret: SecretStr | None = None
    """Signs our requests and their webhooks: it is also one of WEBHOOK_SECRETS."""
    address: SecretStr | None = None
    """Of ours: where they send what payers buy. Never a payer's."""
    crypto: str = Field(default="USDT", pattern=r"^[A-Za-z0-9.]{1,20}$")
    network: str = Field(default="TRX", pattern=r"^[A-Za-z0-9_]{1,20}$")
    """In their network codes."""
    pay_way_code: str = Field(default="10001", pattern=r"^[0-9]{1,10}$")
    """In their payment method codes. 10001: card."""
    country: str | None = Field(default=None, pattern=r"^[A-Z]{2}$")
    """The payers' country, where the payment method needs one."""
    base_url: BaseUrl = "https://openapi.alchemypay.org"


@cache
def of(kind: type[ProviderSettings]) -> ProviderSettings:
    return kind()


def reload() -> None:
    """Forget what was read, for tests that change the environment."""
    of.cache_clear()
