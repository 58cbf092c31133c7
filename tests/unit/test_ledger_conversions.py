"""The arithmetic of a conversion: exact, and no unit lost or made."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from core.errors import InvalidRequestError
from core.money import UNITS_MAX
from ledger import chart, conversions
from ledger.conversions import Converted, Rate, Rounding, convert, convert_to
from ledger.posting import Posting, check

ETH, USD, INR, USDT = "eip155:1/slip44:60", "iso4217:USD", "iso4217:INR", "eip155:1/erc20:0xdac1"
AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
ALICE, BOB = "user:alice:available", "user:bob:available"


def rate(value: str | Fraction, base: str = ETH, quote: str = USD) -> Rate:
    return Rate(base, quote, Decimal(value) if isinstance(value, str) else value, "desk", AT)


scales = st.sampled_from([0, 2, 6, 8, 9, 18])
amounts = st.one_of(st.integers(1, 1_000), st.integers(1, UNITS_MAX))
values = st.one_of(
    st.decimals(Decimal("0.000001"), Decimal(10) ** 9, places=6).filter(lambda value: value > 0),
    st.fractions(Fraction(1, 10**12), 10**12).filter(lambda value: value > 0),
)
rates = st.builds(lambda value: Rate(ETH, USD, value, "desk", AT), values)
roundings = st.sampled_from(Rounding)


@pytest.mark.parametrize(
    ("rounding", "units_out", "remainder"),
    [
        (Rounding.DOWN, 200_000, 1),
        (Rounding.HALF_EVEN, 200_000, 1),
        # A whole cent more takes 5 * 10^12 wei, of which the customer gave one.
        (Rounding.UP, 200_001, 1 - 5 * 10**12),
    ],
)
def test_an_ether_and_a_wei_into_cents(rounding: Rounding, units_out: int, remainder: int) -> None:
    converted = convert(10**18 + 1, rate("2000.00"), 18, 2, rounding)
    assert converted == Converted(10**18 + 1, units_out, remainder)
    assert converted.cleared == units_out * 5 * 10**12


@pytest.mark.parametrize(("units", "out"), [(1, 0), (3, 2), (5, 2), (7, 4)])
def test_half_even_goes_to_the_even_neighbour(units: int, out: int) -> None:
    if out == 0:
        with pytest.raises(InvalidRequestError, match="too small"):
            convert(units, rate("0.5"), 0, 0, Rounding.HALF_EVEN)
    else:
        assert convert(units, rate("0.5"), 0, 0, Rounding.HALF_EVEN).units_out == out


def test_exactly_a_hundred_rupees_for_tethers() -> None:
    """100.00 INR at 83.125 INR for a USDT are 1.203007518... USDT."""
    pair = rate("83.125", USDT, INR)
    assert convert_to(10_000, pair, 6, 2, Rounding.UP) == Converted(1_203_008, 10_000, 0)
    assert convert_to(10_000, pair, 6, 2, Rounding.DOWN) == Converted(1_203_007, 10_000, -1)
    # and the other way: 100.00 INR given, at the same rate
    assert convert(10_000, pair.inverse(), 2, 6, Rounding.DOWN) == Converted(10_000, 1_203_007, 0)
    assert pair.inverse().text == "8/665"


@given(units=amounts, pair=rates, base=scales, quote=scales, rounding=roundings, exact_out=st.booleans())
def test_the_clearing_account_stands_at_the_rate(  # noqa: PLR0917  # hypothesis gives them by name
    units: int, pair: Rate, base: int, quote: int, rounding: Rounding, exact_out: bool
) -> None:
    per_unit = pair.fraction * Fraction(10) ** (quote - base)
    try:
        converted = (convert_to if exact_out else convert)(units, pair, base, quote, rounding)
    except InvalidRequestError as error:
        exact = units / per_unit if exact_out else units * per_unit
        nothing = rounding(exact) == 0 or (exact_out and exact <= Fraction(1, 2))
        limit = Fraction(UNITS_MAX)
        too_much = exact > limit - 1 or rounding(exact) / per_unit > limit - 1
        if not (nothing or too_much):
            raise AssertionError("refused without a reason") from error
        return
    assert (converted.units_out if exact_out else converted.units_in) == units
    # The amount that is rounded is within one unit of the exact one, on the side that was asked for.
    off = (
        converted.units_in - converted.units_out / per_unit
        if exact_out
        else converted.units_out - converted.units_in * per_unit
    )
    assert {
        Rounding.DOWN: -1 < off <= 0,
        Rounding.UP: 0 <= off < 1,
        Rounding.HALF_EVEN: abs(off) <= Fraction(1, 2),
    }[rounding]

    moves = conversions.postings(ALICE, BOB, pair, converted)
    changed: Counter[tuple[str, str]] = Counter()
    for move in moves:
        assert 0 < move.units <= UNITS_MAX
        changed[move.source, move.asset] -= move.units
        changed[move.destination, move.asset] += move.units
    assert changed[ALICE, ETH] == -converted.units_in
    assert changed[BOB, USD] == converted.units_out
    taken, given_out = changed["clearing:fx", ETH], -changed["clearing:fx", USD]
    assert abs(taken - given_out / per_unit) <= Fraction(1, 2)
    assert changed["house:rounding", ETH] == converted.remainder == converted.units_in - taken
    for asset in (ETH, USD):
        assert sum(units for (_, of), units in changed.items() if of == asset) == 0


@given(units=amounts, pair=rates, base=scales, quote=scales)
def test_there_and_back_rounded_down_never_makes_money(units: int, pair: Rate, base: int, quote: int) -> None:
    try:
        there = convert(units, pair, base, quote, Rounding.DOWN)
        back = convert(there.units_out, pair.inverse(), quote, base, Rounding.DOWN)
    except InvalidRequestError:
        assume(False)
        raise
    assert back.units_out <= units


@given(units=amounts, pair=rates, base=scales, quote=scales)
def test_an_amount_bought_rounded_up_costs_what_selling_would_give(
    units: int, pair: Rate, base: int, quote: int
) -> None:
    """What `convert_to` takes is enough, and one unit less would not have been."""
    try:
        bought = convert_to(units, pair, base, quote, Rounding.UP)
    except InvalidRequestError:
        assume(False)
        raise
    per_unit = pair.fraction * Fraction(10) ** (quote - base)
    assert bought.units_in * per_unit >= units > (bought.units_in - 1) * per_unit


@given(values)
def test_a_rates_text_reads_back_exactly(value: Decimal | Fraction) -> None:
    pair = Rate(ETH, USD, value, "desk", AT)
    assert Fraction(pair.text) == pair.fraction
    assert pair.inverse().inverse().fraction == pair.fraction
    assert "e" not in pair.text.lower()


@pytest.mark.parametrize(("value", "text"), [("83.125", "83.125"), ("1E+3", "1000"), ("0.0050", "0.005"), ("7", "7")])
def test_a_decimal_rate_is_written_as_a_decimal(value: str, text: str) -> None:
    assert rate(value).text == text


@pytest.mark.parametrize(
    "value",
    [
        83.125,
        Decimal(0.1),  # noqa: RUF032  # the float's 55 digits
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal(0),
        Decimal(-1),
        Decimal("1E+39"),
        Fraction(0),
        Fraction(-1, 3),
        Fraction(1, 10**77),
        2,
        "2",
        None,
    ],
)
def test_what_is_no_exact_rate_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Rate(ETH, USD, value, "desk", AT)
    assert caught.value.field == "rate"


@pytest.mark.parametrize(
    "change",
    [{"quote": ETH}, {"source": ""}, {"at": datetime(2026, 1, 31, 12)}],  # noqa: DTZ001
)
def test_a_rate_says_of_what_by_whom_and_when(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Rate(**{"base": ETH, "quote": USD, "value": Decimal(1), "source": "desk", "at": AT, **change})
    assert caught.value.field == "rate"


@pytest.mark.parametrize("way", [convert, convert_to])
@pytest.mark.parametrize("units", [0, -1, UNITS_MAX + 1, 1.0, True, "1"])
def test_units_that_are_none_are_refused(way: Any, units: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        way(units, rate("1"), 2, 2, Rounding.DOWN)
    assert caught.value.field == "units"


def test_what_would_come_to_nothing_is_too_small() -> None:
    with pytest.raises(InvalidRequestError, match="too small to convert at 2000"):
        convert(10**12, rate("2000"), 18, 2, Rounding.DOWN)
    with pytest.raises(InvalidRequestError, match="too small"):
        convert_to(1, rate("1"), 0, 18, Rounding.DOWN)
    with pytest.raises(InvalidRequestError, match="it would take nothing"):
        convert_to(1, rate("1"), 0, 18, Rounding.UP)


def test_what_would_have_more_than_38_digits_is_too_large() -> None:
    assert convert(UNITS_MAX, rate("1"), 18, 18, Rounding.DOWN) == Converted(UNITS_MAX, UNITS_MAX, 0)
    with pytest.raises(InvalidRequestError, match="more than 38 digits"):
        convert(UNITS_MAX, rate("1.1"), 18, 18, Rounding.DOWN)
    with pytest.raises(InvalidRequestError, match="more than 38 digits"):
        convert_to(UNITS_MAX, rate("0.9"), 18, 18, Rounding.UP)


def test_the_journal_tells_the_rate_and_what_was_done_with_it() -> None:
    pair, rounding = rate("2000.00"), Rounding.DOWN
    converted = convert(10**18 + 1, pair, 18, 2, rounding)
    fee = Posting(source=BOB, destination=chart.fees(), asset=USD, units=50)
    made = conversions.journal(
        tenant="acme",
        reference="conversion:1",
        source=ALICE,
        destination=BOB,
        rate=pair,
        converted=converted,
        rounding=rounding,
        fees=[fee],
        metadata={"desk": "night", "rate": "overwritten"},
    )
    check(made)
    assert made.metadata == {
        "desk": "night",
        "rate": "2000",
        "rate_base": ETH,
        "rate_quote": USD,
        "rate_source": "desk",
        "rate_at": "2026-01-31T12:00:00+00:00",
        "rounding": "down",
        "remainder": "1",
    }
    assert list(made.postings) == [
        Posting(source=ALICE, destination="clearing:fx", asset=ETH, units=10**18),
        Posting(source=ALICE, destination="house:rounding", asset=ETH, units=1),
        Posting(source="clearing:fx", destination=BOB, asset=USD, units=200_000),
        fee,
    ]


@given(st.fractions())
def test_rounding_is_what_its_name_says(exact: Fraction) -> None:
    assert Rounding.DOWN(exact) <= exact < Rounding.DOWN(exact) + 1
    assert Rounding.UP(exact) - 1 < exact <= Rounding.UP(exact)
    assert abs(Rounding.HALF_EVEN(exact) - exact) <= Fraction(1, 2)
