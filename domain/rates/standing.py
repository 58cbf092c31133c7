"""How the rates stand now: for operators, metrics and the API. What can't be used is told as well, with its reason."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from sqlalchemy.orm import Session

from core import clock
from domain.rates import queries
from domain.rates.fractions import Rate
from domain.rates.models import AssetRate, RatePair
from domain.rates.reasons import Reason
from domain.rates.settings import rates as settings
from domain.rates.using import of_row


@dataclass(frozen=True, slots=True)
class Standing:
    """One pair that is asked for, or that a person has set."""

    asset: str
    currency: str
    rate: Rate | None
    """The last that could be used, or the override; None if there never was one."""
    reason: Reason | None
    """Why it can't be used now. None: it can."""
    since: datetime
    """For so long it has been so."""
    age: timedelta | None
    """Of the rate."""
    sources: int
    spread_bps: int | None
    changes: int
    expires_at: datetime | None
    """The override's end; None: there is none."""

    @property
    def usable(self) -> bool:
        return self.reason is None


def standings(session: Session) -> list[Standing]:
    """All, in order of their assets."""
    now = clock.now()
    set_by_hand: dict[tuple[str, str], AssetRate] = {}
    for row in queries.overrides(session, at=now):
        set_by_hand.setdefault((row.asset, row.currency), row)
    pairs = {(pair.asset, pair.currency): pair for pair in queries.pairs(session)}
    return [_standing(key, pairs.get(key), set_by_hand.get(key), now) for key in sorted(pairs | set_by_hand)]


def _standing(key: tuple[str, str], pair: RatePair | None, override: AssetRate | None, now: datetime) -> Standing:
    rate = of_row(override) if override is not None else None if pair is None else _last(pair)
    age = None if rate is None else max(now - rate.observed_at, timedelta(0))
    reason: Reason | None = None
    since = now
    if override is not None:
        since = override.observed_at
    elif pair is not None:
        reason, since = pair.reason, pair.since
        if reason is None and (age is None or age > settings().age_max):
            reason = Reason.STALE
            since = pair.asked_at + settings().age_max
    return Standing(
        asset=key[0],
        currency=key[1],
        rate=rate,
        reason=None if reason is None else Reason(reason),
        since=since,
        age=age,
        sources=0 if pair is None else pair.sources,
        spread_bps=None if pair is None else pair.spread_bps,
        changes=0 if pair is None else pair.changes,
        expires_at=None if override is None else override.expires_at,
    )


def _last(pair: RatePair) -> Rate | None:
    if pair.numerator is None or pair.denominator is None or pair.observed_at is None:
        return None
    exact = Fraction(pair.numerator, pair.denominator)
    return Rate(pair.asset, pair.currency, exact.numerator, exact.denominator, pair.observed_at, "sources")
