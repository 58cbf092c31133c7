"""Alchemy Pay's on-ramp, standard API integration (v4): their page takes fiat and sends crypto to an address of ours.

Sources: https://alchemypay.readme.io/docs (api-sign, get-token, create-order, query-order-2, webhook, order-status,
code-list). A request is signed with base64 HMAC-SHA256 of timestamp, method, path with its sorted query, and the body
as compact JSON with sorted members, none of them empty. Amounts are decimals, as text.

PAY_SUCCESS says that they have the payer's money; only FINISHED says that they have sent what was bought, so only then
an order is paid. Nobody can refund by this interface, and there are no settlements: what arrives is crypto.
"""

import hmac
import json
import re
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import ANSWER_TIMEOUT_S, CredentialsRefusedError, HttpClient, RefusedError, Reply
from providers.fiat import credentials, decimals, fields
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
    SettlementLine,
    Standing,
)
from providers.fiat.settings import AlchemyPaySettings

SESSION = "/open/api/v4/merchant/getToken"
CREATE = "/open/api/v4/merchant/trade/create"
QUERY = "/open/api/v4/merchant/query/trade"
SUCCESS = "0000"
BROKEN = "9999"
"""Their own failure, which proves nothing. What else is no success is a refusal."""
NOT_US = re.compile(r"\b(sign|signature|appid|timestamp|ip|whitelist)\b", re.IGNORECASE)
"""How they say, with 200, that it isn't for us to ask: no page has the codes for it, either."""
NO_SUCH_ORDER = ("not exist", "not found", "no order")
"""No page has the code of a query that finds nothing, so its words are read."""
DEPOSIT_TO_ADDRESS = 2

STATES = {
    "FINISHED": OrderState.PAID,
    "PAY_FAIL": OrderState.FAILED,
    "REFUNDED": OrderState.FAILED,
    "CANCEL": OrderState.EXPIRED,
}
"""Of all others, known or not, nothing is decided. REFUNDED: the payer has it back, and nothing was sent to us."""
TELLING = {"FINISHED", "PAY_FAIL"}
"""Webhooks of these say all of an order; others are asked about."""


