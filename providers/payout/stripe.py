"""Stripe Connect: transfers from our balance to connected accounts, which pay out to their own bank or card.

After docs.stripe.com: /api/transfers, /api/balance, /api/balance_transactions, /api/idempotent_requests,
/error-low-level, /error-codes, /connect/separate-charges-and-transfers, and the SDK's version 16.1.

- Our reference is the `Idempotency-Key`, the `transfer_group`, by which transfers are listed, and in the metadata.
- Stripe keeps a key for 24 hours, and with it also an answer 500, which it calls indeterminate: it may still make what
  was asked for when it mends an incident. So that none is found never proves that there is none.
- A transfer has no states. There is one, or there isn't: it is paid when it is made. It comes back if it is reversed,
  by somebody in the dashboard. What the connected account's own payouts become is between it and its bank.
- Payouts of our own balance to our own bank are lines of the statement, and nothing that is asked for here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import ANSWER_TIMEOUT_S, HttpClient, RefusedError
from providers.fiat import fields, stripe_wire
from providers.fiat.fields import Json
from providers.fiat.stripe_http import StripeHttp
from providers.payout import asking
from providers.payout.base import (
    Abilities,
    Bank,
    Destination,
    Kind,
    Notice,
    PayoutRequest,
    Refusal,
    Remittance,
    RemittanceState,
    Sent,
    Standing,
    StatementKind,
    StatementLine,
)
from providers.settings import ProviderSettings

NAME = "stripe"
KEY_WINDOW = timedelta(hours=24)
PER_SECOND = 20
KINDS = frozenset({Kind.STRIPE})
PAGE = 100
OF_TRANSFERS = "transfer."
_NOT_FOUND = 404
_EXPANDED = ["balance_transaction"]

REFUSALS = {
    **dict.fromkeys(["balance_insufficient", "insufficient_funds"], Refusal.FUNDS),
    **dict.fromkeys(["amount_too_large", "amount_too_small"], Refusal.LIMIT),
    **dict.fromkeys(
        [
            "account_closed", "account_invalid", "insufficient_capabilities_for_transfer",
            "not_allowed_on_standard_account",
        ],
        Refusal.DESTINATION,
    ),
    **dict.fromkeys(["api_key_expired", "platform_api_key_expired", "transfers_not_allowed"], Refusal.PROVIDER),
}  # fmt: skip
"""Error codes. Whatever is wrong with the parameter `destination` is so with the destination."""
UNSURE = frozenset({"idempotency_error", "api_error", None})
"""Types of errors: the key was used with other parameters, trouble of theirs, and not their error at all."""
_LINES = {
    "transfer": StatementKind.PAYOUT,
    "transfer_cancel": StatementKind.RETURN,
    "transfer_failure": StatementKind.RETURN,
    "transfer_refund": StatementKind.RETURN,
    "stripe_fee": StatementKind.FEE,
}
"""Types of balance transactions. All others (charges, refunds, our own payouts, ...) belong to no payout."""


class StripePayouts:
    name = NAME

    def __init__(self, settings: ProviderSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        http = HttpClient(settings.base_url, answer_timeout=answer_timeout)
        self._client = stripe.StripeClient(
            settings.reveal("secret_key"),
            base_addresses={"api": settings.base_url.rstrip("/")},
            http_client=StripeHttp(settings.base_url, http),
            max_network_retries=0,
        )
        self.abilities = Abilities(
            currencies=settings.ranges,
            kinds=KINDS,
            signs_webhooks=True,
            key_window=KEY_WINDOW,
            absent_after=None,
            per_second=PER_SECOND,
            statements=True,
            enquires=frozenset(),
        )

    # --- payouts ------------------------------------------------------------------------------------------------------

    def send(self, request: PayoutRequest) -> Sent:
        unfit = asking.unfit(request, KINDS)
        if unfit is not None:
            return unfit
        try:
            params: Any = {
                "amount": stripe_wire.to_stripe(request.units, request.currency),
                "currency": fields.code(request.currency).lower(),
                "destination": request.destination.number,
                "description": request.narration,
                "transfer_group": request.reference,
                "metadata": {"reference": request.reference, "purpose": request.purpose},
                "expand": _EXPANDED,
            }
        except PermanentError as error:
            return asking.rejected(Refusal.REQUEST, fields.why(error))
        return asking.sent(
            lambda: self._made(params, request.reference),
            lambda row: asking.same(_remittance(row), request.reference),
            lambda error: self._refused(request.reference, error),
        )

    def _made(self, params: Any, key: str) -> Json:
        try:
            return _plain(self._client.v1.transfers.create(params, options={"idempotency_key": key}))
        except stripe.StripeError as error:
            raise OutcomeUnknownError(f"Stripe's SDK can't read the answer: {type(error).__name__}") from None

    def _refused(self, reference: str, error: RefusedError) -> Sent:
        said = stripe_wire.part(fields.error(error), "error") or {}
        why = asking.why(error, said.get("code") or said.get("type"), said.get("param"))
        if said.get("code") == "rate_limit":  # an old spelling of 429
            return Sent(standing=Standing.NOT_SENT, why=why)
        return asking.judged(
            error,
            unsure=said.get("type") in UNSURE,
            find=lambda: self._listed(reference),
            refusal=_refusal(said),
            why=why,
        )

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:  # noqa: ARG002
        row = None if provider_ref is None else self._one(provider_ref)
        return self._listed(reference) if row is None else asking.same(_remittance(row), reference)

    def _one(self, provider_ref: str) -> Json | None:
        try:
            return self._read(lambda: self._client.v1.transfers.retrieve(provider_ref, {"expand": _EXPANDED}))
        except RefusedError as error:
            if error.reply.status == _NOT_FOUND:
                return None
            raise

    def _listed(self, reference: str) -> Remittance | None:
        params = {"transfer_group": reference, "expand": [f"data.{each}" for each in _EXPANDED]}
        rows = self._all(self._client.v1.transfers.list, params)
        return asking.only([_remittance(row) for row in rows if stripe_wire.reference_of(row) == reference])

    # --- what we have, and whose accounts there are -------------------------------------------------------------------

    def balance(self, currency: str) -> int:
        said = self._read(self._client.v1.balance.retrieve)
        rows = [fields.mapping(each, "a balance") for each in fields.listing(said.get("available"), "available")]
        of_currency = [fields.whole(row, "amount") for row in rows if fields.currency(row) == currency]
        return max(stripe_wire.to_units(sum(of_currency), currency), 0)

    def holder(self, destination: Destination) -> str | None:
        raise PermanentError(f"Stripe doesn't tell whose a {destination.kind} is")

    def banks(self, kind: Kind) -> Sequence[Bank]:  # noqa: ARG002 - connected accounts have their own
        return ()

    # --- webhooks, statement ------------------------------------------------------------------------------------------

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        said = fields.event(body)
        kind = fields.text(said, "type")
        if not kind.startswith(OF_TRANSFERS):
            return ()
        row = fields.mapping(fields.mapping(said.get("data"), "data").get("object"), "object")
        reference = stripe_wire.reference_of(row)
        if reference is None:  # made by hand, in the dashboard
            return ()
        return (
            Notice(reference=reference, provider_ref=fields.text(row, "id"), kind=asking.code(kind) or OF_TRANSFERS),
        )

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:
        """All that happened to our balance, which is that of our charges, too."""
        created = {"gte": int(since.timestamp()), "lt": int(until.timestamp()) + 1}
        for row in self._all(
            self._client.v1.balance_transactions.list, {"created": created, "expand": ["data.source"]}
        ):
            line = _line(row)
            if since <= line.booked_at < until:
                yield line

    # --- asking -------------------------------------------------------------------------------------------------------

    def _read(self, ask: Callable[[], Any]) -> Json:
        """Raises TransientError, PermanentError."""
        try:
            return _plain(ask())
        except stripe.StripeError as error:
            raise TransientError(f"Stripe's SDK can't read the answer: {type(error).__name__}") from None

    def _all(self, ask: Callable[[Any], Any], params: Mapping[str, Any]) -> Iterator[Json]:
        """Rows of all pages. Raises TransientError, PermanentError."""
        after: dict[str, str] = {}
        while True:
            asked = {**params, **after, "limit": PAGE}
            page = self._read(lambda asked=asked: ask(asked))  # type: ignore[misc]
            rows = [fields.mapping(each, "a list's entry") for each in fields.listing(page.get("data"), "data")]
            yield from rows
            if not page.get("has_more"):
                return
            if not rows:
                raise TransientError("Stripe says that there is more and gives an empty page")
            after = {"starting_after": fields.text(rows[-1], "id")}


def _plain(answer: Any) -> Json:
    return fields.mapping(answer.to_dict(), "an answer of Stripe")


def _remittance(row: Json) -> Remittance:
    """Raises PermanentError. Of a transfer of which only part was reversed the rest is still paid."""
    currency = fields.currency(row)
    amount, reversed_ = asking.units(row, "amount"), asking.units(row, "amount_reversed")
    back = amount > 0 and reversed_ >= amount
    balance = stripe_wire.part(row, "balance_transaction")
    same = balance is not None and fields.currency(balance) == currency
    return Remittance(
        reference=stripe_wire.reference_of(row) or "",
        provider_ref=fields.text(row, "id"),
        state=RemittanceState.RETURNED if back else RemittanceState.PAID,
        currency=currency,
        units=stripe_wire.to_units(amount, currency),
        fee_units=stripe_wire.to_units(asking.units(balance, "fee"), currency) if same and balance else None,
        refusal=Refusal.REQUEST if back else None,  # somebody decided so
        why="reversed" if back else "partly_reversed" if reversed_ else None,
    )


def _refusal(said: Json) -> Refusal:
    known = REFUSALS.get(str(said.get("code")))
    if known is not None:
        return known
    return Refusal.DESTINATION if said.get("param") == "destination" else Refusal.REQUEST


def _line(row: Json) -> StatementLine:
    """Of a balance transaction: its `net` is its `amount` less its `fee`. Raises PermanentError."""
    currency = fields.currency(row)
    kind = _LINES.get(str(row.get("type")), StatementKind.OTHER)
    source = stripe_wire.part(row, "source") or {}
    ours = kind in {StatementKind.PAYOUT, StatementKind.RETURN}
    # What a reversal is of it names in `transfer`.
    transfer = stripe_wire.ref_of(source, "transfer") or fields.perhaps(source, "id") or fields.perhaps(row, "source")
    try:
        booked_at = datetime.fromtimestamp(fields.whole(row, "created"), UTC)
    except (OverflowError, ValueError, OSError):
        raise PermanentError("created is no time") from None
    return StatementLine(
        id=fields.text(row, "id"),
        kind=kind,
        reference=stripe_wire.reference_of(source) if ours else None,
        provider_ref=transfer if ours else None,
        currency=currency,
        units=stripe_wire.to_units(fields.whole(row, "amount") - fields.whole(row, "fee"), currency),
        fee_units=stripe_wire.to_units(fields.whole(row, "fee"), currency),
        booked_at=booked_at,
    )
