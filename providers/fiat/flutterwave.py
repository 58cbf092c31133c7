"""Flutterwave, API v3: payment links, and account numbers made for one order (NGN).

Sources: https://developer.flutterwave.com/docs (collecting-payments/standard, direct-charge/bank-transfer,
payment-operations/refunds, payment-operations/chargebacks, reference/endpoints/settlements), the same at
flutterwaveinc.mintlify.app, and the official SDK Flutterwave/Node-v3 with the sample answers of its documentation/.
Amounts are decimals in major units.

Each attempt of a payer is one of their transactions; all have our reference as `tx_ref`, and a payer may pay twice. A
link that nobody has used yet is no transaction: it isn't found, and nobody can pay it unless we have its address.
Refunds have no reference of ours: it stands in their comment. A dispute that goes on to another stage is another row:
the newest decides. Webhooks are not signed (`verif-hash` is a password): each is a hint, and that of a refund names
only their transaction, which is looked up.

The account must bear the fees itself (a setting of their dashboard): else payers are charged another amount than ours.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

from core.errors import PermanentError, TransientError
from core.http import ANSWER_TIMEOUT_S, HttpClient, RefusedError
from providers.fiat import decimals, fields
from providers.fiat import flutterwave_wire as wire
from providers.fiat.base import (
    Abilities,
    LineKind,
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
from providers.fiat.credentials import teller
from providers.fiat.settings import FlutterwaveSettings

BAD_REQUEST = 400
NONE_FOUND = "no transaction was found"
"""How verify_by_reference says, with 400, that it knows none."""
DAY = timedelta(days=1)
BEFORE = timedelta(days=30)
"""How far an order is looked back for before it is asked for: an earlier try of ours may be some time ago."""
SETTLING = timedelta(days=14)
"""Settlements are listed by a day that may be so long before they are paid out."""
PAGES_MAX = 1_000
NUMBER = re.compile("[0-9]{1,19}")
JSON = {"Content-Type": "application/json"}

SUCCESSFUL = "successful"
LOST = {"lost", "accepted"}
WON = {"won"}


class FlutterwaveGateway:
    name = "flutterwave"

    def __init__(self, settings: FlutterwaveSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        self._http = HttpClient(
            settings.base_url,
            headers={"Authorization": f"Bearer {settings.reveal('secret_key')}"},
            answer_timeout=answer_timeout,
            on_credentials_refused=teller(self.name),
        )
        self.abilities = Abilities(
            currencies=settings.ranges,
            methods=frozenset({Method.ANY, Method.CARD, Method.BANK_TRANSFER}),
            signs_webhooks=False,
            refunds=True,
            settlements=True,
            finds_unused=False,
            refunds_once=False,  # our reference is a comment there
        )

    def create(self, request: OrderRequest) -> Made:
        if request.method not in self.abilities.methods:
            return Made(standing=Standing.REJECTED, why=f"Flutterwave takes no {request.method}")
        known = decimals.before(
            lambda: self.find(reference=request.reference, provider_ref=None, made_at=datetime.now(UTC) - BEFORE)
        )
        if isinstance(known, decimals.Outcome):
            return Made(standing=known.standing, why=known.why)
        if known is not None:
            return Made(standing=Standing.ACCEPTED, order=known)
        by_transfer = request.method is Method.BANK_TRANSFER
        path, params = ("/v3/charges", {"type": "bank_transfer"}) if by_transfer else ("/v3/payments", None)
        body = decimals.dumps(wire.charge_body(request) if by_transfer else wire.page_body(request))
        outcome = decimals.attempt(
            lambda: self._http.send("POST", path, params=params, content=body.encode(), headers=JSON), wire.why
        )
        if outcome.standing is not Standing.ACCEPTED:
            return Made(standing=outcome.standing, why=outcome.why)
        try:
            return Made(standing=Standing.ACCEPTED, order=wire.made(request, outcome.body))
        except decimals.UnreadableError as error:
            return Made(standing=Standing.UNKNOWN, why=str(error))

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:  # noqa: ARG002
        attempts = self._attempts(reference, made_at)
        if not attempts:
            return None
        paid = [each for each in attempts if each.status == SUCCESSFUL]
        if len({each.currency for each in paid or attempts}) != 1:
            raise decimals.UnreadableError("the payments of one order are in several currencies")
        asked = (paid or attempts)[0]
        fees = [each.fee_units for each in paid]
        disputes = [self._dispute(each) for each in paid]
        return Order(
            reference=reference,
            provider_ref=reference,
            state=OrderState.PAID if paid else _unpaid(attempts),
            currency=asked.currency,
            units=asked.units if asked.asked is None else asked.asked,
            paid_units=sum(each.units for each in paid),
            fee_units=None if not fees or None in fees else sum(fee for fee in fees if fee is not None),
            refunded_units=sum(self._returned(each, {RefundState.DONE}) for each in paid),
            disputed_units=sum(running for running, _ in disputes),
            charged_back_units=sum(lost for _, lost in disputes),
        )

    def refund(self, request: RefundRequest) -> Refunded:
        known = decimals.before(lambda: self._refundable(request))
        if isinstance(known, decimals.Outcome):
            return Refunded(standing=known.standing, why=known.why)
        if isinstance(known, Refund):
            return Refunded(standing=Standing.ACCEPTED, refund=known)
        path = f"/v3/transactions/{known.id}/refund"
        body = decimals.dumps(
            {"amount": decimals.amount(request.units, request.currency), "comments": request.reference}
        )
        outcome = decimals.attempt(lambda: self._http.send("POST", path, content=body.encode(), headers=JSON), wire.why)
        if outcome.standing is not Standing.ACCEPTED:
            return Refunded(standing=outcome.standing, why=outcome.why)
        try:
            refund = wire.refund_of(request, decimals.field(outcome.body, "data"))
        except decimals.UnreadableError as error:
            return Refunded(standing=Standing.UNKNOWN, why=str(error))
        return Refunded(standing=Standing.ACCEPTED, refund=refund)

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:
        if refund_ref is None:
            return self._commented(request, self._paid(request.order_reference))
        try:
            told = self._http.read(f"/v3/refunds/{refund_ref}").json()
        except RefusedError as error:
            decimals.missing(error)
            return None
        return wire.refund_of(request, decimals.field(told, "data"))

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        """`charge.completed` and others with an envelope; a refund's is flat. Raises TransientError: it may ask."""
        told = fields.event(body)
        data = told.get("data") if isinstance(told.get("data"), Mapping) else told
        if "transfer" in str(told.get("event", "")):
            return ()  # a payout
        kind = fields.why(told.get("event") or "refund", decimals.maybe(data, "status"))
        if decimals.maybe(data, "tx_ref") is not None:
            return (Notice(reference=decimals.text(data, "tx_ref"), provider_ref=None, kind=kind),)
        theirs = str(decimals.maybe(data, "TransactionId") or decimals.maybe(data, "transaction_id"))
        # Nobody vouches for it, so it becomes part of an address only if it is a number.
        reference = self._reference(theirs) if NUMBER.fullmatch(theirs) else None
        return () if reference is None else (Notice(reference=reference, provider_ref=None, kind=kind),)

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:
        for row in self._pages("/v3/settlements", {"from": wire.day(since - SETTLING), "to": wire.day(until + DAY)}):
            if decimals.maybe(row, "status") != "completed":
                continue
            settled_at = decimals.moment(decimals.maybe(row, "processed_date") or decimals.field(row, "due_date"))
            if since <= settled_at < until:
                told = self._http.read(f"/v3/settlements/{decimals.text(row, 'id')}").json()
                yield from self._lines(decimals.field(told, "data"), settled_at)

    def _lines(self, settlement: Any, settled_at: datetime) -> Iterator[SettlementLine]:
        """Its parts, and what they don't explain as a line of its own: together they are what arrives."""
        number = decimals.text(settlement, "id")
        currency = decimals.currency_of(decimals.field(settlement, "currency"))

        def line(of: str, kind: LineKind, units: int, fee: int = 0, reference: str | None = None) -> SettlementLine:
            return SettlementLine(
                id=f"{number}:{of}",
                settlement=number,
                kind=kind,
                reference=reference,
                provider_ref=reference,
                currency=currency,
                units=units,
                fee_units=fee,
                settled_at=settled_at,
            )

        rest = decimals.units(decimals.field(settlement, "net_amount"), currency)
        for row in decimals.rows(settlement, "transactions"):
            charged = decimals.units(decimals.field(row, "charged_amount"), currency)
            net = decimals.units(decimals.field(row, "settlement_amount"), currency)
            rest -= net
            yield line(decimals.text(row, "id"), LineKind.PAYMENT, charged, charged - net, decimals.text(row, "tx_ref"))
        for of, kind, units, reference in self._taken(settlement, currency):
            rest -= units
            yield line(of, kind, units, reference=reference)
        if rest:
            yield line("rest", LineKind.ADJUSTMENT, rest)

    def _taken(self, settlement: Any, currency: str) -> Iterator[tuple[str, LineKind, int, str | None]]:
        """Refunds and chargebacks, those whose numbers are told one by one, and the rest of each as one sum."""
        left = decimals.price(decimals.maybe(settlement, "refund") or 0, currency, "refund")
        for number in wire.ids(decimals.maybe(settlement, "refund_meta")):
            told = decimals.field(self._http.read(f"/v3/refunds/{number}").json(), "data")
            units = wire.refunded(told, currency)
            left -= units
            yield f"refund-{number}", LineKind.REFUND, -units, self._reference(wire.transaction_of(told))
        if left:
            yield "refunds", LineKind.REFUND, -left, None
        left = decimals.price(decimals.maybe(settlement, "chargeback") or 0, currency, "chargeback")
        numbers = wire.ids(decimals.maybe(settlement, "chargeback_meta"))
        for row in self._pages("/v3/chargebacks", {}) if numbers else ():
            if decimals.text(row, "id") in numbers:
                units = decimals.price(decimals.field(row, "amount"), currency)
                left -= units
                yield f"chargeback-{row['id']}", LineKind.CHARGEBACK, -units, decimals.text(row, "tx_ref")
        if left:
            yield "chargebacks", LineKind.CHARGEBACK, -left, None

    def _verified(self, reference: str) -> Any | None:
        """The transaction that they think is the one of our reference."""
        try:
            told = self._http.read("/v3/transactions/verify_by_reference", params={"tx_ref": reference}).json()
        except RefusedError as error:
            words = str(fields.error(error).get("message", "")).lower()
            if error.reply.status == BAD_REQUEST and words.startswith(NONE_FOUND):
                return None
            raise
        data = decimals.field(told, "data")
        if decimals.text(data, "tx_ref") != reference:
            raise decimals.UnreadableError("the provider answers with another order")
        return data

    def _reference(self, transaction: str) -> str | None:
        """Our reference of one of their transactions. None: it is none of this account."""
        try:
            told = self._http.read(f"/v3/transactions/{transaction}/verify").json()
        except RefusedError as error:
            if error.reply.status not in (BAD_REQUEST, decimals.NOT_FOUND):
                raise
            return None
        return decimals.text(told, "data", "tx_ref")

    def _attempts(self, reference: str, made_at: datetime | None = None) -> Sequence[wire.Attempt]:
        """All transactions of our reference, the one that they think is it first. Empty: there is none."""
        verified = self._verified(reference)
        if verified is None:
            return ()
        first = wire.attempt_of(verified)
        asked = {"tx_ref": reference}
        if made_at is not None:
            asked |= {"from": wire.day(made_at - DAY), "to": wire.day(datetime.now(UTC) + DAY)}
        listed = [
            wire.attempt_of(row)
            for row in self._pages("/v3/transactions", asked)
            if decimals.maybe(row, "tx_ref") == reference
        ]
        return (first, *(each for each in listed if each.id != first.id))

    def _refundable(self, request: RefundRequest) -> Refund | wire.Attempt:
        """That refund, if it is there; else the payment that has most left to give back."""
        attempts = self._attempts(request.order_reference)
        paid = [each for each in attempts if each.status == SUCCESSFUL]
        if not attempts:
            raise TransientError("the payment isn't shown just now")
        if not paid:
            raise PermanentError("nothing was paid")
        known = self._commented(request, paid)
        begun = {RefundState.DONE, RefundState.PENDING}
        return known or max(paid, key=lambda each: each.units - self._returned(each, begun))

    def _paid(self, reference: str) -> Sequence[wire.Attempt]:
        return [each for each in self._attempts(reference) if each.status == SUCCESSFUL]

    def _returned(self, attempt: wire.Attempt, states: Collection[RefundState]) -> int:
        return sum(
            wire.refunded(row, attempt.currency) for row in self._refunds(attempt) if wire.refund_state(row) in states
        )

    def _commented(self, request: RefundRequest, attempts: Sequence[wire.Attempt]) -> Refund | None:
        for row in chain.from_iterable(map(self._refunds, attempts)):
            if (decimals.maybe(row, "comment") or decimals.maybe(row, "comments")) == request.reference:
                return wire.refund_of(request, row)
        return None

    def _refunds(self, attempt: wire.Attempt) -> Iterator[Any]:
        """`id` is the transaction's."""
        for row in self._pages("/v3/refunds", {"id": attempt.id}):
            if wire.transaction_of(row) == attempt.id:
                yield row

    def _dispute(self, attempt: wire.Attempt) -> tuple[int, int]:
        """Units of a running dispute, and units that are lost. A status that we have never seen runs."""
        rows = [
            row
            for row in self._pages("/v3/chargebacks", {"flw_ref": attempt.flw_ref})
            if wire.transaction_of(row) == attempt.id
        ]
        newest = max(rows, key=lambda row: decimals.moment(decimals.field(row, "created_at")), default=None)
        status = decimals.maybe(newest, "status")
        if newest is None or status in WON:
            return 0, 0
        units = decimals.price(decimals.field(newest, "amount"), attempt.currency)
        return (0, units) if status in LOST else (units, 0)

    def _pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Any]:
        """Rows of all pages. Each row once: lists may move on while they are read."""
        seen: set[str] = set()
        for page in range(1, PAGES_MAX + 1):
            told = self._http.read(path, params={**params, "page": page}).json()
            for row in decimals.rows(told, "data"):
                number = decimals.text(row, "id")
                if number not in seen:
                    seen.add(number)
                    yield row
            pages = decimals.maybe(told, "meta", "page_info", "total_pages") or 1
            if not isinstance(pages, int):
                raise decimals.UnreadableError(f"{path} doesn't say how many pages there are")
            if page >= pages:
                return
        raise decimals.UnreadableError(f"{path} has more than {PAGES_MAX} pages")


def _unpaid(attempts: Sequence[wire.Attempt]) -> OrderState:
    """A failed attempt is not the end: the page takes another one until the order's time is up."""
    over = any(each.expires_at is not None and each.expires_at <= datetime.now(UTC) for each in attempts)
    return OrderState.EXPIRED if over else OrderState.OPEN
