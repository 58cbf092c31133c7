"""Which gateways a deployment has. Adapters are imported when they are first asked for: some bring a whole SDK."""

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import MappingProxyType

from core.errors import PermanentError, TransientError
from providers.fiat import settings
from providers.fiat.base import Gateway
from providers.fiat.settings import (
    AlchemyPaySettings,
    FlutterwaveSettings,
    RazorpaySettings,
    StripeSettings,
    UnlimitSettings,
)
from providers.settings import ProviderSettings

GATEWAYS: Mapping[str, tuple[type[ProviderSettings], str]] = {
    "alchemy_pay": (AlchemyPaySettings, "providers.fiat.alchemy_pay:AlchemyPayGateway"),
    "flutterwave": (FlutterwaveSettings, "providers.fiat.flutterwave:FlutterwaveGateway"),
    "razorpay": (RazorpaySettings, "providers.fiat.razorpay:RazorpayGateway"),
    "stripe": (StripeSettings, "providers.fiat.stripe:StripeGateway"),
    "unlimit": (UnlimitSettings, "providers.fiat.unlimit:UnlimitGateway"),
}
"""Name -> its settings, and the module and class that is made of them."""


@cache
def gateways() -> Mapping[str, Gateway]:
    """By name, those whose credentials are set. Raises ValueError with what is wrong in a gateway's settings."""
    return MappingProxyType({name: _made(name) for name, (kind, _) in GATEWAYS.items() if settings.of(kind).configured})


def get(name: str) -> Gateway:
    """Raises PermanentError if there is no such gateway, TransientError if it has no credentials here yet."""
    found = gateways().get(name)
    if found is not None:
        return found
    if name in GATEWAYS:
        raise TransientError(f"this process has no gateway {name!r}")
    raise PermanentError(f"there is no gateway {name!r}")


def _made(name: str) -> Gateway:
    kind, place = GATEWAYS[name]
    module, _, adapter = place.partition(":")
    gateway: Gateway = getattr(import_module(module), adapter)(settings.of(kind))
    return gateway


def reload() -> None:
    """Forget the gateways and what was read of their settings."""
    settings.reload()
    gateways.cache_clear()


# Open connections can't be shared with a forked worker process.
os.register_at_fork(after_in_child=gateways.cache_clear)
