"""RazorpayX's payouts and transactions as ours, and what its reasons mean. razorpayx.py says where they come from.

Amounts are in paise.
"""

import re
from datetime import UTC, datetime
from typing import Any

from core.errors import PermanentError
from core.http import RefusedError
from providers.fiat import fields
from providers.fiat.fields import Json
from providers.payout import asking
from providers.payout.base import (
    Kind,
    PayoutRequest,
    Refusal,
    Remittance,
    RemittanceState,
    StatementKind,
    StatementLine,
)

NARRATION_MAX = 30
NAME_MIN, NAME_MAX = 3, 50
NOBODY = "Beneficiary"
"""A contact needs a name, and its bank doesn't look at it."""

STATES = {
    "processed": RemittanceState.PAID,
    "reversed": RemittanceState.RETURNED,
    "failed": RemittanceState.FAILED,
    "rejected": RemittanceState.FAILED,
    "cancelled": RemittanceState.FAILED,
}
"""queued, pending, scheduled and processing are under way, and so is whatever we have never seen."""
_BY_PEOPLE = frozenset({"rejected", "cancelled"})
"""Somebody of ours decided so in their dashboard: nothing to try again by itself."""

REASONS = {
    **dict.fromkeys(
        [
            "bank_account_closed", "bank_account_frozen", "bank_account_invalid", "beneficiary_account_dormant",
            "beneficiary_account_invalid", "beneficiary_bank_rejected", "beneficiary_vpa_invalid", "imps_not_allowed",
            "invalid_beneficiary", "invalid_ifsc_code",
        ],
        Refusal.DESTINATION,
    ),
    **dict.fromkeys(["insufficient_funds", "low_balance"], Refusal.FUNDS),
    **dict.fromkeys(
        ["transaction_limit_exceeded", "amount_limit_exhausted", "amount_limit_exhausted_neft"], Refusal.LIMIT
    ),
    **dict.fromkeys(
        [
            "beneficiary_bank_down", "beneficiary_bank_failure", "beneficiary_bank_offline",
            "beneficiary_bank_technical_error", "beneficiary_psp_offline", "gateway_down", "gateway_technical_error",
            "gateway_timeout", "npci_beneficiary_timeout", "server_error", "server_error_temporary",
        ],
        Refusal.PROVIDER,
    ),
}  # fmt: skip
"""`status_details.reason` of failed and reversed payouts."""

_WORDS: tuple[tuple[Refusal, re.Pattern[str]], ...] = (
    (Refusal.PROVIDER, re.compile(r"from this ip|not enabled|not activated")),
    (Refusal.FUNDS, re.compile(r"enough balance|insufficient|low balance")),
    (Refusal.LIMIT, re.compile(r"amount (must|should|exceeds?|cannot|is)|at ?least|maximum|minimum|limit")),
    (Refusal.DESTINATION, re.compile(r"ifsc|vpa|upi id|beneficiary|fund account|bank account")),
)
"""Of refused requests, whose reason mostly is `input_validation_failed`. In this order."""
_TAKEN = "different request body"
_TROUBLE = "trouble completing"
_THEIRS = frozenset({"SERVER_ERROR", "GATEWAY_ERROR"})


def body(request: PayoutRequest, account: str, imps_max: int) -> dict[str, Any]:
    """Of POST /v1/payouts in its composite form: always the same of the same request."""
    destination = request.destination
    name = (destination.holder or "")[:NAME_MAX]
    name = name if len(name) >= NAME_MIN else NOBODY
    if destination.kind is Kind.UPI:
        mode, kind, details = "UPI", "vpa", {"address": destination.number}
    else:
        mode, kind = "IMPS" if request.units <= imps_max else "NEFT", "bank_account"
        details = {"name": name, "ifsc": destination.bank_code or "", "account_number": destination.number}
    return {
        "account_number": account,
        "amount": request.units,
        "currency": fields.code(request.currency),
        "mode": mode,
        "purpose": request.purpose,
        "fund_account": {"account_type": kind, kind: details, "contact": {"name": name, "type": "customer"}},
        # Queued for want of money it would wait there for months, and we wait for it ourselves.
        "queue_if_low_balance": False,
        "reference_id": request.reference,
        "narration": request.narration[:NARRATION_MAX],
    }


def remittance(row: Json) -> Remittance:
    """Raises PermanentError."""
    status = fields.text(row, "status")
    state = STATES.get(status, RemittanceState.PENDING)
    over = state in {RemittanceState.FAILED, RemittanceState.RETURNED}
    reason = _reason(row) if over else None
    fee = None if row.get("fees") is None else asking.units(row, "fees")
    return Remittance(
        reference=fields.text(row, "reference_id"),
        provider_ref=fields.text(row, "id"),
        state=state,
        currency=fields.currency(row),
        units=asking.units(row, "amount"),
        # A reversal credits the amount with its fees.
        fee_units=0 if state is RemittanceState.RETURNED else fee,
        refusal=_refusal(status, reason) if over else None,
        why=(reason or status) if over else None,
    )


def _reason(row: Json) -> str | None:
    """Newer answers have `status_details`, older ones `error`."""
    for name in ("status_details", "error"):
        details = row.get(name)
        if isinstance(details, dict) and asking.code(details.get("reason")) is not None:
            return asking.code(details["reason"])
    return None


def _refusal(status: str, reason: str | None) -> Refusal:
    return Refusal.REQUEST if status in _BY_PEOPLE else REASONS.get(reason or "", Refusal.PROVIDER)


def error(refused: RefusedError) -> Json:
    said = fields.error(refused).get("error")
    return said if isinstance(said, dict) else {}


def taken(said: Json) -> bool:
    """Whether a refusal says that the key was used, with another body."""
    return _TAKEN in _description(said)


def vague(said: Json) -> bool:
    """Whether it is trouble of theirs, which by errors/x is to be repeated under the same key."""
    return said.get("code") in _THEIRS or _TROUBLE in _description(said)


def refusal(said: Json) -> Refusal:
    """Of a request that was refused. What is wrong with part of the fund account is so with the destination."""
    known = REASONS.get(str(said.get("reason")))
    if known is not None:
        return known
    if str(said.get("field")).startswith("fund_account"):
        return Refusal.DESTINATION
    words = _description(said)
    return next((each for each, pattern in _WORDS if pattern.search(words)), Refusal.REQUEST)


def _description(said: Json) -> str:
    return str(said.get("description") or "").lower()


def line(row: Json) -> StatementLine:
    """Raises PermanentError. Of a payout and a reversal the fee is what the line has more than they have."""
    source = row.get("source")
    about: Json = source if isinstance(source, dict) else {}
    entity = str(about.get("entity"))
    added = asking.units(row, "credit") - asking.units(row, "debit")
    ours = entity in {"payout", "reversal"}
    moved = asking.units(about, "amount") if ours and about.get("amount") is not None else abs(added)
    kind = StatementKind.OTHER if not ours else StatementKind.PAYOUT if added < 0 else StatementKind.RETURN
    return StatementLine(
        id=fields.text(row, "id"),
        kind=kind,
        reference=fields.perhaps(about, "reference_id") if ours else None,
        provider_ref=fields.perhaps(about, "payout_id" if entity == "reversal" else "id") if ours else None,
        currency=fields.currency(row),
        units=added,
        fee_units=-added - moved if added < 0 else moved - added,
        booked_at=booked_at(row),
    )


def booked_at(row: Json) -> datetime:
    try:
        return datetime.fromtimestamp(fields.whole(row, "created_at"), UTC)
    except (OverflowError, ValueError, OSError):
        raise PermanentError("created_at is no time") from None
