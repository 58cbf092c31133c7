"""A person's word on a rate: with a reason, from whom, and an end. It wins over all sources while it lasts."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from core import clock
from core.errors import InvalidRequestError
from domain.rates import queries
from domain.rates.fractions import fraction
from domain.rates.models import AssetRate
from domain.rates.settings import rates as settings

log = structlog.stdlib.get_logger(__name__)

AHEAD_MAX = timedelta(seconds=5)
"""How far another machine's clock may be ahead of ours."""


def proposed(
    asset: str,
    currency: str,
    price: str,
    *,
    source: str,
    actor: str,
    reason: str | None = None,
    observed_at: datetime | None = None,
    lasts: timedelta | None = None,
) -> AssetRate:
    """What somebody says, checked and not yet kept. It holds from `observed_at` on, for RATE_OVERRIDE or `lasts`.

    Raises InvalidRequestError (asset, currency, price, a time to come, no source or actor, an end too far off).
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
    chosen = settings().override if lasts is None else lasts
    if not timedelta(0) < chosen <= settings().override_max:
        raise InvalidRequestError(f"a rate is set for at most {settings().override_max}", field="lasts")
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
        expires_at=at + chosen,
    )


def add(session: Session, rate: AssetRate) -> AssetRate:
    """Keep it. Nothing is ever replaced: what was judged by an older rate stays as it was."""
    session.add(rate)
    session.flush()
    log.warning(
        "rate.overridden",
        asset=rate.asset,
        currency=rate.currency,
        source=rate.source,
        actor=rate.actor,
        reason=rate.reason,
        expires_at=None if rate.expires_at is None else rate.expires_at.isoformat(),
    )
    return rate


def clearable(session: Session, asset: str, currency: str) -> Sequence[AssetRate]:
    """What `clear` would end, locked."""
    return queries.lock_overrides(session, asset, currency, at=clock.now())


def clear(session: Session, asset: str, currency: str, *, actor: str, reason: str) -> Sequence[AssetRate]:
    """End the overrides of a pair now; what they were used for stays. Returns those that this ended."""
    for name, words in (("actor", actor), ("reason", reason)):
        if not words.strip():
            raise InvalidRequestError(f"clearing a rate needs a {name}", field=name)
    now = clock.now()
    rows = queries.lock_overrides(session, asset, currency, at=now)
    for row in rows:
        row.cleared_at, row.cleared_by, row.cleared_because = now, actor, reason
        log.warning("rate.cleared", asset=asset, currency=currency, rate=row.id, actor=actor, reason=reason)
    session.flush()
    return rows
