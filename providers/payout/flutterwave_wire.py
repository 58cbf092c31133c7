"""Flutterwave's transfers as ours, and what its words mean. flutterwave.py says where they come from."""

import re
from datetime import UTC, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from providers.fiat import decimals, fields
from providers.payout.base import PayoutRequest, Refusal, Remittance, RemittanceState, StatementKind, StatementLine

STATES = {"SUCCESSFUL": RemittanceState.PAID, "FAILED": RemittanceState.FAILED}
"""NEW and PENDING are under way, and so is whatever we have never seen."""
NARRATION_MAX = 100

_MEANINGS: tuple[tuple[Refusal, re.Pattern[str]], ...] = (
    (Refusal.PROVIDER, re.compile(r"whitelist|restricted|administrator|bnk001|fatal error|unavailable|not enabled")),
    (Refusal.FUNDS, re.compile(r"insufficient|ins001|not enough|low balance")),
    (Refusal.LIMIT, re.compile(r"at once|limit|minimum|maximum|exceed|below|above")),
    (
        Refusal.DESTINATION,
        re.compile(r"inv001|account resolve|account number|invalid account|dormant|closed|frozen|blocked|user details"),
    ),
    (Refusal.DESTINATION, re.compile(r"(invalid|unknown|unsupported) (account_)?bank|bank code")),
    (Refusal.PROVIDER, re.compile(r"try again|timed? ?out|down|offline|could not be completed")),
    (Refusal.REQUEST, re.compile(r"is required|invalid|must be")),
)
"""In this order: words of Flutterwave, of its samples and as others report them. It has no codes."""
_TAKEN = re.compile(r"already exist|duplicate|dup001|already (been )?used|must be unique")
_VAGUE = re.compile(r"try again|timed? ?out|could not be completed|error occur|fatal error|unavailable|processing")
_NO_ACCOUNT = re.compile(r"account number is invalid|invalid account|account does not exist|account not found|inv001")


def body(request: PayoutRequest) -> dict[str, object]:
    """Of POST /v3/transfers: always the same of the same request."""
    destination = request.destination
    made: dict[str, object] = {
        "account_bank": destination.bank_code,
        "account_number": destination.number,
        "amount": decimals.amount(request.units, request.currency),
        "currency": fields.code(request.currency),
        "debit_currency": fields.code(request.currency),
        "narration": request.narration[:NARRATION_MAX],
        "reference": request.reference,
    }
    if destination.holder is not None:
        made["beneficiary_name"] = destination.holder
    return made


def remittance(row: Any) -> Remittance:
    """Raises UnreadableError."""
    currency = decimals.currency_of(decimals.field(row, "currency"))
    state = STATES.get(decimals.text(row, "status").upper(), RemittanceState.PENDING)
    failed = state is RemittanceState.FAILED
    words = str(decimals.maybe(row, "complete_message") or "")
    fee = decimals.maybe(row, "fee")
    return Remittance(
        reference=decimals.text(row, "reference"),
        provider_ref=decimals.text(row, "id"),
        state=state,
        currency=currency,
        units=decimals.price(decimals.field(row, "amount"), currency),
        # Whether the fee of what failed is given back is nowhere said.
        fee_units=None if fee is None or failed else fee_units(fee, currency),
        refusal=refusal(words, Refusal.PROVIDER) if failed else None,
        why=phrase(words) if failed else None,
    )


def refusal(words: str, unknown: Refusal) -> Refusal:
    """`unknown`: what words mean that we have never seen."""
    return next((each for each, pattern in _MEANINGS if pattern.search(words.lower())), unknown)


def phrase(words: str) -> str:
    """The part of their words that we know: the rest may name the beneficiary."""
    matches = (pattern.search(words.lower()) for _, pattern in _MEANINGS)
    return next((match[0] for match in matches if match), "words that we don't know")


def taken(words: str) -> bool:
    """Whether a refusal says that the reference is known."""
    return _TAKEN.search(words.lower()) is not None


def vague(words: str) -> bool:
    """Whether a refusal speaks of trouble that may have come after the transfer was made."""
    return _VAGUE.search(words.lower()) is not None


def no_account(words: str) -> bool:
    """Whether a refused enquiry says that there is no such account. Others only failed."""
    return _NO_ACCOUNT.search(words.lower()) is not None


def fee_units(amount: object, currency: str) -> int:
    """Their table has fees of half a kobo (26.875): such are rounded up. Raises UnreadableError."""
    found = _rounded(amount, currency, ROUND_CEILING)
    if found < 0:
        raise decimals.UnreadableError("the provider's answer has a negative fee")
    return found


def balance_units(amount: object, currency: str) -> int:
    """Halves of a kobo can't be sent, and of a balance below zero nothing can. Raises UnreadableError."""
    return max(_rounded(amount, currency, ROUND_FLOOR), 0)


def _rounded(amount: object, currency: str, rounding: str) -> int:
    written = str(amount) if isinstance(amount, int) and not isinstance(amount, bool) else amount
    try:
        number = Decimal(written) if isinstance(written, str) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) > fields.UNITS_MAX:
        raise decimals.UnreadableError("the provider's answer has no amount where one belongs")
    return int(number.scaleb(fields.scale(currency)).to_integral_value(rounding))


def line(row: Any, booked_at: datetime) -> StatementLine:
    """Of a transfer that was paid."""
    found = remittance(row)
    fee = found.fee_units or 0
    return StatementLine(
        id=found.provider_ref,
        kind=StatementKind.PAYOUT,
        reference=found.reference,
        provider_ref=found.provider_ref,
        currency=found.currency,
        units=-(found.units + fee),
        fee_units=fee,
        booked_at=booked_at,
    )


def day(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()
