"""Flutterwave's API v3 as the pages named in providers/fiat/flutterwave.py and the samples of Node-v3 describe it."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.fiat.base import Method, OrderRequest
from providers.fiat.flutterwave import FlutterwaveGateway
from providers.fiat.settings import FlutterwaveSettings
from tests.support.gateways.base import CARD_LAST4, PAYER_EMAIL, PAYER_NAME, PAYER_PHONE
from tests.support.gateways.decimal_double import DecimalDouble, Json, answer, major, minor, read

KEY = "FLWSECK_TEST-TallyrailDouble-X"
BY_TRANSFER = "bank_transfer"
REFUNDED = "completed-mpgs"
UNDER_WAY = "completed"
LEAST = 100


class FlutterwaveDouble(DecimalDouble):
    name = "flutterwave"
    currency = "iso4217:NGN"
    other_currency = "iso4217:USD"
    units = 125_000_00
    secrets = (KEY,)
    webhook_secret = b"tallyrail-double-hash"
    refunds_fail = True
    pays_twice = True

    def __init__(self) -> None:
        super().__init__()
        self.links: dict[str, Json] = {}
        self.transactions: list[Json] = []
        self.refunds: list[Json] = []
        self.chargebacks: list[Json] = []
        self.settled: list[Json] = []
        self._ids = count(288_200_108)

    def order(self, reference: str, **changes: Any) -> OrderRequest:
        """By transfer where that is: of an order that waits on a page there is no transaction before somebody tries."""
        by_transfer = changes.get("currency", self.currency) == self.currency
        return super().order(reference, **{"method": Method.BANK_TRANSFER if by_transfer else Method.ANY, **changes})

    def gateway(self, *, answer_timeout: float = 10.0) -> FlutterwaveGateway:
        settings = FlutterwaveSettings(
            secret_key=SecretStr(KEY),
            base_url=self.url,
            currencies=dict.fromkeys((self.currency, self.other_currency), (10000, 99999999999)),
        )
        return FlutterwaveGateway(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        return {"verif-hash": self.webhook_secret.decode()}

    # --- the payer and his bank ---------------------------------------------------------------------------------------

    def pay(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        with self.lock:
            link = self.links[reference]
            currency = currency or link["currency"]
            paid = link["units"] if units is None else units
            row = self._pending(reference) or self._transaction(reference, paid, currency)
            row |= {
                "amount": major(paid, currency),
                "charged_amount": major(paid, currency),
                "currency": currency.partition(":")[2],
                "app_fee": major(self.fee(paid), currency),
                "amount_settled": major(paid - self.fee(paid), currency),
                "processor_response": "Approved by Financial Institution",
                "status": "successful",
            }
            self._charged(row)

    def fail(self, reference: str) -> None:
        with self.lock:
            link = self.links[reference]
            row = self._pending(reference) or self._transaction(reference, link["units"], link["currency"])
            row["status"] = "failed"
            self._charged(row)

    def expire(self, reference: str) -> None:
        """The page says so to the payer, and nobody to us."""
        with self.lock:
            past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
            self.links[reference]["meta"]["expires_at"] = past

    def puzzle(self, reference: str) -> None:
        with self.lock:
            link = self.links[reference]
            row = self._last(reference) or self._transaction(reference, link["units"], link["currency"])
            row["status"] = "pondered"

    def refund_outside(self, reference: str, units: int | None = None) -> None:
        with self.lock:
            row = self._last(reference)
            assert row is not None
            left = self._left(row)
            if left:
                self._refund_hook(self._refund(row, left if units is None else min(units, left), "Dashboard"))

    def finish_refunds(self) -> None:
        with self.lock:
            for refund in self._under_way():
                refund["status"] = REFUNDED
                self._refund_hook(refund)

    def fail_refunds(self) -> None:
        with self.lock:
            for refund in self._under_way():
                refund["meta"] = json.dumps({"source": "availablebalance", "disburse_status": "failed"})
                self._refund_hook(refund)

    def dispute(self, reference: str) -> None:
        self._chargeback(reference, "initiated", "new")

    def charge_back(self, reference: str) -> None:
        self._chargeback(reference, "lost", "pre-arbitration")

    def win_dispute(self, reference: str) -> None:
        self._chargeback(reference, "won", "second")

    def settle(self) -> str:
        with self.lock:
            rows = [row for row in self.transactions if row["status"] == "successful" and not row["_settled"]]
            rows = [row for row in rows if f"iso4217:{row['currency']}" == self.currency]
            ours = {row["id"] for row in self.transactions if f"iso4217:{row['currency']}" == self.currency}
            refunds = [row for row in self.refunds if row["status"] == REFUNDED and not row["_settled"]]
            refunds = [row for row in refunds if row["transaction_id"] in ours]
            newest = {row["transaction_id"]: row for row in self.chargebacks if row["transaction_id"] in ours}
            lost = [row for row in newest.values() if row["status"] == "lost" and not row["_settled"]]
            gross = sum(self._units(row, "amount") for row in rows)
            fees = sum(self._units(row, "app_fee") for row in rows)
            back = sum(self._units(row, "amount_refunded") for row in refunds)
            taken = sum(self._units(row, "amount") for row in lost)
            for row in [*rows, *refunds, *lost]:
                row["_settled"] = True
            net = gross - fees - back - taken
            settlement = {
                "id": next(self._ids),
                "status": "completed",
                "merchant_email": "books@tallyrail.example",
                "due_date": _now(),
                "processed_date": None,
                "currency": self.currency.partition(":")[2],
                "gross_amount": major(gross, self.currency),
                "app_fee": major(fees, self.currency),
                "refund": major(back, self.currency),
                "chargeback": major(taken, self.currency),
                "net_amount": major(net, self.currency),
                "transaction_count": len(rows),
                "refund_meta": json.dumps([row["id"] for row in refunds]),
                "chargeback_meta": [row["id"] for row in lost],
                "transactions": [self._settled_row(row) for row in rows],
            }
            self.settled.append(settlement)
            self.paid_out[str(settlement["id"])] = net
            return str(settlement["id"])

    # --- its interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.path)
        params = dict(parse_qsl(parts.query))
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return _error("Invalid authorization key", 401)
        names = parts.path.removeprefix("/v3/").split("/")
        if asked.method == "POST":
            return self._moved(names, params, read(asked.body))
        if names == ["transactions", "verify_by_reference"]:
            return self._verify(params.get("tx_ref", ""))
        if len(names) == 1:
            return self._list(names[0], params)
        return self._one(names)

    def _moved(self, names: list[str], params: Mapping[str, str], body: Json) -> Answer:
        if names == ["payments"]:
            return self._link(body)
        if names == ["charges"] and params == {"type": BY_TRANSFER}:
            return self._charge(body)
        if len(names) == 3 and names[0] == "transactions" and names[2] == "refund":
            return self._create_refund(names[1], body)
        return _error("Cannot POST", 404)

    def _one(self, names: list[str]) -> Answer:
        kinds = {"transactions": self.transactions, "refunds": self.refunds, "settlements": self.settled}
        for row in kinds.get(names[0], []):
            if str(row["id"]) == names[1] and names[2:] == (["verify"] if names[0] == "transactions" else []):
                return _success("fetched", _told(row))
        return _error("No transaction was found for this id" if names[0] == "transactions" else "Not found", 400)

    def _link(self, body: Json) -> Answer:
        currency = f"iso4217:{body['currency']}"
        if currency not in (self.currency, self.other_currency):
            return _error(f"{PAYER_EMAIL} can't pay in this currency", 400)
        if minor(body["amount"], currency) < LEAST:
            return _error(f"{PAYER_NAME} can't pay so little", 400)
        if "email" not in body["customer"] or not body.get("redirect_url"):
            return _error("customer.email is required", 400)
        if not 1 <= body["session_duration"] <= 1440:
            return _error("session_duration must be at most 1440", 400)
        units = minor(body["amount"], currency)
        self.links[body["tx_ref"]] = {"units": units, "currency": currency, "meta": body["meta"]}
        page = f"https://checkout.flutterwave.example/v3/hosted/pay/{next(self._ids):x}"
        return answer({"status": "success", "message": "Hosted Link", "data": {"link": page}})

    def _charge(self, body: Json) -> Answer:
        if body["currency"] != "NGN" or "email" not in body:
            return _error("Currency is not supported", 400)
        if minor(body["amount"], self.currency) < LEAST:
            return _error(f"{PAYER_EMAIL} can't pay so little", 400)
        units = minor(body["amount"], self.currency)
        self.links[body["tx_ref"]] = {"units": units, "currency": self.currency, "meta": body["meta"]}
        self._transaction(body["tx_ref"], units, self.currency)["payment_type"] = BY_TRANSFER
        account = {
            "transfer_reference": "FLW-TRF-1689847855598",
            "transfer_account": "0067100155",
            "transfer_bank": "Mock Bank",
            "account_expiration": 1689847855598,
            "transfer_note": "Mock note",
            "transfer_amount": f"{units // 100}.{units % 100:02}",
            "mode": "banktransfer",
        }
        return answer({"status": "success", "message": "Charge initiated", "meta": {"authorization": account}})

    def _verify(self, reference: str) -> Answer:
        """Of several attempts the one that succeeded, else the last."""
        row = self._last(reference) if self.found() else None
        return _error("No transaction was found for this id", 400) if row is None else _success("fetched", _told(row))

    def _create_refund(self, number: str, body: Json) -> Answer:
        row = next((each for each in self.transactions if str(each["id"]) == number), None)
        if row is None or row["status"] != "successful":
            return _error("Transaction cannot be refunded", 400)
        units = minor(body["amount"], f"iso4217:{row['currency']}")
        if units > self._left(row):
            return _error("Refund amount is more than what is left", 400)
        refund = self._refund(row, units, body["comments"])
        told = {"tx_id": row["id"], "wallet_id": 74639, "destination": "payment_source", **_told(refund)}
        return _success("Transaction refund initiated", {key: told[key] for key in told if key != "transaction_id"})

    def _list(self, kind: str, params: Mapping[str, str]) -> Answer:
        rows = {
            "transactions": self.transactions,
            "refunds": self.refunds,
            "chargebacks": self.chargebacks,
            "settlements": [{k: v for k, v in each.items() if k != "transactions"} for each in self.settled],
        }.get(kind)
        if rows is None:
            return _error("Cannot GET", 404)
        wanted = {"transactions": "tx_ref", "refunds": "id", "chargebacks": "flw_ref"}.get(kind, "")
        if wanted in params:
            field = "transaction_id" if kind == "refunds" else wanted
            rows = [row for row in rows if str(row[field]) == params[wanted]]
        if "from" in params:
            begins, ends = date.fromisoformat(params["from"]), date.fromisoformat(params["to"])
            rows = [row for row in rows if begins <= _day(row) <= ends]
        rows = rows[::-1]  # the newest first
        page = int(params.get("page", 1))
        pages = max(1, -(-len(rows) // self.page_max))
        info = {"total": len(rows), "current_page": page, "total_pages": pages, "page_size": self.page_max}
        shown = rows[(page - 1) * self.page_max : page * self.page_max]
        return answer(
            {
                "status": "success",
                "message": f"{kind.title()} fetched",
                "meta": {"page_info": info},
                "data": [_told(row) for row in shown],
            }
        )

    # --- what it keeps ------------------------------------------------------------------------------------------------

    def _transaction(self, reference: str, units: int, currency: str) -> Json:
        number = next(self._ids)
        row = {
            "id": number,
            "tx_ref": reference,
            "flw_ref": f"URF_{number}",
            "device_fingerprint": "N/A",
            "amount": major(units, currency),
            "currency": currency.partition(":")[2],
            "charged_amount": major(units, currency),
            "app_fee": None,
            "merchant_fee": 0,
            "processor_response": None,
            "auth_model": "PIN",
            "ip": "::ffff:10.5.179.3",
            "narration": "CARD Transaction",
            "status": "pending",
            "payment_type": "card",
            "created_at": _now(),
            "amount_settled": None,
            "card": {"first_6digits": "232343", "last_4digits": CARD_LAST4, "expiry": "02/23"},
            "meta": self.links[reference]["meta"],
            "customer": {"name": PAYER_NAME, "phone_number": PAYER_PHONE, "email": PAYER_EMAIL},
            "_settled": False,
        }
        self.transactions.append(row)
        return row

    def _pending(self, reference: str) -> Json | None:
        rows = [row for row in self.transactions if row["tx_ref"] == reference and row["status"] == "pending"]
        return rows[-1] if rows else None

    def _last(self, reference: str) -> Json | None:
        rows = [row for row in self.transactions if row["tx_ref"] == reference]
        return next((row for row in rows if row["status"] == "successful"), rows[-1] if rows else None)

    def _left(self, row: Json) -> int:
        gone = sum(
            self._units(each, "amount_refunded")
            for each in self.refunds
            if each["transaction_id"] == row["id"] and "failed" not in str(each["meta"])
        )
        return self._units(row, "amount") - gone

    def _units(self, row: Json, field: str) -> int:
        return minor(row[field], self.currency)

    def _refund(self, row: Json, units: int, comment: str) -> Json:
        refund = {
            "id": next(self._ids),
            "account_id": 73362,
            "transaction_id": row["id"],
            "flw_ref": row["flw_ref"],
            "amount_refunded": major(units, f"iso4217:{row['currency']}"),
            "status": UNDER_WAY,
            "comment": comment,
            "settlement_id": "NEW",
            "meta": {"source": "availablebalance"},
            "created_at": _now(),
            "_settled": False,
        }
        self.refunds.append(refund)
        return refund

    def _under_way(self) -> Iterator[Json]:
        return (each for each in self.refunds if each["status"] == UNDER_WAY and "failed" not in str(each["meta"]))

    def _chargeback(self, reference: str, status: str, stage: str) -> None:
        with self.lock:
            row = self._last(reference)
            assert row is not None
            stages = [each for each in self.chargebacks if each["transaction_id"] == row["id"]]
            chargeback = {
                "id": next(self._ids),
                "amount": major(self._left(row), f"iso4217:{row['currency']}"),
                "flw_ref": row["flw_ref"],
                "status": status,
                "stage": stage,
                "comment": f"Not received, says {PAYER_NAME}",
                "due_date": _now(),
                "created_at": datetime.now(UTC).isoformat(),
                "transaction_id": row["id"],
                "tx_ref": reference,
                "_settled": any(each["_settled"] for each in stages),  # it has no word for what it gives back
            }
            self.chargebacks.append(chargeback)
            self.emit(f"chargeback {status}", reference, {"event": "chargeback", "data": _told(chargeback)})

    def _charged(self, row: Json) -> None:
        data = _told(row)
        self.emit("charge.completed", row["tx_ref"], {"event": "charge.completed", "data": data})

    def _refund_hook(self, refund: Json) -> None:
        reference = next(row["tx_ref"] for row in self.transactions if row["id"] == refund["transaction_id"])
        body = {
            "id": refund["id"],
            "AccountId": refund["account_id"],
            "TransactionId": refund["transaction_id"],
            "FlwRef": refund["flw_ref"],
            "AmountRefunded": refund["amount_refunded"],
            "status": refund["status"],
            "meta": refund["meta"],
        }
        self.emit("refund", reference, body)

    def _settled_row(self, row: Json) -> Json:
        named = ("id", "tx_ref", "flw_ref", "charged_amount", "app_fee", "merchant_fee", "status", "currency")
        return {name: row[name] for name in named} | {
            "customer_email": PAYER_EMAIL,
            "settlement_amount": row["amount_settled"],
            "stampduty_charge": 0,
            "payment_entity": row["payment_type"],
        }


def _told(row: Json) -> Json:
    return {name: value for name, value in row.items() if not name.startswith("_")}


def _day(row: Json) -> date:
    written: Any = row.get("created_at") or row["due_date"]
    return datetime.fromisoformat(written).date()


def _now() -> str:
    now = datetime.now(UTC)
    return (now - timedelta(microseconds=now.microsecond % 1000)).isoformat(timespec="milliseconds")[:-6] + "Z"


def _success(message: str, data: Json) -> Answer:
    return answer({"status": "success", "message": message, "data": data})


def _error(message: str, status: int) -> Answer:
    return answer({"status": "error", "message": message, "data": None}, status)
