"""Flutterwave's requests and answers, written and read. flutterwave.py says where they come from."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from providers.fiat import decimals, fields
from providers.fiat.base import Method, Order, OrderRequest, OrderState, Refund, RefundRequest, RefundState

SESSION_MINUTES_MAX = 24 * 60
UNITS = re.compile("[0-9]{1,18}")
REFUNDED = {"completed-bank-transfer", "completed-momo", "completed-mpgs", "completed-offline", "completed-preauth"}
"""Plain `completed` only says that it was begun."""
REFUND_FAILED = {"failed", "cancelled"}
DISBURSED = {"successful", "success", "completed"}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One of their transactions."""

    id: str
    flw_ref: str
    status: str
    currency: str
    units: int
    fee_units: int | None
    asked: int | None
    """What was asked for, and until when it may be paid, as we told them: None if they don't repeat it."""
    expires_at: datetime | None


def page_body(request: OrderRequest) -> dict[str, object]:
    minutes = int((request.expires_at - datetime.now(UTC)).total_seconds() // 60)
    body: dict[str, object] = {
        "tx_ref": request.reference,
        "amount": decimals.amount(request.units, request.currency),
        "currency": fields.code(request.currency),
        "customer": {} if request.email is None else {"email": request.email},
        "customizations": {"description": request.description},
        "meta": _meta(request),
        "session_duration": min(max(minutes, 1), SESSION_MINUTES_MAX),
    }
    if request.return_url is not None:
        body["redirect_url"] = request.return_url
    if request.method is Method.CARD:
        body["payment_options"] = "card"
    return body


def charge_body(request: OrderRequest) -> dict[str, object]:
    body: dict[str, object] = {
        "tx_ref": request.reference,
        "amount": decimals.amount(request.units, request.currency),
        "currency": fields.code(request.currency),
        "narration": request.description,
        "is_permanent": False,
        "meta": _meta(request),
    }
    if request.email is not None:
        body["email"] = request.email
    return body


def _meta(request: OrderRequest) -> dict[str, object]:
    """Their answers repeat it. Text, so that no figure of ours is written in another way than ours."""
    expires_at = request.expires_at.astimezone(UTC).isoformat(timespec="seconds")
    return {"asked_units": str(request.units), "asked_currency": request.currency, "expires_at": expires_at}


def made(request: OrderRequest, told: Any) -> Order:
    """Raises UnreadableError: also where what the payer is told to transfer isn't what we asked for."""
    if decimals.field(told, "status") != "success":
        raise decimals.UnreadableError("the provider's answer is no success and no refusal")
    page_url, instructions = None, dict[str, str]()
    if request.method is Method.BANK_TRANSFER:
        account = decimals.field(told, "meta", "authorization")
        asked = decimals.units(decimals.field(account, "transfer_amount"), request.currency)
        if asked != request.units:
            raise decimals.UnreadableError("the provider asks the payer for another amount: see docs/gateways.md")
        instructions = {
            "bank": decimals.text(account, "transfer_bank"),
            "account_number": decimals.text(account, "transfer_account"),
            "note": decimals.text(account, "transfer_note"),
        }
        if expires := decimals.maybe(account, "account_expiration"):
            instructions["expires_at"] = _when(expires)
    else:
        page_url = decimals.text(told, "data", "link")
    return Order(
        reference=request.reference,
        provider_ref=request.reference,
        state=OrderState.OPEN,
        currency=request.currency,
        units=request.units,
        page_url=page_url,
        instructions=instructions,
    )


def attempt_of(row: Any) -> Attempt:
    """Of verify_by_reference or a list. `amount_settled` is what reaches us: the rest is fees and taxes on them."""
    currency = decimals.currency_of(decimals.field(row, "currency"))
    units = decimals.price(decimals.field(row, "amount"), currency)
    settled = decimals.maybe(row, "amount_settled")
    meta = _object(decimals.maybe(row, "meta"))
    asked, expires = decimals.maybe(meta, "asked_units"), decimals.maybe(meta, "expires_at")
    known = decimals.maybe(meta, "asked_currency") == currency and UNITS.fullmatch(str(asked)) is not None
    return Attempt(
        id=decimals.text(row, "id"),
        flw_ref=decimals.text(row, "flw_ref"),
        status=decimals.text(row, "status"),
        currency=currency,
        units=units,
        fee_units=None if settled is None else _fee(units, decimals.price(settled, currency, "amount_settled")),
        asked=int(asked) if known else None,
        expires_at=None if expires is None else decimals.moment(expires),
    )


def _fee(units: int, settled: int) -> int | None:
    """None where more reaches us than was asked for: then the payer bore it, and it is none of ours."""
    return units - settled if settled <= units else None


def refund_of(request: RefundRequest, row: Any) -> Refund:
    return Refund(
        reference=request.reference,
        provider_ref=decimals.text(row, "id"),
        state=refund_state(row),
        currency=request.currency,
        units=refunded(row, request.currency),
    )


def refunded(row: Any, currency: str) -> int:
    return decimals.price(first(row, "amount_refunded", "AmountRefunded"), currency, "amount_refunded")


def refund_state(row: Any) -> RefundState:
    """`meta` is an object, or the text of one. A status that we have never seen is one that goes on."""
    status = decimals.text(row, "status").lower()
    disbursed = str(decimals.maybe(_object(decimals.maybe(row, "meta")), "disburse_status")).lower()
    if status in REFUND_FAILED or disbursed == "failed":
        return RefundState.FAILED
    return RefundState.DONE if status in REFUNDED or disbursed in DISBURSED else RefundState.PENDING


def transaction_of(row: Any) -> str:
    return str(first(row, "transaction_id", "tx_id", "TransactionId"))


def first(row: Any, *names: str) -> Any:
    found = next((row[name] for name in names if decimals.maybe(row, name) is not None), None)
    if found is None:
        raise decimals.UnreadableError(f"the provider's answer has no {names[0]}")
    return found


def _object(value: Any) -> Any:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return None


def ids(value: Any) -> list[str]:
    """A list of numbers, or the text of one."""
    found = _object(value)
    return [str(each) for each in found] if isinstance(found, list) else []


def _when(value: Any) -> str:
    """Milliseconds since 1970 as a time; text as it is."""
    return datetime.fromtimestamp(value // 1_000, UTC).isoformat() if isinstance(value, int) else str(value)


def day(moment: datetime) -> str:
    day: date = moment.astimezone(UTC).date()
    return day.isoformat()


def why(refusal: Mapping[str, Any]) -> Sequence[object]:
    return refusal.get("code"), refusal.get("message")
