"""Stripe: Checkout Sessions, whose page takes the card, and the PaymentIntents behind them.

After docs.stripe.com: /api/checkout/sessions/create, /api/idempotent_requests, /api/errors, /api/pagination,
/payments/checkout/fulfillment, /disputes/how-disputes-work, /payouts/reconciliation, and the SDK's version 16.1.

- Our reference is the `Idempotency-Key`, the `client_reference_id` and metadata of session, intent and charge. Stripe
  keeps a key for 24 hours, and with it also an answer 500: what is unknown is looked for in the list of sessions.
- A session lives from 30 minutes to 24 hours; what is asked for outside of that is brought inside.
- A webhook says what happened, not all of the order: each is asked about. Events of refunds and disputes don't carry
  our reference, so reading them asks Stripe, too.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import stripe

from core import clock
from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import ANSWER_TIMEOUT_S, HttpClient, RefusedError
from providers.fiat import fields, stripe_wire
from providers.fiat.base import (
    Abilities,
    Made,
    Method,
    Notice,
    Order,
    OrderRequest,
    Refund,
    Refunded,
    RefundRequest,
    SettlementLine,
    Standing,
)
from providers.fiat.credentials import teller
from providers.fiat.fields import Json
from providers.fiat.stripe_http import StripeHttp
from providers.settings import ProviderSettings

T = TypeVar("T")

NAME = "stripe"
LIVES_MIN, LIVES_MAX = timedelta(minutes=30), timedelta(hours=24)
LIVES_MARGIN = timedelta(minutes=1)
"""For our clock and theirs."""
MADE_BEFORE, MADE_AFTER = timedelta(hours=1), timedelta(hours=25)
"""Around `made_at`: where in the list of sessions one is looked for."""
PAGE = 100
_NOT_FOUND = 404
_EXPANDED = ["payment_intent.latest_charge.balance_transaction"]
_OF_SESSION, _OF_PAYMENT = "checkout.session.", ("payment_intent.", "charge.", "refund.")


class StripeGateway:
    def __init__(self, settings: ProviderSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        http = HttpClient(settings.base_url, answer_timeout=answer_timeout, on_credentials_refused=teller(NAME))
        self._client = stripe.StripeClient(
            settings.reveal("secret_key"),
            base_addresses={"api": settings.base_url.rstrip("/")},
            http_client=StripeHttp(settings.base_url, http),
            max_network_retries=0,
        )
        self._abilities = Abilities(
            currencies=settings.ranges,
            methods=frozenset({Method.CARD, Method.ANY}),
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
            params = self._params(request)
        except PermanentError as error:
            return Made(standing=Standing.REJECTED, why=fields.why(error))
        standing, session, why = _asked(
            lambda: _plain(
                self._client.v1.checkout.sessions.create(params, options={"idempotency_key": request.reference})
            )
        )
        if session is None:
            return Made(standing=standing, why=why)
        try:
            return Made(standing=Standing.ACCEPTED, order=stripe_wire.order_of(session))
        except PermanentError as error:
            return Made(standing=Standing.UNKNOWN, why=fields.why(error))

    def _params(self, request: OrderRequest) -> Any:
        """Raises PermanentError if there is no such session."""
        if request.method not in self._abilities.methods:
            raise PermanentError(f"Stripe's page takes no {request.method}")
        if request.return_url is None:
            raise PermanentError("Stripe wants to know where the payer goes afterwards")
        price = {
            "currency": fields.code(request.currency).lower(),
            "unit_amount": stripe_wire.to_stripe(request.units, request.currency),
            "product_data": {"name": request.description},
        }
        params: dict[str, Any] = {
            "mode": "payment",
            "client_reference_id": request.reference,
            "metadata": {"reference": request.reference},
            "payment_intent_data": {"metadata": {"reference": request.reference}},
            "line_items": [{"price_data": price, "quantity": 1}],
            "success_url": request.return_url,
            "expires_at": int(_within_limits(request.expires_at).timestamp()),
            # Stripe would offer the payer his own currency, at a rate of its own.
            "adaptive_pricing": {"enabled": False},
        }
        if request.email is not None:
            params["customer_email"] = request.email
        if request.method is Method.CARD:
            params["payment_method_types"] = ["card"]
        return params

    def find(self, *, reference: str, provider_ref: str | None, made_at: datetime) -> Order | None:
        session = self._session(reference, provider_ref, made_at)
        if session is None:
            return None
        if reference != stripe_wire.reference_of(session):
            raise PermanentError(
                f"Stripe's session {fields.text(session, 'id')} is of another reference than asked for"
            )
        intent = stripe_wire.part(session, "payment_intent")
        charge = None if intent is None else stripe_wire.part(intent, "latest_charge")
        if intent is None or charge is None:
            return stripe_wire.order_of(session)
        ours: Any = {"payment_intent": fields.text(intent, "id")}
        refunds = self._all(self._client.v1.refunds.list, ours) if charge.get("amount_refunded") else ()
        disputes = self._all(self._client.v1.disputes.list, ours) if charge.get("disputed") else ()
        return stripe_wire.order_of(session, refunds, disputes)

    def _session(self, reference: str, provider_ref: str | None, made_at: datetime | None = None) -> Json | None:
        """Expanded. None: Stripe has none. Without a time it must have one."""
        if provider_ref is None and made_at is not None:
            provider_ref = self._look_for(reference, made_at)
        if provider_ref is None:
            return None
        return _found(lambda: _plain(self._client.v1.checkout.sessions.retrieve(provider_ref, {"expand": _EXPANDED})))

    def _look_for(self, reference: str, made_at: datetime) -> str | None:
        """Sessions can't be asked for by our reference, only listed by time, the newest first."""
        params = {
            "created": {
                "gte": int((made_at - MADE_BEFORE).timestamp()),
                "lte": int((made_at + MADE_AFTER).timestamp()),
            }
        }
        for session in self._all(self._client.v1.checkout.sessions.list, params):
            if session.get("client_reference_id") == reference:
                return fields.text(session, "id")
        return None

    # --- refunds ------------------------------------------------------------------------------------------------------

    def refund(self, request: RefundRequest) -> Refunded:
        try:
            intent = self._intent(request)
            if intent is None:
                return Refunded(standing=Standing.REJECTED, why="nothing was paid for this order")
            params: Any = {
                "payment_intent": intent,
                "amount": stripe_wire.to_stripe(request.units, request.currency),
                "reason": "requested_by_customer",
                "metadata": {"reference": request.reference, "order_reference": request.order_reference},
            }
        except TransientError as error:
            return Refunded(standing=Standing.NOT_SENT, why=fields.why(error))
        except PermanentError as error:
            return Refunded(standing=Standing.REJECTED, why=fields.why(error))
        standing, row, why = _asked(
            lambda: _plain(self._client.v1.refunds.create(params, options={"idempotency_key": request.reference}))
        )
        if row is None:
            return Refunded(standing=standing, why=why)
        try:
            return Refunded(standing=Standing.ACCEPTED, refund=stripe_wire.refund_of(row, request.reference))
        except PermanentError as error:
            return Refunded(standing=Standing.UNKNOWN, why=fields.why(error))

    def find_refund(self, request: RefundRequest, *, refund_ref: str | None) -> Refund | None:
        if refund_ref is not None:
            row = _found(lambda: _plain(self._client.v1.refunds.retrieve(refund_ref)))
            return None if row is None else stripe_wire.refund_of(row, request.reference)
        intent = self._intent(request)
        if intent is None:
            return None
        for row in self._all(self._client.v1.refunds.list, {"payment_intent": intent}):
            if stripe_wire.reference_of(row) == request.reference:
                return stripe_wire.refund_of(row, request.reference)
        return None

    def _intent(self, request: RefundRequest) -> str | None:
        session = self._session(request.order_reference, request.provider_ref)
        return None if session is None else stripe_wire.ref_of(session, "payment_intent")

    # --- webhooks -----------------------------------------------------------------------------------------------------

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        """Raises TransientError too: see above."""
        said = fields.event(body)
        kind = fields.text(said, "type")
        row = fields.mapping(fields.mapping(said.get("data"), "data").get("object"), "object")
        if kind.startswith(_OF_SESSION):
            reference = stripe_wire.reference_of(row)
            return [Notice(reference=reference, provider_ref=fields.text(row, "id"), kind=kind)] if reference else []
        if not kind.startswith(_OF_PAYMENT):
            return []
        reference, provider_ref = self._whose(row)
        return [Notice(reference=reference, provider_ref=provider_ref, kind=kind)] if reference else []

    def _whose(self, row: Json) -> tuple[str | None, str | None]:
        """(our reference, its session if known) of an intent, a charge, a refund or a dispute. None: not ours."""
        if str(row.get("object")) in {"payment_intent", "charge"}:
            return stripe_wire.reference_of(row), None
        intent = stripe_wire.ref_of(row, "payment_intent")
        if intent is None:
            return None, None
        for session in self._all(self._client.v1.checkout.sessions.list, {"payment_intent": intent}):
            return stripe_wire.reference_of(session), fields.text(session, "id")
        return None, None

    # --- settlements --------------------------------------------------------------------------------------------------

    def settlements(self, since: datetime, until: datetime) -> Iterator[SettlementLine]:
        """Of automatic payouts that arrived then: Stripe tells of no others what they are made of."""
        arrived = {"gte": int(since.timestamp()), "lt": int(until.timestamp())}
        for payout in self._all(self._client.v1.payouts.list, {"arrival_date": arrived, "status": "paid"}):
            params = {"payout": fields.text(payout, "id"), "expand": ["data.source"]}
            for row in self._all(self._client.v1.balance_transactions.list, params):
                if row.get("type") != "payout":  # the payout itself is its own last line
                    source = stripe_wire.part(row, "source")
                    reference, session = (None, None) if source is None else self._whose(source)
                    yield stripe_wire.line_of(row, payout, reference, session)

    # --- all pages ----------------------------------------------------------------------------------------------------

    def _all(self, ask: Callable[[Any], Any], params: Mapping[str, Any]) -> Iterator[Json]:
        """Raises TransientError, PermanentError."""
        after: dict[str, str] = {}
        while True:
            page = _plain(ask({**params, **after, "limit": PAGE}))
            rows = [fields.mapping(each, "a list's entry") for each in fields.listing(page.get("data"), "data")]
            yield from rows
            if not page.get("has_more"):
                return
            if not rows:
                raise TransientError("Stripe says that there is more and gives an empty page")
            after = {"starting_after": fields.text(rows[-1], "id")}


