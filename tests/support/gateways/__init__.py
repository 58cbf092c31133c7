"""Doubles of fiat gateways over real HTTP. The conformance suite runs over all of them."""

from tests.support.gateways.base import Double
from tests.support.gateways.razorpay import RazorpayDouble
from tests.support.gateways.stripe import StripeDouble

DOUBLES: list[type[Double]] = [RazorpayDouble, StripeDouble]
"""One for each line of providers.fiat.registry.GATEWAYS."""
