"""Flutterwave's transfers, API v3, as what providers/payout/flutterwave.py names describes them."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.payout.base import Refusal
from providers.payout.flutterwave import FlutterwavePayouts
from providers.payout.settings import FlutterwavePayoutSettings
from tests.support.gateways.decimal_double import answer, major, minor, read, written
from tests.support.payouts.base import HOLDER, NUBAN, Double, Json

KEY = "FLWSECK_TEST-TallyrailPayoutDouble-X"
BANKS = {"044": "Access Bank", "058": "GTBank", "999992": "OPay"}
FAILURES = {
    Refusal.DESTINATION: f"DISBURSE FAILED: Invalid Account {NUBAN.number} of {HOLDER}",
    Refusal.FUNDS: "DISBURSE FAILED: Insufficient funds in customer wallet",
    Refusal.LIMIT: "DISBURSE FAILED: You can only spend NGN 100.00 at once",
    Refusal.PROVIDER: "DISBURSE FAILED: A fatal error occured while proccesing your request.",
    Refusal.REQUEST: "beneficiary_name is required",
}


class FlutterwaveDouble(Double):
    name = "flutterwave"
    currency = "iso4217:NGN"
    destinations = (NUBAN,)
    secrets = (KEY,)
    webhook_secret = b"tallyrail-payout-hash"
    key_window = timedelta(days=7)  # "unique", and no page says for how long: what the adapter relies on
    tells_returns = False

    def __init__(self) -> None:
        super().__init__()
        self.transfers: list[Json] = []
        self._ids = count(396_432)

    def provider(self, *, answer_timeout: float = 10.0) -> FlutterwavePayouts:
        settings = FlutterwavePayoutSettings(
            secret_key=SecretStr(KEY), base_url=self.url, currencies={self.currency: (100_00, self.units_max)}
        )
        return FlutterwavePayouts(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        return {"verif-hash": self.webhook_secret.decode()}

    def moves(self, asked: Asked) -> bool:
        return (asked.method, asked.path) == ("POST", "/v3/transfers")

    def fee(self, units: int) -> int:
        """Their table's 26.875, which is half a kobo more than 26.87."""
        return 2_688

    # --- the banks ----------------------------------------------------------------------------------------------------

    def paid_units(self) -> int:
        with self.lock:
            return sum(minor(row["amount"], self.currency) for row in self.transfers if row["status"] == "SUCCESSFUL")

    def pay(self, reference: str) -> None:
        self._end(reference, "SUCCESSFUL", "Transaction was successful")

    def fail(self, reference: str, refusal: Refusal = Refusal.DESTINATION) -> None:
        self._end(reference, "FAILED", FAILURES[refusal])

    def give_back(self, reference: str) -> None:
        """Nothing but its status tells that it was paid before."""
        self.fail(reference, Refusal.PROVIDER)

    def puzzle(self, reference: str) -> None:
        with self.lock:
            self._transfer(reference)["status"] = "PONDERING"

    def _end(self, reference: str, status: str, words: str) -> None:
        with self.lock:
            row = self._transfer(reference)
            if (status == "FAILED") != (row["status"] == "FAILED"):
                taken = minor(row["amount"], self.currency) + self.fee(0)
                self.balance_units += taken if status == "FAILED" else -taken
            row |= {"status": status, "complete_message": words}
            told = {**self._shown(row), "fullname": row["full_name"]}
            body = {"event": "transfer.completed", "event.type": "Transfer", "data": told}
            self.emit("transfer.completed", reference, written(body))

    # --- the interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:  # noqa: PLR0911 - one line a path
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return _refused("Invalid authorization key", 401)
        url = urlsplit(asked.path)
        query = dict(parse_qsl(url.query))
        match [asked.method, *url.path.removeprefix("/v3/").split("/")]:
            case ["POST", "transfers"]:
                return self._make(read(asked.body))
            case ["GET", "transfers"]:
                return self._list(query)
            case ["GET", "transfers", number]:
                row = next((row for row in self.transfers if str(row["id"]) == number), None)
                return _refused("Transfer not found", 404) if row is None else _told(self._shown(row))
            case ["GET", "balances", code] if f"iso4217:{code}" == self.currency:
                balance = major(self.balance_units, self.currency)
                return _told({"currency": code, "available_balance": balance, "ledger_balance": balance})
            case ["GET", "banks", "NG"]:
                rows = enumerate(BANKS.items(), start=1)
                return _told([{"id": number, "code": code, "name": name} for number, (code, name) in rows])
            case ["POST", "accounts", "resolve"]:
                return self._resolve(json.loads(asked.body))
        return _refused("not found", 404)

    def _make(self, body: Json) -> Answer:
        """As documented: account_bank, account_number, amount, currency, and a reference that is taken once."""
        known = [row for row in self.transfers if row["reference"] == body["reference"]]
        if any(self.remembers(row["_at"]) for row in known):
            return _refused("Payout with this ref already exists")
        units = minor(body["amount"], self.currency)
        if body["currency"] != "NGN" or body["debit_currency"] != "NGN" or body["account_bank"] not in BANKS:
            return _refused("account_bank is invalid")
        if units > self.units_max:
            return _refused(f"You can only spend NGN {major(self.units_max, self.currency)} at once")
        if body["account_number"] in self.closed or len(body["account_number"]) != 10:
            return _refused(f"Sorry, account number {body['account_number']} of {HOLDER} is invalid")
        if units + self.fee(units) > self.balance_units:
            return _refused("Insufficient balance in your wallet to complete this transfer")
        row = {
            "id": next(self._ids),
            "account_number": body["account_number"],
            "bank_code": body["account_bank"],
            "full_name": self.holders.get(body["account_number"], "N/A"),
            "created_at": f"{self.now():%Y-%m-%dT%H:%M:%S.000Z}",
            "currency": "NGN",
            "debit_currency": "NGN",
            "amount": body["amount"],
            "fee": 26.875,
            "status": "NEW",
            "reference": body["reference"],
            "meta": None,
            "narration": body["narration"],
            "complete_message": "",
            "requires_approval": 0,
            "is_approved": 1,
            "bank_name": BANKS[body["account_bank"]],
            "_at": self.now(),
        }
        self.transfers.append(row)
        self.balance_units -= units + self.fee(units)
        self.count(body["reference"])
        return _told(self._shown(row), message="Transfer Queued Successfully")

    def _list(self, query: Mapping[str, str]) -> Answer:
        """Newest first, ten a page."""
        rows = [row for row in reversed(self.transfers) if query.get("reference") in {None, row["reference"]}]
        if "reference" in query and not self.found():
            rows = []
        if "from" in query:
            days = [datetime.fromisoformat(query[name]).date() for name in ("from", "to")]
            rows = [row for row in rows if days[0] <= row["_at"].date() <= days[1]]
        size = min(self.page_max, 10)
        page = int(query.get("page", 1))
        pages = -(-len(rows) // size)
        told = [self._shown(row) for row in rows[(page - 1) * size : page * size]]
        info = {"total": len(rows), "current_page": page, "total_pages": pages}
        return answer({"status": "success", "message": "Transfers fetched", "meta": {"page_info": info}, "data": told})

    def _resolve(self, body: Json) -> Answer:
        number = body["account_number"]
        if number in self.closed or number not in self.holders or body["account_bank"] not in BANKS:
            return _refused("Sorry, that account number is invalid, please check and try again")
        told = {"account_number": number, "account_name": self.holders[number]}
        return _told(told, message="Account details fetched")

    def _transfer(self, reference: str) -> Json:
        return next(row for row in self.transfers if row["reference"] == reference)

    def _shown(self, row: Json) -> Json:
        shown = {name: value for name, value in row.items() if not name.startswith("_")}
        return shown | {"amount": self.amount(row["amount"])}


def _told(data: Any, *, message: str = "") -> Answer:
    return answer({"status": "success", "message": message, "data": data})


def _refused(message: str, status: int = 400) -> Answer:
    return answer({"status": "error", "message": message, "data": None}, status)
