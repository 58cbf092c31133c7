"""Unlimit (CardPay), API v3, in payment page mode: the payer writes his card on their page.

Sources: the official SDK cardpay/java-sdk-v3 (its api/, model/ and docs/ folders, and the fixtures of callbacks) and
https://integration.unlimit.com/api-reference. Amounts are decimals. `request.id` is unique for 30 minutes only, so an
order is known by `merchant_order.id`, which lists are searched by: at most 7 days a query. A refund is known by the
order it is of and, there, by `merchant_order.description`, which is our reference of the refund.

What a payment says of itself knows no parts that were refunded, so those are summed up from the list of refunds. A
chargeback that was received (CHARGED_BACK) is a dispute until the dispute has its `result_time`; CHARGEBACK_RESOLVED
is one that was won. Settlement reports are files that no page describes: not read.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from core.http import ANSWER_TIMEOUT_S, RefusedError
from providers.fiat import decimals, fields
from providers.fiat.base import (
    Abilities,
    Made,
    Method,
    Notice,
    Order,
    OrderRequest,
    OrderState,
    Refund,
    Refunded,
    RefundRequest,
    RefundState,
    SettlementLine,
    Standing,
)
from providers.fiat.settings import UnlimitSettings
from providers.fiat.unlimit_http import UnlimitHttp

WINDOW = timedelta(days=7) - timedelta(seconds=2)
"""Of one query: less than 7 days, also in whole seconds."""
SLACK = timedelta(hours=1)
"""Between their clocks and ours, and before what was made while we waited for the answer."""
BEFORE = timedelta(days=6)
"""How far an order is looked back for before it is asked for: an earlier try may be some time ago. One window."""
ORDER_DAYS = timedelta(days=14)
"""A payment begins when it is asked for. Twice a window, for attempts that begin later on the same page."""
PAGE = 1_000

ASKED = "asked: "
"""A payment's note, which payers don't see, says what was asked for: what is told of its amount is what was paid."""

PAID = {"COMPLETED", "REFUNDED", "CHARGED_BACK", "CHARGEBACK_RESOLVED"}
FAILED = {"DECLINED", "CANCELLED", "VOIDED"}
EXPIRED = {"TERMINATED"}
PLAIN = {"COMPLETED", "DECLINED"}
"""Callbacks of these say all of a payment; others are asked about."""
REPEATED = re.compile("unique|duplicate|already exist", re.IGNORECASE)
"""No page has the words by which a `request.id` of the last 30 minutes is refused."""
REFUNDS = {
    "COMPLETED": RefundState.DONE,
    "REFUNDED": RefundState.DONE,
    "DECLINED": RefundState.FAILED,
    "CANCELLED": RefundState.FAILED,
    "VOIDED": RefundState.FAILED,
    "TERMINATED": RefundState.FAILED,
}


class UnlimitGateway:
    name = "unlimit"

    def __init__(self, settings: UnlimitSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        self._http = UnlimitHttp(self.name, settings, answer_timeout)
        self.abilities = Abilities(
            currencies=settings.ranges,
            methods=frozenset({Method.ANY, Method.CARD}),
            signs_webhooks=True,
            refunds=True,
            settlements=False,
            refunds_once=False,  # a `request.id` is known for 30 minutes
        )

    def create(self, request: OrderRequest) -> Made:
        if request.method not in self.abilities.methods:
            return Made(standing=Standing.REJECTED, why=f"Unlimit takes no {request.method}")
        known = decimals.before(
            lambda: self.find(reference=request.reference, provider_ref=None, made_at=datetime.now(UTC) - BEFORE)
        )
        if isinstance(known, decimals.Outcome):
            return Made(standing=known.standing, why=known.why)
        if known is not None:
            return Made(standing=Standing.ACCEPTED, order=known)
        outcome = decimals.attempt(lambda: self._http.post("/api/payments", _payment_body(request)), _why)
        if outcome.standing is not Standing.ACCEPTED:
            return Made(standing=_standing(outcome), why=outcome.why)
        try:
            order = Order(
                reference=request.reference,
                provider_ref=decimals.text(outcome.body, "payment_data", "id"),
                state=OrderState.OPEN,
                currency=request.currency,
                units=request.units,
                page_url=decimals.text(outcome.body, "redirect_url"),
            )
        except decimals.UnreadableError as error:
            return Made(standing=Standing.UNKNOWN, why=str(error))
        return Made(standing=Standing.ACCEPTED, order=order)

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:
        payments = self._payments(reference, made_at)
        if provider_ref is not None and provider_ref not in [
            decimals.text(each, "payment_data", "id") for each in payments
        ]:
            payments = [*payments, *self._payment(reference, provider_ref)]
        return self._whole(reference, payments) if payments else None

    def refund(self, request: RefundRequest) -> Refunded:
        known = decimals.before(lambda: self.find_refund(request, refund_ref=None))
        if isinstance(known, decimals.Outcome):
            return Refunded(standing=known.standing, why=known.why)
        if known is not None:
            return Refunded(standing=Standing.ACCEPTED, refund=known)
        outcome = decimals.attempt(lambda: self._http.post("/api/refunds", _refund_body(request)), _why)
        if outcome.standing is not Standing.ACCEPTED:
            return Refunded(standing=_standing(outcome), why=outcome.why)
        try:
            return Refunded(standing=Standing.ACCEPTED, refund=_refund(request, outcome.body))
        except decimals.UnreadableError as error:
            return Refunded(standing=Standing.UNKNOWN, why=str(error))

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:
        try:
            if refund_ref is not None:
                return _refund(request, self._http.read(f"/api/refunds/{refund_ref}").json())
            payment = self._http.read(f"/api/payments/{request.provider_ref}").json()
        except RefusedError as error:
            decimals.missing(error)
            return None
        begun = decimals.moment(decimals.field(payment, "payment_data", "created"))
        for row in self._refunds(request.order_reference, begun):
            if decimals.maybe(row, "merchant_order", "description") == request.reference:
                return _refund(request, row)
        return None

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        """PaymentCallback and RefundCallback of the SDK. Those of payouts and subscriptions are not ours."""
        told = fields.event(body)
        if decimals.maybe(told, "payment_data", "id") is None:
            return ()
        reference = decimals.text(told, "merchant_order", "id")
        provider_ref = _id(told)
        if decimals.maybe(told, "refund_data") is not None:
            kind = f"refund {decimals.text(told, 'refund_data', 'status')}"
            return (Notice(reference=reference, provider_ref=provider_ref, kind=kind),)
        status = _status(told)
        order = _order(reference, [told]) if status in PLAIN else None
        return (Notice(reference=reference, provider_ref=provider_ref, kind=f"payment {status}", order=order),)

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:  # noqa: ARG002
        return iter(())

    def _payments(self, reference: str, made_at: datetime) -> list[Any]:
        return list(self._listed("/api/payments", reference, made_at, made_at + ORDER_DAYS))

    def _payment(self, reference: str, provider_ref: str) -> list[Any]:
        try:
            payment = self._http.read(f"/api/payments/{provider_ref}").json()
        except RefusedError as error:
            decimals.missing(error)
            return []
        return [payment] if decimals.text(payment, "merchant_order", "id") == reference else []

    def _refunds(self, reference: str, since: datetime) -> Iterator[Any]:
        return self._listed("/api/refunds", reference, since, datetime.now(UTC))

    def _listed(self, path: str, reference: str, since: datetime, until: datetime) -> Iterator[Any]:
        """The rows of one merchant order, window after window: `start_time` is inclusive, `end_time` isn't."""
        begins = since - SLACK
        ends = min(until, datetime.now(UTC)) + SLACK
        while begins < ends:
            stops = min(begins + WINDOW, ends)
            asked = {
                "request_id": uuid4().hex,
                "merchant_order_id": reference,
                "start_time": _stamp(begins),
                "end_time": _stamp(stops),
                "max_count": PAGE,
                "sort_order": "asc",
            }
            told = self._http.read(path, asked).json()
            if decimals.maybe(told, "has_more"):
                raise decimals.UnreadableError(f"{path} has more than {PAGE} rows of one order")
            yield from (
                row for row in decimals.rows(told, "data") if decimals.text(row, "merchant_order", "id") == reference
            )
            begins = stops

    def _whole(self, reference: str, payments: Sequence[Any]) -> Order:
        """What the payments say, and if one is paid, refunds and disputes as well."""
        order = _order(reference, payments)
        if order.state is not OrderState.PAID:
            return order
        begun = min(decimals.moment(decimals.field(each, "payment_data", "created")) for each in payments)
        returned = dict.fromkeys(map(_id, payments), 0)
        for row in self._refunds(reference, begun):
            if _refund_state(row) is RefundState.DONE and _id(row) in returned:
                returned[_id(row)] += _returned(row, order.currency)
        disputed = charged_back = 0
        for each in payments:
            if _status(each) == "REFUNDED":
                returned[_id(each)] = _units(each)
            elif _status(each) == "CHARGED_BACK":
                # How much a bank asks back is told nowhere: at most what the payer hasn't got back yet.
                left = _units(each) - returned[_id(each)]
                if left < 0:
                    raise decimals.UnreadableError("the provider has given back more of a payment than was paid")
                disputed, charged_back = (
                    (disputed, charged_back + left) if self._is_final(_id(each)) else (disputed + left, charged_back)
                )
        return replace(
            order,
            refunded_units=sum(returned.values()),
            disputed_units=disputed,
            charged_back_units=charged_back,
        )

    def _is_final(self, payment_id: str) -> bool:
        """Whether the newest chargeback of a payment has ended."""
        try:
            told = self._http.read(f"/api/disputes/{payment_id}").json()
        except RefusedError as error:
            decimals.missing(error)
            return False
        disputes = [decimals.field(row, "dispute_data") for row in decimals.rows(told, "data")]
        chargebacks = [each for each in disputes if decimals.maybe(each, "type") == "CB"]
        newest = max(chargebacks, key=lambda each: decimals.moment(decimals.maybe(each, "reg_time")), default=None)
        return decimals.maybe(newest, "result_time") is not None


