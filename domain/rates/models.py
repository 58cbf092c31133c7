from datetime import datetime
from decimal import Decimal

from sqlalchemy import NUMERIC, BigInteger, CheckConstraint, Dialect, Identity, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from core.db import Base
from domain.rates.reasons import Dropped, Reason

DIGITS_MAX = 80


class WholeType(TypeDecorator[int]):
    """An integer too long for BIGINT and for units: half of a fraction."""

    impl = NUMERIC(DIGITS_MAX, 0)
    cache_ok = True

    def process_result_value(self, value: Decimal | int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else int(value)


class AssetRate(Base):
    """What an asset was worth in a currency at a moment: the median of sources, or a person's word. Never changed."""

    __tablename__ = "asset_rates"
    __table_args__ = (
        CheckConstraint("numerator > 0 AND denominator > 0", name="price"),
        CheckConstraint("expires_at > observed_at", name="expiry"),
        CheckConstraint(
            "(cleared_at IS NULL) = (cleared_by IS NULL) AND (cleared_at IS NULL) = (cleared_because IS NULL)"
            " AND (cleared_at IS NULL OR expires_at IS NOT NULL)",
            name="cleared",
        ),
        # Of both kinds: what a moment before or after was worth is asked for without saying which.
        Index("ix_asset_rates_newest", "asset", "currency", "observed_at", "id"),
        Index(
            "ix_asset_rates_overrides",
            "asset",
            "currency",
            "expires_at",
            postgresql_where=text("expires_at IS NOT NULL"),
        ),
        Index("ix_asset_rates_old", "observed_at", postgresql_where=text("expires_at IS NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    asset: Mapped[str]
    currency: Mapped[str]
    """An asset of the registry too: fiat (`iso4217:USD`), or another coin."""
    numerator: Mapped[int] = mapped_column(WholeType)
    denominator: Mapped[int] = mapped_column(WholeType)
    """Smallest units of the currency for one smallest unit of the asset, as a fraction in lowest terms."""
    observed_at: Mapped[datetime]
    """When the sources were asked; an override holds from here on."""
    source: Mapped[str]
    """Where the price is from: the sources it is the median of, or what a person says."""
    actor: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    """An override's end. None: it is made of what sources told."""
    cleared_at: Mapped[datetime | None]
    """When somebody ended the override before that."""
    cleared_by: Mapped[str | None]
    cleared_because: Mapped[str | None]


class AssetPrice(Base):
    """What one source told, whether it was used or not."""

    __tablename__ = "asset_prices"
    __table_args__ = (
        CheckConstraint("numerator > 0 AND denominator > 0", name="price"),
        CheckConstraint("dropped IN ('stale', 'outlier')", name="dropped"),
        Index("ix_asset_prices_pair", "asset", "currency", "asked_at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    asset: Mapped[str]
    currency: Mapped[str]
    source: Mapped[str]
    numerator: Mapped[int] = mapped_column(WholeType)
    denominator: Mapped[int] = mapped_column(WholeType)
    observed_at: Mapped[datetime]
    """When the source says that it held."""
    asked_at: Mapped[datetime] = mapped_column(index=True)
    dropped: Mapped[Dropped | None] = mapped_column(Text)


class RatePair(Base):
    """A pair that sources are asked about, and what its last round came to."""

    __tablename__ = "rate_pairs"
    __table_args__ = (CheckConstraint("usable = (reason IS NULL)", name="reason"),)

    asset: Mapped[str] = mapped_column(primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    usable: Mapped[bool]
    reason: Mapped[Reason | None] = mapped_column(Text)
    since: Mapped[datetime]
    """From when on it has been usable, or unusable for this reason."""
    changes: Mapped[int] = mapped_column(BigInteger)
    """How often it became usable or unusable, or for another reason."""
    asked_at: Mapped[datetime]
    numerator: Mapped[int | None] = mapped_column(WholeType)
    denominator: Mapped[int | None] = mapped_column(WholeType)
    """The last usable rate."""
    observed_at: Mapped[datetime | None]
    """When its sources were asked."""
    sources: Mapped[int]
    """That agreed in the last round."""
    spread_bps: Mapped[int | None]
    """Between them, of their median, rounded up; None if there were none."""
    jump_numerator: Mapped[int | None] = mapped_column(WholeType)
    jump_denominator: Mapped[int | None] = mapped_column(WholeType)
    """What it jumped to, not believed yet."""
    jump_rounds: Mapped[int]
    """For so many rounds it has stayed there."""


class RateChange(Base):
    """When a pair became usable or unusable, and why. Only ever added."""

    __tablename__ = "rate_changes"
    __table_args__ = (
        CheckConstraint("usable = (reason IS NULL)", name="reason"),
        Index("ix_rate_changes_pair", "asset", "currency", "at", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    asset: Mapped[str]
    currency: Mapped[str]
    usable: Mapped[bool]
    reason: Mapped[Reason | None] = mapped_column(Text)
    at: Mapped[datetime]
