"""What a conversion gives, to the unit: nothing is lost between what comes in, what goes out, and what is ours."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequestError
from domain.quote.models import Fixed, Quote
from domain.quote.pricing import Offer, has_slipped, offer, offer_of

ETH, NGN, JPY = "eip155:1/slip44:60", "iso4217:NGN", "iso4217:JPY"
SCALES = {ETH: 18, NGN: 2, JPY: 0}


@dataclass(frozen=True)
class Market:
    numerator: int
    denominator: int
    observed_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    source: str = "a, b"


def market(from_asset: str, to_asset: str, whole: Fraction | int) -> Market:
    """At so many whole of the one for a whole of the other."""
    return Market(*(whole * Fraction(10 ** SCALES[to_asset], 10 ** SCALES[from_asset])).as_integer_ratio())


def totals(made: Offer) -> Counter[tuple[str, str]]:
    """What each account has after the books took the offer in, by asset."""
    found: Counter[tuple[str, str]] = Counter()
    for posting in made.postings("payer", "user"):
        found[posting.source, posting.asset] -= posting.units
        found[posting.destination, posting.asset] += posting.units
    return found


def test_a_quote_by_what_goes_in() -> None:
    made = offer(NGN, JPY, Fixed.IN, 1_000_00, market(NGN, JPY, Fraction("0.1")), spread_bps=50)
    # Of 1,000 naira five are ours; 995 naira are 99.5 yen, of which 99 come out and the rest remains.
    assert (made.units_in, made.units_out, made.spread_units) == (1_000_00, 99, 5_00)
    assert made.converted.remainder == 5_00
    assert totals(made) == {
        ("payer", NGN): -1_000_00,
        ("clearing:fx", NGN): 990_00,
        ("house:rounding", NGN): 5_00,
        ("house:fees", NGN): 5_00,
        ("clearing:fx", JPY): -99,
        ("user", JPY): 99,
    }


def test_a_quote_by_what_comes_out() -> None:
    made = offer(NGN, JPY, Fixed.OUT, 99, market(NGN, JPY, Fraction("0.1")), spread_bps=50)
    assert (made.units_out, made.converted.units_in) == (99, 990_00)
    assert made.units_in == 994_98  # 990.00 / 0.995 is 994.9748...: a part of a kobo more is ours
    assert totals(made)["house:fees", NGN] == 4_98


@pytest.mark.parametrize(
    ("fixed", "units", "words"),
    [(Fixed.IN, 1, "nothing is left"), (Fixed.IN, 100, "round to nothing"), (Fixed.OUT, 10**38 - 1, "38 digits")],
)
def test_what_is_too_small_or_too_large_is_refused(fixed: Fixed, units: int, words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        offer(NGN, JPY, fixed, units, market(NGN, JPY, Fraction("0.1")), spread_bps=50)


def test_an_asset_that_is_not_in_the_registry_is_refused() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        offer(NGN, "iso4217:XXX", Fixed.IN, 1, Market(1, 1), spread_bps=0)
    assert refused.value.field == "to"


def kept(made: Offer, fixed: Fixed, spread_bps: int) -> Quote:
    numerator, denominator = made.rate.fraction.as_integer_ratio()
    return Quote(
        from_asset=made.rate.base,
        to_asset=made.rate.quote,
        fixed=fixed,
        units_in=made.units_in,
        units_out=made.units_out,
        spread_units=made.spread_units,
        remainder=made.converted.remainder,
        rate_numerator=numerator,
        rate_denominator=denominator,
        rate_at=made.rate.at,
        spread_bps=spread_bps,
    )


@pytest.mark.parametrize(
    ("now", "slipped"), [("0.1", False), ("0.2", False), ("0.099", False), ("0.0989999", True), ("0.01", True)]
)
def test_a_quote_has_slipped_when_the_rate_has_moved_against_us_too_far(now: str, slipped: bool) -> None:
    made = offer(NGN, JPY, Fixed.IN, 1_000_00, market(NGN, JPY, Fraction("0.1")), spread_bps=50)
    quote = kept(made, Fixed.IN, 50)
    assert has_slipped(quote, market(NGN, JPY, Fraction(now)), slippage_bps=100) is slipped


# --- properties ----------------------------------------------------------------------------------------------------

PAIRS = st.permutations([ETH, NGN, JPY]).map(lambda three: (three[0], three[1]))
UNITS = st.integers(1, 10**24)
RATES = st.fractions(min_value=Fraction(1, 10**9), max_value=10**9, max_denominator=10**12)


@given(pair=PAIRS, fixed=st.sampled_from(Fixed), units=UNITS, whole=RATES, spread_bps=st.integers(0, 5_000))
def test_nothing_is_lost_to_rounding(
    pair: tuple[str, str], fixed: Fixed, units: int, whole: Fraction, spread_bps: int
) -> None:
    base, quote = pair
    try:
        made = offer(base, quote, fixed, units, market(base, quote, whole), spread_bps=spread_bps)
    except InvalidRequestError:
        return
    assert (made.units_in if fixed is Fixed.IN else made.units_out) == units
    books = totals(made)
    # What is given is in clearing, rounding and fees, to the unit; what is got came out of clearing.
    assert books["payer", base] == -made.units_in
    assert books["clearing:fx", base] + books["house:rounding", base] + books["house:fees", base] == made.units_in
    assert books["house:fees", base] == made.spread_units
    assert books["user", quote] == -books["clearing:fx", quote] == made.units_out
    # The rate without spread holds in clearing to half a unit, and nobody gets more than it gives.
    per_unit = whole * Fraction(10 ** SCALES[quote], 10 ** SCALES[base])
    assert abs(books["clearing:fx", base] - made.units_out / per_unit) <= Fraction(1, 2)
    assert made.units_out <= (made.units_in - made.spread_units) * per_unit
    assert made.spread_units * 10_000 >= made.units_in * spread_bps
    assert (made.spread_units - 1) * 10_000 <= made.units_in * spread_bps


@given(pair=PAIRS, fixed=st.sampled_from(Fixed), units=UNITS, whole=RATES, spread_bps=st.integers(0, 5_000))
def test_what_is_kept_of_a_quote_books_the_same(
    pair: tuple[str, str], fixed: Fixed, units: int, whole: Fraction, spread_bps: int
) -> None:
    try:
        made = offer(*pair, fixed, units, market(*pair, whole), spread_bps=spread_bps)
    except InvalidRequestError:
        return
    again = offer_of(kept(made, fixed, spread_bps))
    assert again.postings("payer", "user") == made.postings("payer", "user")
    assert (again.rate.fraction, again.rounding) == (made.rate.fraction, made.rounding)
    assert all(posting.units > 0 for posting in again.postings("payer", "user"))
