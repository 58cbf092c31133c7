"""Locked quotes: what we give for what, promised for half a minute, used once. See docs/rates.md."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.ids import new_id
from domain.quote.models import Fixed, Quote
from domain.quote.pricing import MarketRate, Offer, has_slipped, offer, offer_of
from domain.quote.settings import quotes as settings

__all__ = [
    "Fixed",
    "NewQuote",
    "Offer",
    "Quote",
    "consume",
    "create",
    "get",
    "has_slipped",
    "offer",
    "offer_of",
    "remove_old",
    "slipped",
]

log = structlog.stdlib.get_logger(__name__)

RateOf = Callable[[Session, str, str], MarketRate]
"""(session, asset, currency) -> the usable rate of now. Raises TransientError while there is none."""


@dataclass(frozen=True, slots=True)
class NewQuote:
    tenant: str
    from_asset: str
    to_asset: str
    fixed: Fixed
    units: int
    """Of `from_asset` if what goes in is fixed, else of `to_asset`."""


def create(session: Session, new: NewQuote, rate_of: RateOf) -> Quote:
    """Promise a conversion at the rate of now. Raises InvalidRequestError, and what `rate_of` raises."""
    if new.from_asset == new.to_asset:
        raise InvalidRequestError("an asset is not converted into itself", field="to")
    market = rate_of(session, new.from_asset, new.to_asset)
    spread_bps = settings().spread_of(new.tenant)
    made = offer(new.from_asset, new.to_asset, new.fixed, new.units, market, spread_bps=spread_bps)
    now = clock.now()
    numerator, denominator = made.rate.fraction.as_integer_ratio()
    quote = Quote(
        id=new_id(),
        tenant=new.tenant,
        from_asset=new.from_asset,
        to_asset=new.to_asset,
        fixed=new.fixed,
        units_in=made.units_in,
        units_out=made.units_out,
        spread_units=made.spread_units,
        remainder=made.converted.remainder,
        rate_numerator=numerator,
        rate_denominator=denominator,
        rate_source=market.source,
        rate_at=market.observed_at,
        spread_bps=spread_bps,
        created_at=now,
        expires_at=now + settings().expiry,
    )
    session.add(quote)
    session.flush()
    return quote


def get(session: Session, quote_id: UUID, *, tenant: str) -> Quote | None:
    return session.scalars(select(Quote).where(Quote.id == quote_id, Quote.tenant == tenant)).one_or_none()


def consume(session: Session, quote_id: UUID, tenant: str, subject: str) -> Quote:
    """Use it up for this subject. For the same subject again it is the same quote, also when it is over.

    Raises NotFoundError if the tenant has none of this id, ConflictError if it is over or another subject's.
    """
    query = select(Quote).where(Quote.id == quote_id, Quote.tenant == tenant)
    quote = session.scalars(query.with_for_update().execution_options(populate_existing=True)).one_or_none()
    if quote is None:
        raise NotFoundError(f"there is no quote {quote_id}", field="quote")
    if quote.used_by == subject:
        return quote
    if quote.used_by is not None:
        raise ConflictError(f"the quote {quote_id} was used before", field="quote")
    now = clock.now()
    if quote.expires_at <= now:
        raise ConflictError(f"the quote {quote_id} ended at {quote.expires_at.isoformat()}", field="quote")
    quote.used_at, quote.used_by = now, subject
    session.flush()
    return quote


def slipped(quote: Quote, market: MarketRate) -> bool:
    """Whether the rate has moved against us by more than QUOTE_SLIPPAGE_BPS since the quote was made."""
    return has_slipped(quote, market, slippage_bps=settings().slippage_bps)


def remove_old(session: Session, *, limit: int) -> int:
    """Remove quotes that nobody used, QUOTE_KEEP after their end. What was used stays."""
    before = clock.now() - max(settings().keep, timedelta(days=1))
    old = select(Quote.id).where(Quote.used_at.is_(None), Quote.expires_at < before)
    query = delete(Quote).where(Quote.id.in_(old.order_by(Quote.expires_at).limit(limit)), Quote.used_at.is_(None))
    return len(session.scalars(query.returning(Quote.id)).all())
