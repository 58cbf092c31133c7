"""Which gateways a deployment has. Adapters are imported when they are first asked for."""

from collections.abc import Mapping

from providers.fiat.base import Gateway


def gateways() -> Mapping[str, Gateway]:
    """By name, those whose credentials are set."""
    return {}
