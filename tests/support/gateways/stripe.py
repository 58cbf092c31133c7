"""Stripe's API as docs.stripe.com/api describes it, as far as sessions, refunds, disputes and payouts go.

Objects are kept as they are written, by id; what begins with `_` is not told. Fields are those of the SDK 16.1.
"""

import hashlib
import hmac
import operator
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.fiat.settings import StripeSettings
from providers.fiat.stripe import StripeGateway
from tests.support.gateways.base import CARD_LAST4, PAYER_EMAIL, PAYER_NAME, PAYER_PHONE, Double, told

Json = dict[str, Any]
KEY = "sk_test_51TallyrailDoubleSecret"
DISPUTE_FEE = 15_00
MONTHLY_FEE = 25
LIVES = (30 * 60, 24 * 60 * 60)


class StripeDouble(Double):
    name = "stripe"
    currency = "iso4217:USD"
    other_currency = "iso4217:EUR"
    secrets = (KEY,)
    webhook_secret = b"whsec_tallyrail_double"
    refunds_fail = True

    def __init__(self) -> None:
        super().__init__()
        self.objects: dict[str, Json] = {}
        self.keys: dict[str, tuple[bytes, Answer]] = {}

    def gateway(self, *, answer_timeout: float = 10.0) -> StripeGateway:
        settings = StripeSettings(
            secret_key=SecretStr(KEY),
            base_url=self.url,
            currencies=dict.fromkeys((self.currency, self.other_currency), (50, 999_999_99)),
        )
        return StripeGateway(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        at = int(time.time())
        digest = hmac.new(self.webhook_secret, b"%d.%s" % (at, body), hashlib.sha256).hexdigest()
        return {"Stripe-Signature": f"t={at},v1={digest}"}

    # --- the payer and his bank ---------------------------------------------------------------------------------------

    def pay(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        with self.lock:
            session = self._session(reference)
            amount = session["amount_total"] if units is None else units
            code = session["currency"] if currency is None else currency.partition(":")[2].lower()
            intent = self._intent(session, amount, code)
            charge = self._charge(intent)
            intent |= {"status": "succeeded", "amount_received": amount, "latest_charge": charge["id"]}
            session["payment_status"] = "paid"
            if session["status"] == "open":
                session |= {"status": "complete", "url": None}
            self._event("payment_intent.succeeded", intent)
            self._event("charge.succeeded", charge)
            self._event("checkout.session.completed", session)

    def fail(self, reference: str) -> None:
        """A bank debit that is agreed to, and then isn't paid."""
        with self.lock:
            session = self._session(reference)
            intent = self._intent(session, session["amount_total"], session["currency"])
            intent["status"] = "requires_payment_method"
            session |= {"status": "complete", "url": None}
            self._event("payment_intent.payment_failed", intent)
            self._event("checkout.session.async_payment_failed", session)

    def expire(self, reference: str) -> None:
        with self.lock:
            session = self._session(reference)
            session |= {"status": "expired", "url": None}
            self._event("checkout.session.expired", session)

    def puzzle(self, reference: str) -> None:
        with self.lock:
            self._session(reference).update(status="pondering", payment_status="pondered")

    def refund_outside(self, reference: str, units: int | None = None) -> None:
        with self.lock:
            charge = self._charge_of(reference)
            left = charge["amount"] - charge["amount_refunded"]
            if left:
                self._refund(charge, left if units is None else min(units, left), {})

    def finish_refunds(self) -> None:
        with self.lock:
            for refund in self._rows("refund"):
                if refund["status"] == "pending":
                    refund["status"] = "succeeded"
                    self._event("refund.updated", refund)

    def fail_refunds(self) -> None:
        with self.lock:
            for refund in self._rows("refund"):
                if refund["status"] == "pending":
                    refund["status"] = "failed"
                    charge = self.objects[refund["charge"]]
                    charge["amount_refunded"] -= refund["amount"]
                    self._balance(refund, refund["amount"], 0, "refund_failure")
                    self._event("refund.failed", refund)

    def dispute(self, reference: str) -> None:
        with self.lock:
            charge = self._charge_of(reference)
            charge["disputed"] = True
            dispute = self._new(
                "du",
                "dispute",
                amount=charge["amount"],
                currency=charge["currency"],
                charge=charge["id"],
                payment_intent=charge["payment_intent"],
                reason="fraudulent",
                status="needs_response",
                evidence={"customer_email_address": PAYER_EMAIL, "customer_name": PAYER_NAME},
                metadata={},
            )
            self._balance(dispute, -charge["amount"], DISPUTE_FEE, "dispute", "adjustment")
            self._event("charge.dispute.created", dispute)

    def charge_back(self, reference: str) -> None:
        self._close(reference, "lost")

    def win_dispute(self, reference: str) -> None:
        dispute = self._close(reference, "won")
        self._balance(dispute, dispute["amount"], -DISPUTE_FEE, "dispute_reversal", "adjustment")

    def settle(self) -> str:
        with self.lock:
            fee = self._new("sf", "stripe_fee")
            self._balance(fee, -MONTHLY_FEE, 0, "fee", "stripe_fee")
            code = self.currency.partition(":")[2].lower()
            rows = [
                row
                for row in self._rows("balance_transaction")
                if row["_payout"] is None and row["currency"] == code and row["type"] != "payout"
            ]
            payout = self._new(
                "po",
                "payout",
                amount=sum(row["net"] for row in rows),
                currency=code,
                arrival_date=int(time.time()),
                automatic=True,
                status="paid",
            )
            itself = self.objects[self._balance(payout, -payout["amount"], 0, "payout", "payout")]
            for row in [*rows, itself]:
                row["_payout"] = payout["id"]
            self._event("payout.paid", payout)
            self.paid_out[payout["id"]] = payout["amount"]
            return str(payout["id"])

    # --- the interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:
        if asked.headers.get("Authorization") != f"Bearer {KEY}":
            return _error(401, "invalid_request_error", None, "Invalid API Key provided")
        url = urlsplit(asked.path)
        parts = url.path.removeprefix("/v1/").split("/")
        if asked.method == "POST":
            return self._once(asked, parts)
        query = _nested(url.query)
        if parts[-1] in _LISTS:
            return self._list(_LISTS[parts[-1]], query)
        found = self.objects.get(parts[-1])
        if found is None:
            return _error(404, "invalid_request_error", "resource_missing", f"No such object: '{parts[-1]}'")
        return told(self._expanded(found, query.get("expand", [])))

    def _once(self, asked: Asked, parts: list[str]) -> Answer:
        """/api/idempotent_requests: what was begun is answered alike; refused parameters don't begin anything."""
        key = asked.headers["Idempotency-Key"]
        kept = self.keys.get(key)
        if kept is not None:
            if kept[0] != asked.body:
                return _error(
                    400, "idempotency_error", None, f"Keys for idempotent requests can only be used once: {key}"
                )
            return kept[1]
        params = _nested(asked.body.decode())
        answer = {"sessions": self._create, "refunds": self._give_back}[parts[-1]](params)
        if answer.status == 200:
            self.keys[key] = (asked.body, answer)
        return answer

    def _create(self, params: Json) -> Answer:
        price = params["line_items"][0]["price_data"]
        amount, now = int(price["unit_amount"]), int(time.time())
        lives = int(params["expires_at"]) - now
        if not LIVES[0] <= lives <= LIVES[1]:
            return _refused("expires_at", None, "The `expires_at` timestamp must be 30 minutes to 24 hours from now.")
        if amount < 50:
            return _refused("line_items", "amount_too_small", f"The amount is too small, {PAYER_EMAIL}.")
        if price["currency"] in {"bhd", "jod", "kwd", "omr", "tnd"} and amount % 10:
            return _refused("line_items", None, "Invalid amount: the last digit must be 0.")
        session = self._new(
            "cs_test",
            "checkout.session",
            amount_total=amount,
            currency=price["currency"],
            client_reference_id=params["client_reference_id"],
            metadata=params["metadata"],
            customer_email=params.get("customer_email"),
            customer_details=None,
            expires_at=int(params["expires_at"]),
            mode=params["mode"],
            payment_intent=None,
            payment_status="unpaid",
            status="open",
            success_url=params["success_url"],
            _intent_metadata=params["payment_intent_data"]["metadata"],
        )
        session["url"] = f"https://checkout.stripe.com/c/pay/{session['id']}"
        return told(self._expanded(session, []))

    def _give_back(self, params: Json) -> Answer:
        intent, amount = self.objects[params["payment_intent"]], int(params["amount"])
        charge = self.objects[intent["latest_charge"]]
        left = charge["amount"] - charge["amount_refunded"]
        if not left:
            return _refused(None, "charge_already_refunded", f"Charge {charge['id']} has already been refunded.")
        if amount > left:
            return _refused("amount", None, f"Refund amount ({amount}) is greater than unrefunded amount ({left})")
        return told(self._expanded(self._refund(charge, amount, params["metadata"]), []))

    def _list(self, kind: str, query: Json) -> Answer:
        rows = [row for row in self._rows(kind) if _matches(row, query)]
        if kind == "checkout.session" and "created" in query and not self.found():
            rows = []
        rows.reverse()
        if "starting_after" in query:
            rows = rows[next(n for n, row in enumerate(rows) if row["id"] == query["starting_after"]) + 1 :]
        limit = min(int(query.get("limit", 10)), self.page_max)
        expand = [path.removeprefix("data.") for path in query.get("expand", [])]
        page = [self._expanded(row, expand) for row in rows[:limit]]
        return told({"object": "list", "data": page, "has_more": len(rows) > limit, "url": f"/v1/{kind}"})

    # --- objects ------------------------------------------------------------------------------------------------------

    def _new(self, prefix: str, kind: str, **fields: Any) -> Json:
        made = {"id": f"{prefix}_{len(self.objects):06d}", "object": kind, "created": int(time.time()), **fields}
        self.objects[made["id"]] = made
        return made

    def _rows(self, kind: str) -> list[Json]:
        return [row for row in self.objects.values() if row["object"] == kind]

    def _session(self, reference: str) -> Json:
        return next(row for row in self._rows("checkout.session") if row["client_reference_id"] == reference)

    def _charge_of(self, reference: str) -> Json:
        return self.objects[self.objects[self._session(reference)["payment_intent"]]["latest_charge"]]

    def _intent(self, session: Json, amount: int, code: str) -> Json:
        intent = self._new(
            "pi",
            "payment_intent",
            amount=amount,
            amount_received=0,
            currency=code,
            latest_charge=None,
            metadata=session["_intent_metadata"],
            receipt_email=PAYER_EMAIL,
        )
        session["payment_intent"] = intent["id"]
        session["customer_details"] = {"email": PAYER_EMAIL, "name": PAYER_NAME, "phone": PAYER_PHONE}
        return intent

    def _charge(self, intent: Json) -> Json:
        charge = self._new(
            "ch",
            "charge",
            amount=intent["amount"],
            amount_refunded=0,
            currency=intent["currency"],
            billing_details={"email": PAYER_EMAIL, "name": PAYER_NAME, "phone": PAYER_PHONE},
            disputed=False,
            metadata=intent["metadata"],
            payment_intent=intent["id"],
            payment_method_details={"card": {"brand": "visa", "last4": CARD_LAST4}, "type": "card"},
            refunded=False,
            status="succeeded",
        )
        charge["balance_transaction"] = self._balance(charge, charge["amount"], self.fee(charge["amount"]), "charge")
        return charge

    def _refund(self, charge: Json, amount: int, metadata: Json) -> Json:
        charge["amount_refunded"] += amount
        charge["refunded"] = charge["amount_refunded"] == charge["amount"]
        refund = self._new(
            "re",
            "refund",
            amount=amount,
            charge=charge["id"],
            currency=charge["currency"],
            metadata=metadata,
            payment_intent=charge["payment_intent"],
            reason="requested_by_customer",
            status="pending",
        )
        self._balance(refund, -amount, 0, "refund")
        self._event("refund.created", refund)
        self._event("charge.refunded", charge)
        return refund

    def _close(self, reference: str, status: str) -> Json:
        with self.lock:
            charge = self._charge_of(reference)
            disputes = [row for row in self._rows("dispute") if row["charge"] == charge["id"]]
            if not disputes or disputes[-1]["status"] == "won":
                self.dispute(reference)
                disputes = [row for row in self._rows("dispute") if row["charge"] == charge["id"]]
            dispute = disputes[-1]
            dispute["status"] = status
            self._event("charge.dispute.closed", dispute)
            return dispute

    def _balance(self, source: Json, amount: int, fee: int, category: str, kind: str | None = None) -> str:
        row = self._new(
            "txn",
            "balance_transaction",
            amount=amount,
            currency=source.get("currency", self.currency.partition(":")[2].lower()),
            exchange_rate=None,
            fee=fee,
            net=amount - fee,
            reporting_category=category,
            source=source["id"],
            type=kind or category,
            _payout=None,
        )
        return str(row["id"])

    def _expanded(self, row: Json, paths: list[str]) -> Json:
        shown = {name: value for name, value in row.items() if not name.startswith("_")}
        for path in paths:
            name, _, rest = path.partition(".")
            if shown.get(name) is not None:
                shown[name] = self._expanded(self.objects[row[name]], [rest] if rest else [])
        return shown

    def _event(self, kind: str, row: Json) -> None:
        reference = self._reference(row)
        event = self._new("evt", "event", type=kind, livemode=False, api_version="2026-10-28.endive")
        self.emit(kind, reference, event | {"data": {"object": self._expanded(row, [])}})

    def _reference(self, row: Json) -> str:
        metadata = row.get("metadata") or {}
        if row["object"] in {"refund", "dispute"}:
            metadata = self.objects[row["charge"]]["metadata"]
        return str(metadata.get("reference", ""))


_LISTS = {
    "sessions": "checkout.session",
    "refunds": "refund",
    "disputes": "dispute",
    "payouts": "payout",
    "balance_transactions": "balance_transaction",
}


_BOUNDS = {"gt": operator.gt, "gte": operator.ge, "lt": operator.lt, "lte": operator.le}


def _matches(row: Json, query: Json) -> bool:
    for name, wanted in query.items():
        if name in {"limit", "starting_after", "expand"}:
            continue
        have = row["_payout" if name == "payout" else name]
        if isinstance(wanted, dict):
            if not all(_BOUNDS[word](have, int(bound)) for word, bound in wanted.items()):
                return False
        elif have != wanted:
            return False
    return True


def _nested(encoded: str) -> Json:
    """`a[b][0][c]=d` as objects and lists."""
    root: Json = {}
    for name, value in parse_qsl(encoded, strict_parsing=bool(encoded)):
        place: Json = root
        *path, last = list(_path(name))
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    shown: Json = _listed(root)
    return shown


def _path(name: str) -> Iterator[str]:
    head, _, rest = name.partition("[")
    yield head
    if rest:
        yield from rest.removesuffix("]").split("][")


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    inner = {name: _listed(each) for name, each in value.items()}
    return list(inner.values()) if inner and all(name.isdigit() for name in inner) else inner


def _refused(param: str | None, code: str | None, message: str) -> Answer:
    return _error(400, "invalid_request_error", code, message, param)


def _error(status: int, kind: str, code: str | None, message: str, param: str | None = None) -> Answer:
    return told({"error": {"type": kind, "code": code, "message": message, "param": param}}, status)
