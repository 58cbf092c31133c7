"""Conversions: one journal from an asset into another, through the clearing account of each.

The customer's base goes into `clearing:fx`, the quote comes out of it. What of the base the rounded amount of the quote
did not need goes to `house:rounding`, so the clearing account's two sides stand at the rate to within half a smallest
unit of the base, no unit vanishes, and the balances of `clearing:fx` are our open position in each asset.

The arithmetic is pure and exact: integers and fractions. A worked table: docs/ledger-conversions.md.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from ledger import balances, chart
from ledger.models import LedgerAsset
from ledger.posting import Journal, Posting

DIGITS_MAX = 38
"""Of a decimal rate, and of its exponent. A Decimal made from a float has more, as a rule."""


class Rounding(StrEnum):
    """How an exact amount becomes whole units. For a negative one (a loss), down is still towards less."""

    DOWN = "down"
    UP = "up"
    HALF_EVEN = "half_even"

    def __call__(self, exact: Fraction) -> int:
        match self:
            case Rounding.DOWN:
                return exact.numerator // exact.denominator
            case Rounding.UP:
                return -(-exact.numerator // exact.denominator)
            case Rounding.HALF_EVEN:
                return round(exact)


@dataclass(frozen=True, slots=True)
class Rate:
    """What one whole base is worth in the quote: 83.125 INR for a USDT. Assets by their ids.

    The value is a Decimal made from a string, or a Fraction, above zero; a float would not be the rate that was quoted.
    Raises InvalidRequestError for what can't be a rate.
    """

    base: str
    quote: str
    value: Decimal | Fraction
    source: str
    """Who said so, such as `kraken` or a quote's id."""
    at: datetime
    """When it was said, with its time zone."""

    def __post_init__(self) -> None:
        if self.base == self.quote:
            raise InvalidRequestError(f"{self.base!r} can't be converted into itself", field="rate")
        if not self.source:
            raise InvalidRequestError("a rate names its source", field="rate")
        if self.at.tzinfo is None:
            raise InvalidRequestError("a rate's time needs a time zone", field="rate")
        if not _is_exact(self.value):
            raise InvalidRequestError(
                f"a rate is a Decimal of at most {DIGITS_MAX} digits, made from a string, or a Fraction; above zero",
                field="rate",
            )

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.value)

    @property
    def text(self) -> str:
        """Exactly, as `Fraction` reads it back: `83.125`, or `8/665` where no decimal is exact."""
        return _plain(self.fraction)

    def inverse(self) -> "Rate":
        """The same rate for the other direction: the base for one whole quote. Exact, hence a Fraction."""
        return Rate(base=self.quote, quote=self.base, value=1 / self.fraction, source=self.source, at=self.at)


def _is_exact(value: object) -> bool:
    match value:
        case Decimal():
            exponent = value.as_tuple().exponent
            return (
                isinstance(exponent, int)  # letters stand for NaN and infinity
                and abs(exponent) <= DIGITS_MAX
                and len(value.as_tuple().digits) <= DIGITS_MAX
                and value > 0
            )
        case Fraction():
            return value > 0 and max(value.numerator, value.denominator) <= 10 ** (2 * DIGITS_MAX)
        case _:
            return False


