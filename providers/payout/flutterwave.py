"""Flutterwave transfers, API v3: naira to Nigerian bank accounts.

Sources: developer.flutterwave.com (docs/payout-outflow, reference/endpoints/transfers, banks, misc), the official SDK
Flutterwave/Node-v3 with the sample answers of its documentation/ (transfers.md, misc.md, banks.md). Its refusals and
failures are words without codes: those that we know are of the samples and as others report them (flutterwave_wire.py).
Amounts are decimals in major units.

- Our reference is the transfer's `reference`, which Flutterwave takes once ("Payout with this ref already exists") and
  by which transfers are listed. How long it stays unique is nowhere said: KEY_WINDOW is ours.
- A new transfer is NEW: queued. It ends SUCCESSFUL or FAILED, and a SUCCESSFUL one may become FAILED later, when the
  bank sends the money back. Nothing tells such a one from another that failed: who has seen it paid knows.
- Webhooks are not signed (`verif-hash` is a password): each is only a hint.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.errors import OutcomeUnknownError, PermanentError, TransientError
from core.http import ANSWER_TIMEOUT_S, HttpClient, RefusedError
from providers.fiat import decimals, fields
from providers.payout import asking
from providers.payout import flutterwave_wire as wire
from providers.payout.base import (
    Abilities,
    Bank,
    Destination,
    Kind,
    Notice,
    PayoutRequest,
    Refusal,
    Remittance,
    Sent,
    StatementLine,
)
from providers.settings import ProviderSettings

NAME = "flutterwave"
KEY_WINDOW = timedelta(days=7)
PER_SECOND = 5
"""No limit is published."""
DAY = timedelta(days=1)
PAGES_MAX = 1_000
COUNTRY = "NG"
KINDS = frozenset({Kind.BANK_NG})
JSON = {"Content-Type": "application/json"}
BAD_REQUEST = 400
NOT_FOUND = "not found"
OF_TRANSFERS = "transfer"


class FlutterwavePayouts:
    name = NAME

    def __init__(self, settings: ProviderSettings, *, answer_timeout: float = ANSWER_TIMEOUT_S) -> None:
        self._http = HttpClient(
            settings.base_url,
            headers={"Authorization": f"Bearer {settings.reveal('secret_key')}"},
            answer_timeout=answer_timeout,
        )
        self.abilities = Abilities(
            currencies=settings.ranges,
            kinds=KINDS,
            signs_webhooks=False,
            key_window=KEY_WINDOW,
            absent_after=None,
            per_second=PER_SECOND,
            statements=True,
            enquires=KINDS,
        )

    # --- payouts ------------------------------------------------------------------------------------------------------

    def send(self, request: PayoutRequest) -> Sent:
        unfit = asking.unfit(request, KINDS, coded=KINDS)
        if unfit is not None:
            return unfit
        try:
            body = decimals.dumps(wire.body(request)).encode()
        except PermanentError as error:  # a currency that no chains file describes
            return asking.rejected(Refusal.REQUEST, fields.why(error))
        return asking.sent(
            lambda: self._http.send("POST", "/v3/transfers", content=body, headers=JSON).json(),
            lambda answer: asking.same(wire.remittance(_data(answer)), request.reference),
            lambda error: self._refused(request.reference, error),
        )

    def _refused(self, reference: str, error: RefusedError) -> Sent:
        words = _words(error)
        return asking.judged(
            error,
            unsure=not words or wire.taken(words) or wire.vague(words),
            find=lambda: self._listed(reference),
            refusal=wire.refusal(words, Refusal.REQUEST),
            why=f"{error.reply.status}: {wire.phrase(words)}",
        )

    def find(self, reference: str, *, provider_ref: str | None, sent_at: datetime) -> Remittance | None:  # noqa: ARG002
        if provider_ref is None:
            return self._listed(reference)
        try:
            answer = self._http.read(f"/v3/transfers/{provider_ref}").json()
        except RefusedError as error:
            if error.reply.status != decimals.NOT_FOUND and NOT_FOUND not in _words(error).lower():
                raise
            return self._listed(reference)
        return asking.same(wire.remittance(_data(answer)), reference)

    def _listed(self, reference: str) -> Remittance | None:
        """Whether or not the list is narrowed to our reference as asked for, only rows that have it count."""
        rows = self._pages("/v3/transfers", {"reference": reference})
        return asking.only([wire.remittance(row) for row in rows if decimals.maybe(row, "reference") == reference])

    # --- what we have, and whose accounts there are -------------------------------------------------------------------

    def balance(self, currency: str) -> int:
        data = _data(self._http.read(f"/v3/balances/{fields.code(currency)}").json())
        if decimals.currency_of(decimals.field(data, "currency")) != currency:
            raise decimals.UnreadableError("the provider tells the balance of another currency")
        return wire.balance_units(decimals.field(data, "available_balance"), currency)

    def holder(self, destination: Destination) -> str | None:
        if destination.kind not in KINDS or destination.bank_code is None:
            raise PermanentError(f"Flutterwave doesn't tell whose a {destination.kind} is")
        body = decimals.dumps({"account_number": destination.number, "account_bank": destination.bank_code})
        try:
            answer = self._http.send("POST", "/v3/accounts/resolve", content=body.encode(), headers=JSON).json()
        except OutcomeUnknownError as error:  # it only asks
            raise TransientError(str(error)) from None
        except RefusedError as error:
            if error.reply.status != BAD_REQUEST:
                raise
            words = _words(error)
            if wire.no_account(words):
                return None
            if wire.refusal(words, Refusal.PROVIDER) in {Refusal.DESTINATION, Refusal.PROVIDER}:
                raise TransientError("the bank didn't tell whose account it is") from None
            raise
        return decimals.text(_data(answer), "account_name")

    def banks(self, kind: Kind) -> Sequence[Bank]:
        if kind not in KINDS:
            return ()
        answer = self._http.read(f"/v3/banks/{COUNTRY}").json()
        return [
            Bank(code=decimals.text(row, "code"), name=decimals.text(row, "name"))
            for row in decimals.rows(answer, "data")
        ]

    # --- webhooks, statement ------------------------------------------------------------------------------------------

    def notices(self, body: bytes, headers: Mapping[str, str]) -> Sequence[Notice]:  # noqa: ARG002
        """Those of charges and refunds share the URL and the password: they are about nothing of ours."""
        told = fields.event(body)
        kind = told.get("event") or told.get("event.type")
        if not isinstance(kind, str) or not kind.lower().startswith(OF_TRANSFERS):
            return ()
        data = decimals.maybe(told, "data") or decimals.maybe(told, "transfer")
        return (Notice(reference=decimals.text(data, "reference"), provider_ref=None, kind=asking.code(kind) or NAME),)

    def statement(self, since: datetime, until: datetime) -> Iterator[StatementLine]:
        """Transfers that were paid, by when they were made.

        Top-ups aren't among them, nor is what failed: of it both sides are left out, also if it was paid before.
        """
        days = {"from": wire.day(since - DAY), "to": wire.day(until + DAY)}
        for row in self._pages("/v3/transfers", days):
            booked_at = decimals.moment(decimals.field(row, "created_at"))
            if since <= booked_at < until and str(decimals.maybe(row, "status")).upper() == "SUCCESSFUL":
                yield wire.line(row, booked_at)

    def _pages(self, path: str, params: Mapping[str, Any]) -> Iterator[Any]:
        """Rows of all pages. Each row once: lists may move on while they are read."""
        seen: set[str] = set()
        for page in range(1, PAGES_MAX + 1):
            told = self._http.read(path, params={**params, "page": page}).json()
            if decimals.maybe(told, "status") != "success":
                raise decimals.UnreadableError(f"{path} is no list")
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


def _data(answer: Any) -> Any:
    if decimals.maybe(answer, "status") != "success":
        raise decimals.UnreadableError("the provider's answer is no success and no refusal")
    return decimals.field(answer, "data")


def _words(error: RefusedError) -> str:
    """Empty, if it isn't they who refuse."""
    said = fields.error(error)
    return str(said.get("message") or "") if said.get("status") == "error" else ""
