"""RazorpayX as razorpay.com/docs/api/x describes it: composite payouts, their keys, balances, transactions.

What begins with `_` is not told. Whoever asks for an id that isn't known is answered with 400.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.payout.base import Destination, Kind, Refusal
from providers.payout.razorpayx import RazorpayxPayouts
from providers.payout.settings import RazorpayxPayoutSettings
from tests.support.gateways.base import told
from tests.support.payouts.base import EMAIL, HOLDER, PHONE, Double, Json

KEY_ID, KEY_SECRET = "rzp_test_TallyrailPayouts", "RazorpayxDoubleSecret"
ACCOUNT = "7878780080316316"
IMPS_MAX = 500_000_00
BACK = frozenset({"failed", "reversed"})
"""States in which we have the money again."""
REASONS = {
    Refusal.DESTINATION: "bank_account_closed",
    Refusal.FUNDS: "insufficient_funds",
    Refusal.LIMIT: "transaction_limit_exceeded",
    Refusal.PROVIDER: "beneficiary_bank_offline",
}


class RazorpayxDouble(Double):
    name = "razorpayx"
    currency = "iso4217:INR"
    units = 45_000_00
    destinations = (
        Destination(kind=Kind.UPI, number="ada.private@exampleupi", holder=HOLDER),
        Destination(kind=Kind.BANK_IN, number="765432123456789", bank_code="HDFC0000053", holder=HOLDER),
    )
    secrets = (KEY_SECRET, base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode())
    webhook_secret = b"razorpayx_webhook_double"
    key_window = timedelta(days=7)

    def __init__(self) -> None:
        super().__init__()
        self.payouts: dict[str, Json] = {}
        self.transactions: list[Json] = []
        self.keys: dict[str, tuple[bytes, Answer, datetime]] = {}

    def provider(self, *, answer_timeout: float = 10.0) -> RazorpayxPayouts:
        settings = RazorpayxPayoutSettings(
            key_id=SecretStr(KEY_ID),
            key_secret=SecretStr(KEY_SECRET),
            account_number=SecretStr(ACCOUNT),
            base_url=self.url,
            currencies={self.currency: (100, self.units_max)},
        )
        return RazorpayxPayouts(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        digest = hmac.new(self.webhook_secret, body, hashlib.sha256).hexdigest()
        return {"X-Razorpay-Signature": digest, "X-Razorpay-Event-Id": f"evt_{len(self.outbox):06d}_{digest[:8]}"}

    def moves(self, asked: Asked) -> bool:
        return (asked.method, asked.path) == ("POST", "/v1/payouts")

    def fee(self, units: int) -> int:
        """Five rupees, and tax."""
        return 590

    # --- the banks ----------------------------------------------------------------------------------------------------

    def paid_units(self) -> int:
        with self.lock:
            return sum(row["amount"] for row in self.payouts.values() if row["status"] == "processed")

    def pay(self, reference: str) -> None:
        self._end(reference, "processed", "payout_processed")

    def fail(self, reference: str, refusal: Refusal = Refusal.DESTINATION) -> None:
        self._end(reference, "failed", REASONS[refusal])

    def give_back(self, reference: str) -> None:
        self._end(reference, "reversed", "beneficiary_bank_failure")

    def puzzle(self, reference: str) -> None:
        with self.lock:
            self._payout(reference)["status"] = "pondering"

    def _end(self, reference: str, status: str, reason: str) -> None:
        with self.lock:
            row = self._payout(reference)
            over, back = row["status"] in BACK, status in BACK
            row |= {"status": status, "status_details": _details(reason), "utr": None if back else "000000000001"}
            if over and not back:
                self._book(-row["amount"] - row["fees"], _source(row))
            elif back and not over:
                reversal = {"id": f"rvrsl_{len(self.transactions):06d}", "entity": "reversal", "payout_id": row["id"]}
                self._book(row["amount"] + row["fees"], reversal | {"amount": row["amount"], "utr": None})
            body = {
                "entity": "event",
                "account_id": "acc_00000000000001",
                "event": f"payout.{status}",
                "contains": ["payout"],
                "payload": {"payout": {"entity": _shown(row)}},
                "created_at": int(self.now().timestamp()),
            }
            self.emit(f"payout.{status}", reference, json.dumps(body).encode())

    # --- the interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:  # noqa: PLR0911 - one line a path
        if asked.headers.get("Authorization", "").removeprefix("Basic ") != self.secrets[1]:
            return _refused("Authentication failed", status=401)
        url = urlsplit(asked.path)
        query = dict(parse_qsl(url.query))
        match [asked.method, *url.path.removeprefix("/v1/").split("/")]:
            case ["POST", "payouts"]:
                return self._keyed(asked)
            case ["GET", "payouts"]:
                return self._list(query)
            case ["GET", "payouts", ref] if ref in self.payouts:
                return told(self._told(self.payouts[ref]))
            case ["GET", "banking_balances"]:
                return told({"entity": "collection", "count": 2, "items": [_balance("409001396356", 5), self._ours()]})
            case ["GET", "transactions"]:
                return self._statement(query)
        return _refused("The id provided does not exist")

    def _keyed(self, asked: Asked) -> Answer:
        """payout-idempotency/make-request: 4 to 36 characters; the saved answer for the same body."""
        key = asked.headers.get("X-Payout-Idempotency", "")
        if not 4 <= len(key) <= 36:
            return _refused("Idempotency key is missing. Include idempotency header and key in the request.")
        if key in self.keys and self.remembers(self.keys[key][2]):
            body, answer, _ = self.keys[key]
            if body != asked.body:
                return _refused("Different request body sent for the same Idempotency Header.")
            return told(self._told(self.payouts[json.loads(answer.body)["id"]]))  # with its current status
        answer = self._make(json.loads(asked.body))
        if answer.status == 200:
            self.keys[key] = asked.body, answer, self.now()
        return answer

    def _make(self, body: Json) -> Answer:  # noqa: PLR0911 - one line a refusal
        account, contact = body["fund_account"], body["fund_account"]["contact"]
        if (
            body["account_number"] != ACCOUNT
            or body["currency"] != "INR"
            or body["purpose"] not in {"payout", "refund"}
        ):
            return _refused("The account number field is invalid", field="account_number")
        if not 3 <= len(contact["name"]) <= 50 or len(body["narration"]) > 30 or len(body["reference_id"]) > 40:
            return _refused("The name, narration or reference is too long or too short", field="narration")
        details = account[account["account_type"]]
        upi = account["account_type"] == "vpa"
        number = details["address"] if upi else details["account_number"]
        mode = "UPI" if upi else "IMPS" if body["amount"] <= IMPS_MAX else "NEFT"
        if body["mode"] != mode or (not upi and len(details["ifsc"]) != 11):
            return _refused(f"The mode is not supported for {PHONE}", field="mode")
        if body["amount"] > self.units_max:
            return _refused("Amount exceeds the maximum amount allowed", field="amount")
        if number in self.closed:
            field = "fund_account.vpa.address" if upi else "fund_account.bank_account.account_number"
            return _refused(f"The account {number} of {HOLDER} is invalid", field=field)
        if body["amount"] + self.fee(0) > self.balance_units and not body["queue_if_low_balance"]:
            return _refused("Your account does not have enough balance to carry out the payout operation.")
        row = {
            "id": f"pout_{len(self.payouts):014d}",
            "entity": "payout",
            "fund_account_id": "fa_00000000000001",
            "fund_account": {"entity": "fund_account", **account, "contact": {**contact, "email": EMAIL}},
            "amount": body["amount"],
            "currency": "INR",
            "notes": [],
            "fees": self.fee(body["amount"]),
            "tax": 90,
            "status": "processing",
            "utr": None,
            "mode": mode,
            "purpose": body["purpose"],
            "reference_id": body["reference_id"],
            "narration": body["narration"],
            "batch_id": None,
            "status_details": _details("payout_bank_processing"),
            "created_at": int(self.now().timestamp()),
            "fee_type": None,
        }
        self.payouts[str(row["id"])] = row
        self._book(-body["amount"] - self.fee(0), _source(row))
        self.count(body["reference_id"])
        return told(self._told(row))

    def _book(self, added: int, source: Json) -> None:
        self.balance_units += added
        row = {
            "id": f"txn_{len(self.transactions):014d}",
            "entity": "transaction",
            "account_number": ACCOUNT,
            "amount": abs(added),
            "currency": "INR",
            "credit": max(added, 0),
            "debit": max(-added, 0),
            "balance": self.balance_units,
            "source": source,
            "created_at": int(self.now().timestamp()),
        }
        self.transactions.append(row)

    def _list(self, query: Mapping[str, str]) -> Answer:
        rows = [row for row in reversed(self.payouts.values()) if query["account_number"] == ACCOUNT]
        if "reference_id" in query:
            rows = [row for row in rows if row["reference_id"] == query["reference_id"]] if self.found() else []
        return self._page([self._told(row) for row in rows], query)

    def _statement(self, query: Mapping[str, str]) -> Answer:
        begin, end = int(query["from"]), int(query["to"])
        rows = [row for row in reversed(self.transactions) if begin <= row["created_at"] <= end]
        return self._page(rows if query["account_number"] == ACCOUNT else [], query)

    def _page(self, rows: list[Json], query: Mapping[str, str]) -> Answer:
        skip, count = int(query.get("skip", 0)), min(int(query.get("count", 10)), self.page_max)
        items = rows[skip : skip + count]
        return told({"entity": "collection", "count": len(items), "items": items})

    def _ours(self) -> Json:
        return _balance(ACCOUNT, self.balance_units)

    def _payout(self, reference: str) -> Json:
        return next(row for row in self.payouts.values() if row["reference_id"] == reference)

    def _told(self, row: Json) -> Json:
        return _shown(row) | {"amount": self.amount(row["amount"])}


def _shown(row: Json) -> Json:
    return {name: value for name, value in row.items() if not name.startswith("_")}


def _source(row: Json) -> Json:
    return {name: row[name] for name in ("id", "entity", "amount", "fees", "tax", "status", "utr", "mode")}


def _balance(account: str, units: int) -> Json:
    return {
        "entity": "banking_balance",
        "currency": "INR",
        "account_number": account,
        "account_type": "current_account",
        "bank_name": "RBL Bank",
        "bank_code": "RATN",
        "amount": units,
        "available_amount": units,
        "refreshed_at": 1_721_889_110,
    }


def _details(reason: str) -> Json:
    return {"description": f"As told to {HOLDER}, {PHONE}", "source": "beneficiary_bank", "reason": reason}


def _refused(description: str, *, field: str | None = None, status: int = 400) -> Answer:
    error: dict[str, Any] = {
        "code": "BAD_REQUEST_ERROR",
        "description": description,
        "source": "business",
        "step": None,
        "reason": "input_validation_failed" if field else None,
        "metadata": {},
    }
    return told({"error": error | ({"field": field} if field else {})}, status)
