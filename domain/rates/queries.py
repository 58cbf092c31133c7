"""Every SELECT of rates, and the locks."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, func, or_, select, text, tuple_
from sqlalchemy.orm import Session

from domain.rates.models import AssetPrice, AssetRate, RateChange, RatePair

Pair = tuple[str, str]
Row = TypeVar("Row", AssetRate, AssetPrice)


def _of(asset: str, currency: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return AssetRate.asset == asset, AssetRate.currency == currency


def told(session: Session, asset: str, currency: str, *, at: datetime, since: datetime) -> AssetRate | None:
    """The newest usable median of that time."""
    query = select(AssetRate).where(
        *_of(asset, currency),
        AssetRate.expires_at.is_(None),
        AssetRate.observed_at <= at,
        AssetRate.observed_at >= since,
    )
    return session.scalars(query.order_by(AssetRate.observed_at.desc(), AssetRate.id.desc()).limit(1)).one_or_none()


def override(session: Session, asset: str, currency: str, *, at: datetime) -> AssetRate | None:
    """The one that holds at this moment; of several the one that was told last."""
    query = select(AssetRate).where(
        *_of(asset, currency), AssetRate.observed_at <= at, AssetRate.expires_at > at, _not_cleared_by(at)
    )
    return session.scalars(query.order_by(AssetRate.id.desc()).limit(1)).one_or_none()


def overrides(session: Session, *, at: datetime) -> Sequence[AssetRate]:
    """All that hold at this moment, those told last first."""
    query = select(AssetRate).where(AssetRate.observed_at <= at, AssetRate.expires_at > at, _not_cleared_by(at))
    return session.scalars(query.order_by(AssetRate.id.desc())).all()


def _not_cleared_by(at: datetime) -> ColumnElement[bool]:
    return or_(AssetRate.cleared_at.is_(None), AssetRate.cleared_at > at)


def lock_overrides(session: Session, asset: str, currency: str, *, at: datetime) -> Sequence[AssetRate]:
    """Those that hold or will hold, and nobody has cleared."""
    query = (
        select(AssetRate)
        .where(*_of(asset, currency), AssetRate.expires_at > at, AssetRate.cleared_at.is_(None))
        .order_by(AssetRate.id)
    )
    return session.scalars(query.with_for_update()).all()


def change(session: Session, asset: str, currency: str, *, at: datetime) -> RateChange | None:
    """The last before that moment: what the pair was then."""
    query = select(RateChange).where(RateChange.asset == asset, RateChange.currency == currency, RateChange.at <= at)
    return session.scalars(query.order_by(RateChange.at.desc(), RateChange.id.desc()).limit(1)).one_or_none()


def moments(
    session: Session, pairs: Collection[Pair], *, after: datetime, until: datetime, limit: int
) -> Sequence[datetime]:
    """When one of these pairs got a rate next."""
    query = (
        select(AssetRate.observed_at)
        .where(
            tuple_(AssetRate.asset, AssetRate.currency).in_(pairs),
            AssetRate.observed_at > after,
            AssetRate.observed_at <= until,
        )
        .distinct()
        .order_by(AssetRate.observed_at)
        .limit(limit)
    )
    return session.scalars(query).all()


def newest(session: Session, asset: str, currency: str, *, at: datetime) -> AssetRate | None:
    """The newest that was observed by then; of two of the same moment, the one that was told last."""
    query = select(AssetRate).where(*_of(asset, currency), AssetRate.observed_at <= at)
    return session.scalars(query.order_by(AssetRate.observed_at.desc(), AssetRate.id.desc()).limit(1)).one_or_none()


def pair(session: Session, asset: str, currency: str) -> RatePair | None:
    return session.get(RatePair, (asset, currency))


def pairs(session: Session) -> Sequence[RatePair]:
    return session.scalars(select(RatePair).order_by(RatePair.asset, RatePair.currency)).all()


_ONE_ROUND = text("SELECT pg_advisory_xact_lock(hashtext('rate_pairs'))")


def lock_pairs(session: Session) -> dict[Pair, RatePair]:
    """Also those that are not there yet: one round at a time is recorded."""
    session.execute(_ONE_ROUND)
    rows = session.scalars(select(RatePair).order_by(RatePair.asset, RatePair.currency).with_for_update())
    return {(row.asset, row.currency): row for row in rows}


def page(
    session: Session, *, asset: str | None, currency: str | None, before: int | None, limit: int
) -> Sequence[AssetRate]:
    return session.scalars(_page(AssetRate, asset, currency, before, limit)).all()


def prices(
    session: Session, *, asset: str | None, currency: str | None, before: int | None, limit: int
) -> Sequence[AssetPrice]:
    return session.scalars(_page(AssetPrice, asset, currency, before, limit)).all()


def _page(table: type[Row], asset: str | None, currency: str | None, before: int | None, limit: int) -> Select[Row]:
    query = select(table).order_by(table.id.desc()).limit(limit)
    if asset is not None:
        query = query.where(table.asset == asset)
    if currency is not None:
        query = query.where(table.currency == currency)
    if before is not None:
        query = query.where(table.id < before)
    return query


def remove_old_rates(session: Session, *, before: datetime, limit: int) -> int:
    """Through the database's function, which leaves what persons told and the last week."""
    return int(session.scalar(select(func.rates_remove_old(before, limit))) or 0)
