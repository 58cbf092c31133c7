"""What each event of a payout does to the books. Pure: from a row and amounts to a journal, without a clock.

begin     account -> transit                            the capture of its hold, when the first attempt is begun
convert   transit -> clearing:fx, fees, rounding; clearing:fx -> transit      where a quote promised another asset
pay       transit -> provider, fees                     it left
fee       payout fees -> provider                       what the provider took for it
restore   transit -> owed, account or suspense          given back, where the begin can't just be reversed
retake    suspense, account, owed -> transit            it left after all, when its owner had the money again
beside    suspense -> provider                          a provider paid what nobody had asked it for any more

The begin's reference is `payout:<id>:begin`. Of all others there may be several: each has its number in its reference.
"""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from domain.payout.models import Payout, PayoutAttempt
from ledger import chart, conversions
from ledger.conversions import Converted
from ledger.posting import Journal, Posting

TRANSIT = chart.payouts_in_transit()
SUSPENSE = chart.payout_suspense()


def reference(payout: Payout, event: str) -> str:
    """Of the next journal. The payout's row counts them, and is locked."""
    return f"{payout.subject}:{event}:{payout.settled + 1}"


def begin_reference(payout: Payout) -> str:
    return f"{payout.subject}:begin"


def convert(payout: Payout) -> Journal:
    """What the quote promised. The spread is taken first, as it was when the quote was made."""
    if payout.quote_rate is None or payout.quote_rate_at is None:
        raise ValueError(f"{payout.subject} has no rate")
    rate = conversions.Rate(
        base=payout.asset,
        quote=payout.payout_asset,
        value=Fraction(payout.quote_rate),
        source=f"quote:{payout.quote_id}",
        at=payout.quote_rate_at,
    )
    spread, remainder = payout.quote_spread or 0, payout.quote_remainder or 0
    made = Converted(payout.units - spread, payout.payout_units, remainder)
    return _journal(
        payout,
        "convert",
        [
            _move(TRANSIT, chart.fees(), payout.asset, spread),
            *conversions.postings(TRANSIT, TRANSIT, rate, made),
        ],
        {
            "quote": str(payout.quote_id),
            "rate": rate.text,
            "rate_base": rate.base,
            "rate_quote": rate.quote,
            "rate_at": rate.at.isoformat(),
            "spread": str(spread),
            "remainder": str(remainder),
        },
    )


def pay(payout: Payout, provider: str) -> Journal:
    return _journal(
        payout,
        "pay",
        [
            _move(TRANSIT, chart.payout_custody(provider), payout.payout_asset, payout.payout_units),
            _move(TRANSIT, chart.fees(), payout.asset, payout.fee_units),
        ],
        {"provider": provider, "provider_ref": payout.provider_ref},
    )


def fee(payout: Payout, provider: str, units: int) -> Journal:
    """What the provider takes has grown by this much, or shrunk."""
    move = _move(chart.payout_fees(), chart.payout_custody(provider), payout.payout_asset, units)
    return _journal(payout, "fee", [move], {"provider": provider})


def restore(payout: Payout, *, debt: int, into: str) -> Journal:
    """All of it back: `debt` pays off what its owner owes, the rest goes to `into`."""
    return _journal(
        payout,
        "restore",
        [
            _move(TRANSIT, chart.owed_by(payout.account), payout.asset, debt),
            _move(TRANSIT, into, payout.asset, payout.held_units - debt),
        ],
    )


def retake(payout: Payout, *, taken: int) -> Journal:
    """All of it once more: what lies in suspense, `taken` of its owner, and what is left its owner owes."""
    suspended = payout.suspended_units
    return _journal(
        payout,
        "retake",
        [
            _move(SUSPENSE, TRANSIT, payout.asset, suspended),
            _move(payout.account, TRANSIT, payout.asset, taken),
            _move(chart.owed_by(payout.account), TRANSIT, payout.asset, payout.held_units - suspended - taken),
        ],
    )


def beside(payout: Payout, attempt: PayoutAttempt) -> Journal:
    move = _move(SUSPENSE, chart.payout_custody(attempt.provider), payout.payout_asset, payout.payout_units)
    return _journal(payout, "beside", [move], {"provider": attempt.provider, "provider_ref": attempt.provider_ref})


def _move(source: str, destination: str, asset: str, units: int) -> Posting | None:
    """Negative units go the other way."""
    if not units:
        return None
    if units < 0:
        source, destination = destination, source
    return Posting(source=source, destination=destination, asset=asset, units=abs(units))


def _journal(
    payout: Payout, event: str, moves: Sequence[Posting | None], metadata: dict[str, Any] | None = None
) -> Journal:
    return Journal(
        tenant=payout.tenant,
        reference=reference(payout, event),
        category=f"payout.{event}",
        postings=[move for move in moves if move is not None],
        subject=payout.subject,
        correlation_id=payout.correlation_id,
        metadata=metadata or {},
    )