def _within_limits(wished: datetime) -> datetime:
    now = clock.now()
    return min(max(wished, now + LIVES_MIN + LIVES_MARGIN), now + LIVES_MAX - LIVES_MARGIN)


def _plain(answer: Any) -> Json:
    return fields.mapping(answer.to_dict(), "an answer of Stripe")


def _found(ask: Callable[[], Json]) -> Json | None:
    try:
        return ask()
    except RefusedError as error:
        if error.reply.status == _NOT_FOUND:
            return None
        raise


def _asked(ask: Callable[[], Json]) -> tuple[Standing, Json | None, str | None]:
    """What became of asking for something: (standing, answer if accepted, why otherwise)."""
    try:
        return Standing.ACCEPTED, ask(), None
    except TransientError as error:
        return Standing.NOT_SENT, None, fields.why(error)
    except OutcomeUnknownError as error:
        return Standing.UNKNOWN, None, fields.why(error)
    except RefusedError as error:
        said = stripe_wire.part(fields.error(error), "error") or {}
        why = fields.why(said.get("code") or said.get("type"), said.get("message"), None if said else error)
        # The key was used for something else of ours: there is an order, though not of these parameters.
        taken = said.get("type") == "idempotency_error"
        # An old spelling of 429.
        busy = said.get("code") == "rate_limit"
        return Standing.UNKNOWN if taken else Standing.NOT_SENT if busy else Standing.REJECTED, None, why
    except (PermanentError, stripe.StripeError) as error:
        return Standing.UNKNOWN, None, fields.why(type(error).__name__)
