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

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from core.errors import TransientError
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
from providers.fiat.settings import FlutterwaveSettings

BAD_REQUEST = 400
NONE_FOUND = "no transaction was found"
"""How verify_by_reference says, with 400, that it knows none."""
DAY = timedelta(days=1)
SETTLING = timedelta(days=14)
"""Settlements are listed by a day that may be so long before they are paid out."""
PAGES_MAX = 1_000
JSON = {"Content-Type": "application/json"}

SUCCESSFUL = "successful"
LOST = {"lost", "accepted"}
WON = {"won"}
REFUNDS_AND_CHARGEBACKS = (("refund", LineKind.REFUND), ("chargeback", LineKind.CHARGEBACK))


class FlutterwaveGateway:
    name = "flutterwave"

    def __init__(self, settings: FlutterwaveSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        self._http = HttpClient(
            settings.base_url,
            headers={"Authorization": f"Bearer {settings.reveal('secret_key')}"},
            answer_timeout=answer_timeout,
        )
        self.abilities = Abilities(
            currencies=settings.ranges,
            methods=frozenset({Method.ANY, Method.CARD, Method.BANK_TRANSFER}),
            signs_webhooks=False,
            refunds=True,
            settlements=True,
        )

    def create(self, request: OrderRequest) -> Made:
        try:
            known = self.find(reference=request.reference, provider_ref=None, made_at=datetime.now(UTC))
        except TransientError as error:
            return Made(standing=Standing.NOT_SENT, why=str(error))
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
        verified = self._verified(reference)
        if verified is None:
            return None
        attempts = {each.id: each for each in [*self._listed(reference, made_at), wire.attempt_of(verified)]}
        paid = [each for each in attempts.values() if each.status == SUCCESSFUL]
        asked = wire.attempt_of(verified)
        if len({each.currency for each in [*paid, asked]}) != 1:
            raise decimals.UnreadableError("the payments of one order are in several currencies")
        fees = [each.fee_units for each in paid]
        disputes = [self._dispute(each) for each in paid]
        return Order(
            reference=reference,
            provider_ref=reference,
            # A failed attempt is not the end: the page takes another one until the order's time is up.
            state=OrderState.PAID if paid else OrderState.OPEN,
            currency=asked.currency,
            units=asked.units,
            paid_units=sum(each.units for each in paid),
            fee_units=None if not fees or None in fees else sum(fee for fee in fees if fee is not None),
            refunded_units=sum(self._refunded(each) for each in paid),
            disputed_units=sum(running for running, _ in disputes),
            charged_back_units=sum(lost for _, lost in disputes),
        )

    def refund(self, request: RefundRequest) -> Refunded:
        try:
            verified = self._verified(request.order_reference)
            known = None if verified is None else self._commented(request, wire.attempt_of(verified))
        except TransientError as error:
            return Refunded(standing=Standing.NOT_SENT, why=str(error))
        if known is not None:
            return Refunded(standing=Standing.ACCEPTED, refund=known)
        if verified is None or wire.attempt_of(verified).status != SUCCESSFUL:
            return Refunded(standing=Standing.REJECTED, why="nothing was paid")
        path = f"/v3/transactions/{wire.attempt_of(verified).id}/refund"
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
            verified = self._verified(request.order_reference)
            return None if verified is None else self._commented(request, wire.attempt_of(verified))
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
        status = decimals.maybe(data, "status")
        kind = fields.why(told.get("event") or "refund", status)
        reference = decimals.maybe(data, "tx_ref") or decimals.maybe(data, "txRef")
        if reference is None:
            theirs = decimals.maybe(data, "TransactionId") or decimals.maybe(data, "transaction_id")
            reference = None if theirs is None else self._reference(str(theirs))
        return () if reference is None else (Notice(reference=str(reference), provider_ref=None, kind=kind),)

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
        """Refunds one by one. What is left of them, and chargebacks, as one sum: no page says what their ids are."""
        for name, kind in REFUNDS_AND_CHARGEBACKS:
            left = decimals.units(decimals.maybe(settlement, name) or 0, currency)
            for number in wire.ids(decimals.maybe(settlement, f"{name}_meta")) if kind is LineKind.REFUND else ():
                told = decimals.field(self._http.read(f"/v3/refunds/{number}").json(), "data")
                units = decimals.units(decimals.field(told, "amount_refunded"), currency)
                left -= units
                yield f"refund-{number}", kind, -units, self._reference(wire.transaction_of(told))
            if left:
                yield f"{name}s", kind, -left, None

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

    def _listed(self, reference: str, made_at: datetime) -> Iterator[wire.Attempt]:
        asked = {"tx_ref": reference, "from": wire.day(made_at - DAY), "to": wire.day(datetime.now(UTC) + DAY)}
        for row in self._pages("/v3/transactions", asked):
            if decimals.maybe(row, "tx_ref") == reference:
                yield wire.attempt_of(row)

    def _refunded(self, attempt: wire.Attempt) -> int:
        return sum(
            decimals.units(wire.first(row, "amount_refunded", "AmountRefunded"), attempt.currency)
            for row in self._refunds(attempt)
            if wire.refund_state(row) is RefundState.DONE
        )

    def _commented(self, request: RefundRequest, attempt: wire.Attempt) -> Refund | None:
        for row in self._refunds(attempt):
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
        units = decimals.units(decimals.field(newest, "amount"), attempt.currency)
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
            if page >= int(decimals.maybe(told, "meta", "page_info", "total_pages") or 1):
                return
        raise decimals.UnreadableError(f"{path} has more than {PAGES_MAX} pages")
