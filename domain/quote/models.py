from datetime import datetime
from enum import StrEnum
from fractions import Fraction

from sqlalchemy import NUMERIC, CheckConstraint, Dialect, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from core.db import Base, CreatedAt, IdColumn
from core.money import UnitsType

DIGITS_MAX = 80


class HalfType(TypeDecorator[int]):
    """An integer too long for units: half of a fraction."""

    impl = NUMERIC(DIGITS_MAX, 0)
    cache_ok = True

    def process_result_value(self, value: object, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else int(str(value))


class Fixed(StrEnum):
    """Which side of the quote was asked for."""

    IN = "in"
    OUT = "out"


class Quote(Base):
    """What we give for what, promised until `expires_at`, for one use. Only its use is ever written."""

    __tablename__ = "quotes"
    __table_args__ = (
        CheckConstraint("from_asset <> to_asset", name="assets"),
        CheckConstraint("fixed IN ('in', 'out')", name="fixed"),
        CheckConstraint(
            "units_in > 0 AND units_out > 0 AND spread_units >= 0 AND spread_units < units_in", name="units"
        ),
        CheckConstraint("rate_numerator > 0 AND rate_denominator > 0", name="rate"),
        CheckConstraint("spread_bps BETWEEN 0 AND 9999", name="spread_bps"),
        CheckConstraint("expires_at > created_at", name="expiry"),
        CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name="used"),
        Index("ix_quotes_unused", "expires_at", postgresql_where=text("used_at IS NULL")),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    from_asset: Mapped[str]
    to_asset: Mapped[str]
    fixed: Mapped[Fixed] = mapped_column(Text)
    units_in: Mapped[int] = mapped_column(UnitsType)
    """Of `from_asset`: all that the customer gives, with our spread."""
    units_out: Mapped[int] = mapped_column(UnitsType)
    """Of `to_asset`: what he gets."""
    spread_units: Mapped[int] = mapped_column(UnitsType)
    """Of `from_asset`: what of `units_in` is ours."""
    remainder: Mapped[int] = mapped_column(UnitsType)
    """Of `from_asset`: what `units_out` doesn't need of the rest, by rounding. May be below zero."""
    rate_numerator: Mapped[int] = mapped_column(HalfType)
    rate_denominator: Mapped[int] = mapped_column(HalfType)
    """How many whole `to_asset` a whole `from_asset` was worth, without our spread."""
    rate_source: Mapped[str]
    rate_at: Mapped[datetime]
    spread_bps: Mapped[int]
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    used_by: Mapped[str | None]
    """The subject that used it up, such as `fiat_payment:<id>`."""

    @property
    def rate(self) -> Fraction:
        return Fraction(self.rate_numerator, self.rate_denominator)
