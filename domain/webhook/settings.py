"""What a deployment may set of webhooks that come in."""

from datetime import timedelta
from functools import cache
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from config.settings import Duration

SECRET_MIN = 8
"""Characters. Shorter is a slip of the hand, and could be guessed."""


def _secret(secret: SecretStr) -> SecretStr:
    found = secret.get_secret_value()
    if len(found) < SECRET_MIN or found != found.strip():
        raise ValueError(f"a secret has at least {SECRET_MIN} characters, and no space around them")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_secret)]
Network = IPv4Network | IPv6Network


class WebhookSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="WEBHOOK_", frozen=True, hide_input_in_errors=True)

    secrets: dict[str, Annotated[tuple[Secret, ...], Field(min_length=1)]] = {}
    """As JSON: provider -> every secret that is good now. A provider without any does not exist here."""
    networks: dict[str, Annotated[tuple[Network, ...], Field(min_length=1)]] = {}
    """As JSON: provider -> networks that its webhooks come from. Without any: from everywhere."""
    proxies: tuple[Network, ...] | None = None
    """As JSON: networks of our own proxies. What they say of whom they speak for is believed."""
    keep: Duration = timedelta(days=30)
    """How long the body of what was handled is kept."""
    wait: Duration = timedelta(hours=24)
    """How long an unknown reference is waited for."""
    refetch_units: dict[str, Annotated[int, Field(ge=0)]] = {}
    """As JSON: currency -> units from which on a payment is asked of the provider, whatever its webhook says. One that
    is not named is always asked for."""


@cache
def webhook() -> WebhookSettings:
    return WebhookSettings()
