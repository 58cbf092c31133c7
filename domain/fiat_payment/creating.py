"""Taking payments in: what was asked for, checked, with the job that asks a gateway for the order."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Protocol
from urllib.parse import urlsplit
from uuid import UUID

from sqlalchemy.orm import Session

from config.assets import registry
from core import clock, jobs
from core.errors import ConflictError, InvalidRequestError
from core.ids import new_id
from core.jobs import NewJob
from core.money import UNITS_MAX
from domain.fiat_payment import gateways, payer, queries
from domain.fiat_payment.history import note
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import FIAT_PAYMENT
from ledger import chart
from providers.fiat.base import Method

CREATE_ORDER = "fiat_webhook.create_order"
ATTEMPTS_MAX = 60
METADATA_BYTES_MAX = 8_192
DESCRIPTION_LENGTH_MAX = 200
URL_LENGTH_MAX = 2_000
EXPIRES_IN_MIN = timedelta(minutes=1)
FIAT = "iso4217:"


class LockedQuote(Protocol):
    """A promise of what `units_in` become. `rate`: whole assets got for a whole one given, without the spread."""

    @property
    def id(self) -> UUID: ...
    @property
    def from_asset(self) -> str: ...
    @property
    def to_asset(self) -> str: ...
    @property
    def units_in(self) -> int: ...
    @property
    def units_out(self) -> int: ...
    @property
    def spread_units(self) -> int: ...
    @property
    def remainder(self) -> int: ...
    @property
    def spread_bps(self) -> int: ...
    @property
    def rate(self) -> Fraction: ...
    @property
    def rate_at(self) -> datetime: ...


Consume = Callable[[Session, UUID, str, str], LockedQuote]
"""(session, quote, tenant, subject) -> the quote, used up. Raises NotFoundError, ConflictError."""


@dataclass(frozen=True, slots=True)
class Conversions:
    """What the slices of quotes and rates have for us: brought along by whoever calls."""

    consume: Consume
    slippage_bps: int
    spread_bps: Callable[[str], int]
    """Of a tenant, for conversions at the rate of the moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFiatPayment:
    tenant: str
    account: str
    """The ledger account to credit, such as `user:42:available`."""
    currency: str
    units: int
    provider: str | None = None
    """None: we choose, and may choose another while nobody has the order."""
    method: Method = Method.ANY
    credit_asset: str | None = None
    """None: the currency itself, or what the quote says."""
    quote_id: UUID | None = None
    return_url: str | None = None
    description: str = ""
    expires_in: timedelta | None = None
    payer_email: str | None = field(default=None, repr=False)
    details: Mapping[str, Any] = field(default_factory=dict)
    correlation_id: str | None = None


def create(session: Session, new: NewFiatPayment, conversions: Conversions) -> FiatPayment:
    """Write one payment and the job that asks for its order. Raises InvalidRequestError, with nothing written."""
    check(new)
    _check_gateway(session, new)
    now = clock.now()
    payment_id = new_id()
    sealed = None if new.payer_email is None else payer.seal(payment_id, new.payer_email)
    # The last that can be refused: a quote is used up by it.
    quote = None if new.quote_id is None else _quote(session, new, f"fiat_payment:{payment_id}", conversions.consume)
    credit_asset = new.credit_asset or (quote.to_asset if quote else new.currency)
    payment = FiatPayment(
        id=payment_id,
        tenant=new.tenant,
        account=new.account,
        currency=new.currency,
        paid_currency=new.currency,
        units=new.units,
        credit_asset=credit_asset,
        fee_bps=0 if quote else settings().fee_bps,
        spread_bps=quote.spread_bps if quote else conversions.spread_bps(new.tenant),
        method=new.method,
        automatic=new.provider is None,
        provider=new.provider,
        return_url=new.return_url,
        description=new.description,
        details=dict(new.details),
        correlation_id=new.correlation_id,
        payer_sealed=sealed,
        expires_at=now + _lasts(new),
        created_at=now,
        updated_at=now,
        state=FIAT_PAYMENT.initial,
        instructions={},
    )
    if quote is not None:
        payment.quote_id = quote.id
        payment.quote_units_out = quote.units_out
        payment.quote_spread, payment.quote_remainder = quote.spread_units, quote.remainder
        payment.quote_rate, payment.quote_rate_at = str(quote.rate), quote.rate_at
        payment.quote_slippage_bps = conversions.slippage_bps
    session.add(payment)
    session.flush()
    note(session, payment, "created", now=now)
    jobs.submit(
        session,
        NewJob(
            CREATE_ORDER,
            {"payment_id": str(payment_id)},
            tenant=new.tenant,
            subject=payment.subject,
            correlation_id=new.correlation_id,
            attempts_max=ATTEMPTS_MAX,
        ),
    )
    session.flush()
    return payment


