"""Razorpay: Payment Links, whose page takes cards and UPI, and the payments on them.

After razorpay.com/docs/api: payments/payment-links (create-standard, create-upi, fetch-all-standard), payments,
refunds/normal-refunds-idempotent, disputes/fetch-all, settlements/fetch-recon; razorpay.com/docs/webhooks; the samples
in razorpay/razorpay-python (documents/) and the parameters of lists in razorpay/razorpay-node (lib/types).

- Our reference is the link's `reference_id`, of which Razorpay takes each only once, and a refund's `receipt` and
  `X-Refund-Idempotency`. Links can be asked for by it, so a create looks first, and a refused one looks again.
- Disputes can't be asked for by payment: those since the payment are gone through.
- An event of a payment names its link only by our note, if at all: reading it may ask Razorpay.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

from core import clock
from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import ANSWER_TIMEOUT_S, HttpClient, RefusedError
from providers.fiat import fields, razorpay_wire
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
from providers.fiat.credentials import teller
from providers.fiat.fields import Json
from providers.settings import ProviderSettings

NAME = "razorpay"
LIVES_MIN, LIVES_MAX = timedelta(minutes=15), timedelta(days=180)
LIVES_MARGIN = timedelta(minutes=1)
"""For our clock and theirs."""
INDIA = timezone(timedelta(hours=5, minutes=30))
"""Whose days the settlements' are."""
PAGE = 100
_NOT_FOUND = 404
_NO_SUCH_ID = "the id provided does not exist"
"""How an unknown id is answered: with 400, and only these words."""
_ONLY_CARDS = {"checkout": {"method": {"card": 1, "upi": 0, "netbanking": 0, "wallet": 0}}}


