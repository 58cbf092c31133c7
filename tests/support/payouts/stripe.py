"""Stripe's transfers, balance and balance transactions as docs.stripe.com/api describes them, with fields of SDK 16.1.

What begins with `_` is not told.
"""

import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.payout.base import Destination, Kind
from providers.payout.settings import StripePayoutSettings
from providers.payout.stripe import StripePayouts
from tests.support.gateways.base import told
from tests.support.gateways.stripe import _nested
from tests.support.payouts.base import EMAIL, HOLDER, Double, Json

KEY = "sk_test_51TallyrailPayoutDouble"
ACCOUNT = "acct_1PrivateAccountAda"


class StripeDouble(Double):
    name = "stripe"
    currency = "iso4217:USD"
    units = 125_00
    destinations = (Destination(kind=Kind.STRIPE, number=ACCOUNT),)
    secrets = (KEY,)
    webhook_secret = b"whsec_tallyrail_payouts"
    key_window = timedelta(hours=24)
    fails = False

    def __init__(self) -> None:
        super().__init__()
        self.transfers: dict[str, Json] = {}
        self.balance_transactions: dict[str, Json] = {}
        self.keys: dict[str, tuple[bytes, Answer, datetime]] = {}
        self.jammed = False
        """An incident: what is asked for now is answered with 500, which the key keeps, and made by `mend`."""
        self._left: list[Json] = []
        self._ids = count(1)

    def provider(self, *, answer_timeout: float = 10.0) -> StripePayouts:
        settings = StripePayoutSettings(
            secret_key=SecretStr(KEY), base_url=self.url, currencies={self.currency: (1, self.units_max)}
        )
        return StripePayouts(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        at = int(time.time())
        digest = hmac.new(self.webhook_secret, b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={at},v1={digest}"}

    def moves(self, asked: Asked) -> bool:
        return (asked.method, asked.path) == ("POST", "/v1/transfers")

    # --- what becomes of them -----------------------------------------------------------------------------------------

    def paid_units(self) -> int:
        with self.lock:
            return sum(row["amount"] - row["amount_reversed"] for row in self.transfers.values())

    def pay(self, reference: str) -> None:
        """It was when it was made."""

    def give_back(self, reference: str) -> None:
        self.reverse(reference, self._transfer(reference)["amount"])

    def reverse(self, reference: str, units: int) -> None:
        """Somebody does so in the dashboard, so far."""
        with self.lock:
            row = self._transfer(reference)
            row["amount_reversed"] += units
            row["reversed"] = row["amount_reversed"] == row["amount"]
            reversal = {"id": self._id("trr"), "object": "transfer_reversal", "transfer": row["id"], "metadata": {}}
            self._book(units, "transfer_refund", reversal)
            self._event("transfer.reversed", row)

    def mend(self) -> None:
        """/error-low-level: they look through what an incident left, and finish it."""
        with self.lock:
            self.jammed = False
            for body in self._left:
                self._make(body)
            self._left.clear()

    def puzzle(self, reference: str) -> None:
        raise NotImplementedError

    # --- the interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:  # noqa: PLR0911 - one line a path
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return _refused("api_key_invalid", f"Invalid API Key provided: {KEY[:8]}", status=401)
        url = urlsplit(asked.path)
        query = _nested(url.query)
        match [asked.method, *url.path.removeprefix("/v1/").split("/")]:
            case ["POST", "transfers"]:
                return self._keyed(asked)
            case ["GET", "transfers"]:
                rows = [row for row in self.transfers.values() if row["transfer_group"] == query["transfer_group"]]
                return self._page([self._shown(row) for row in rows] if self.found() else [], query)
            case ["GET", "transfers", ref] if ref in self.transfers:
                return told(self._shown(self.transfers[ref]))
            case ["GET", "balance"]:
                rows = [{"amount": 5, "currency": "eur"}, {"amount": self.balance_units, "currency": "usd"}]
                return told({"object": "balance", "available": rows, "livemode": False, "pending": []})
            case ["GET", "balance_transactions"]:
                within = range(int(query["created"]["gte"]), int(query["created"]["lt"]))
                rows = [row for row in self.balance_transactions.values() if row["created"] in within]
                return self._page(rows, query)
        return _refused("resource_missing", f"No such transfer for {EMAIL}", param="id", status=404)

    def _keyed(self, asked: Asked) -> Answer:
        """/api/idempotent_requests: the first answer again, other parameters are an error."""
        key = asked.headers.get("Idempotency-Key", "")
        if key in self.keys and self.remembers(self.keys[key][2]):
            body, answer, _ = self.keys[key]
            if body != asked.body:
                message = "Keys for idempotent requests can only be used with the same parameters"
                return _refused(None, message, kind="idempotency_error")
            return answer
        if self.jammed:
            self._left.append(_nested(asked.body.decode()))
            answer = _refused(None, "An error occurred", kind="api_error", status=500)
        else:
            answer = self._make(_nested(asked.body.decode()))
        self.keys[key] = asked.body, answer, self.now()
        return answer

    def _make(self, body: Json) -> Answer:
        amount = int(body["amount"])
        if body["destination"] in self.closed or body["destination"] not in self.holders:
            message = f"No such destination: '{body['destination']}' of {HOLDER}"
            return _refused("resource_missing", message, param="destination")
        if amount > self.units_max:
            return _refused("amount_too_large", "The amount is too large", param="amount")
        if amount > self.balance_units:
            return _refused("balance_insufficient", "You have insufficient available funds in your Stripe account")
        row: Json = {
            "id": self._id("tr"),
            "object": "transfer",
            "amount": amount,
            "amount_reversed": 0,
            "created": int(self.now().timestamp()),
            "currency": body["currency"],
            "description": body["description"],
            "destination": body["destination"],
            "destination_payment": self._id("py"),
            "livemode": False,
            "metadata": body["metadata"],
            "reversed": False,
            "source_transaction": None,
            "source_type": "card",
            "transfer_group": body["transfer_group"],
        }
        self.transfers[row["id"]] = row
        row["balance_transaction"] = self._book(-amount, "transfer", row)
        self.count(body["transfer_group"])
        self._event("transfer.created", row)
        return told(self._shown(row))

    def _book(self, added: int, kind: str, source: Json) -> Json:
        self.balance_units += added
        row: Json = {
            "id": self._id("txn"),
            "object": "balance_transaction",
            "amount": added,
            "created": int(self.now().timestamp()),
            "currency": "usd",
            "fee": 0,
            "net": added,
            "reporting_category": kind,
            "source": {name: value for name, value in source.items() if name != "balance_transaction"},
            "status": "available",
            "type": kind,
        }
        self.balance_transactions[row["id"]] = row
        return row

    def _page(self, rows: list[Json], query: Json) -> Answer:
        """Newest first, after a row that is named by its id."""
        newest = rows[::-1]
        if "starting_after" in query:
            newest = newest[[row["id"] for row in newest].index(query["starting_after"]) + 1 :]
        size = min(int(query["limit"]), self.page_max)
        return told({"object": "list", "data": newest[:size], "has_more": len(newest) > size, "url": "/v1/transfers"})

    def _event(self, kind: str, row: Json) -> None:
        shown = {**row, "balance_transaction": row["balance_transaction"]["id"]}
        body = {"id": self._id("evt"), "object": "event", "type": kind, "data": {"object": shown}}
        self.emit(kind, row["transfer_group"], json.dumps(body).encode())

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{next(self._ids):014d}"

    def _transfer(self, reference: str) -> Json:
        return next(row for row in self.transfers.values() if row["transfer_group"] == reference)

    def _shown(self, row: Json) -> Json:
        balance = {name: value for name, value in row["balance_transaction"].items() if name != "source"}
        return row | {"amount": self.amount(row["amount"]), "balance_transaction": balance}


def _refused(
    code: str | None,
    message: str,
    *,
    param: str | None = None,
    kind: str = "invalid_request_error",
    status: int = 400,
) -> Answer:
    error: dict[str, Any] = {"type": kind, "code": code, "message": message, "param": param}
    return told({"error": {name: value for name, value in error.items() if value is not None}}, status)
