"""Razorpay's API as razorpay.com/docs/api describes it: payment links, payments, refunds, disputes, settlements.

Entities are kept as they are written, by id; what begins with `_` is not told. Samples: razorpay/razorpay-python,
documents/. Razorpay takes each `reference_id` once, and answers 400 to an id that it doesn't know.
"""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from local.http_server import Answer, Asked
from providers.fiat.razorpay import RazorpayGateway
from providers.fiat.settings import RazorpaySettings
from tests.support.gateways.base import CARD_LAST4, PAYER_EMAIL, PAYER_NAME, PAYER_PHONE, Double, told

Json = dict[str, Any]
KEY_ID, KEY_SECRET = "rzp_test_TallyrailDouble", "RazorpayDoubleSecret"
INDIA = timezone(timedelta(hours=5, minutes=30))
LIVES_MIN = 15 * 60


class RazorpayDouble(Double):
    name = "razorpay"
    currency = "iso4217:INR"
    other_currency = "iso4217:USD"
    secrets = (KEY_SECRET, base64.b64encode(f"{KEY_ID}:{KEY_SECRET}".encode()).decode())
    webhook_secret = b"razorpay_webhook_double"
    refunds_fail = True
    pays_twice = True

    def __init__(self) -> None:
        super().__init__()
        self.entities: dict[str, Json] = {}
        self.keys: dict[tuple[str, str], tuple[bytes, Answer]] = {}

    def gateway(self, *, answer_timeout: float = 10.0) -> RazorpayGateway:
        settings = RazorpaySettings(
            key_id=SecretStr(KEY_ID),
            key_secret=SecretStr(KEY_SECRET),
            base_url=self.url,
            currencies=dict.fromkeys((self.currency, self.other_currency), (100, 500_000_00)),
        )
        return RazorpayGateway(settings, answer_timeout=answer_timeout)

    def signed(self, body: bytes) -> Mapping[str, str]:
        """razorpay.com/docs/webhooks/validate-test: no time; the event's id is a header."""
        digest = hmac.new(self.webhook_secret, body, hashlib.sha256).hexdigest()
        return {"X-Razorpay-Signature": digest, "X-Razorpay-Event-Id": f"evt_{len(self.outbox):06d}_{digest[:8]}"}

    # --- the payer and his bank ---------------------------------------------------------------------------------------

    def pay(self, reference: str, units: int | None = None, currency: str | None = None) -> None:
        with self.lock:
            link = self._link(reference)
            amount = link["amount"] if units is None else units
            code = link["currency"] if currency is None else currency.partition(":")[2]
            payment = self._payment(link, amount, code, "captured") | {"captured": True}
            self.entities[payment["id"]] = payment
            link |= {"amount_paid": link["amount_paid"] + amount, "status": "paid", "updated_at": int(time.time())}
            self._line(payment, amount, self.fee(amount), "payment", None)
            self._event("payment.captured", payment=payment)
            self._event("payment_link.paid", payment_link=link, payment=payment)

    def fail(self, reference: str) -> None:
        """A card is declined, and somebody cancels the link in the dashboard."""
        with self.lock:
            link = self._link(reference)
            payment = self._payment(link, link["amount"], link["currency"], "failed")
            self._event("payment.failed", payment=payment)
            link |= {"status": "cancelled", "cancelled_at": int(time.time())}
            self._event("payment_link.cancelled", payment_link=link)

    def expire(self, reference: str) -> None:
        with self.lock:
            link = self._link(reference)
            link |= {"status": "expired", "expired_at": int(time.time())}
            self._event("payment_link.expired", payment_link=link)

    def puzzle(self, reference: str) -> None:
        with self.lock:
            self._link(reference)["status"] = "pondering"

    def refund_outside(self, reference: str, units: int | None = None) -> None:
        with self.lock:
            payment = self._paid(reference)
            left = payment["amount"] - payment["amount_refunded"]
            if left:
                self._refund(payment, {"amount": left if units is None else min(units, left)})

    def finish_refunds(self) -> None:
        self._end_refunds("processed")

    def fail_refunds(self) -> None:
        self._end_refunds("failed")

    def _end_refunds(self, status: str) -> None:
        with self.lock:
            for refund in self._rows("refund"):
                if refund["status"] == "pending":
                    refund["status"] = status
                    payment = self.entities[refund["payment_id"]]
                    if status == "failed":
                        payment["amount_refunded"] -= refund["amount"]
                    else:
                        self._line(refund, -refund["amount"], 0, "refund", payment["id"])
                    self._event(f"refund.{status}", refund=refund, payment=payment)

    def dispute(self, reference: str) -> None:
        with self.lock:
            payment = self._paid(reference)
            dispute = self._new(
                "disp",
                "dispute",
                payment_id=payment["id"],
                amount=payment["amount"],
                amount_deducted=0,
                currency=payment["currency"],
                phase="chargeback",
                reason_code="chargeback",
                respond_by=int(time.time()) + 86_400,
                status="open",
            )
            self._event("payment.dispute.created", payment=payment, dispute=dispute)

    def charge_back(self, reference: str) -> None:
        with self.lock:
            dispute = self._close(reference, "lost")
            if not dispute["amount_deducted"]:
                self._line(dispute, -dispute["amount"], 0, "adjustment", dispute["payment_id"])
            dispute["amount_deducted"] = dispute["amount"]
            self._event("payment.dispute.lost", payment=self._paid(reference), dispute=dispute)

    def win_dispute(self, reference: str) -> None:
        """What was taken comes back."""
        with self.lock:
            dispute = self._close(reference, "won")
            if dispute["amount_deducted"]:
                self._line(dispute, dispute["amount_deducted"], 0, "adjustment", dispute["payment_id"])
            dispute["amount_deducted"] = 0
            self._event("payment.dispute.won", payment=self._paid(reference), dispute=dispute)

    def settle(self) -> str:
        with self.lock:
            code = self.currency.partition(":")[2]
            rows = [row for row in self._rows("_line") if row["settlement_id"] is None and row["currency"] == code]
            settlement = self._new("setl", "settlement", status="processed", fees=sum(row["fee"] for row in rows))
            settlement["amount"] = sum(row["credit"] - row["debit"] for row in rows)
            for row in rows:
                row |= {"settlement_id": settlement["id"], "settled": True, "settled_at": int(time.time())}
            self.paid_out[settlement["id"]] = settlement["amount"]
            self.emit("settlement.processed", "", self._body("settlement.processed", settlement=settlement))
            return str(settlement["id"])

    # --- the interface ------------------------------------------------------------------------------------------------

    def serve(self, asked: Asked) -> Answer:  # noqa: PLR0911 - one line a path
        given = asked.headers.get("Authorization", "").removeprefix("Basic ")
        if given != self.secrets[1]:
            return _refused("Authentication failed", 401)
        url = urlsplit(asked.path)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        parts = url.path.removeprefix("/v1/").split("/")
        match [asked.method, *parts]:
            case ["POST", "payment_links"]:
                return self._make(json.loads(asked.body))
            case ["GET", "payment_links"]:
                return told({"payment_links": [_shown(row) for row in self._links(query)]})
            case ["POST", "payments", payment, "refund"]:
                return self._give_back(asked, payment)
            case ["GET", "payments", payment, "refunds"]:
                return self._page([row for row in self._rows("refund") if row["payment_id"] == payment], query)
            case ["GET", "disputes"]:
                since = int(query.get("from", 0))
                return self._page([row for row in self._rows("dispute") if row["created_at"] >= since], query)
            case ["GET", "settlements", "recon", "combined"]:
                return self._page([row for row in self._rows("_line") if _settled_on(row, query)], query)
            case ["GET", "payment_links" | "payments" | "refunds", ref] if ref in self.entities:
                return told(_shown(self.entities[ref]))
        return _refused("The id provided does not exist")

    def _make(self, body: Json) -> Answer:
        now = int(time.time())
        if body["amount"] < 100:
            return _refused(f"The amount must be at least INR 1.00 for {PAYER_EMAIL}, {PAYER_PHONE}", field="amount")
        if body["expire_by"] < now + LIVES_MIN:
            return _refused("timestamp must be atleast 15 minutes in future", field="expire_by")
        if any(row["reference_id"] == body["reference_id"] for row in self._rows("_link")):
            return _refused(f"payment link with given reference_id ({body['reference_id']}) already exists")
        link = self._new(
            "plink",
            "_link",
            accept_partial=body["accept_partial"],
            amount=body["amount"],
            amount_paid=0,
            cancelled_at=0,
            currency=body["currency"],
            customer=body.get("customer", {}),
            description=body["description"],
            expire_by=body["expire_by"],
            expired_at=0,
            notes=body["notes"],
            notify=body["notify"],
            payments=None,
            reference_id=body["reference_id"],
            status="created",
            updated_at=now,
            upi_link=body.get("upi_link", False),
        )
        link["short_url"] = f"https://rzp.io/i/{link['id']}"
        return told(_shown(link))

    def _links(self, query: Mapping[str, str]) -> list[Json]:
        rows = self._rows("_link")
        if "payment_id" in query:
            return [
                row for row in rows if query["payment_id"] in {each["payment_id"] for each in row["payments"] or ()}
            ]
        return [row for row in rows if row["reference_id"] == query["reference_id"]] if self.found() else []

    def _give_back(self, asked: Asked, ref: str) -> Answer:
        """refunds/normal-refunds-idempotent: the key is of ten characters at least."""
        key = asked.headers.get("X-Refund-Idempotency", "")
        if len(key) < 10:
            return _refused("The idempotency key must be at least 10 characters")
        if (ref, key) in self.keys:
            sent, answer = self.keys[ref, key]
            same = sent == asked.body
            return answer if same else _refused("Different request body for the same idempotency key")
        body, payment = json.loads(asked.body), self.entities[ref]
        if body["amount"] > payment["amount"] - payment["amount_refunded"]:
            return _refused("The total refund amount is greater than the refund payment amount", field="amount")
        answer = told(_shown(self._refund(payment, body)))
        self.keys[ref, key] = asked.body, answer
        return answer

    def _page(self, rows: list[Json], query: Mapping[str, str]) -> Answer:
        skip, count = int(query.get("skip", 0)), min(int(query.get("count", 10)), self.page_max)
        items = [_shown(row) for row in rows[skip : skip + count]]
        return told({"entity": "collection", "count": len(items), "items": items})

    # --- entities -----------------------------------------------------------------------------------------------------

    def _new(self, prefix: str, kind: str, **fields: Any) -> Json:
        row = {"id": f"{prefix}_{len(self.entities):06d}", "entity": kind, "created_at": int(time.time()), **fields}
        self.entities[row["id"]] = row
        return row

    def _rows(self, kind: str) -> list[Json]:
        return [row for row in self.entities.values() if row["entity"] == kind]

    def _link(self, reference: str) -> Json:
        return next(row for row in self._rows("_link") if row["reference_id"] == reference)

    def _paid(self, reference: str) -> Json:
        refs = {each["payment_id"] for each in self._link(reference)["payments"]}
        return next(row for row in self._rows("payment") if row["id"] in refs and row["captured"])

    def _payment(self, link: Json, amount: int, code: str, status: str) -> Json:
        """Its notes are empty: that a link's notes are copied to its payments is not documented."""
        payment = self._new(
            "pay",
            "payment",
            amount=amount,
            amount_refunded=0,
            captured=False,
            card={"last4": CARD_LAST4, "network": "Visa", "name": PAYER_NAME},
            contact=PAYER_PHONE,
            currency=code,
            email=PAYER_EMAIL,
            fee=self.fee(amount),
            method="card",
            notes=[],
            order_id=f"order_{link['id']}",
            refund_status=None,
            status=status,
            tax=0,
        )
        tried = {"amount": amount, "method": "card", "payment_id": payment["id"], "status": status}
        link["payments"] = [*(link["payments"] or []), tried]
        return payment

    def _refund(self, payment: Json, body: Json) -> Json:
        payment["amount_refunded"] += body["amount"]
        payment["refund_status"] = "full" if payment["amount_refunded"] == payment["amount"] else "partial"
        refund = self._new(
            "rfnd",
            "refund",
            amount=body["amount"],
            currency=payment["currency"],
            notes=body.get("notes", []),
            payment_id=payment["id"],
            receipt=body.get("receipt"),
            speed_processed="normal",
            status="pending",
        )
        self._event("refund.created", refund=refund, payment=payment)
        return refund

    def _close(self, reference: str, status: str) -> Json:
        payment = self._paid(reference)["id"]
        disputes = [row for row in self._rows("dispute") if row["payment_id"] == payment]
        if not disputes or disputes[-1]["status"] == "won":
            self.dispute(reference)
            disputes = [row for row in self._rows("dispute") if row["payment_id"] == payment]
        disputes[-1]["status"] = status
        return disputes[-1]

    def _line(self, about: Json, units: int, fee: int, kind: str, payment: str | None) -> None:
        """Of settlements/fetch-recon. A dispute's is an adjustment that names it."""
        net = units - fee
        line = self._new(
            "adj",
            "_line",
            type=kind,
            amount=abs(units),
            credit=max(net, 0),
            debit=max(-net, 0),
            currency=about["currency"],
            dispute_id=about["id"] if about["entity"] == "dispute" else None,
            fee=fee,
            notes="{}",
            payment_id=payment,
            settled=False,
            settled_at=None,
            settlement_id=None,
            tax=0,
        )
        line["entity_id"] = line["id"] if kind == "adjustment" else about["id"]

    def _event(self, kind: str, **entities: Json) -> None:
        self.emit(kind, self._reference(entities), self._body(kind, **entities))

    def _reference(self, entities: Mapping[str, Json]) -> str:
        link = entities.get("payment_link") or self._links({"payment_id": entities["payment"]["id"]})[0]
        return str(link["reference_id"])

    def _body(self, kind: str, **entities: Json) -> Json:
        return {
            "account_id": "acc_TallyrailDouble",
            "contains": list(entities),
            "created_at": int(time.time()),
            "entity": "event",
            "event": kind,
            "payload": {name: {"entity": _shown(row)} for name, row in entities.items()},
        }


def _shown(row: Json) -> Json:
    """A payment link is the one entity that doesn't say what it is; a settlement's line has no id of its own."""
    hidden = {"_link": {"entity"}, "_line": {"entity", "id"}}.get(row["entity"], set())
    return {name: value for name, value in row.items() if name not in hidden}


def _settled_on(row: Json, query: Mapping[str, str]) -> bool:
    if not row["settled"]:
        return False
    day = datetime.fromtimestamp(row["settled_at"], INDIA)
    return [day.year, day.month, day.day] == [int(query[name]) for name in ("year", "month", "day")]


def _refused(words: str, status: int = 400, field: str | None = None) -> Answer:
    return told({"error": {"code": "BAD_REQUEST_ERROR", "description": words, "field": field, "metadata": {}}}, status)
