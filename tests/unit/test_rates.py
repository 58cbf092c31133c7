"""Prices, as fractions of two integers."""

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequestError
from domain.rates import service as rates
from domain.rates.models import DIGITS_MAX

ETH = "eip155:1/slip44:60"
USD = "iso4217:USD"
USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"


def made(price: str, asset: str = ETH, currency: str = USD) -> rates.Rate:
    numerator, denominator = rates.fraction(asset, currency, price)
    return rates.Rate(asset, currency, numerator, denominator, datetime(2026, 1, 1, tzinfo=UTC), "an exchange")


@pytest.mark.parametrize(
    ("asset", "price", "numerator", "denominator"),
    [
        (ETH, "2000", 1, 5 * 10**12),  # 200,000 cents for 10^18 wei
        (ETH, "2000.5", 4_001, 2 * 10**16),
        (ETH, "0.1", 1, 10**17),
        (USDT, "1", 1, 10**4),
        (USDT, "0.99991234", 49_995_617, 500_000_000_000),
    ],
)
def test_a_price_is_of_one_asset_and_a_fraction_of_smallest_units(
    asset: str, price: str, numerator: int, denominator: int
) -> None:
    assert rates.fraction(asset, USD, price) == (numerator, denominator)


@given(price=st.decimals(min_value=Decimal("1e-18"), max_value=10**18, places=18, allow_nan=False))
def test_no_digit_of_a_price_is_lost(price: Decimal) -> None:
    told = made(f"{price:f}")
    assert Fraction(told.numerator, told.denominator) == Fraction(price) * 100 / 10**18
    assert Decimal(rates.price(told)) == price
    assert max(told.numerator, told.denominator) < 10**DIGITS_MAX


@pytest.mark.parametrize(
    "price", ["", "0", "0.000", "-1", "+1", "1e3", "1.", ".5", "1,5", "0x10", "NaN", " 1", "1\n", "\u0661", "9" * 39]
)
def test_what_is_no_price_is_refused(price: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        rates.fraction(ETH, USD, price)
    assert refused.value.field == "price"


def test_a_price_without_an_end_is_cut_for_people() -> None:
    third = rates.Rate(ETH, USD, 100, 3 * 10**18, datetime(2026, 1, 1, tzinfo=UTC), "x")
    assert rates.price(third) == "0." + "3" * rates.PRICE_DIGITS_MAX


def test_a_rate_says_who_told_it_where_it_is_from_and_no_time_to_come() -> None:
    for field, given_fields in (
        ("source", {"source": " "}),
        ("actor", {"actor": ""}),
        ("observed_at", {"observed_at": datetime(2200, 1, 1, tzinfo=UTC)}),
        ("observed_at", {"observed_at": datetime(2020, 1, 1)}),  # noqa: DTZ001  # no zone is the point
    ):
        with pytest.raises(InvalidRequestError) as refused:
            rates.proposed(ETH, USD, "1", **{"source": "an exchange", "actor": "ann"} | given_fields)
        assert refused.value.field == field
    with pytest.raises(InvalidRequestError, match="not in the registry"):
        rates.proposed("iso4217:XXX", USD, "1", source="an exchange", actor="ann")
    with pytest.raises(InvalidRequestError, match="worth itself"):
        rates.proposed(USD, USD, "1", source="an exchange", actor="ann")
