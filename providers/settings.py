"""What the settings of every provider have: credentials, an address, and what our contract with it allows."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from config import assets
from core.errors import PermanentError
from providers.range import Range

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


def provider_config(prefix: str) -> SettingsConfigDict:
    """Settings of `<prefix>_`. What is wrong with a secret is said without the secret."""
    return SettingsConfigDict(env_prefix=f"{prefix}_", frozen=True, hide_input_in_errors=True)


class ProviderSettings(BaseSettings):
    """Those of one provider are a class with its `credentials`, each a `SecretStr | None`."""

    credentials: ClassVar[tuple[str, ...]] = ()
    """The fields without which there is no such gateway here."""

    base_url: BaseUrl
    """Where its interface is: the provider's own address, another for its sandbox."""
    currencies: Currencies = {}
    """Currency -> (least, greatest) units of one order or payout, as our contract allows. None: no new ones."""

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
        """Half of the credentials is a mistake that is better found at the start than at the first order."""
        if any(self._given()) and not self.configured:
            raise ValueError(f"these are set together or not at all: {', '.join(self.credentials)}")
        return self

    def _given(self) -> list[bool]:
        return [getattr(self, each) is not None for each in self.credentials]
