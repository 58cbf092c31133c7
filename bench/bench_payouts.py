"""`make bench-payouts`: what a payout costs us, from the request to the books of what was paid.

One process, one payout after another, PostgreSQL that waits for the disk, and the double of Flutterwave that tests
have: real HTTP in the provider's wire format, on this machine. No rule asks for a person, as in most payouts.

- payouts.whole: payouts a second through all of it. Baseline: postings a second of the same process, one by one, which
  is what the least payout would be: a payout posts three times and is written down at each step.
- payouts.ask, .submit, .settle: milliseconds of each part, which are all of a payout. Baseline: those of one posting.
    ask: destination, quote, hold, screening, limits, approval, the job; one transaction.
    submit: the intent with its capture; the call, with its connection kept open; what was answered.
    settle: asking the provider about it, and booking that it was paid.
- payouts.call: milliseconds of the provider's answers in those, which the others contain.
- payouts.batch: payouts a second that are asked for in batches of 100.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from uuid import UUID

import httpx
from sqlalchemy import update

from api.payout_ports import PORTS
from bench import servers
from bench.figures import figure
from core import clock
from core.db import transaction
from core.errors import InvalidRequestError
from domain.access import service as access
from domain.beneficiary import checks
from domain.beneficiary import service as book
from domain.beneficiary.models import Beneficiary
from domain.beneficiary.service import NewBeneficiary
from domain.payout import ruling, sending_queries, service
from domain.payout.service import NewBatch, NewPayout
from domain.payout.states import PayoutState
from ledger import balances, posting
from ledger.assets import sync_assets
from ledger.posting import Journal, Posting
from providers.payout.base import Destination, Kind, PayoutProvider
from tests.support.payouts.base import HOLDER
from tests.support.payouts.flutterwave import FlutterwaveDouble

PAYOUTS = 500
WARM = 30
BATCHES, BATCH = 5, 100
TENANT, MAKER = "bench", "key:bench"
UNITS = 1_000_00


def account(number: int) -> str:
    return f"user:{number}:available"


@contextmanager
def environment() -> Iterator[None]:
    """A deployment whose limits nothing here reaches."""
    endless = str(10**15)
    scopes = ("account", "destination", "tenant")
    limits = {f"PAYOUT_LIMIT_{scope}_{span}".upper(): endless for scope in scopes for span in ("day", "week")}
    counts = {f"PAYOUT_LIMIT_{scope}_{span}_COUNT".upper(): "100000" for scope in scopes for span in ("day", "week")}
    os.environ.update(
        limits
        | counts
        | {
            "PAYOUT_LIMIT_CURRENCY": FlutterwaveDouble.currency,
            "PAYOUT_LIMIT_EACH": endless,
            "PAYOUT_APPROVALS": json.dumps([[10**14, 1]]),
            "PAYOUT_FIRST_BY_HAND": "0",
            "PAYOUT_REQUESTS_HOURLY": "100000",
            "VAULT_KEYS": json.dumps(["42" * 32]),
            "VAULT_FINGERPRINT_KEY": "43" * 32,
        }
    )
    yield


def nuban(serial: int) -> str:
    """An account number of the bank 044 with its check digit (Central Bank of Nigeria, NUBAN)."""
    for digit in "0123456789":
        with suppress(InvalidRequestError):
            given = Destination(kind=Kind.BANK_NG, number=f"{serial:09d}{digit}", bank_code="044", holder=HOLDER)
            return checks.checked(given, None).number
    raise AssertionError("one of ten digits fits")


def prepared(double: FlutterwaveDouble, count: int) -> list[UUID]:
    """Accounts with money, each with a destination that is verified and trusted. Returns the destinations."""
    made = []
    with transaction() as session:
        sync_assets(session)
        access.create_tenant(session, TENANT, name="Benchmark")
    for number in range(count):
        to = Destination(kind=Kind.BANK_NG, number=nuban(690_000_000 + number), bank_code="044", holder=HOLDER)
        double.holders[to.number] = HOLDER
        move = Posting(source="custody:bank:NGN", destination=account(number), asset=FlutterwaveDouble.currency,
                       units=100 * UNITS)  # fmt: skip
        with transaction() as session:
            new = NewBeneficiary(tenant=TENANT, account=account(number), destination=to, chain=None, actor=MAKER)
            entry = book.get_or_add(session, new)[0]
            made.append(entry.id)
            for scope, key in (("account", account(number)), ("destination", entry.fingerprint)):
                ruling.put(session, tenant=None, name="allow", scope=scope, key=key, actor=MAKER, reason="a benchmark")  # type: ignore[arg-type]
            posting.post(session, Journal(tenant=TENANT, reference=f"fund:{number}", category="bench", postings=[move]))
    with transaction() as session:
        # As the provider's name enquiry leaves them: it is no part of a payout.
        session.execute(update(Beneficiary).values(state="verified", verified_at=clock.now()))
    return made


def new(number: int, beneficiary: UUID) -> NewPayout:
    return NewPayout(
        tenant=TENANT, account=account(number), asset=FlutterwaveDouble.currency, units=UNITS, maker=MAKER,
        beneficiary_id=beneficiary,
    )  # fmt: skip


def timed(numbers: Sequence[int], step: Callable[[int], object]) -> float:
    """Seconds of all."""
    begin = time.perf_counter()
    for number in numbers:
        step(number)
    return time.perf_counter() - begin


def posted(number: int) -> None:
    move = Posting(
        source=account(number % (WARM + PAYOUTS)), destination="house:fees", asset=FlutterwaveDouble.currency, units=1
    )
    posting.book(Journal(tenant=TENANT, reference=f"bench:{number}", category="bench", postings=[move]))


class Calls:
    """Seconds in the provider's answers, as our client of it sees them."""

    def __init__(self) -> None:
        self.seconds = 0.0
        ask = httpx.HTTPTransport.handle_request

        def asked(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            begin = time.perf_counter()
            try:
                return ask(transport, request)
            finally:
                self.seconds += time.perf_counter() - begin

        httpx.HTTPTransport.handle_request = asked  # type: ignore[assignment, method-assign]


def whole(double: FlutterwaveDouble, beneficiaries: Sequence[UUID]) -> None:
    provider = double.provider()
    # The provider's own limit would be all that is measured.
    provider.abilities = replace(provider.abilities, per_second=1_000_000)
    providers: dict[str, PayoutProvider] = {provider.name: provider}
    service.refresh_providers(providers)
    calls = Calls()
    ids: dict[int, UUID] = {}

    def ask(number: int) -> None:
        with transaction() as session:
            made = service.create(session, new(number, beneficiaries[number]), PORTS)
            assert made.current is PayoutState.APPROVED, made.findings
            ids[number] = made.id

    def submit(number: int) -> None:
        service.submit(ids[number], providers)

    def settle(number: int) -> None:
        service.look(ids[number], providers)

    parts: dict[str, float] = {}
    for numbers in (range(WARM), range(WARM, WARM + PAYOUTS)):
        calls.seconds = 0.0
        single = timed(numbers, posted)
        parts = {"ask": timed(numbers, ask), "submit": timed(numbers, submit)}
        for number in numbers:
            with transaction() as session:
                double.pay(str(sending_queries.attempts(session, ids[number])[-1].id))
        parts["settle"] = timed(numbers, settle)
    with transaction() as session:
        found = [service.get(session, ids[number]) for number in ids]
        assert all(each is not None and each.current is PayoutState.PAID for each in found)
        assert balances.balance(session, TENANT, "transit:payouts", double.currency) == 0
    assert double.paid_units() == (WARM + PAYOUTS) * UNITS
    figure("payouts.whole", ours=PAYOUTS / sum(parts.values()), baseline=PAYOUTS / single, goal="none")
    for name, seconds in [*parts.items(), ("call", calls.seconds)]:
        figure(f"payouts.{name}", ours=seconds / PAYOUTS * 1_000, baseline=single / PAYOUTS * 1_000, goal="none")


def batches(beneficiaries: Sequence[UUID]) -> None:
    """Whoever asks in a batch pays by one list."""
    begin = time.perf_counter()
    for place in range(BATCHES):
        numbers = range(place * BATCH, (place + 1) * BATCH)
        items = [new(number, beneficiaries[number]) for number in numbers]
        with transaction() as session:
            asked = NewBatch(
                tenant=TENANT, maker=MAKER, items=items, count=BATCH, totals={FlutterwaveDouble.currency: BATCH * UNITS}
            )
            made = service.create_batch(session, asked, PORTS, lambda error: {"detail": str(error)})
            assert made.refused == [], made.refused[:1]
    took = time.perf_counter() - begin
    single = timed(range(WARM + PAYOUTS, 2 * (WARM + PAYOUTS)), posted)
    figure("payouts.batch", ours=BATCHES * BATCH / took, baseline=(WARM + PAYOUTS) / single, goal="none")


def main() -> None:
    with environment(), servers.servers(), FlutterwaveDouble() as double:
        beneficiaries = prepared(double, max(WARM + PAYOUTS, BATCHES * BATCH))
        whole(double, beneficiaries)
        batches(beneficiaries)


if __name__ == "__main__":
    main()
