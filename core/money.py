"""Amounts: integers in an asset's smallest unit. Decimals exist only at the edge, for people."""

from decimal import Decimal

from sqlalchemy import NUMERIC, Dialect
from sqlalchemy.types import TypeDecorator

UNITS_MAX = 10**38 - 1
"""What NUMERIC(38,0) holds: 2**126. Ether's whole supply in wei is 10**26."""


class UnitsType(TypeDecorator[int]):
    """NUMERIC(38,0) that goes in and comes out as int; anything else is refused before it reaches the database."""

    impl = NUMERIC(38, 0)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"units are integers, not {type(value).__name__}")
        if abs(value) > UNITS_MAX:
            raise OverflowError(f"{value} is more than 38 digits")
        return value

    def process_result_value(self, value: Decimal | int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else int(value)


def display(units: int, scale: int) -> str:
    """Units as a decimal number for people, 1500000 at scale 6 as '1.5'. Exact; never read back."""
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(scale + 1, "0")
    whole, fraction = (digits[:-scale], digits[-scale:].rstrip("0")) if scale else (digits, "")
    return f"{sign}{whole}.{fraction}" if fraction else f"{sign}{whole}"