def _payment_body(request: OrderRequest) -> str:
    body: dict[str, object] = {
        "request": {"id": request.reference, "time": _stamp(datetime.now(UTC))},
        "merchant_order": {
            "id": request.reference,
            "description": request.description,
            "expire_at": _stamp(request.expires_at),
        },
        "customer": {} if request.email is None else {"email": request.email},
        "payment_data": {
            "amount": decimals.amount(request.units, request.currency),
            "currency": fields.code(request.currency),
            "note": f"{ASKED}{request.units} {request.currency}",
        },
    }
    if request.method is Method.CARD:
        body["payment_method"] = "BANKCARD"
    if request.return_url is not None:
        body["return_urls"] = {"return_url": request.return_url}
    return decimals.dumps(body)


def _refund_body(request: RefundRequest) -> str:
    return decimals.dumps(
        {
            "request": {"id": request.reference, "time": _stamp(datetime.now(UTC))},
            "merchant_order": {"id": request.order_reference, "description": request.reference},
            "payment_data": {"id": request.provider_ref},
            "refund_data": {
                "amount": decimals.amount(request.units, request.currency),
                "currency": fields.code(request.currency),
            },
        }
    )


def _order(reference: str, payments: Sequence[Any]) -> Order:
    """Of one page, and of each attempt on it that became a payment of its own."""
    statuses = {_status(each) for each in payments}
    paid = [each for each in payments if _status(each) in PAID]
    currencies = {decimals.text(each, "payment_data", "currency") for each in paid or payments}
    if len(currencies) != 1:
        raise decimals.UnreadableError("the payments of one order are in several currencies")
    currency = decimals.currency_of(currencies.pop())
    return Order(
        reference=reference,
        provider_ref=_id((paid or payments)[0]),
        state=OrderState.PAID if paid else _unpaid(statuses),
        currency=currency,
        units=_asked(payments[0], currency),
        paid_units=sum(map(_units, paid)),
    )


