"""What each event of a payment does to the books. Pure: from a row and amounts to a journal, without a clock.

hold      gateway -> suspense                         the gateway has money that nobody is credited with yet
credit    gateway or suspense -> owner, fees, ...     with a conversion through clearing:fx
return    owner, owed, fees, ... or suspense -> gateway     refunded, disputed or charged back
restore   the same backwards                          a dispute was won
fee       gateway fees -> gateway                     what the provider kept
settle    bank -> gateway                             what it paid out to us

A payment is booked by what has changed since the last journal, so each journal has its number in its reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from domain.fiat_payment.conversion import Credit
from domain.fiat_payment.models import FiatPayment, FiatSettlementLine
from ledger import chart, conversions
from ledger.conversions import Converted
from ledger.posting import Journal, Posting
from providers.fiat.base import LineKind


@dataclass(frozen=True, slots=True)
class Parts:
    """Of `units` that were credited: what our income had of it, and `out` of the credited asset, the owner's."""

    units: int
    fee: int
    spread: int
    remainder: int
    out: int

    @property
    def cleared(self) -> int:
        return self.units - self.fee - self.spread - self.remainder

    def minus(self, other: "Parts") -> "Parts":
        return Parts(
            self.units - other.units,
            self.fee - other.fee,
            self.spread - other.spread,
            self.remainder - other.remainder,
            self.out - other.out,
        )


def parts_returned(payment: FiatPayment) -> Parts:
    """What was taken back so far."""
    return Parts(
        payment.returned_units,
        payment.returned_fee,
        payment.returned_spread,
        payment.returned_remainder,
        payment.returned_out,
    )