def check(new: NewFiatPayment) -> None:
    """What can be said of it without the database. Raises InvalidRequestError."""
    chart.owner_account(new.account)
    known = registry().assets
    if new.currency not in known or not new.currency.startswith(FIAT):
        raise InvalidRequestError(f"{new.currency[:64]!r} is no currency that is known here", field="currency")
    if not 0 < new.units <= UNITS_MAX:
        raise InvalidRequestError("units must be above zero and have at most 38 digits", field="units")
    if new.credit_asset is not None and new.credit_asset not in known:
        raise InvalidRequestError(f"the asset {new.credit_asset[:200]!r} is not known", field="credit_asset")
    chosen = settings()
    longest = chosen.expires_in_max if new.quote_id is None else min(chosen.quoted_for, chosen.expires_in_max)
    if new.expires_in is not None and not EXPIRES_IN_MIN <= new.expires_in <= longest:
        at_quote = "" if new.quote_id is None else " at a quote"
        raise InvalidRequestError(f"a payment{at_quote} lasts from {EXPIRES_IN_MIN} to {longest}", field="expires_in")
    if len(new.description) > DESCRIPTION_LENGTH_MAX or not (new.description.isprintable()):
        raise InvalidRequestError(
            f"a description has at most {DESCRIPTION_LENGTH_MAX} printable characters", field="description"
        )
    if new.return_url is not None:
        _check_url(new.return_url)
    if len(json.dumps(dict(new.details))) > METADATA_BYTES_MAX:
        raise InvalidRequestError(f"metadata has at most {METADATA_BYTES_MAX} bytes", field="metadata")


def _lasts(new: NewFiatPayment) -> timedelta:
    """How long the payer has. At a quote not for long: whoever may wait pays only if the market has moved his way."""
    chosen = settings()
    if new.expires_in is not None:
        return new.expires_in
    return chosen.expires_in if new.quote_id is None else min(chosen.expires_in, chosen.quoted_for)


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        well = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.username is None
    except ValueError:
        well = False
    if not well or len(url) > URL_LENGTH_MAX or not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidRequestError("return_url is an address like https://shop.example/paid", field="return_url")


def _check_gateway(session: Session, new: NewFiatPayment) -> None:
    if new.provider is None:
        if not gateways.choice(session, currency=new.currency, units=new.units, method=new.method):
            raise InvalidRequestError("no gateway takes this amount of this currency in this way", field="units")
        return
    named = {gateway.name: gateway for gateway in queries.gateways(session)}.get(new.provider)
    if named is None:
        raise InvalidRequestError(f"there is no gateway {new.provider[:64]!r}", field="provider")
    if not gateways.takes(named, currency=new.currency, units=new.units, method=new.method):
        raise InvalidRequestError(
            f"{named.name} does not take this amount of {new.currency} in this way", field="provider"
        )


def _quote(session: Session, new: NewFiatPayment, subject: str, consume: Consume) -> LockedQuote:
    if new.quote_id is None:
        raise ValueError("no quote")
    with session.begin_nested():  # a quote that doesn't fit stays unused
        quote = consume(session, new.quote_id, new.tenant, subject)
        asset = new.credit_asset or quote.to_asset
        if (quote.from_asset, quote.units_in, quote.to_asset) != (new.currency, new.units, asset):
            raise ConflictError(f"the quote {quote.id} is of another amount or other assets", field="quote_id")
    return quote
