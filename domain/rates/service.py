"""What assets are worth in currencies. Exact: a rate is a fraction of two integers. See docs/rates.md."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.orm import Session

from core import clock
from domain.rates import queries
from domain.rates.fractions import PRICE_DIGITS_MAX, Rate, fraction, price, price_of
from domain.rates.models import AssetPrice, AssetRate, RatePair
from domain.rates.overrides import add, clear, clearable, proposed
from domain.rates.reasons import Dropped, RateUnusableError, Reason
from domain.rates.refresh import refresh, remove_old
from domain.rates.standing import Standing, standings
from domain.rates.using import rate_at, rate_for, usable

__all__ = [
    "PRICE_DIGITS_MAX",
    "AssetPrice",
    "AssetRate",
    "Dropped",
    "Rate",
    "RatePair",
    "RateUnusableError",
    "Reason",
    "Standing",
    "add",
    "clear",
    "clearable",
    "fraction",
    "newest",
    "page",
    "price",
    "price_of",
    "prices",
    "proposed",
    "rate_at",
    "rate_for",
    "refresh",
    "remove_old",
    "standings",
    "usable",
]


def newest(session: Session, asset: str, currency: str, at: datetime | None = None) -> AssetRate | None:
    """The newest, however old and whoever told it."""
    return queries.newest(session, asset, currency, at=at or clock.now())


def page(
    session: Session,
    *,
    asset: str | None = None,
    currency: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[AssetRate]:
    """Newest told first. `before` is the id of the last rate of the page before."""
    return queries.page(session, asset=asset, currency=currency, before=before, limit=limit)


def prices(
    session: Session,
    *,
    asset: str | None = None,
    currency: str | None = None,
    before: int | None = None,
    limit: int = 50,
) -> Sequence[AssetPrice]:
    """What sources told, newest first."""
    return queries.prices(session, asset=asset, currency=currency, before=before, limit=limit)
