"""Doubles of payout providers over real HTTP. The conformance suite runs over all of them."""

from tests.support.payouts.base import Double
from tests.support.payouts.flutterwave import FlutterwaveDouble
from tests.support.payouts.razorpayx import RazorpayxDouble
from tests.support.payouts.stripe import StripeDouble

DOUBLES: list[type[Double]] = [FlutterwaveDouble, RazorpayxDouble, StripeDouble]
"""One for each line of providers.payout.registry.PROVIDERS."""
