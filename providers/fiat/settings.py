"""Each gateway's credentials, its address, and what our contract with it allows.

A gateway is one class here and one line in registry.py.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import assets
from core.errors import PermanentError
from providers.fiat.base import Range

Amount = Annotated[int, Field(ge=1)]


def _ordered(limits: tuple[int, int]) -> tuple[int, int]:
    if limits[0] > limits[1]:
        raise ValueError("the least amount stands before the greatest")
    return limits


def _described(currencies: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Without its scale no amount of a currency means anything."""
    if unknown := currencies.keys() - assets.registry().assets.keys():
        raise ValueError(f"no chains file describes {min(unknown)!r}")
    return currencies


BaseUrl = Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
Limits = Annotated[tuple[Amount, Amount], AfterValidator(_ordered)]
Currencies = Annotated[dict[str, Limits], AfterValidator(_described)]


def fiat_config(gateway: str) -> SettingsConfigDict:
    """Settings of `FIAT_<gateway>_`. What is wrong with a secret is said without the secret."""
    return SettingsConfigDict(env_prefix=f"FIAT_{gateway}_", frozen=True, hide_input_in_errors=True)


class GatewaySettings(BaseSettings):
    """What all gateways have. Those of one are a class with its `credentials`, each a `SecretStr | None`."""

    credentials: ClassVar[tuple[str, ...]] = ()
    """The fields without which there is no such gateway here."""

    base_url: BaseUrl
    """Where its interface is: the provider's own address, another for its sandbox."""
    currencies: Currencies = {}
    """Currency -> (least, greatest) units of one order, as our contract allows. None: it takes no new orders."""

    @property
    def configured(self) -> bool:
        return all(self._given())

    @property
    def ranges(self) -> Mapping[str, Range]:
        return {
            currency: Range(units_min=least, units_max=greatest)
            for currency, (least, greatest) in self.currencies.items()
        }

    def reveal(self, credential: str) -> str:
        """Raises PermanentError if there is none."""
        secret: SecretStr | None = getattr(self, credential)
        if secret is None:
            name = f"{self.model_config.get('env_prefix', '')}{credential}".upper()
            raise PermanentError(f"{name} is not set")
        return secret.get_secret_value()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """Half of the credentials is a mistake that is better found at the start than at the first payment."""
        if any(self._given()) and not self.configured:
            raise ValueError(f"these are set together or not at all: {', '.join(self.credentials)}")
        return self

    def _given(self) -> list[bool]:
        return [getattr(self, each) is not None for each in self.credentials]


class StripeSettings(GatewaySettings):
    model_config = fiat_config("STRIPE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`sk_live_...`, or a restricted key that may do what docs/gateways.md names."""
    base_url: BaseUrl = "https://api.stripe.com"


class RazorpaySettings(GatewaySettings):
    model_config = fiat_config("RAZORPAY")
    credentials = ("key_id", "key_secret")

    key_id: SecretStr | None = None
    key_secret: SecretStr | None = None
    base_url: BaseUrl = "https://api.razorpay.com"


class FlutterwaveSettings(GatewaySettings):
    model_config = fiat_config("FLUTTERWAVE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`FLWSECK-...` of the v3 API."""
    base_url: BaseUrl = "https://api.flutterwave.com"


class UnlimitSettings(GatewaySettings):
    model_config = fiat_config("UNLIMIT")
    credentials = ("terminal_code", "password")

    terminal_code: SecretStr | None = None
    password: SecretStr | None = None
    """The terminal's. The callback secret is one of WEBHOOK_SECRETS."""
    base_url: BaseUrl = "https://cardpay.com"


class AlchemyPaySettings(GatewaySettings):
    model_config = fiat_config("ALCHEMY_PAY")
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
def of(kind: type[GatewaySettings]) -> GatewaySettings:
    return kind()


def reload() -> None:
    """Forget what was read, for tests that change the environment."""
    of.cache_clear()
