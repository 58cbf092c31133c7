"""Every SELECT of rates."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from domain.rates.models import AssetRate


def newest(
    session: Session, asset: str, currency: str, *, at: datetime, since: datetime | None = None
) -> AssetRate | None:
    """The newest that was observed by then; of two of the same moment, the one that was told last."""
    query = select(AssetRate).where(
        AssetRate.asset == asset, AssetRate.currency == currency, AssetRate.observed_at <= at
    )
    if since is not None:
        query = query.where(AssetRate.observed_at >= since)
    return session.scalars(query.order_by(AssetRate.observed_at.desc(), AssetRate.id.desc()).limit(1)).one_or_none()


def page(
    session: Session, *, asset: str | None, currency: str | None, before: int | None, limit: int
) -> Sequence[AssetRate]:
    query = select(AssetRate).order_by(AssetRate.id.desc()).limit(limit)
    if asset is not None:
        query = query.where(AssetRate.asset == asset)
    if currency is not None:
        query = query.where(AssetRate.currency == currency)
    if before is not None:
        query = query.where(AssetRate.id < before)
    return session.scalars(query).all()