def _plain(value: Fraction) -> str:
    twos = (value.denominator & -value.denominator).bit_length() - 1
    fives, rest = 0, value.denominator >> twos
    while rest % 5 == 0:
        fives, rest = fives + 1, rest // 5
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    places = max(twos, fives)
    digits = str(value.numerator * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{digits[:-places]}.{digits[-places:]}" if places else digits


@dataclass(frozen=True, slots=True)
class Converted:
    """`units_in` of the base leave the source and `units_out` of the quote reach the destination, both above zero."""

    units_in: int
    units_out: int
    remainder: int
    """Of the base: what `units_out` did not need of `units_in`. Negative where it needed more."""

    @property
    def cleared(self) -> int:
        """What the clearing account takes in of the base: `units_out` at the rate, to the nearest unit."""
        return self.units_in - self.remainder


def convert(units: int, rate: Rate, base_scale: int, quote_scale: int, rounding: Rounding) -> Converted:
    """Give exactly `units` of the base; how many units of the quote come out is rounded.

    Raises InvalidRequestError for units not above zero, and where nothing or more than 38 digits would come out.
    """
    _check_units(units)
    return _converted(units, rounding(units * _per_unit(rate, base_scale, quote_scale)), rate, base_scale, quote_scale)


def convert_to(units: int, rate: Rate, base_scale: int, quote_scale: int, rounding: Rounding) -> Converted:
    """Get exactly `units` of the quote; how many units of the base go in is rounded. UP so that we don't give any away.

    Raises InvalidRequestError as `convert` does.
    """
    _check_units(units)
    return _converted(rounding(units / _per_unit(rate, base_scale, quote_scale)), units, rate, base_scale, quote_scale)


def _converted(units_in: int, units_out: int, rate: Rate, base_scale: int, quote_scale: int) -> Converted:
    if units_in == 0 or units_out == 0:
        raise InvalidRequestError(f"too small to convert at {rate.text}: it would round to nothing", field="units")
    needed = round(units_out / _per_unit(rate, base_scale, quote_scale))
    # Of an exact amount of the quote that is less than half a unit of the base: the customer would pay a whole one.
    if needed == 0:
        raise InvalidRequestError(f"too small to convert at {rate.text}: it would take nothing", field="units")
    if max(units_in, units_out, needed) > UNITS_MAX:
        raise InvalidRequestError(f"too large to convert at {rate.text}: more than 38 digits", field="units")
    return Converted(units_in, units_out, units_in - needed)


def _per_unit(rate: Rate, base_scale: int, quote_scale: int) -> Fraction:
    """Smallest units of the quote for one smallest unit of the base."""
    return rate.fraction * Fraction(10**quote_scale, 10**base_scale)


def _check_units(units: int) -> None:
    if not isinstance(units, int) or isinstance(units, bool):
        raise InvalidRequestError(f"units are integers, not {type(units).__name__}", field="units")
    if not 0 < units <= UNITS_MAX:
        raise InvalidRequestError("units must be above zero and have at most 38 digits", field="units")


def postings(source: str, destination: str, rate: Rate, converted: Converted) -> list[Posting]:
    """What a conversion does to the books: `source` gives the base, `destination` gets the quote."""
    moves = [(source, chart.fx_clearing(), rate.base, min(converted.units_in, converted.cleared))]
    if converted.remainder > 0:
        moves.append((source, chart.rounding(), rate.base, converted.remainder))
    elif converted.remainder < 0:
        moves.append((chart.rounding(), chart.fx_clearing(), rate.base, -converted.remainder))
    moves.append((chart.fx_clearing(), destination, rate.quote, converted.units_out))
    return [Posting(source=out_of, destination=into, asset=asset, units=units) for out_of, into, asset, units in moves]


def journal(
    *,
    tenant: str,
    reference: str,
    source: str,
    destination: str,
    rate: Rate,
    converted: Converted,
    rounding: Rounding,
    category: str = "conversion",
    fees: Sequence[Posting] = (),
    subject: str | None = None,
    correlation_id: str | None = None,
    job_id: UUID | None = None,
    effective_at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Journal:
    """The journal of one conversion, with the rate and all that was done with it in its metadata, as strings.

    `fees` are postings of the caller's, booked after the conversion.
    """
    return Journal(
        tenant=tenant,
        reference=reference,
        category=category,
        postings=[*postings(source, destination, rate, converted), *fees],
        subject=subject,
        correlation_id=correlation_id,
        job_id=job_id,
        effective_at=effective_at,
        metadata={
            **(metadata or {}),
            "rate": rate.text,
            "rate_base": rate.base,
            "rate_quote": rate.quote,
            "rate_source": rate.source,
            "rate_at": rate.at.astimezone(UTC).isoformat(),
            "rounding": rounding.value,
            "remainder": str(converted.remainder),
        },
    )


def scales(session: Session, *assets: str) -> dict[str, int]:
    """The decimal places of each asset, as the ledger keeps them. Raises InvalidRequestError for an unknown one."""
    rows = session.execute(select(LedgerAsset.id, LedgerAsset.scale).where(LedgerAsset.id.in_(assets)))
    known = {row.id: row.scale for row in rows}
    for asset in assets:
        if asset not in known:
            raise InvalidRequestError(f"the asset {asset[:200]!r} is unknown", field="asset")
    return known


@dataclass(frozen=True, slots=True)
class Line:
    """The open position in one asset, and its value in the asset of the result. Units of each, signed."""

    asset: str
    units: int
    rate: Rate | None
    """None for the result's own asset."""
    value: int


@dataclass(frozen=True, slots=True)
class Result:
    """What conversions have gained (above zero) or lost, realised and unrealised together, in units of `quote`."""

    quote: str
    lines: tuple[Line, ...]
    rounding: Rounding

    @property
    def total(self) -> int:
        """The sum of the lines as they are shown: each is rounded once, and nothing is rounded again."""
        return sum(line.value for line in self.lines)


def position(session: Session, tenant: str) -> dict[str, int]:
    """Our open position: the clearing account's balance in each asset. Above zero, we were given more than we gave."""
    held = balances.account(session, tenant, chart.fx_clearing())
    return {account.asset: account.balance for account in held}


def result(
    session: Session, tenant: str, *, quote: str, rates: Mapping[str, Rate], rounding: Rounding = Rounding.DOWN
) -> Result:
    """The open position, valued in one asset. `rates` has one from each other asset into it, by asset.

    Where a position is closed, its rate does not matter and may be missing: the gain is all realised then. Down is
    towards the smaller gain and the larger loss. Raises InvalidRequestError for a rate that is missing or of others.
    """
    held = position(session, tenant)
    known = scales(session, quote, *held)
    lines = []
    for asset, units in sorted(held.items()):
        if asset == quote:
            lines.append(Line(asset, units, None, units))
            continue
        rate = rates.get(asset)
        if rate is None:
            if units:
                raise InvalidRequestError(f"there is no rate from {asset} into {quote}", field="rates")
            lines.append(Line(asset, units, None, 0))
            continue
        if (rate.base, rate.quote) != (asset, quote):
            raise InvalidRequestError(
                f"the rate for {asset} is from {rate.base} into {rate.quote}, not into {quote}", field="rates"
            )
        lines.append(Line(asset, units, rate, rounding(units * _per_unit(rate, known[asset], known[quote]))))
    return Result(quote, tuple(lines), rounding)
