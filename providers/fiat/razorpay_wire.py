"""Razorpay's entities as ours: payment links, payments, refunds, disputes, lines of settlements.

After razorpay.com/docs/api: payments/payment-links/entity, payments/entity, refunds/entity, disputes/entity,
settlements/fetch-recon, and the samples in razorpay/razorpay-python (documents/). Amounts are in the currency's
smallest unit; of a currency with three decimals the last digit is 0.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from core.errors import PermanentError
from providers.fiat import fields
from providers.fiat.base import LineKind, Order, OrderState, Refund, RefundState, SettlementLine
from providers.fiat.fields import Json

REFUNDS = {"pending": RefundState.PENDING, "processed": RefundState.DONE, "failed": RefundState.FAILED}

_OVER = frozenset({"won", "lost", "closed"})
"""Disputes that are over. Any other word is of one that runs."""
_STATES = {"expired": OrderState.EXPIRED, "cancelled": OrderState.FAILED}
_LINES = {"payment": LineKind.PAYMENT, "refund": LineKind.REFUND}


def to_razorpay(units: int, currency: str) -> int:
    """Raises PermanentError if it can't take just that many."""
    if fields.scale(currency) > 2 and units % 10:  # noqa: PLR2004 - decimal places
        raise PermanentError(f"Razorpay takes {fields.code(currency)} in steps of 10 units only")
    return units


def captured(payments: Iterable[Json]) -> list[Json]:
    """Those whose money came in. Others are attempts."""
    return [each for each in payments if each.get("captured") is True]


def order_of(
    link: Json, payments: Sequence[Json], refunds: Iterable[Json] = (), disputes: Iterable[Json] = ()
) -> Order:
    """Of a link and all payments that were tried on it."""
    received = captured(payments)
    asked = fields.currency(link)
    currencies = {fields.currency(each) for each in received} or {asked}
    if len(currencies) > 1:
        raise PermanentError("a payment link was paid in several currencies")
    running, lost = _disputed(disputes)
    return Order(
        reference=fields.text(link, "reference_id"),
        provider_ref=fields.text(link, "id"),
        state=OrderState.PAID if received else _STATES.get(str(link.get("status")), OrderState.OPEN),
        currency=currencies.pop(),
        units=fields.amount(link, "amount"),
        paid_units=sum(fields.amount(each, "amount") for each in received),
        fee_units=_fee(received),
        refunded_units=sum(fields.amount(each, "amount") for each in refunds if each.get("status") == "processed"),
        disputed_units=running,
        charged_back_units=lost,
        page_url=fields.perhaps(link, "short_url"),
    )


def _fee(payments: Sequence[Json]) -> int | None:
    """With its tax. None: not known yet, or taken in the currency of the account, which is another."""
    ours = [each for each in payments if each.get("base_currency") in (None, each.get("currency"))]
    fees = [fields.amount(each, "fee") for each in ours if each.get("fee") is not None]
    return sum(fees) if fees and len(fees) == len(payments) else None


def _disputed(disputes: Iterable[Json]) -> tuple[int, int]:
    """(what may be taken, what was taken for good)"""
    running = lost = 0
    for each in disputes:
        status = str(each.get("status"))
        lost += fields.amount(each, "amount_deducted") if status == "lost" else 0
        running += fields.amount(each, "amount") if status not in _OVER else 0
    return running, lost


def refund_of(row: Json, reference: str) -> Refund:
    return Refund(
        reference=reference,
        provider_ref=fields.text(row, "id"),
        state=REFUNDS.get(str(row.get("status")), RefundState.PENDING),
        currency=fields.currency(row),
        units=fields.amount(row, "amount"),
    )


def payment_of(row: Json) -> str | None:
    """The payment that a line of a settlement is about."""
    return fields.perhaps(row, "entity_id") if row.get("type") == "payment" else fields.perhaps(row, "payment_id")


def settled_at(row: Json) -> datetime:
    try:
        return datetime.fromtimestamp(fields.whole(row, "settled_at"), UTC)
    except (OverflowError, ValueError, OSError):
        raise PermanentError("settled_at is no time") from None


def line_of(row: Json, reference: str | None, provider_ref: str | None) -> SettlementLine:
    """What it adds to the settlement is `credit` less `debit`; the fee, with its tax, was taken off before."""
    fee, credit, debit = (fields.whole(row, name) for name in ("fee", "credit", "debit"))
    return SettlementLine(
        id=fields.text(row, "entity_id"),
        settlement=fields.text(row, "settlement_id"),
        kind=_kind(row, won=credit > debit),
        reference=reference,
        provider_ref=provider_ref,
        currency=fields.currency(row),
        units=credit - debit + fee,
        fee_units=fee,
        settled_at=settled_at(row),
    )


def _kind(row: Json, *, won: bool) -> LineKind:
    if fields.perhaps(row, "dispute_id") is not None:
        return LineKind.CHARGEBACK_REVERSED if won else LineKind.CHARGEBACK
    return _LINES.get(str(row.get("type")), LineKind.ADJUSTMENT)
