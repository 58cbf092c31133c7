"""Unlimit's API v3 as the models and pages of cardpay/java-sdk-v3 describe it, in payment page mode."""

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import count
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.fiat.settings import UnlimitSettings
from providers.fiat.unlimit import UnlimitGateway
from tests.support.gateways.base import CARD_LAST4, PAYER_EMAIL, PAYER_NAME, PAYER_PHONE
from tests.support.gateways.decimal_double import DecimalDouble, Json, answer, major, minor, read

TERMINAL = "18397"
PASSWORD = "FpK2cy143Double"
REQUEST_UNIQUE = timedelta(minutes=30)
SPAN = timedelta(days=7)
METHODS = {"BANKCARD"}
LEAST = 50
PAID = {"COMPLETED", "CHARGEBACK_RESOLVED"}


class UnlimitDouble(DecimalDouble):
    name = "unlimit"
    currency = "iso4217:USD"
    other_currency = "iso4217:EUR"
    secrets = (PASSWORD,)
    webhook_secret = b"7Kn2FBt7SRyrqXH5"
    refunds_fail = True

    def __init__(self) -> None:
        super().__init__()
        self.payments: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputes: list[Json] = []
        self.tokens: dict[str, datetime] = {}
        self.requests: dict[str, datetime] = {}
        self.token_s = 300
        self._ids = count(276_122_317)

    def gateway(self, *, answer_timeout: float = 10.0) -> UnlimitGateway:
        settings = UnlimitSettings(
            terminal_code=SecretStr(TERMINAL),
            password=SecretStr(PASSWORD),
            base_url=self.url,
            currencies=dict.fromkeys((self.currency, self.other_currency), (100, 99999999)),
        )
        return UnlimitGateway(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        return {"Signature": hashlib.sha512(body + self.webhook_secret).hexdigest()}

    def moves(self, asked: Asked) -> bool:
        return asked.method == "POST" and asked.path in ("/api/payments", "/api/refunds")

    # --- the payer and his bank ---------------------------------------------------------------------------------------

    def pay(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        with self.lock:
            payment = self._of(reference)
            data = payment["payment_data"]
            had = f"iso4217:{data['currency']}"
            paid = minor(data["amount"], had) if units is None else units
            data |= {
                "amount": major(paid, currency or had),
                "currency": (currency or had).partition(":")[2],
                "status": "COMPLETED",
                "auth_code": "114564",
                "rrn": "000012725137",
                "is_3d": True,
            }
            self._payment_callback(payment)

    def fail(self, reference: str) -> None:
        with self.lock:
            payment = self._of(reference)
            payment["payment_data"] |= {"status": "DECLINED", "decline_code": "04", "decline_reason": "Insufficient"}
            self._payment_callback(payment)

    def expire(self, reference: str) -> None:
        with self.lock:
            payment = self._of(reference)
            payment["payment_data"]["status"] = "TERMINATED"
            self._payment_callback(payment)

    def puzzle(self, reference: str) -> None:
        with self.lock:
            self._of(reference)["payment_data"]["status"] = "PONDERED"

    def refund_outside(self, reference: str, units: int | None = None) -> None:
        with self.lock:
            payment = self._of(reference)
            left = self._left(payment)
            if left:
                self._refund_callback(self._refund(payment, left if units is None else min(units, left), "Dashboard"))

    def finish_refunds(self) -> None:
        self._finish_all("COMPLETED")

    def fail_refunds(self) -> None:
        self._finish_all("DECLINED")

    def dispute(self, reference: str) -> None:
        with self.lock:
            payment = self._of(reference)
            payment["payment_data"]["status"] = "CHARGED_BACK"
            self._dispute(payment)
            self._payment_callback(payment)

    def charge_back(self, reference: str) -> None:
        with self.lock:
            payment = self._of(reference)
            payment["payment_data"]["status"] = "CHARGED_BACK"
            (self._newest_dispute(payment) or self._dispute(payment))["result_time"] = _stamp(datetime.now(UTC))
            self._payment_callback(payment)

    def win_dispute(self, reference: str) -> None:
        with self.lock:
            payment = self._of(reference)
            payment["payment_data"]["status"] = "CHARGEBACK_RESOLVED"
            dispute = self._newest_dispute(payment)
            assert dispute is not None
            dispute["result_time"] = _stamp(datetime.now(UTC))
            self._payment_callback(payment)

    def forget_tokens(self) -> None:
        """As after a restart of theirs."""
        with self.lock:
            self.tokens.clear()

    # --- its interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:
        parts = urlsplit(asked.path)
        params = dict(parse_qsl(parts.query))
        if parts.path == "/api/auth/token":
            return self._authorize(dict(parse_qsl(asked.body.decode())))
        bearer = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.tokens.get(bearer, datetime.min.replace(tzinfo=UTC)) < datetime.now(UTC):
            return _error(401, "INVALID_TOKEN", "Access token is invalid or expired")
        names = parts.path.removeprefix("/api/").split("/")
        lists = {"payments": (self.payments, "payment_data"), "refunds": (self.refunds, "refund_data")}
        if asked.method == "POST" and len(names) == 1 and names[0] in lists:
            return (self._create if names[0] == "payments" else self._create_refund)(read(asked.body))
        if asked.method == "GET" and len(names) == 1 and names[0] in lists:
            return self._list(*lists[names[0]], params)
        return self._one(*names) if asked.method == "GET" and len(names) == 2 else NOT_FOUND

    def _one(self, kind: str, number: str) -> Answer:
        if kind == "disputes":
            rows = [{"dispute_data": each} for each in self.disputes if each["group_id"] == number]
            return answer({"data": rows, "has_more": False})
        row = {"payments": self.payments, "refunds": self.refunds}.get(kind, {}).get(number)
        return NOT_FOUND if row is None else answer(row)

    def _authorize(self, form: Mapping[str, str]) -> Answer:
        wanted = {"grant_type": "password", "terminal_code": TERMINAL, "password": PASSWORD}
        if form != wanted:
            return _error(401, "INVALID_GRANT", "Terminal code or password is wrong")
        token = hashlib.sha256(str(next(self._ids)).encode()).hexdigest()
        self.tokens[token] = datetime.now(UTC) + timedelta(seconds=self.token_s)
        return answer(
            {
                "token_type": "bearer",
                "access_token": token,
                "expires_in": self.token_s,
                "refresh_token": "r" + token,
                "refresh_expires_in": 900,
            }
        )

    def _create(self, body: Json) -> Answer:
        data = body["payment_data"]
        currency = f"iso4217:{data['currency']}"
        if refusal := self._refusal(body):
            return refusal
        if not self.offers(currency):
            return _error(400, "INVALID_API_REQUEST", f"Currency is not of this terminal: {PAYER_EMAIL}")
        if minor(data["amount"], currency) < LEAST:
            return _error(400, "INVALID_API_REQUEST", f"payment_data.amount is too small for {PAYER_PHONE}")
        if "email" not in body["customer"]:
            return _error(400, "INVALID_API_REQUEST", "customer.email is mandatory")
        if body.get("payment_method") not in METHODS | {None} or "merchant_order" not in body:
            return _error(400, "INVALID_API_REQUEST", "payment_method is unknown")
        number = str(next(self._ids))
        self.payments[number] = {
            "payment_method": "BANKCARD",
            "merchant_order": {key: body["merchant_order"][key] for key in ("id", "description")},
            "customer": {"email": PAYER_EMAIL, "phone": PAYER_PHONE, "ip": "1.1.1.1"},
            "payment_data": {
                "id": number,
                "status": "NEW",
                "amount": major(minor(data["amount"], currency), currency),
                "currency": data["currency"],
                "created": _stamp(datetime.now(UTC)),
                "note": data["note"],
            },
            "card_account": {"masked_pan": f"412345...{CARD_LAST4}", "holder": PAYER_NAME},
        }
        page = f"https://sandbox.cardpay.example/MI/payments/{number}"
        return answer({"redirect_url": page, "payment_data": {"id": number}})

    def _create_refund(self, body: Json) -> Answer:
        if refusal := self._refusal(body):
            return refusal
        payment = self.payments.get(body["payment_data"]["id"])
        if payment is None or payment["payment_data"]["status"] not in PAID:
            return _error(400, "INVALID_API_REQUEST", "Payment can't be refunded")
        if body["refund_data"]["currency"] != payment["payment_data"]["currency"]:
            return _error(400, "INVALID_API_REQUEST", "Currency must be the payment's")
        units = minor(body["refund_data"]["amount"], f"iso4217:{body['refund_data']['currency']}")
        if units > self._left(payment):
            return _error(400, "INVALID_API_REQUEST", "Amount is more than what is left")
        return answer(self._refund(payment, units, body["merchant_order"]["description"], body["merchant_order"]["id"]))

    def _refusal(self, body: Json) -> Answer | None:
        """Of what each request that makes something has."""
        now = datetime.now(UTC)
        made_at = datetime.fromisoformat(body["request"]["time"])
        if abs(now - made_at) > timedelta(hours=3):
            return _error(400, "INVALID_API_REQUEST", "request.time is wrong")
        before = self.requests.get(body["request"]["id"])
        if before is not None and now - before < REQUEST_UNIQUE:
            return _error(400, "INVALID_API_REQUEST", "request.id is not unique")
        self.requests[body["request"]["id"]] = now
        return None

    def _list(self, rows: Mapping[str, Json], data: str, params: Mapping[str, str]) -> Answer:
        """At most `max_count`, of less than 7 days, by default of the last one."""
        if "request_id" not in params:
            return _error(400, "INVALID_API_REQUEST", "request_id is mandatory")
        ends = datetime.fromisoformat(params["end_time"]) if "end_time" in params else datetime.now(UTC)
        begins = datetime.fromisoformat(params["start_time"]) if "start_time" in params else ends - timedelta(days=1)
        if not timedelta(0) <= ends - begins < SPAN:
            return _error(400, "INVALID_API_REQUEST", "end_time must be less than 7 days after start_time")
        wanted = params.get("merchant_order_id")
        found = [
            row
            for row in rows.values()
            if begins <= datetime.fromisoformat(row[data]["created"]) < ends
            and wanted in (None, row["merchant_order"]["id"])
        ]
        if data == "payment_data" and not self.found():
            found = []
        limit = int(params.get("max_count", 1000))
        return answer({"data": found[:limit], "has_more": len(found) > limit})

    # --- what it keeps ------------------------------------------------------------------------------------------------

    def _of(self, reference: str) -> Json:
        found = [each for each in self.payments.values() if each["merchant_order"]["id"] == reference]
        assert len(found) == 1, f"{len(found)} payments of {reference}"
        return found[0]

    def _left(self, payment: Json) -> int:
        currency = f"iso4217:{payment['payment_data']['currency']}"
        gone = sum(
            minor(each["refund_data"]["amount"], currency)
            for each in self.refunds.values()
            if each["payment_data"]["id"] == payment["payment_data"]["id"]
            and each["refund_data"]["status"] != "DECLINED"
        )
        return minor(payment["payment_data"]["amount"], currency) - gone

    def _refund(self, payment: Json, units: int, description: str, order: str | None = None) -> Json:
        number = str(next(self._ids))
        code = payment["payment_data"]["currency"]
        left = self._left(payment) - units
        self.refunds[number] = {
            "payment_method": "BANKCARD",
            "merchant_order": {"id": order or payment["merchant_order"]["id"], "description": description},
            "customer": payment["customer"],
            "refund_data": {
                "id": number,
                "status": "IN_PROGRESS",
                "amount": major(units, f"iso4217:{code}"),
                "currency": code,
                "created": _stamp(datetime.now(UTC)),
            },
            "payment_data": {"id": payment["payment_data"]["id"], "remaining_amount": major(left, f"iso4217:{code}")},
            "card_account": payment["card_account"],
        }
        return self.refunds[number]

    def _finish_all(self, status: str) -> None:
        with self.lock:
            for refund in self.refunds.values():
                if refund["refund_data"]["status"] == "IN_PROGRESS":
                    self._finish(refund, status)

    def _finish(self, refund: Json, status: str) -> None:
        refund["refund_data"]["status"] = status
        payment = self.payments[refund["payment_data"]["id"]]
        if status == "COMPLETED" and not self._left(payment) and not self._under_way(payment):
            payment["payment_data"]["status"] = "REFUNDED"
        self._refund_callback(refund)

    def _under_way(self, payment: Json) -> bool:
        number = payment["payment_data"]["id"]
        return any(
            each["payment_data"]["id"] == number and each["refund_data"]["status"] == "IN_PROGRESS"
            for each in self.refunds.values()
        )

    def _dispute(self, payment: Json) -> Json:
        dispute: Json = {
            "type": "CB",
            "group_id": payment["payment_data"]["id"],
            "reason_code": "4853",
            "reason_description": "Cardholder dispute",
            "reg_time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }
        self.disputes.append(dispute)
        return dispute

    def _newest_dispute(self, payment: Json) -> Json | None:
        of_payment = [each for each in self.disputes if each["group_id"] == payment["payment_data"]["id"]]
        return of_payment[-1] if of_payment else None

    def _payment_callback(self, payment: Json) -> None:
        body = {"callback_time": _stamp(datetime.now(UTC)), **payment}
        self.emit(f"payment {payment['payment_data']['status']}", payment["merchant_order"]["id"], body)

    def _refund_callback(self, refund: Json) -> None:
        body = {"callback_time": _stamp(datetime.now(UTC)), **refund}
        self.emit(f"refund {refund['refund_data']['status']}", refund["merchant_order"]["id"], body)

    def offers(self, currency: str) -> bool:
        return currency in (self.currency, self.other_currency)


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _error(status: int, name: str, message: str) -> Answer:
    return answer({"name": name, "message": message}, status)


NOT_FOUND = _error(404, "NOT_FOUND", "Requested resource is not found")
