"""Doubles of fiat gateways over real HTTP. The conformance suite runs over all of them."""

from tests.support.gateways.alchemy_pay import AlchemyPayDouble
from tests.support.gateways.base import Double
from tests.support.gateways.flutterwave import FlutterwaveDouble
from tests.support.gateways.razorpay import RazorpayDouble
from tests.support.gateways.stripe import StripeDouble
from tests.support.gateways.unlimit import UnlimitDouble

DOUBLES: list[type[Double]] = [AlchemyPayDouble, FlutterwaveDouble, RazorpayDouble, StripeDouble, UnlimitDouble]
"""One for each line of providers.fiat.registry.GATEWAYS."""
