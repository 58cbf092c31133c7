"""What a conversion gives, to the unit. Pure: no database, no clock.

Our spread is taken out of what comes in, rounded up; the rest is converted at the rate without it, rounded down. So

    units_in = spread_units + what the clearing account takes in + remainder

holds exactly, and each of the three is a posting. The rest is `ledger.conversions`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Protocol

from config.assets import registry
from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from domain.quote.models import Fixed, Quote
from ledger import chart, conversions
from ledger.conversions import Converted, Rounding
from ledger.posting import Posting

BPS = 10_000


class MarketRate(Protocol):
    """`numerator` smallest units of the asset that is got for `denominator` smallest units of the one that is given."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...
    @property
    def observed_at(self) -> datetime: ...
    @property
    def source(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Offer:
    """What is given, what is got, and what becomes of the difference."""

    rate: conversions.Rate
    converted: Converted
    """Of what is left when the spread is taken out."""
    spread_units: int
    rounding: Rounding

    @property
    def units_in(self) -> int:
        return self.converted.units_in + self.spread_units

    @property
    def units_out(self) -> int:
        return self.converted.units_out

    def postings(self, source: str, destination: str) -> list[Posting]:
        """What it does to the books: `source` gives `units_in`, `destination` gets `units_out`."""
        return [*conversions.postings(source, destination, self.rate, self.converted), *self.fees(source)]

    def fees(self, source: str) -> Sequence[Posting]:
        """Our spread, for `ledger.conversions.journal`."""
        if not self.spread_units:
            return ()
        return (Posting(source=source, destination=chart.fees(), asset=self.rate.base, units=self.spread_units),)


def offer(from_asset: str, to_asset: str, fixed: Fixed, units: int, market: MarketRate, *, spread_bps: int) -> Offer:
    """What `units`, of the side that is fixed, come to at this rate.

    Raises InvalidRequestError for assets that the registry doesn't know, and amounts too small or too large.
    """
    base, quote = _scale(from_asset, "from"), _scale(to_asset, "to")
    whole = Fraction(market.numerator, market.denominator) * Fraction(10**base, 10**quote)
    rate = conversions.Rate(base=from_asset, quote=to_asset, value=whole, source=market.source, at=market.observed_at)
    if fixed is Fixed.IN:
        net = units * (BPS - spread_bps) // BPS
        if net == 0:
            raise InvalidRequestError("too small to convert: nothing is left of it", field="units")
        return Offer(rate, conversions.convert(net, rate, base, quote, Rounding.DOWN), units - net, Rounding.DOWN)
    converted = conversions.convert_to(units, rate, base, quote, Rounding.UP)
    units_in = -(-converted.units_in * BPS // (BPS - spread_bps))
    if units_in > UNITS_MAX:
        raise InvalidRequestError("too large to convert: more than 38 digits", field="units")
    return Offer(rate, converted, units_in - converted.units_in, Rounding.UP)


def offer_of(quote: Quote) -> Offer:
    """The offer that a quote keeps, for booking it."""
    return Offer(
        rate=conversions.Rate(
            base=quote.from_asset,
            quote=quote.to_asset,
            value=quote.rate,
            source=f"quote:{quote.id}",
            at=quote.rate_at,
        ),
        converted=Converted(quote.units_in - quote.spread_units, quote.units_out, quote.remainder),
        spread_units=quote.spread_units,
        rounding=Rounding.DOWN if quote.fixed == Fixed.IN else Rounding.UP,
    )


def has_slipped(quote: Quote, market: MarketRate, *, slippage_bps: int) -> bool:
    """Whether the rate has moved so far against us that the quote is not to be honoured by itself.

    Against us: what comes in is worth less now than it was. What moved in our favour is the customer's risk.
    """
    base, out = _scale(quote.from_asset, "from"), _scale(quote.to_asset, "to")
    now = Fraction(market.numerator, market.denominator) * Fraction(10**base, 10**out)
    return now * BPS < quote.rate * (BPS - slippage_bps)


def _scale(asset: str, field: str) -> int:
    known = registry().assets.get(asset)
    if known is None:
        raise InvalidRequestError(f"the asset {asset[:200]!r} is not in the registry", field=field)
    return known.scale
