"""Stripe's objects as ours: amounts, sessions, refunds, disputes, balance transactions.

After docs.stripe.com: /currencies (zero-decimal, three-decimal and special currencies), /api/checkout/sessions/object,
/api/payment_intents/object, /api/refunds/object, /api/disputes/object, /api/balance_transactions/object,
/reports/reporting-categories; fields and words as in version 16.1 of the SDK (API 2026-10-28).
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from core.errors import PermanentError
from providers.fiat import fields
from providers.fiat.base import LineKind, Order, OrderState, Refund, RefundState, SettlementLine
from providers.fiat.fields import Json

_NO_DECIMALS = frozenset(
    ["BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF"]
)
_THREE_DECIMALS = frozenset(["BHD", "JOD", "KWD", "OMR", "TND"])
"""All others have two: also ISK and UGX, which have none in life, and whose last two digits must be 0."""

_OVER = frozenset({"lost", "won", "warning_closed", "prevented"})
"""Disputes that are over: lost, or nothing is taken. Any other word is of one that runs."""

REFUNDS = {
    "pending": RefundState.PENDING,
    "requires_action": RefundState.PENDING,
    "succeeded": RefundState.DONE,
    "failed": RefundState.FAILED,
    "canceled": RefundState.FAILED,
}

_LINES = {
    "charge": LineKind.PAYMENT,
    "refund": LineKind.REFUND,
    "partial_capture_reversal": LineKind.REFUND,
    "dispute": LineKind.CHARGEBACK,
    "dispute_reversal": LineKind.CHARGEBACK_REVERSED,
    "fee": LineKind.FEE,
}
"""Reporting categories. What others are there (refund_failure, tax, top-ups, ...) is an adjustment."""


def _decimals(currency: str) -> int:
    code = fields.code(currency)
    return 0 if code in _NO_DECIMALS else 3 if code in _THREE_DECIMALS else 2


def to_stripe(units: int, currency: str) -> int:
    """Units of ours as Stripe counts them. Raises PermanentError if it can't take just that many."""
    amount = _scaled(units, fields.scale(currency), _decimals(currency))
    if amount % _step(currency):
        raise PermanentError(f"Stripe takes {fields.code(currency)} in steps of {_step(currency)} only")
    return amount


def to_units(amount: int, currency: str) -> int:
    """Raises PermanentError if it is no whole number of units of ours."""
    return _scaled(amount, _decimals(currency), fields.scale(currency))


def _step(currency: str) -> int:
    """Of an amount as Stripe counts: card networks take no thousandths."""
    return 10 if fields.code(currency) in _THREE_DECIMALS else 1


def _scaled(amount: int, have: int, want: int) -> int:
    if want >= have:
        return amount * int(10 ** (want - have))
    whole, rest = divmod(amount, int(10 ** (have - want)))
    if rest:
        raise PermanentError("an amount is no whole number of the currency's units")
    return whole


def _units(row: Json, name: str) -> int:
    return to_units(fields.amount(row, name), fields.currency(row))


def _signed(row: Json, name: str) -> int:
    """Of a line of a payout, in which money goes both ways."""
    return to_units(fields.whole(row, name), fields.currency(row))


def reference_of(row: Json) -> str | None:
    """Ours, of a session, an intent or a charge: a charge's metadata is a copy of its intent's."""
    metadata = row.get("metadata")
    said = fields.perhaps(metadata, "reference") if isinstance(metadata, dict) else None
    return said or fields.perhaps(row, "client_reference_id")


def part(row: Json, name: str) -> Json | None:
    """An expanded object, or None: of one that is not expanded there is only its id."""
    value = row.get(name)
    return value if isinstance(value, dict) else None


def ref_of(row: Json, name: str) -> str | None:
    """The id of an object that may or may not be expanded."""
    expanded = part(row, name)
    return fields.perhaps(row, name) if expanded is None else fields.perhaps(expanded, "id")


def order_of(session: Json, refunds: Iterable[Json] = (), disputes: Iterable[Json] = ()) -> Order:
    """Of a session whose `payment_intent.latest_charge.balance_transaction` is expanded.

    What came in is what the intent says: a session only says what was asked.
    """
    asked = fields.currency(session)
    units = to_units(fields.amount(session, "amount_total"), asked)
    intent = part(session, "payment_intent")
    paid = 0 if intent is None else _units(intent, "amount_received")
    # In what money was paid: if it is another, the amount that was asked for stands beside it unconverted.
    currency = asked if not paid or intent is None else fields.currency(intent)
    charge = None if intent is None else part(intent, "latest_charge")
    running, lost = _disputed(disputes)
    return Order(
        reference=reference_of(session) or "",
        provider_ref=fields.text(session, "id"),
        state=_state(session, intent, paid),
        currency=currency,
        units=units,
        paid_units=paid,
        fee_units=_fee(charge, currency) if paid else None,
        refunded_units=sum(_units(each, "amount") for each in refunds if each.get("status") == "succeeded"),
        disputed_units=running,
        charged_back_units=lost,
        page_url=fields.perhaps(session, "url"),
    )


def _state(session: Json, intent: Json | None, paid: int) -> OrderState:
    if paid:
        return OrderState.PAID
    status, intended = str(session.get("status")), "" if intent is None else str(intent.get("status"))
    if status == "expired":
        return OrderState.EXPIRED
    # A session that was completed can't be paid again: a bank debit that fails afterwards is its end.
    if status == "complete" and intended in {"requires_payment_method", "canceled"}:
        return OrderState.FAILED
    return OrderState.OPEN


def _fee(charge: Json | None, currency: str) -> int | None:
    """None: not known yet, or charged in the currency that Stripe settles in, which is another."""
    balance = None if charge is None else part(charge, "balance_transaction")
    if balance is None or fields.currency(balance) != currency:
        return None
    return _units(balance, "fee")


def _disputed(disputes: Iterable[Json]) -> tuple[int, int]:
    """(what may be taken or is withheld while it runs, what was taken for good)"""
    running = lost = 0
    for each in disputes:
        units = _units(each, "amount")
        status = str(each.get("status"))
        lost += units if status == "lost" else 0
        running += units if status not in _OVER else 0
    return running, lost


def refund_of(row: Json, reference: str) -> Refund:
    return Refund(
        reference=reference,
        provider_ref=fields.text(row, "id"),
        state=REFUNDS.get(str(row.get("status")), RefundState.PENDING),
        currency=fields.currency(row),
        units=_units(row, "amount"),
    )


def line_of(row: Json, payout: Json, reference: str | None, provider_ref: str | None) -> SettlementLine:
    """Of a balance transaction: what it adds to the payout is its `amount` less its `fee`."""
    try:
        settled_at = datetime.fromtimestamp(fields.whole(payout, "arrival_date"), UTC)
    except (OverflowError, ValueError, OSError):
        raise PermanentError("a payout's arrival_date is no time") from None
    return SettlementLine(
        id=fields.text(row, "id"),
        settlement=fields.text(payout, "id"),
        kind=_LINES.get(str(row.get("reporting_category")), LineKind.ADJUSTMENT),
        reference=reference,
        provider_ref=provider_ref,
        currency=fields.currency(row),
        units=_signed(row, "amount"),
        fee_units=_signed(row, "fee"),
        settled_at=settled_at,
    )