class AlchemyPayGateway:
    name = "alchemy_pay"

    def __init__(self, settings: AlchemyPaySettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        self._http = HttpClient(
            settings.base_url, answer_timeout=answer_timeout, on_credentials_refused=credentials.teller(self.name)
        )
        self._app_id = settings.reveal("app_id")
        self._secret = settings.reveal("app_secret").encode()
        self._target = {
            "address": settings.reveal("address"),
            "alpha2": settings.country or "",
            "cryptoCurrency": settings.crypto,
            "network": settings.network,
            "payWayCode": settings.pay_way_code,
        }
        self.abilities = Abilities(
            currencies=settings.ranges,
            methods=frozenset({Method.ANY, Method.CARD}),
            signs_webhooks=True,
            refunds=False,
            settlements=False,
        )

    def create(self, request: OrderRequest) -> Made:
        if request.method not in self.abilities.methods:
            return Made(standing=Standing.REJECTED, why=f"Alchemy Pay takes no {request.method}")
        known = decimals.before(lambda: self._known_or_token(request))
        if isinstance(known, decimals.Outcome):
            return Made(standing=known.standing, why=known.why)
        return Made(standing=Standing.ACCEPTED, order=known) if isinstance(known, Order) else self._made(request, known)

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:  # noqa: ARG002
        try:
            told = self._said(self._get(QUERY, {"merchantOrderNo": reference, "side": "BUY"}))
        except RefusedError as error:
            told = fields.error(error)
            if error.reply.status != decimals.NOT_FOUND and not _says_none(told):
                raise
            return None
        if decimals.maybe(told, "returnCode") != SUCCESS:
            if _says_none(told):
                return None
            if decimals.maybe(told, "returnCode") == BROKEN:
                raise TransientError("Alchemy Pay can't say just now")
            raise PermanentError(f"Alchemy Pay refuses the question: {fields.why(*_why(told))}")
        data = decimals.maybe(told, "data")
        if not data:
            return None
        return self._order(data, reference)

    def refund(self, request: RefundRequest) -> Refunded:  # noqa: ARG002
        return Refunded(standing=Standing.REJECTED, why="Alchemy Pay refunds by its support only")

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:  # noqa: ARG002
        return None

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        told = fields.event(body)
        if decimals.maybe(told, "appId") != self._app_id or not decimals.maybe(told, "merchantOrderNo"):
            return ()
        reference, status = decimals.text(told, "merchantOrderNo"), decimals.text(told, "status")
        provider_ref = decimals.text(told, "orderNo")
        order = self._order(told, reference) if status in TELLING else None
        return (Notice(reference=reference, provider_ref=provider_ref, kind=fields.why(status), order=order),)

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:  # noqa: ARG002
        return iter(())

    def _known_or_token(self, request: OrderRequest) -> Order | str:
        known = self.find(reference=request.reference, provider_ref=None, made_at=datetime.now(UTC))
        return known or self._token(request)

    def _made(self, request: OrderRequest, token: str) -> Made:
        outcome = decimals.attempt(lambda: self._post(CREATE, self._order_body(request), {"access-token": token}), _why)
        if outcome.standing is not Standing.ACCEPTED:
            return Made(standing=outcome.standing, why=outcome.why)
        told = outcome.body if isinstance(outcome.body, dict) else {}
        code = told.get("returnCode")
        if code not in (None, BROKEN, SUCCESS):
            return self._refused(request, fields.why(*_why(told)))
        if code != SUCCESS:
            return Made(standing=Standing.UNKNOWN, why=fields.why(*_why(told)))
        try:
            order = Order(
                reference=request.reference,
                provider_ref=decimals.text(told, "data", "orderNo"),
                state=OrderState.OPEN,
                currency=request.currency,
                units=request.units,
                page_url=decimals.text(told, "data", "payUrl"),
            )
        except decimals.UnreadableError as error:
            return Made(standing=Standing.UNKNOWN, why=str(error))
        return Made(standing=Standing.ACCEPTED, order=order)

    def _refused(self, request: OrderRequest, why: str) -> Made:
        """An order number can't be used twice: a refusal may say that the order is there already."""
        try:
            known = self.find(reference=request.reference, provider_ref=None, made_at=datetime.now(UTC))
        except (TransientError, PermanentError):
            return Made(standing=Standing.UNKNOWN, why=why)
        if known is None:
            return Made(standing=Standing.REJECTED, why=why)
        return Made(standing=Standing.ACCEPTED, order=known)

    def _order(self, told: Any, reference: str) -> Order:
        """Of an answer to a query, or of a webhook: they have the same fields."""
        if decimals.maybe(told, "merchantOrderNo") not in (None, reference):
            raise decimals.UnreadableError("the provider answers with another order")
        if decimals.maybe(told, "address") not in (None, "", self._target["address"]):
            raise decimals.UnreadableError("the provider sends what was bought to an address that isn't ours")
        currency = decimals.currency_of(decimals.field(told, "fiat"))
        units = decimals.price(decimals.field(told, "amount"), currency)
        state = STATES.get(decimals.text(told, "status"), OrderState.OPEN)
        return Order(
            reference=reference,
            provider_ref=decimals.text(told, "orderNo"),
            state=state,
            currency=currency,
            units=units,
            paid_units=units if state is OrderState.PAID else 0,
            fee_units=_fee(told, currency) if state is OrderState.PAID else None,
        )

    def _token(self, request: OrderRequest) -> str:
        """Of the payer, who is their customer: by mail address, else by a number of no meaning."""
        who = {"uid": request.reference} if request.email is None else {"email": request.email}
        try:
            told = self._said(self._post(SESSION, who))
        except OutcomeUnknownError as error:  # it asks for nothing that lasts
            raise TransientError(str(error)) from None
        if decimals.maybe(told, "returnCode") == BROKEN:
            raise TransientError("Alchemy Pay gives no token just now")
        if decimals.maybe(told, "returnCode") != SUCCESS:
            raise PermanentError(f"Alchemy Pay refuses a token: {fields.why(*_why(told))}")
        return decimals.text(told, "data", "accessToken")

    def _said(self, reply: Reply) -> Any:
        """Of a reply to what asks for nothing that lasts. Raises CredentialsRefusedError if they don't know us."""
        told = reply.json()
        words = str(decimals.maybe(told, "returnMsg"))
        if decimals.maybe(told, "returnCode") not in (SUCCESS, BROKEN) and NOT_US.search(words):
            credentials.refused(self.name, reply)
            raise CredentialsRefusedError(f"{reply.place} was refused: {fields.why(*_why(told))}", reply)
        return told

    def _order_body(self, request: OrderRequest) -> dict[str, object]:
        return {
            **self._target,
            "side": "BUY",
            "merchantOrderNo": request.reference,
            "fiatCurrency": fields.code(request.currency),
            "amount": format(decimals.amount(request.units, request.currency), "f"),
            "depositType": DEPOSIT_TO_ADDRESS,
            "redirectUrl": request.return_url or "",
            "callbackUrl": request.webhook_url or "",
        }

    def _post(self, path: str, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Reply:
        content = canonical(body)
        signed = {**self._signed("POST", path, content), **(headers or {}), "Content-Type": "application/json"}
        return self._http.send("POST", path, content=content.encode(), headers=signed)

    def _get(self, path: str, params: Mapping[str, str]) -> Reply:
        ordered = dict(sorted(params.items()))
        return self._http.read(path, params=ordered, headers=self._signed("GET", f"{path}?{urlencode(ordered)}", ""))

    def _signed(self, method: str, path: str, body: str) -> dict[str, str]:
        stamp = str(time.time_ns() // 1_000_000)
        return {"appid": self._app_id, "timestamp": stamp, "sign": sign(self._secret, stamp, method, path, body)}


def canonical(body: Mapping[str, object]) -> str:
    """Sorted by name, without spaces, without what is empty."""
    kept = {name: value for name, value in body.items() if value not in (None, "")}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def sign(secret: bytes, stamp: str, method: str, path: str, body: str) -> str:
    """Base64 HMAC-SHA256. `stamp`: milliseconds since 1970; `path`: with its sorted query."""
    return b64encode(hmac.digest(secret, f"{stamp}{method}{path}{body}".encode(), "sha256")).decode()


def _fee(told: Any, currency: str) -> int | None:
    """Theirs, if it is told in the order's currency and in whole units: some of their answers have more places."""
    if decimals.maybe(told, "rampFeeUnit") != fields.code(currency):
        return None
    fee = decimals.maybe(told, "rampFee")
    try:
        decimals.units(fee, currency)
    except decimals.UnreadableError:
        return None
    return decimals.price(fee, currency, "rampFee")


def _says_none(told: Any) -> bool:
    words = str(decimals.maybe(told, "returnMsg") or "").lower()
    return any(each in words for each in NO_SUCH_ORDER)


def _why(refusal: Mapping[str, Any]) -> Sequence[object]:
    return refusal.get("returnCode"), refusal.get("returnMsg")
