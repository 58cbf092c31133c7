from datetime import datetime
from decimal import Decimal

from sqlalchemy import NUMERIC, BigInteger, CheckConstraint, Dialect, Identity, Index, func
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from core.db import Base

DIGITS_MAX = 80


class WholeType(TypeDecorator[int]):
    """An integer too long for BIGINT and for units: half of a fraction."""

    impl = NUMERIC(DIGITS_MAX, 0)
    cache_ok = True

    def process_result_value(self, value: Decimal | int | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        return None if value is None else int(value)


class AssetRate(Base):
    """What an asset was worth in a currency at a moment, as somebody told it. Rows are only ever added."""

    __tablename__ = "asset_rates"
    __table_args__ = (
        CheckConstraint("numerator > 0 AND denominator > 0", name="price"),
        Index("ix_asset_rates_newest", "asset", "currency", "observed_at", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    asset: Mapped[str]
    currency: Mapped[str]
    """An asset of the registry too: fiat (`iso4217:USD`), or another coin."""
    numerator: Mapped[int] = mapped_column(WholeType)
    denominator: Mapped[int] = mapped_column(WholeType)
    """Smallest units of the currency for one smallest unit of the asset, as a fraction in lowest terms."""
    observed_at: Mapped[datetime]
    source: Mapped[str]
    """Where the price is from, such as an exchange."""
    actor: Mapped[str]
    reason: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
