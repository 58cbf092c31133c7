"""What of a payment becomes a credit: our fee, the spread, and what the rest is worth in the asset that is credited.

Rates are another slice's: tasks bring them along. All arithmetic is of integers and fractions; fee and
spread are taken first, what is credited is rounded down, and what that did not need is the remainder, which has an
account.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Protocol

import structlog
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, InvariantError, TransientError
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.states import HoldReason, Wait
from ledger import conversions
from ledger.conversions import Rounding

log = structlog.stdlib.get_logger(__name__)

BPS = 10_000


class MomentRate(Protocol):
    """`numerator` smallest units of what is got for `denominator` smallest units of what is given."""

    @property
    def numerator(self) -> int: ...
    @property
    def denominator(self) -> int: ...
    @property
    def observed_at(self) -> datetime: ...
    @property
    def source(self) -> str: ...


Rater = Callable[[Session, str, str], MomentRate]
"""(session, given, got) -> the rate of the moment.

Raises TransientError while none is usable, InvalidRequestError if there can't be any.
"""


def _no_rates(session: Session, given: str, got: str) -> MomentRate:  # noqa: ARG001
    raise TransientError(f"this process has no rates, and so none from {given} into {got}")


_rater: Rater = _no_rates


def use_rates(rater: Rater) -> None:
    """Where this process takes its rates from. Without any, payments that are converted wait."""
    global _rater  # noqa: PLW0603  # one source a process
    _rater = rater


@dataclass(frozen=True, slots=True)
class Credit:
    """How `units` of what was paid become `out` units of `asset`."""

    units: int
    fee: int
    spread: int
    remainder: int
    """May be negative, as conversions say."""
    out: int
    asset: str
    rate: conversions.Rate | None = None
    """None: nothing is converted."""

    @property
    def cleared(self) -> int:
        """What the clearing account takes in."""
        return self.units - self.fee - self.spread - self.remainder


def credit_of(session: Session, payment: FiatPayment, units: int) -> Credit | HoldReason | Wait:
    """What `units` of the payment's money are credited as now, or why they can't be."""
    if not _is_converted(payment):
        fee = units * payment.fee_bps // BPS
        out = units - fee
        return Credit(units, fee, 0, 0, out, payment.paid_currency) if out else HoldReason.TOO_SMALL
    try:
        return _converted(session, payment, units)
    except TransientError:
        return Wait.RATE
    except InvalidRequestError:
        # The money is there all the same. It waits until somebody has mended what is known of the two assets.
        log.exception("fiat_payment.no_conversion", payment_id=str(payment.id))
        return Wait.RATE


def _converted(session: Session, payment: FiatPayment, units: int) -> Credit | HoldReason:
    """Raises TransientError without a usable rate, InvalidRequestError if there can't be any."""
    scales = conversions.scales(session, payment.paid_currency, payment.credit_asset)
    base, quote = scales[payment.paid_currency], scales[payment.credit_asset]
    found = _rater(session, payment.paid_currency, payment.credit_asset)
    moment = conversions.Rate(
        base=payment.paid_currency,
        quote=payment.credit_asset,
        value=Fraction(found.numerator, found.denominator) * Fraction(10**base, 10**quote),
        source=found.source,
        at=found.observed_at,
    )
    if payment.quote_id is not None and units == payment.units and not payment.at_moment:
        return _at_quote(payment, moment)
    try:
        return _at_moment(payment, units, moment, base, quote)
    except InvalidRequestError:
        return HoldReason.TOO_SMALL


def _is_converted(payment: FiatPayment) -> bool:
    """A payment in a currency that nobody asked for is converted only if it would have been anyway."""
    return payment.credit_asset not in (payment.currency, payment.paid_currency)


def _at_moment(payment: FiatPayment, units: int, rate: conversions.Rate, base_scale: int, quote_scale: int) -> Credit:
    fee = units * payment.fee_bps // BPS
    net = (units - fee) * (BPS - payment.spread_bps) // BPS
    made = conversions.convert(net, rate, base_scale, quote_scale, Rounding.DOWN)
    return Credit(units, fee, units - fee - net, made.remainder, made.units_out, payment.credit_asset, rate)


def _at_quote(payment: FiatPayment, moment: conversions.Rate) -> Credit | HoldReason:
    """What was promised, unless the market has moved so far against us that a person should look."""
    if (
        payment.quote_units_out is None
        or payment.quote_rate is None
        or payment.quote_rate_at is None
        or payment.quote_slippage_bps is None
    ):
        raise InvariantError(f"{payment.subject} has a quote, and not what it promises")
    promised = Fraction(payment.quote_rate)
    # Who pays after the end has had time to see how the market moves: it may not have moved against us at all.
    is_late = payment.paid_at is not None and payment.paid_at > payment.expires_at
    slippage_bps = 0 if is_late else payment.quote_slippage_bps
    if not payment.slippage_accepted and moment.fraction * BPS < promised * (BPS - slippage_bps):
        return HoldReason.SLIPPAGE
    rate = conversions.Rate(
        base=payment.paid_currency,
        quote=payment.credit_asset,
        value=promised,
        source=f"quote:{payment.quote_id}",
        at=payment.quote_rate_at,
    )
    spread, remainder = payment.quote_spread or 0, payment.quote_remainder or 0
    return Credit(payment.units, 0, spread, remainder, payment.quote_units_out, payment.credit_asset, rate)


def has_rate(session: Session, given: str, got: str) -> bool:
    """Whether a payment that waits for this rate could go on."""
    try:
        _rater(session, given, got)
    except (TransientError, InvalidRequestError):
        return False
    return True
