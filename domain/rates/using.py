"""Which rate money may be moved by: an override, else what sources told, else one made through others."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from itertools import pairwise

from sqlalchemy.orm import Session

from core import clock
from core.errors import InvalidRequestError
from domain.rates import queries
from domain.rates.fractions import Rate, scale
from domain.rates.models import AssetRate
from domain.rates.reasons import RateUnusableError, Reason
from domain.rates.settings import ANY, THROUGH_THE_DOLLAR
from domain.rates.settings import rates as settings

MOMENTS_MAX = 10
"""Rounds that are tried for what happened while no rate could be used."""


def usable(session: Session, asset: str, currency: str, at: datetime | None = None) -> Rate:
    """The rate of now, or of that moment. Raises RateUnusableError: whoever needs it waits.

    Raises InvalidRequestError for assets that the registry doesn't know, and for one in itself.
    """
    scale(asset, "asset")
    scale(currency, "currency")
    moment = clock.now() if at is None else at
    if asset == currency:
        return Rate(asset, currency, 1, 1, moment, "itself")
    found = _quoted(session, asset, currency, moment)
    if found is not None:
        return found
    for path in _paths(asset, currency):
        legs = _route(session, path, moment)
        if legs:
            return _through(legs)
    raise RateUnusableError(asset, currency, Reason.UNKNOWN)


def _route(session: Session, path: Sequence[str], at: datetime) -> Sequence[Rate]:
    """Its legs; empty if nobody is asked for one of them. Raises RateUnusableError if one of them can't be used.

    What nobody is asked for comes first: a route that leads nowhere says nothing against the next.
    """
    legs: list[Rate] = []
    unusable: RateUnusableError | None = None
    for leg in _legs(path):
        try:
            found = _quoted(session, *leg, at)
        except RateUnusableError as error:
            unusable = unusable or error
            continue
        if found is None:
            return ()
        legs.append(found)
    if unusable is not None:
        raise unusable
    return legs


def rate_at(session: Session, asset: str, currency: str, at: datetime) -> Rate | None:
    """What could be used at that moment, or None; also for an asset that the registry doesn't know any more."""
    try:
        return usable(session, asset, currency, at)
    except (RateUnusableError, InvalidRequestError):
        return None


def rate_for(session: Session, asset: str, currency: str, at: datetime) -> Rate | None:
    """The rate for what happened at a moment: that of then; where none could be used, the first one after it.

    After RATE_LATER_MAX nothing says any more what it was worth then, and a person must.
    """
    found = rate_at(session, asset, currency, at)
    if found is not None:
        return found
    pairs = {(asset, currency), (currency, asset)}
    for path in _paths(asset, currency):
        pairs |= {pair for leg in _legs(path) for pair in (leg, leg[::-1])}
    until = at + settings().later_max
    for moment in queries.moments(session, pairs, after=at, until=until, limit=MOMENTS_MAX):
        if later := rate_at(session, asset, currency, moment):
            return later
    return None


def _quoted(session: Session, asset: str, currency: str, at: datetime) -> Rate | None:
    """The pair's own rate, or the inverse of the other way round; None if nobody was asked for either then."""
    for look in (_overridden, _told):
        found = look(session, asset, currency, at)
        if found is not None:
            return found
        found = look(session, currency, asset, at)
        if found is not None:
            return found.inverse()
    return None


def _overridden(session: Session, asset: str, currency: str, at: datetime) -> Rate | None:
    row = queries.override(session, asset, currency, at=at)
    return None if row is None else of_row(row)


def _told(session: Session, asset: str, currency: str, at: datetime) -> Rate | None:
    """Raises RateUnusableError for a pair that is asked for: no route leads around what its own sources say."""
    change = queries.change(session, asset, currency, at=at)
    if change is None or change.reason == Reason.REMOVED:
        return None
    if change.reason is not None:
        raise RateUnusableError(asset, currency, Reason(change.reason))
    row = queries.told(session, asset, currency, at=at, since=at - settings().age_max)
    if row is None:
        raise RateUnusableError(asset, currency, Reason.STALE)
    return of_row(row)


def of_row(row: AssetRate) -> Rate:
    return Rate(row.asset, row.currency, row.numerator, row.denominator, row.observed_at, row.source)


def _paths(asset: str, currency: str) -> Iterator[Sequence[str]]:
    """Routes that lead from the one to the other, forwards or backwards, each asset once."""
    for route in settings().routes or THROUGH_THE_DOLLAR:
        for way in (route, route[::-1]):
            if way[0] in (asset, ANY) and way[-1] in (currency, ANY):
                path = (asset, *way[1:-1], currency)
                if len(set(path)) == len(path):
                    yield path
                break


def _legs(path: Sequence[str]) -> list[tuple[str, str]]:
    return list(pairwise(path))


def _through(legs: Sequence[Rate]) -> Rate:
    """As old as its oldest part. Exact."""
    product = Fraction(1)
    for leg in legs:
        product *= leg.fraction
    return Rate(
        asset=legs[0].asset,
        currency=legs[-1].currency,
        numerator=product.numerator,
        denominator=product.denominator,
        observed_at=min(leg.observed_at for leg in legs),
        source=" / ".join(leg.source for leg in legs),
    )
