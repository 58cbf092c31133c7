"""What a deployment may set of payouts on chains."""

from datetime import timedelta
from functools import cache

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration


class OnchainSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ONCHAIN_", frozen=True)

    raise_after: Duration = timedelta(minutes=3)
    """A version that has waited for a block for so long is outbid by another."""
    versions_max: int = Field(default=20, ge=1, le=200)
    """Of one transfer. Then a person must look."""
    look_slowest: Duration = timedelta(seconds=30)
    """The longest pause between two looks at a transfer that is in no block."""
    sign_within: Duration = timedelta(seconds=30)
    """A worker that was held up for longer before it asks the signer doesn't ask."""
    signing_over: Duration = timedelta(minutes=2)
    """After so long nothing comes of a question to the signer whose answer was lost. Until then no refusal counts."""
    follow_limit: int = Field(default=100, ge=1, le=1_000)
    """Transfers that one round takes."""
    budget: Duration = timedelta(seconds=20)
    """A round begins with no further transfer after this long."""


class WalletSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True)

    wallets: dict[str, str] = {}
    """As JSON: chain -> the address of ours that pays there. The signer has its key."""
    signer_url: str | None = None
    signer_token: SecretStr | None = None


@cache
def onchain() -> OnchainSettings:
    return OnchainSettings()


@cache
def wallets() -> WalletSettings:
    return WalletSettings()


def reload() -> None:
    onchain.cache_clear()
    wallets.cache_clear()