def parts_of(payment: FiatPayment, units: int) -> Parts:
    """The share that `units` have in all that was credited. Of all of it, all: nothing is lost on the way back.

    What the owner gives is rounded up, and our income's parts down: the clearing account gives no more than it has.
    """
    whole = payment.credited_units
    if not units:
        return Parts(0, 0, 0, 0, 0)
    fee, spread, remainder = (
        part * units // whole for part in (payment.credited_fee, payment.credited_spread, payment.credited_remainder)
    )
    out = -(-payment.credited_out * units // whole) if _is_converted(payment) else units - fee
    return Parts(units, fee, spread, remainder, out)


def hold(payment: FiatPayment, units: int) -> Journal:
    return _journal(payment, "hold", [_move(_gateway(payment), chart.payment_suspense(), payment.paid_currency, units)])


def credit(payment: FiatPayment, made: Credit, *, source: str) -> Journal:
    """From the gateway, or from suspense where it waited."""
    currency = payment.paid_currency
    moves = [
        _move(source, chart.fees(), currency, made.fee),
        _move(source, chart.fees(), currency, made.spread),
    ]
    metadata: dict[str, Any] = {"paid": str(made.units), "fee": str(made.fee), "spread": str(made.spread)}
    if made.rate is None:
        moves.append(_move(source, payment.account, currency, made.out))
    else:
        converted = Converted(made.units - made.fee - made.spread, made.out, made.remainder)
        moves += conversions.postings(source, payment.account, made.rate, converted)
        metadata |= {
            "rate": made.rate.text,
            "rate_base": made.rate.base,
            "rate_quote": made.rate.quote,
            "rate_source": made.rate.source,
            "rate_at": made.rate.at.isoformat(),
            "remainder": str(made.remainder),
        }
        if payment.quote_id is not None:
            metadata["quote"] = str(payment.quote_id)
    return _journal(payment, "credit", moves, metadata)


def returned(payment: FiatPayment, change: Parts, *, of_suspense: int, of_debt: int) -> Journal:
    """More of it went back to the payer (above zero), or some of that came to us again (below zero).

    `of_suspense` of it is from what nobody was credited with. `of_debt` of what the owner gives he no longer has and
    owes, or, below zero, of what he gets pays that off.
    """
    gateway, currency = _gateway(payment), payment.paid_currency
    owed = chart.owed_by(payment.account)
    if _is_converted(payment):
        asset, into = payment.credited_asset or "", chart.fx_clearing()
        moves = [_move(chart.fx_clearing(), gateway, currency, change.cleared)]
    else:
        asset, into, moves = currency, gateway, []
    moves = [
        _move(chart.payment_suspense(), gateway, currency, of_suspense),
        _move(payment.account, into, asset, change.out - of_debt),
        _move(owed, into, asset, of_debt),
        *moves,
        _move(chart.fees(), gateway, currency, change.fee),
        _move(chart.fees(), gateway, currency, change.spread),
        _move(chart.rounding(), gateway, currency, change.remainder),
    ]
    back = change.units + of_suspense > 0
    metadata = {
        "refunded": str(payment.refunded_units),
        "disputed": str(payment.disputed_units),
        "charged_back": str(payment.charged_back_units),
    }
    return _journal(payment, "return" if back else "restore", moves if back else moves[::-1], metadata)


def fee(payment: FiatPayment, units: int) -> Journal:
    """What the provider keeps has grown by this much, or shrunk."""
    return _journal(payment, "fee", [_move(chart.gateway_fees(), _gateway(payment), payment.paid_currency, units)])


def settle(payment: FiatPayment, line: FiatSettlementLine) -> Journal | None:
    """What the line adds to the payout, less its fee. None if that is nothing.

    The fee of a payment is booked by what its order says. Those of other lines, such as what a dispute costs, are told
    nowhere else.
    """
    gateway = chart.gateway(line.provider)
    cost = 0 if line.kind == LineKind.PAYMENT else line.fee_units
    return _settled(payment.tenant, line, gateway, payment.subject, cost=cost)


def settle_of_house(tenant: str, line: FiatSettlementLine) -> Journal | None:
    """The same of a line that is of no payment: a cost, or what the gateway owes the house until somebody knows why."""
    other = chart.gateway_fees() if line.kind == LineKind.FEE else chart.gateway(line.provider)
    return _settled(tenant, line, other, f"gateway:{line.provider}")


def _settled(tenant: str, line: FiatSettlementLine, other: str, subject: str, *, cost: int = 0) -> Journal | None:
    moves = [
        _move(chart.bank(line.currency), other, line.currency, line.units - line.fee_units),
        _move(chart.gateway_fees(), other, line.currency, cost),
    ]
    if moves == [None, None]:
        return None
    return Journal(
        tenant=tenant,
        reference=f"fiat:settlement:{line.provider}:{line.line}",
        category="fiat_payment.settle",
        postings=[move for move in moves if move is not None],
        subject=subject,
        effective_at=line.settled_at,
        metadata={"settlement": line.settlement, "line": line.line, "kind": line.kind},
    )


def _is_converted(payment: FiatPayment) -> bool:
    return payment.credited_asset not in (None, payment.paid_currency)


def _gateway(payment: FiatPayment) -> str:
    if payment.provider is None:
        raise ValueError(f"{payment.subject} is at no gateway")
    return chart.gateway(payment.provider)


def _move(source: str, destination: str, asset: str, units: int) -> Posting | None:
    return _posting(source, destination, asset, units) if units else None


def _posting(source: str, destination: str, asset: str, units: int) -> Posting:
    """Negative units go the other way."""
    if units < 0:
        source, destination = destination, source
    return Posting(source=source, destination=destination, asset=asset, units=abs(units))


def _journal(
    payment: FiatPayment, event: str, moves: Sequence[Posting | None], metadata: dict[str, Any] | None = None
) -> Journal:
    return Journal(
        tenant=payment.tenant,
        reference=f"fiat:{payment.id}:{event}:{payment.journals + 1}",
        category=f"fiat_payment.{event}",
        postings=[move for move in moves if move is not None],
        subject=payment.subject,
        correlation_id=payment.correlation_id,
        metadata={"provider": payment.provider, "provider_ref": payment.provider_ref, **(metadata or {})},
    )
