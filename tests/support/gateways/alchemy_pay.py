"""Alchemy Pay's on-ramp, API v4, as the pages named in providers/fiat/alchemy_pay.py describe it.

The signature of requests is checked by what the page says, not by the adapter's code: the parts as they came, sorted.
"""

import hashlib
import hmac
import json
import time
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from config import assets
from local.http_server import Answer, Asked
from providers.fiat.alchemy_pay import AlchemyPayGateway
from providers.fiat.settings import AlchemyPaySettings
from tests.support.gateways.base import PAYER_EMAIL, PAYER_NAME, Double, Webhook, told
from tests.support.gateways.decimal_double import Json

APP_ID = "f83Is2y7LTallyra"
SECRET = "4Yn8RkxDXNfiTallyrailDouble"
ADDRESS = "TSx82tWNWe5Ns6t3w94Ye3Gt6E5KeHSoP8"
STALE_MS = 5 * 60 * 1_000
LEAST = 15
UNSIGNED = ("signature", "newSignature")


class AlchemyPayDouble(Double):
    name = "alchemy_pay"
    currency = "iso4217:USD"
    other_currency = "iso4217:EUR"
    secrets = (SECRET,)
    webhook_secret = SECRET.encode()
    charges_back = False
    partial_refunds = False
    gives_back = False
    tells_asked = False

    def __init__(self) -> None:
        super().__init__()
        self.orders: dict[str, Json] = {}
        self.tokens: set[str] = set()
        self._ids = count(1_037_622_078_705_283_072)

    def gateway(self, *, answer_timeout: float = 10.0) -> AlchemyPayGateway:
        settings = AlchemyPaySettings(
            app_id=SecretStr(APP_ID),
            app_secret=SecretStr(SECRET),
            address=SecretStr(ADDRESS),
            base_url=self.url,
            currencies=dict.fromkeys((self.currency, self.other_currency), (1500, 200000)),
        )
        return AlchemyPayGateway(settings, answer_timeout=answer_timeout)

    def moves(self, asked: Asked) -> bool:
        return asked.path == "/open/api/v4/merchant/trade/create"

    def signed(self, body: bytes) -> Mapping[str, str]:
        return {"timestamp": str(time.time_ns() // 1_000_000)}

    def emit(self, kind: str, reference: str, body: Mapping[str, Any]) -> None:
        """With its signature inside."""
        headers = self.signed(b"")
        path = urlsplit(self.orders[reference]["_callback"]).path
        content = json.dumps(_sorted(body), separators=(",", ":"), ensure_ascii=False)
        signature = _hmac(f"{headers['timestamp']}POST{path}{content}")
        sent = json.dumps({**body, "signature": hashlib.sha1(b"old").hexdigest(), "newSignature": signature})
        with self.lock:
            self.outbox.append(Webhook(kind, reference, sent.encode(), {"Content-Type": "application/json", **headers}))

    # --- the payer and the provider -----------------------------------------------------------------------------------

    def pay(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        self.take_money(reference, units, currency)
        self.deliver(reference)

    def take_money(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        """They have the payer's money, and haven't sent what was bought."""
        with self.lock:
            order = self.orders[reference]
            if units is not None:
                order["amount"] = _amount(units, currency or f"iso4217:{order['fiat']}")
            if currency is not None:
                order["fiat"] = order["rampFeeUnit"] = currency.partition(":")[2]
            order |= {"status": "PAY_SUCCESS", "payTime": _now()}
            self._tell(reference)

    def deliver(self, reference: str) -> None:
        with self.lock:
            order = self.orders[reference]
            order |= {"status": "FINISHED", "txTime": _now(), "txHash": hashlib.sha256(reference.encode()).hexdigest()}
            self._tell(reference)

    def fail(self, reference: str) -> None:
        with self.lock:
            self.orders[reference] |= {"status": "PAY_FAIL", "message": f"Declined for {PAYER_NAME}"}
            self._tell(reference)

    def expire(self, reference: str) -> None:
        with self.lock:
            self.orders[reference]["status"] = "CANCEL"
            self._tell(reference)

    def puzzle(self, reference: str) -> None:
        self.orders[reference]["status"] = "PONDERED"

    def refund_outside(self, reference: str, units: int | None = None) -> None:
        """Only before anything was sent to us, all of it, and without a webhook."""
        assert units is None
        self.orders[reference]["status"] = "REFUNDED"

    def finish_refunds(self) -> None:
        """They are none of ours."""

    # --- its interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:
        headers = {name.lower(): value for name, value in asked.headers.items()}
        if refusal := _forged(asked, headers):
            return _refused("3106", refusal)
        parts = urlsplit(asked.path)
        match asked.method, parts.path:
            case "POST", "/open/api/v4/merchant/getToken":
                return self._token(json.loads(asked.body))
            case "POST", "/open/api/v4/merchant/trade/create":
                return self._create(json.loads(asked.body), headers.get("access-token", ""))
            case "GET", "/open/api/v4/merchant/query/trade":
                return self._query(dict(part.split("=") for part in unquote(parts.query).split("&")))
        return told({"status": 404, "error": "Not Found"}, 404)

    def _token(self, body: Json) -> Answer:
        if bool(body.get("email")) == bool(body.get("uid")):
            return _refused("3108", "Must send one of the parameters")
        token = f"ACH8945766425@ACH@{next(self._ids)}@PAY@"
        self.tokens.add(token)
        return _success({"id": "kklzDn3K/BvuSXs559OQfQ==", "accessToken": token, "email": body.get("email", "")})

    def _create(self, body: Json, token: str) -> Answer:
        if token not in self.tokens:
            return _refused("3002", "access-token is invalid")
        if f"iso4217:{body['fiatCurrency']}" not in (self.currency, self.other_currency):
            return _refused("3104", f"Unsupported fiat currency for {PAYER_EMAIL}")
        if body["merchantOrderNo"] in self.orders:
            return _refused("3109", "merchantOrderNo cannot be repeated")
        if body["side"] != "BUY" or body["depositType"] != 2 or len(body["merchantOrderNo"]) > 48:
            return _refused("3100", "Parameter validation error")
        if Decimal(body["amount"]) < LEAST:
            return _refused("3107", f"The amount of {PAYER_EMAIL} is too small")
        fee = self.fee(int(body["amount"].replace(".", "")))
        number = str(next(self._ids))
        self.orders[body["merchantOrderNo"]] = {
            "side": "BUY",
            "appId": APP_ID,
            "orderNo": number,
            "merchantOrderNo": body["merchantOrderNo"],
            "email": PAYER_EMAIL,
            "amount": body["amount"] + "000000",
            "fiat": body["fiatCurrency"],
            "payType": "CREDIT_CARD",
            "crypto": body["cryptoCurrency"],
            "network": body["network"],
            "address": body["address"],
            "cryptoPrice": "1.00000000",
            "cryptoQuantity": "12.93",
            "rampFee": f"{fee / 100:.2f}",
            "rampFeeUnit": body["fiatCurrency"],
            "networkFee": "0.10092527",
            "createTime": _now(),
            "payTime": "",
            "txTime": "",
            "txHash": "",
            "message": "",
            "status": "PENDING",
            "_callback": body["callbackUrl"],
        }
        return _success({"orderNo": number, "payUrl": f"https://ramptest.alchemypay.example/?orderNo={number}"})

    def _query(self, params: Mapping[str, str]) -> Answer:
        order = self.orders.get(params["merchantOrderNo"]) if params["side"] == "BUY" else None
        if order is None or not self.found():
            return _refused("3207", "Order does not exist")
        return _success(_public(order))

    def _tell(self, reference: str) -> None:
        order = self.orders[reference]
        self.emit(order["status"], reference, _public(order))


def _forged(asked: Asked, headers: Mapping[str, str]) -> str | None:
    """What is wrong with a request's signature, of a path and a body that must have come sorted and without gaps."""
    if headers.get("appid") != APP_ID:
        return "appid is unknown"
    stamp = headers.get("timestamp", "")
    if not stamp.isdigit() or abs(time.time_ns() // 1_000_000 - int(stamp)) > STALE_MS:
        return "timestamp is out of date"
    path, _, query = asked.path.partition("?")
    ordered = "&".join(sorted(unquote(query).split("&"))) if query else ""
    body = json.dumps(_sorted(json.loads(asked.body)), separators=(",", ":"), ensure_ascii=False) if asked.body else ""
    wanted = _hmac(f"{stamp}{asked.method}{path}{'?' if ordered else ''}{ordered}{body}")
    return None if hmac.compare_digest(wanted, headers.get("sign", "")) else "sign is wrong"


def _sorted(body: Mapping[str, Any]) -> Json:
    return {name: body[name] for name in sorted(body) if body[name] not in ("", None) and name not in UNSIGNED}


def _hmac(content: str) -> str:
    return b64encode(hmac.new(SECRET.encode(), content.encode(), hashlib.sha256).digest()).decode()


def _public(order: Json) -> Json:
    return {name: value for name, value in order.items() if not name.startswith("_")}


def _amount(units: int, currency: str) -> str:
    scale = assets.registry().assets[currency].scale
    text = str(units).rjust(scale + 1, "0")
    return f"{text[: len(text) - scale]}.{text[len(text) - scale :].ljust(8, '0')}"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _success(data: Json) -> Answer:
    return told({"success": True, "returnCode": "0000", "returnMsg": "SUCCESS", "extend": "", "data": data})


def _refused(code: str, words: str) -> Answer:
    return told({"success": False, "returnCode": code, "returnMsg": words, "extend": "", "data": None})
