"""RazorpayX payouts: rupees by UPI, and by IMPS or NEFT to a bank account.

After razorpay.com/docs: api/x/payout-composite, api/x/payout-idempotency, api/x/payouts/fetch-all,
api/x/transactions/fetch-all, api/x/account-validation/balance-fetch, errors/x (with "Handling 5XX Errors"),
errors/x/payout-status-details, x/payouts/states-life-cycle, x/payouts/best-practices, webhooks/payouts.

- Our reference is `X-Payout-Idempotency` and the payout's `reference_id`. A repeat with the same body within 7 days
  returns the payout that there is; with another body it is refused, and proves that there is one.
- "If no status is returned after 1 hour, mark the payout as failed": what isn't found an hour after it was last sent
  isn't there.
- `reversed` is what a payout becomes that failed after our balance was debited, whether or not it was `processed`
  before: the amount is back with its fees. `failed` may become `reversed` later.
- Events come in any order: a notice never says what became of a payout.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.errors import PermanentError
from core.http import ANSWER_TIMEOUT_S, HttpClient, RefusedError
from providers.fiat import fields
from providers.fiat.fields import Json
from providers.payout import asking
from providers.payout import razorpayx_wire as wire
from providers.payout.base import (
    Abilities,
    Bank,
    Destination,
    Kind,
    Notice,
    PayoutRequest,
    Remittance,
    Sent,
    StatementLine,
)
from providers.payout.settings import RazorpayxPayoutSettings

NAME = "razorpayx"
KEY_WINDOW = timedelta(days=7)
ABSENT_AFTER = timedelta(hours=1)
PER_SECOND = 5
KINDS = frozenset({Kind.UPI, Kind.BANK_IN})
CODED = frozenset({Kind.BANK_IN})
PAGE = 100
PAGES_MAX = 1_000
OF_PAYOUTS = "payout."
_NOT_FOUND = 404
_NO_SUCH_ID = "the id provided does not exist"
"""How an unknown id is answered: with 400, and only these words."""


class RazorpayxPayouts:
    name = NAME

    def __init__(self, settings: RazorpayxPayoutSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        auth = settings.reveal("key_id"), settings.reveal("key_secret")
        self._http = HttpClient(settings.base_url, auth=auth, answer_timeout=answer_timeout)
        self._account = settings.reveal("account_number")
        self._imps_max = settings.imps_max
        self.abilities = Abilities(
            currencies=settings.ranges,
            kinds=KINDS,
            signs_webhooks=True,
            key_window=KEY_WINDOW,
            absent_after=ABSENT_AFTER,
            per_second=PER_SECOND,
            statements=True,
            enquires=frozenset(),  # its account validation costs money and answers later
        )

    # --- payouts ------------------------------------------------------------------------------------------------------

    def send(self, request: PayoutRequest) -> Sent:
        unfit = asking.unfit(request, KINDS, coded=CODED)
        if unfit is not None:
            return unfit
        content = json.dumps(wire.body(request, self._account, self._imps_max)).encode()
        headers = {"Content-Type": "application/json", "X-Payout-Idempotency": request.reference}
        return asking.sent(
            lambda: self._http.send("POST", "/v1/payouts", content=content, headers=headers).json(),
            lambda answer: asking.same(wire.remittance(_object(answer)), request.reference),
            lambda error: self._refused(request.reference, error),
        )

    def _refused(self, reference: str, error: RefusedError) -> Sent:
        said = wire.error(error)
        return asking.judged(
            error,
            unsure=not said or wire.taken(said) or wire.vague(said),
            find=lambda: self._listed(reference),
            refusal=wire.refusal(said),
            why=asking.why(error, said.get("code"), said.get("reason"), said.get("field")),
        )

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:  # noqa: ARG002
        row = None if provider_ref is None else self._one(provider_ref)
        return self._listed(reference) if row is None else asking.same(wire.remittance(row), reference)

    def _one(self, provider_ref: str) -> Json | None:
        try:
            return _object(self._http.read(f"/v1/payouts/{provider_ref}").json())
        except RefusedError as error:
            words = fields.perhaps(wire.error(error), "description") or ""
            if error.reply.status == _NOT_FOUND or words.lower().startswith(_NO_SUCH_ID):
                return None
            raise

    def _listed(self, reference: str) -> Remittance | None:
        """Whether or not the list is narrowed to our reference as asked for, only rows that have it count."""
        rows = self._all("/v1/payouts", {"account_number": self._account, "reference_id": reference})
        return asking.only([wire.remittance(row) for row in rows if row.get("reference_id") == reference])

    # --- what we have, and whose accounts there are -------------------------------------------------------------------

    def balance(self, currency: str) -> int:
        listed = fields.listing(_object(self._http.read("/v1/banking_balances").json()).get("items"), "items")
        for each in listed:
            row = _object(each)
            if row.get("account_number") == self._account and fields.currency(row) == currency:
                return max(fields.whole(row, "available_amount" if "available_amount" in row else "amount"), 0)
        raise PermanentError("RazorpayX tells no balance of our account in that currency")

    def holder(self, destination: Destination) -> str | None:
        raise PermanentError(f"RazorpayX isn't asked whose a {destination.kind} is")

    def banks(self, kind: Kind) -> Sequence[Bank]:  # noqa: ARG002 - an IFSC has its bank in it
        return ()

    # --- webhooks, statement ------------------------------------------------------------------------------------------

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        said = fields.event(body)
        kind = fields.text(said, "event")
        payload = fields.mapping(said.get("payload"), "payload")
        part = payload.get("payout")
        if not kind.startswith(OF_PAYOUTS) or not isinstance(part, dict):
            return ()
        row = fields.mapping(part.get("entity"), "entity")
        reference = fields.perhaps(row, "reference_id")
        if reference is None:  # made by hand, in the dashboard
            return ()
        return (Notice(reference=reference, provider_ref=fields.text(row, "id"), kind=asking.code(kind) or OF_PAYOUTS),)

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:
        """All lines of our account."""
        times = {"from": int(since.timestamp()), "to": int(until.timestamp()) + 1}
        for row in self._all("/v1/transactions", {"account_number": self._account, **times}):
            if since <= wire.booked_at(row) < until:
                yield wire.line(row)

    def _all(self, path: str, params: Mapping[str, Any]) -> Iterator[Json]:
        """All pages, up to one that is empty, and each row once: a new one moves those behind it to the next page."""
        skip = 0
        seen: set[str] = set()
        for _ in range(PAGES_MAX):
            reply = self._http.read(path, params={**params, "count": PAGE, "skip": skip})
            rows = fields.listing(_object(reply.json()).get("items"), "items")
            if not rows:
                return
            for each in rows:
                row = _object(each)
                number = fields.text(row, "id")
                if number not in seen:
                    seen.add(number)
                    yield row
            skip += len(rows)
        raise PermanentError(f"{path} has more than {PAGES_MAX} pages")


def _object(answer: object) -> Json:
    return fields.mapping(answer, "an answer of RazorpayX")
