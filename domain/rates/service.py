"""What assets are worth in currencies, as somebody observed it. Exact: a rate is a fraction of two integers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import gcd

import structlog
from sqlalchemy.orm import Session

from config.assets import registry
from core import clock
from core.errors import InvalidRequestError
from domain.rates import queries
from domain.rates.models import AssetRate
from domain.rates.settings import rates as settings

__all__ = ["AssetRate", "Rate", "add", "fraction", "newest", "page", "price", "proposed", "rate_at"]

log = structlog.stdlib.get_logger(__name__)

PRICE_DIGITS_MAX = 38
"""With the longest scale of an asset, 36, a fraction has 74 digits."""
AHEAD_MAX = timedelta(seconds=5)
"""How far another machine's clock may be ahead of ours."""
_PRICE = re.compile(r"([0-9]+)(?:\.([0-9]+))?")


@dataclass(frozen=True, slots=True)
class Rate:
    """`numerator` smallest units of the currency for `denominator` smallest units of the asset, in lowest terms."""

    asset: str
    currency: str
    numerator: int
    denominator: int
    observed_at: datetime
    source: str


def fraction(asset: str, currency: str, price: str) -> tuple[int, int]:
    """A decimal price of one asset (an ether, not a wei) as a fraction of smallest units. Exact, no float on the way.

    Raises InvalidRequestError for a price that is none, and for assets that the registry doesn't know.
    """
    found = _PRICE.fullmatch(price)
    if not found:
        raise InvalidRequestError(f"{price[:80]!r} is no price: write 1999.95", field="price")
    decimals = found[2] or ""
    digits = int(found[1] + decimals)
    if not digits or len(found[1] + decimals) > PRICE_DIGITS_MAX:
        raise InvalidRequestError(f"a price is above zero and has at most {PRICE_DIGITS_MAX} digits", field="price")
    numerator = digits * 10 ** _scale(currency, "currency")
    denominator = 10 ** (len(decimals) + _scale(asset, "asset"))
    common = gcd(numerator, denominator)
    return numerator // common, denominator // common


def _scale(asset: str, field: str) -> int:
    known = registry().assets.get(asset)
    if known is None:
        raise InvalidRequestError(f"the {field} {asset[:200]!r} is not in the registry", field=field)
    return known.scale


def price(rate: Rate | AssetRate) -> str:
    """The price of one asset as a decimal, for people: exact where it has an end within 38 places, else cut there."""
    numerator = rate.numerator * 10 ** _scale(rate.asset, "asset")
    denominator = rate.denominator * 10 ** _scale(rate.currency, "currency")
    whole, rest = divmod(numerator, denominator)
    decimals = str(rest * 10**PRICE_DIGITS_MAX // denominator).rjust(PRICE_DIGITS_MAX, "0").rstrip("0")
    return f"{whole}.{decimals}" if decimals else str(whole)


def proposed(
    asset: str,
    currency: str,
    price: str,
    *,
    source: str,
    actor: str,
    reason: str | None = None,
    observed_at: datetime | None = None,
) -> AssetRate:
    """What somebody observed, checked and not yet kept.

    Raises InvalidRequestError (asset, currency, price, a time to come, no source or actor).
    """
    now = clock.now()
    at = observed_at or now
    if asset == currency:
        raise InvalidRequestError("an asset is worth itself", field="currency")
    if at.tzinfo is None or at > now + AHEAD_MAX:
        raise InvalidRequestError("a rate was observed at a time that is past, with its time zone", field="observed_at")
    for name, words in (("source", source), ("actor", actor)):
        if not words.strip():
            raise InvalidRequestError(f"a rate needs a {name}", field=name)
    numerator, denominator = fraction(asset, currency, price)
    return AssetRate(
        asset=asset,
        currency=currency,
        numerator=numerator,
        denominator=denominator,
        observed_at=at,
        source=source,
        actor=actor,
        reason=reason,
        created_at=now,
    )


def add(session: Session, rate: AssetRate) -> AssetRate:
    """Keep it. Nothing is ever replaced: what was judged by an older rate stays as it was."""
    session.add(rate)
    session.flush()
    log.info("rate.added", asset=rate.asset, currency=rate.currency, source=rate.source, actor=rate.actor)
    return rate


def rate_at(
    session: Session, asset: str, currency: str, at: datetime, *, age_max: timedelta | None = None
) -> Rate | None:
    """What was known of that moment: the newest rate observed by then, if it was not too old (RATES_AGE_MAX)."""
    since = at - (settings().age_max if age_max is None else age_max)
    row = queries.newest(session, asset, currency, at=at, since=since)
    if row is None:
        return None
    return Rate(row.asset, row.currency, row.numerator, row.denominator, row.observed_at, row.source)


def newest(session: Session, asset: str, currency: str) -> AssetRate | None:
    """The newest, however old."""
    return queries.newest(session, asset, currency, at=clock.now())


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