def _unpaid(statuses: Collection[str]) -> OrderState:
    """All attempts must have ended. A status that we have never seen goes on."""
    if not FAILED.union(EXPIRED).issuperset(statuses):
        return OrderState.OPEN
    return OrderState.EXPIRED if EXPIRED.issuperset(statuses) else OrderState.FAILED


def _asked(payment: Any, currency: str) -> int:
    note = re.fullmatch(rf"{ASKED}([0-9]{{1,18}}) {currency}", str(decimals.maybe(payment, "payment_data", "note")))
    return _units(payment) if note is None else int(note[1])


def _refund(request: RefundRequest, told: Any) -> Refund:
    currency = decimals.currency_of(decimals.maybe(told, "refund_data", "currency") or fields.code(request.currency))
    amount = decimals.maybe(told, "refund_data", "amount")
    return Refund(
        reference=request.reference,
        provider_ref=decimals.text(told, "refund_data", "id"),
        state=_refund_state(told),
        currency=currency,
        units=request.units if amount is None else _returned(told, currency),
    )


def _refund_state(told: Any) -> RefundState:
    """A status that we have never seen is one that goes on."""
    return REFUNDS.get(decimals.text(told, "refund_data", "status"), RefundState.PENDING)


def _id(payment: Any) -> str:
    return decimals.text(payment, "payment_data", "id")


def _status(payment: Any) -> str:
    return decimals.text(payment, "payment_data", "status")


def _units(payment: Any) -> int:
    currency = decimals.currency_of(decimals.field(payment, "payment_data", "currency"))
    return decimals.price(decimals.field(payment, "payment_data", "amount"), currency, "payment_data.amount")


def _returned(refund: Any, currency: str) -> int:
    return decimals.price(decimals.field(refund, "refund_data", "amount"), currency, "refund_data.amount")


def _stamp(moment: datetime) -> str:
    """yyyy-MM-dd'T'HH:mm:ss'Z'."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _standing(outcome: decimals.Outcome) -> Standing:
    """A `request.id` that was there before is our own earlier try, which the look-up didn't show: not a refusal."""
    repeated = outcome.standing is Standing.REJECTED and REPEATED.search(outcome.why or "") is not None
    return Standing.UNKNOWN if repeated else outcome.standing


def _why(refusal: Mapping[str, Any]) -> Sequence[object]:
    """Of an ApiError: `name` is the code."""
    return refusal.get("name"), refusal.get("message")
