"""Which payout providers a deployment has."""

from collections.abc import Mapping

from providers.payout.base import PayoutProvider

PROVIDERS: Mapping[str, PayoutProvider] = {}
