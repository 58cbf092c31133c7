"""Doubles of fiat gateways over real HTTP. The conformance suite runs over all of them."""

from tests.support.gateways.base import Double

DOUBLES: list[type[Double]] = []
"""One for each line of providers.fiat.registry.GATEWAYS."""
