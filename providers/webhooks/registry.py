"""Whose webhooks a deployment takes."""

from collections.abc import Mapping

from providers.webhooks.base import Scheme


def schemes() -> Mapping[str, Scheme]:
    """By provider, every one that we know, whether or not it has secrets here."""
    return {}
