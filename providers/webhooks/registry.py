"""Whose webhooks a deployment takes."""

from collections.abc import Mapping
from types import MappingProxyType

from providers.webhooks import alchemy_pay, flutterwave, razorpay, stripe, unlimit
from providers.webhooks.base import Scheme

_SCHEMES = MappingProxyType(
    {
        scheme.provider: scheme
        for scheme in (
            alchemy_pay.SCHEME,
            flutterwave.SCHEME,
            razorpay.SCHEME,
            razorpay.X,
            stripe.SCHEME,
            unlimit.SCHEME,
        )
    }
)


def schemes() -> Mapping[str, Scheme]:
    """By provider, every one that we know, whether or not it has secrets here."""
    return _SCHEMES
