"""Prices as text, and rates as fractions of smallest units. Exact: no float on the way."""

import re
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from config.assets import registry
from core.errors import InvalidRequestError
from domain.rates.models import AssetPrice, AssetRate

PRICE_DIGITS_MAX = 38
"""With the longest scale of an asset, 36, a fraction has 74 digits."""
_PRICE = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Rate:
    """`numerator` smallest units of the currency for `denominator` smallest units of the asset, in lowest terms."""

    asset: str
    currency: str
    numerator: int
    denominator: int
    observed_at: datetime
    """Of a rate that is made of several, that of the oldest."""
    source: str

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.numerator, self.denominator)

    def inverse(self) -> "Rate":
        """The same for the other direction. Exact."""
        return Rate(self.currency, self.asset, self.denominator, self.numerator, self.observed_at, self.source)


def fraction(asset: str, currency: str, price: str) -> tuple[int, int]:
    """A decimal price of one asset (an ether, not a wei) as a fraction of smallest units. Exact, no float on the way.

    Raises InvalidRequestError for a price that is none, and for assets that the registry doesn't know.
    """
    found = _PRICE.fullmatch(price)
    if not found:
        raise InvalidRequestError(f"{price[:80]!r} is no price: write 1999.95", field="price")
    decimals = found[2] or ""
    written = found[1] + decimals
    # How long it is comes first: Python refuses to read a number of some thousand digits.
    if len(written) > PRICE_DIGITS_MAX or not int(written):
        raise InvalidRequestError(f"a price is above zero and has at most {PRICE_DIGITS_MAX} digits", field="price")
    exact = Fraction(int(written) * 10 ** scale(currency, "currency"), 10 ** (len(decimals) + scale(asset, "asset")))
    return exact.numerator, exact.denominator


def scale(asset: str, field: str) -> int:
    """Its decimal places. Raises InvalidRequestError, at the field, for one that the registry doesn't know."""
    known = registry().assets.get(asset)
    if known is None:
        raise InvalidRequestError(f"the {field} {asset[:200]!r} is not in the registry", field=field)
    return known.scale


def price(rate: Rate | AssetRate | AssetPrice) -> str:
    """The price of one asset as a decimal, for people: exact where it has an end within 38 places, else cut there."""
    return price_of(rate.asset, rate.currency, Fraction(rate.numerator, rate.denominator))


def price_of(asset: str, currency: str, exact: Fraction) -> str:
    """The same of a fraction of smallest units."""
    whole_units = exact * Fraction(10 ** scale(asset, "asset"), 10 ** scale(currency, "currency"))
    whole, rest = divmod(whole_units.numerator, whole_units.denominator)
    decimals = str(rest * 10**PRICE_DIGITS_MAX // whole_units.denominator).rjust(PRICE_DIGITS_MAX, "0").rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)
