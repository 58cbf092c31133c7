"""Each payout provider's credentials, its address, and what our contract with it allows.

A provider is one class here and one line in registry.py.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated, ClassVar, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from core.errors import PermanentError
from providers.fiat.settings import BaseUrl, Currencies
from providers.payout.base import Range


def payout_config(provider: str) -> SettingsConfigDict:
    """Settings of `PAYOUT_<provider>_`. What is wrong with a secret is said without the secret."""
    return SettingsConfigDict(env_prefix=f"PAYOUT_{provider}_", frozen=True, hide_input_in_errors=True)


class ProviderSettings(BaseSettings):
    """What all have. Those of one are a class with its `credentials`, each a `SecretStr | None`."""

    credentials: ClassVar[tuple[str, ...]] = ()
    """The fields without which there is no such provider here."""

    base_url: BaseUrl
    """Where its interface is: the provider's own address, another for its sandbox."""
    currencies: Currencies = {}
    """Currency -> (least, greatest) units of one payout, as our contract allows. None: it takes no new payouts."""

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
        """Half of the credentials is a mistake that is better found at the start than at the first payout."""
        if any(self._given()) and not self.configured:
            raise ValueError(f"these are set together or not at all: {', '.join(self.credentials)}")
        return self

    def _given(self) -> list[bool]:
        return [getattr(self, each) is not None for each in self.credentials]


class FlutterwavePayoutSettings(ProviderSettings):
    model_config = payout_config("FLUTTERWAVE")
    credentials = ("secret_key",)

    secret_key: SecretStr | None = None
    """`FLWSECK-...` of the v3 API. Flutterwave takes transfers from listed addresses only."""
    base_url: BaseUrl = "https://api.flutterwave.com"


class RazorpayxPayoutSettings(ProviderSettings):
    model_config = payout_config("RAZORPAYX")
    credentials = ("key_id", "key_secret", "account_number")

    key_id: SecretStr | None = None
    key_secret: SecretStr | None = None
    account_number: SecretStr | None = None
    """Of ours: the current account or customer identifier that payouts are taken from."""
    imps_max: Annotated[int, Field(ge=1)] = 50_000_000
    """Paise. A bank transfer of more goes by NEFT, which takes longer."""
    base_url: BaseUrl = "https://api.razorpay.com"


class StripePayoutSettings(ProviderSettings):
    model_config = payout_config("STRIPE")
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
