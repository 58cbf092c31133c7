"""Which payout providers a deployment has. Adapters are imported when they are first asked for: one brings an SDK."""

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from core.errors import PermanentError, TransientError
from providers.payout import settings
from providers.payout.base import PayoutProvider
from providers.payout.settings import (
    FlutterwavePayoutSettings,
    RazorpayxPayoutSettings,
    StripePayoutSettings,
)
from providers.settings import ProviderSettings

PROVIDERS: Mapping[str, tuple[type[ProviderSettings], str]] = {
    "flutterwave": (FlutterwavePayoutSettings, "providers.payout.flutterwave:FlutterwavePayouts"),
    "razorpayx": (RazorpayxPayoutSettings, "providers.payout.razorpayx:RazorpayxPayouts"),
    "stripe": (StripePayoutSettings, "providers.payout.stripe:StripePayouts"),
}
"""Name -> its settings, and the module and class that is made of them."""


@cache
def providers() -> Mapping[str, PayoutProvider]:
    """By name, those whose credentials are set. Raises ValueError with what is wrong in a provider's settings."""
    return MappingProxyType(
        {name: _made(name) for name, (kind, _) in PROVIDERS.items() if settings.of(kind).configured}
    )


def get(name: str) -> PayoutProvider:
    """Raises PermanentError if there is no such provider, TransientError if it has no credentials here yet."""
    found = providers().get(name)
    if found is not None:
        return found
    if name in PROVIDERS:
        raise TransientError(f"this process has no payout provider {name!r}")
    raise PermanentError(f"there is no payout provider {name!r}")


def _made(name: str) -> PayoutProvider:
    kind, place = PROVIDERS[name]
    module, _, adapter = place.partition(":")
    provider: PayoutProvider = getattr(import_module(module), adapter)(settings.of(kind))
    return provider


def reload() -> None:
    """Forget the providers and what was read of their settings."""
    settings.reload()
    providers.cache_clear()


# Open connections can't be shared with a forked worker process.
os.register_at_fork(after_in_child=providers.cache_clear)