class RazorpayGateway:
    def __init__(self, settings: ProviderSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        auth = settings.reveal("key_id"), settings.reveal("key_secret")
        self._http = HttpClient(
            settings.base_url, auth=auth, answer_timeout=answer_timeout, on_credentials_refused=teller(NAME)
        )
        self._abilities = Abilities(
            currencies=settings.ranges,
            methods=frozenset({Method.CARD, Method.UPI, Method.ANY}),
            signs_webhooks=True,
            refunds=True,
            settlements=True,
        )

    @property
    def name(self) -> str:
        return NAME

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    # --- orders -------------------------------------------------------------------------------------------------------

    def create(self, request: OrderRequest) -> Made:
        try:
            body = self._body(request)
            made = self._link(request.reference, None)
        except TransientError as error:
            return Made(standing=Standing.NOT_SENT, why=fields.why(error))
        except PermanentError as error:
            return Made(standing=Standing.REJECTED, why=_why(error))
        try:
            link = self._post("/v1/payment_links", body) if made is None else made
            order = razorpay_wire.order_of(link, ())
        except TransientError as error:
            return Made(standing=Standing.NOT_SENT, why=fields.why(error))
        except RefusedError as error:
            return self._refused(request.reference, error)
        except (OutcomeUnknownError, PermanentError) as error:
            return Made(standing=Standing.UNKNOWN, why=fields.why(error))
        return Made(standing=Standing.ACCEPTED, order=order)

    def _refused(self, reference: str, error: RefusedError) -> Made:
        """A refusal may mean that the reference is taken, by a request of ours that was on its way."""
        try:
            link = self._link(reference, None)
            if link is not None:
                return Made(standing=Standing.ACCEPTED, order=razorpay_wire.order_of(link, ()))
        except (TransientError, PermanentError) as later:
            return Made(standing=Standing.UNKNOWN, why=_why(later))
        return Made(standing=Standing.REJECTED, why=_why(error))

    def _body(self, request: OrderRequest) -> Json:
        """Raises PermanentError if there is no such link."""
        if request.method not in self._abilities.methods:
            raise PermanentError(f"Razorpay's page takes no {request.method}")
        now = clock.now()
        expires_at = min(max(request.expires_at, now + LIVES_MIN + LIVES_MARGIN), now + LIVES_MAX - LIVES_MARGIN)
        body: dict[str, Any] = {
            "amount": razorpay_wire.to_razorpay(request.units, request.currency),
            "currency": fields.code(request.currency),
            "accept_partial": False,
            "reference_id": request.reference,
            "description": request.description,
            "expire_by": int(expires_at.timestamp()),
            "notes": {"reference": request.reference},
            # We tell the payer ourselves.
            "notify": {"sms": False, "email": False},
            "reminder_enable": False,
        }
        if request.email is not None:
            body["customer"] = {"email": request.email}
        if request.return_url is not None:
            body |= {"callback_url": request.return_url, "callback_method": "get"}
        if request.method is Method.UPI:
            body["upi_link"] = True
        if request.method is Method.CARD:
            body["options"] = _ONLY_CARDS
        return body

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:  # noqa: ARG002
        link = self._link(reference, provider_ref)
        if link is None:
            return None
        if link.get("reference_id") != reference:
            raise PermanentError(f"Razorpay's {fields.text(link, 'id')} is of another reference than asked for")
        payments = self._payments(link)
        received = razorpay_wire.captured(payments)
        refunds = [row for each in received if each.get("amount_refunded") for row in self._refunds(each)]
        return razorpay_wire.order_of(link, payments, refunds, self._disputes(received) if received else ())

    def _link(self, reference: str, link_id: str | None) -> Json | None:
        """None: there is none. Raises TransientError, PermanentError."""
        if link_id is not None:
            return self._found(f"/v1/payment_links/{link_id}")
        links = [each for each in self._links({"reference_id": reference}) if each.get("reference_id") == reference]
        if len(links) > 1:
            raise PermanentError("Razorpay has two payment links of one reference")
        return links[0] if links else None

    def _links(self, params: Mapping[str, Any]) -> list[Json]:
        said = fields.mapping(self._http.read("/v1/payment_links", params=params).json(), "payment links")
        return [fields.mapping(each, "a payment link") for each in fields.listing(said.get("payment_links"), "links")]

    def _payments(self, link: Json) -> list[Json]:
        """All that were tried on it, whole: the link itself tells only some of each."""
        tried = fields.listing(link.get("payments") or [], "payments")
        refs = [fields.text(fields.mapping(each, "a payment"), "payment_id") for each in tried]
        return [fields.mapping(self._http.read(f"/v1/payments/{ref}").json(), "a payment") for ref in refs]

    def _refunds(self, payment: Json) -> Iterator[Json]:
        return self._all(f"/v1/payments/{fields.text(payment, 'id')}/refunds", {})

    def _disputes(self, payments: Sequence[Json]) -> list[Json]:
        refs = {fields.text(each, "id") for each in payments}
        since = min(fields.whole(each, "created_at") for each in payments)
        return [each for each in self._all("/v1/disputes", {"from": since}) if each.get("payment_id") in refs]

    # --- refunds ------------------------------------------------------------------------------------------------------

    def refund(self, request: RefundRequest) -> Refunded:
        try:
            payments = self._of(request)
            made = self._refund(payments, request.reference)
            units = razorpay_wire.to_razorpay(request.units, request.currency)
        except TransientError as error:
            return Refunded(standing=Standing.NOT_SENT, why=fields.why(error))
        except PermanentError as error:
            return Refunded(standing=Standing.REJECTED, why=_why(error))
        if made is not None:
            return Refunded(standing=Standing.ACCEPTED, refund=made)
        if not payments:
            return Refunded(standing=Standing.REJECTED, why="nothing was paid for this order")
        return self._give_back(request, units, _first_of(payments, units))

    def _give_back(self, request: RefundRequest, units: int, payment: str) -> Refunded:
        body = {
            "amount": units,
            "speed": "normal",
            "receipt": request.reference,
            "notes": {"reference": request.order_reference},
        }
        try:
            row = self._post(f"/v1/payments/{payment}/refund", body, {"X-Refund-Idempotency": request.reference})
            refund = razorpay_wire.refund_of(row, request.reference)
        except TransientError as error:
            return Refunded(standing=Standing.NOT_SENT, why=fields.why(error))
        except RefusedError as error:
            return Refunded(standing=Standing.REJECTED, why=_why(error))
        except (OutcomeUnknownError, PermanentError) as error:
            return Refunded(standing=Standing.UNKNOWN, why=fields.why(error))
        return Refunded(standing=Standing.ACCEPTED, refund=refund)

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:
        if refund_ref is not None:
            row = self._found(f"/v1/refunds/{refund_ref}")
            return None if row is None else razorpay_wire.refund_of(row, request.reference)
        return self._refund(self._of(request), request.reference)

    def _of(self, request: RefundRequest) -> list[Json]:
        """The payments whose money may go back."""
        link = self._link(request.order_reference, request.provider_ref)
        return [] if link is None else razorpay_wire.captured(self._payments(link))

    def _refund(self, payments: Sequence[Json], reference: str) -> Refund | None:
        for payment in payments:
            for row in self._refunds(payment):
                if row.get("receipt") == reference:
                    return razorpay_wire.refund_of(row, reference)
        return None

    # --- webhooks -----------------------------------------------------------------------------------------------------

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        """Raises TransientError too: see above."""
        said = fields.event(body)
        kind = fields.text(said, "event")
        payload = fields.mapping(said.get("payload"), "payload")
        link, payment = _entity(payload, "payment_link"), _entity(payload, "payment")
        if link is not None:
            reference = fields.perhaps(link, "reference_id")
            if reference is None:  # made by hand, in the dashboard
                return []
            order = _told(link, payment)
            return [Notice(reference=reference, provider_ref=fields.text(link, "id"), kind=kind, order=order)]
        about = payment or _entity(payload, "refund") or _entity(payload, "dispute")
        if about is None:
            return []
        ref, link_id = self._whose(about, fields.perhaps(about, "payment_id") or fields.text(about, "id"))
        return [Notice(reference=ref, provider_ref=link_id, kind=kind)] if ref else []

    def _whose(self, row: Json, payment: str | None) -> tuple[str | None, str | None]:
        """(our reference, the link if known) of what is about this payment. None: not ours."""
        notes = row.get("notes")
        noted = fields.perhaps(notes, "reference") if isinstance(notes, dict) else None
        if noted is not None or payment is None:
            return noted, None
        for link in self._links({"payment_id": payment}):
            return fields.perhaps(link, "reference_id"), fields.text(link, "id")
        return None, None

    # --- settlements --------------------------------------------------------------------------------------------------

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:
        """Asked for by India's days."""
        day, last = since.astimezone(INDIA).date(), until.astimezone(INDIA).date()
        while day <= last:
            params = {"year": day.year, "month": f"{day.month:02}", "day": f"{day.day:02}"}
            for row in self._all("/v1/settlements/recon/combined", params):
                if row.get("settled") is True and since <= razorpay_wire.settled_at(row) < until:
                    yield razorpay_wire.line_of(row, *self._whose(_noted(row), razorpay_wire.payment_of(row)))
            day += timedelta(days=1)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _post(self, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Json:
        content = json.dumps(body).encode()
        reply = self._http.send(
            "POST", path, content=content, headers={"Content-Type": "application/json", **(headers or {})}
        )
        return fields.mapping(reply.json(), "an answer of Razorpay")

    def _found(self, path: str) -> Json | None:
        try:
            return fields.mapping(self._http.read(path).json(), "an answer of Razorpay")
        except RefusedError as error:
            words = fields.perhaps(_error(error), "description") or ""
            if error.reply.status == _NOT_FOUND or words.lower().startswith(_NO_SUCH_ID):
                return None
            raise

    def _all(self, path: str, params: Mapping[str, Any]) -> Iterator[Json]:
        """All pages, up to one that is empty, and each row once: a new one moves those behind it to the next page.

        Raises TransientError, PermanentError.
        """
        skip = 0
        seen: set[str] = set()
        while True:
            reply = self._http.read(path, params={**params, "count": PAGE, "skip": skip})
            rows = fields.listing(fields.mapping(reply.json(), "a collection").get("items"), "items")
            if not rows:
                return
            for each in rows:
                row = fields.mapping(each, "a collection's entry")
                number = row.get("id")
                if isinstance(number, str):
                    if number in seen:
                        continue
                    seen.add(number)
                yield row
            skip += len(rows)


def _first_of(payments: Sequence[Json], units: int) -> str:
    """The payment that so many go back from, of several. A key holds for one payment: each try must pick the same."""
    fitting = [each for each in payments if fields.amount(each, "amount") >= units]
    return fields.text((fitting or payments)[0], "id")


def _entity(payload: Json, name: str) -> Json | None:
    part = payload.get(name)
    entity = part.get("entity") if isinstance(part, dict) else None
    return entity if isinstance(entity, dict) else None


def _told(link: Json, payment: Json | None) -> Order | None:
    """The order, where an event says all of it: nothing was paid, or everything by the payment that is in it."""
    received = [] if payment is None else razorpay_wire.captured([payment])
    order = razorpay_wire.order_of(link, received)
    if order.paid_units != fields.whole(link, "amount_paid") or any(each.get("amount_refunded") for each in received):
        return None
    return order if order.state is not OrderState.OPEN else None


def _noted(row: Json) -> Json:
    """A line of a settlement has its notes as the text of an object."""
    try:
        return {"notes": json.loads(row.get("notes") or "{}")}
    except (TypeError, ValueError, RecursionError):
        return {}


def _error(error: RefusedError) -> Json:
    said = fields.error(error).get("error")
    return said if isinstance(said, dict) else {}


def _why(error: Exception) -> str:
    said = _error(error) if isinstance(error, RefusedError) else {}
    return fields.why(said.get("code"), said.get("description"), None if said else error)
