"""Payout providers one by one: what each is sent, and what its words and codes mean."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest

from core.errors import PermanentError, TransientError
from providers.payout import flutterwave_wire, razorpayx_wire
from providers.payout.base import Refusal, RemittanceState, Standing, StatementKind
from tests.conformance.payout_lab import find, now, rejected, sent
from tests.support.payouts.base import NUBAN, Double, refusing
from tests.support.payouts.flutterwave import FAILURES, FlutterwaveDouble
from tests.support.payouts.razorpayx import ACCOUNT, RazorpayxDouble
from tests.support.payouts.stripe import ACCOUNT as CONNECTED
from tests.support.payouts.stripe import KEY, StripeDouble

S, R = RemittanceState, Refusal


@pytest.fixture
def flutterwave() -> Iterator[FlutterwaveDouble]:
    with FlutterwaveDouble() as double:
        yield double


@pytest.fixture
def razorpayx() -> Iterator[RazorpayxDouble]:
    with RazorpayxDouble() as double:
        yield double


@pytest.fixture
def stripe() -> Iterator[StripeDouble]:
    with StripeDouble() as double:
        yield double


@pytest.fixture
def reference() -> str:
    return str(uuid4())


def body(double: Double) -> Any:
    return json.loads(next(asked.body for asked in reversed(double.traffic.asked) if double.moves(asked)))


# --- Flutterwave ------------------------------------------------------------------------------------------------------


def test_a_transfer_is_asked_for_as_documented(flutterwave: FlutterwaveDouble, reference: str) -> None:
    sent(flutterwave, flutterwave.provider(), reference, units=5_500_05)
    assert body(flutterwave) == {
        "account_bank": "044",
        "account_number": NUBAN.number,
        "amount": 5500.05,
        "currency": "NGN",
        "debit_currency": "NGN",
        "narration": "Withdrawal 4711",
        "reference": reference,
        "beneficiary_name": NUBAN.holder,
    }
    raw = flutterwave.traffic.asked[-1].body
    assert b'"amount":5500.05,' in raw, "digit by digit, not as a float"


def test_half_a_kobo_of_a_fee_is_rounded_up(flutterwave: FlutterwaveDouble, reference: str) -> None:
    assert sent(flutterwave, flutterwave.provider(), reference).fee_units == 2_688
    flutterwave.fail(reference)
    failed = find(flutterwave.provider(), reference)
    assert failed is not None
    assert failed.fee_units is None, "it isn't said whether it is given back"
    assert [flutterwave_wire.fee_units(each, "iso4217:NGN") for each in ("26.875", "10.75", 45, 0)] == [
        2_688, 1_075, 4_500, 0,
    ]  # fmt: skip
    assert flutterwave_wire.balance_units("253125.827", "iso4217:NGN") == 25_312_582
    junks: list[Any] = ["NaN", "1e400", "-1", True, None, "x", {}]
    for junk in junks:
        with pytest.raises(PermanentError):
            flutterwave_wire.fee_units(junk, "iso4217:NGN")


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        *((words, refusal) for refusal, words in FAILURES.items()),
        ("DISBURSE FAILED: wallet currently restricted. please contact administrator", R.PROVIDER),
        ("Please enable IP Whitelisting to access this service", R.PROVIDER),
        ("Insufficient balance in your wallet", R.FUNDS),
        ("INS001", R.FUNDS),
        ("INV001", R.DESTINATION),
        ("BNK001", R.PROVIDER),
        ("Account resolve failed", R.DESTINATION),
        ("Sorry, that account number is invalid, please check and try again", R.DESTINATION),
        ("DISBURSE FAILED: undefined", None),
        ("", None),
    ],
)
def test_what_its_words_mean(words: str, meant: Refusal | None) -> None:
    for unknown in (R.REQUEST, R.PROVIDER):
        assert flutterwave_wire.refusal(words, unknown) is (meant or unknown)


@pytest.mark.parametrize(
    "words",
    [
        "Payout with this ref already exists",
        "DUP001",
        "Duplicate reference",
        "reference must be unique",
        "An error occurred, please try again",
        "Request timed out",
    ],
)
def test_what_is_there_or_may_be_is_never_refused(flutterwave: FlutterwaveDouble, words: str, reference: str) -> None:
    """In whatever words: none is found yet, so nobody knows."""
    flutterwave.upset(refusing(400, {"status": "error", "message": words, "data": None}))
    assert flutterwave.provider().send(flutterwave.request(reference)).standing is Standing.UNKNOWN


def test_a_list_that_is_not_narrowed_is_read_whole(flutterwave: FlutterwaveDouble, reference: str) -> None:
    """Should they not take the parameter `reference`: another's transfer is never ours."""
    provider = flutterwave.provider()
    made = sent(flutterwave, provider, reference)
    for _ in range(12):
        sent(flutterwave, provider, str(uuid4()))

    def unnarrowed(asked: Any, forward: Any) -> Any:
        return forward(replace(asked, path=asked.path.replace("reference=", "ignored=")))

    flutterwave.upset(unnarrowed, times=100, when=lambda asked: asked.method == "GET")
    assert find(provider, reference) == made
    assert find(provider, str(uuid4())) is None


@pytest.mark.parametrize(
    ("status", "words"),
    [(400, "Account resolve failed"), (400, "could not be validated. Please try again"), (500, "oops")],
)
def test_a_bank_that_does_not_answer_has_not_said_that_there_is_no_account(
    flutterwave: FlutterwaveDouble, status: int, words: str
) -> None:
    flutterwave.upset(refusing(status, {"status": "error", "message": words}), when=lambda _: True)
    with pytest.raises(TransientError):
        flutterwave.provider().holder(NUBAN)


def test_older_webhooks_are_read_too(flutterwave: FlutterwaveDouble) -> None:
    told = json.dumps({"event.type": "Transfer", "transfer": {"id": 570, "reference": "r-1", "status": "FAILED"}})
    (notice,) = flutterwave.provider().notices(told.encode(), {})
    assert (notice.reference, notice.remittance) == ("r-1", None)


# --- RazorpayX --------------------------------------------------------------------------------------------------------


def test_a_payout_to_a_upi_id_is_asked_for_as_documented(razorpayx: RazorpayxDouble, reference: str) -> None:
    long = "A narration that is longer than their banks take"
    sent(razorpayx, razorpayx.provider(), reference, narration=long)
    upi = razorpayx.destinations[0]
    contact = {"name": upi.holder, "type": "customer"}
    assert body(razorpayx) == {
        "account_number": ACCOUNT,
        "amount": razorpayx.units,
        "currency": "INR",
        "mode": "UPI",
        "purpose": "payout",
        "fund_account": {"account_type": "vpa", "vpa": {"address": upi.number}, "contact": contact},
        "queue_if_low_balance": False,
        "reference_id": reference,
        "narration": long[:30],
    }
    assert razorpayx.traffic.asked[-1].headers["X-Payout-Idempotency"] == reference


@pytest.mark.parametrize(("units", "mode"), [(1_00, "IMPS"), (500_000_00, "IMPS"), (500_000_01, "NEFT")])
def test_a_bank_account_gets_it_as_fast_as_its_amount_allows(
    razorpayx: RazorpayxDouble, units: int, mode: str, reference: str
) -> None:
    RazorpayxDouble.units_max, before = 900_000_00, RazorpayxDouble.units_max
    try:
        bank = replace(razorpayx.destinations[1], holder=None)
        sent(razorpayx, razorpayx.provider(), reference, destination=bank, units=units)
    finally:
        RazorpayxDouble.units_max = before
    asked = body(razorpayx)
    assert asked["mode"] == mode
    account = {"name": "Beneficiary", "ifsc": "HDFC0000053", "account_number": bank.number}
    assert asked["fund_account"]["bank_account"] == account


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("queued", S.PENDING), ("pending", S.PENDING), ("scheduled", S.PENDING), ("processing", S.PENDING),
        ("processed", S.PAID), ("reversed", S.RETURNED), ("failed", S.FAILED), ("cancelled", S.FAILED),
        ("rejected", S.FAILED),
    ],
)  # fmt: skip
def test_its_states_are_ours(razorpayx: RazorpayxDouble, status: str, state: RemittanceState, reference: str) -> None:
    made = sent(razorpayx, razorpayx.provider(), reference)
    razorpayx.payouts[made.provider_ref] |= {"status": status, "status_details": None}
    found = find(razorpayx.provider(), reference)
    assert found is not None
    over = state in {S.FAILED, S.RETURNED}
    meant = (R.REQUEST if status in {"cancelled", "rejected"} else R.PROVIDER) if over else None
    assert (found.state, found.refusal, found.why) == (state, meant, status if over else None)
    assert found.fee_units == (0 if state is S.RETURNED else razorpayx.fee(0)), "a reversal gives the fees back"


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        ({"description": "Transactions from this IP are not allowed. Contact support for help."}, R.PROVIDER),
        ({"description": "Your account does not have enough balance to carry out the payout operation."}, R.FUNDS),
        ({"description": "The amount must be atleast INR 1.00", "field": "amount"}, R.LIMIT),
        ({"description": "Invalid", "field": "fund_account.bank_account.ifsc"}, R.DESTINATION),
        ({"description": "The IFSC code is invalid"}, R.DESTINATION),
        ({"description": "no", "reason": "insufficient_funds"}, R.FUNDS),
        ({"description": "The account number field is required", "field": "account_number"}, R.REQUEST),
        ({"description": "Idempotency key is missing. Include idempotency header and key in the request."}, R.REQUEST),
        ({}, R.REQUEST),
    ],
)
def test_what_its_refusals_mean(
    razorpayx: RazorpayxDouble, error: dict[str, str], meant: Refusal, reference: str
) -> None:
    razorpayx.upset(refusing(400, {"error": {"code": "BAD_REQUEST_ERROR", **error}}))
    said = razorpayx.provider().send(razorpayx.request(reference))
    assert rejected(said) is meant
    assert str(said.why).startswith("400: BAD_REQUEST_ERROR")
    assert not error or error["description"] not in str(said.why)


@pytest.mark.parametrize(
    ("code", "description"),
    [
        ("BAD_REQUEST_ERROR", "Different request body sent for the same Idempotency Header."),
        ("BAD_REQUEST_ERROR", "We are facing some trouble completing your request at the moment."),
        ("SERVER_ERROR", "no"),
        ("GATEWAY_ERROR", "no"),
    ],
)
def test_another_body_under_its_key_and_trouble_of_theirs_prove_nothing(
    razorpayx: RazorpayxDouble, code: str, description: str, reference: str
) -> None:
    razorpayx.upset(refusing(400, {"error": {"code": code, "description": description}}))
    assert razorpayx.provider().send(razorpayx.request(reference)).standing is Standing.UNKNOWN


def test_a_list_without_end_is_no_answer(
    razorpayx: RazorpayxDouble, monkeypatch: pytest.MonkeyPatch, reference: str
) -> None:
    monkeypatch.setattr("providers.payout.razorpayx.PAGES_MAX", 3)
    sent(razorpayx, razorpayx.provider(), reference)
    razorpayx.upset(refusing(200, {"items": [{"id": "pout_1"}]}), times=100, when=lambda _: True)
    with pytest.raises(PermanentError, match="more than 3 pages"):
        find(razorpayx.provider(), reference)
    assert razorpayx.provider().send(razorpayx.request(str(uuid4()))).standing is Standing.UNKNOWN


def test_every_reason_means_one_thing() -> None:
    assert {R.DESTINATION, R.FUNDS, R.LIMIT, R.PROVIDER} == set(razorpayx_wire.REASONS.values())
    assert "payout_processed" not in razorpayx_wire.REASONS


def test_the_balance_is_that_of_our_account(razorpayx: RazorpayxDouble) -> None:
    assert razorpayx.provider().balance("iso4217:INR") == razorpayx.balance_units
    with pytest.raises(PermanentError):
        razorpayx.provider().balance("iso4217:USD")


def test_a_payout_of_the_dashboard_is_not_ours(razorpayx: RazorpayxDouble, reference: str) -> None:
    sent(razorpayx, razorpayx.provider(), reference)
    razorpayx.pay(reference)
    (webhook,) = razorpayx.take()
    by_hand = webhook.body.replace(f'"{reference}"'.encode(), b"null")
    assert razorpayx.provider().notices(by_hand, {}) == ()
    other = webhook.body.replace(b'"event": "payout.processed"', b'"event": "transaction.created"')
    assert razorpayx.provider().notices(other, {}) == ()


def test_a_reversal_gives_back_the_fee_too(razorpayx: RazorpayxDouble, reference: str) -> None:
    provider = razorpayx.provider()
    sent(razorpayx, provider, reference)
    razorpayx.give_back(reference)
    lines = list(provider.statement(now() - timedelta(seconds=5), now() + timedelta(seconds=5)))
    assert sorted((line.units, line.fee_units) for line in lines) == [
        (-razorpayx.units - 590, 590), (razorpayx.units + 590, -590),
    ]  # fmt: skip


# --- Stripe -----------------------------------------------------------------------------------------------------------


def test_a_transfer_to_an_account_is_asked_for_as_documented(stripe: StripeDouble, reference: str) -> None:
    sent(stripe, stripe.provider(), reference)
    asked = stripe.traffic.asked[-1]
    assert {name: values[0] for name, values in parse_qs(asked.body.decode()).items()} == {
        "amount": "12500",
        "currency": "usd",
        "destination": CONNECTED,
        "description": "Withdrawal 4711",
        "transfer_group": reference,
        "metadata[reference]": reference,
        "metadata[purpose]": "payout",
        "expand[0]": "balance_transaction",
    }
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert (headers["idempotency-key"], headers["authorization"]) == (reference, f"Bearer {KEY}")
    assert not [name for name in headers if name.startswith("x-stripe")]


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        ({"code": "balance_insufficient"}, R.FUNDS),
        ({"code": "amount_too_large", "param": "amount"}, R.LIMIT),
        ({"code": "resource_missing", "param": "destination"}, R.DESTINATION),
        ({"code": "insufficient_capabilities_for_transfer"}, R.DESTINATION),
        ({"code": "transfers_not_allowed"}, R.PROVIDER),
        ({"code": "resource_missing", "param": "source_transaction"}, R.REQUEST),
        ({"code": "pondered"}, R.REQUEST),
    ],
)
def test_what_its_codes_mean(stripe: StripeDouble, error: dict[str, str], meant: Refusal, reference: str) -> None:
    stripe.upset(refusing(400, {"error": {"type": "invalid_request_error", "message": "no", **error}}))
    said = stripe.provider().send(stripe.request(reference))
    assert rejected(said) is meant
    assert said.why == ": ".join(["400", error.get("code", "invalid_request_error"), *list(error.values())[1:]])


def test_a_refusal_is_repeated_as_long_as_its_key_lives(stripe: StripeDouble, reference: str) -> None:
    """So that what was refused is asked for again under another reference, or not at all."""
    balance, stripe.balance_units = stripe.balance_units, 0
    assert rejected(stripe.provider().send(stripe.request(reference))) is R.FUNDS
    stripe.balance_units = balance
    assert rejected(stripe.provider().send(stripe.request(reference))) is R.FUNDS
    assert stripe.accepted(reference) == 0
    sent(stripe, stripe.provider(), str(uuid4()))


def test_an_answer_500_that_is_kept_is_never_a_proof(stripe: StripeDouble, reference: str) -> None:
    """/error-low-level: it is indeterminate, and what was asked for may be made later."""
    provider, stripe.jammed = stripe.provider(), True
    assert [provider.send(stripe.request(reference)).standing for _ in range(2)] == [Standing.UNKNOWN] * 2
    assert (find(provider, reference), provider.abilities.absent_after) == (None, None)
    stripe.mend()
    assert provider.send(stripe.request(reference)).standing is Standing.UNKNOWN, "the key has the 500 still"
    assert (find(provider, reference) is not None, stripe.accepted(reference)) == (True, 1)


@pytest.mark.parametrize("kind", ["idempotency_error", "api_error"])
def test_some_types_of_errors_prove_nothing(stripe: StripeDouble, kind: str, reference: str) -> None:
    stripe.upset(refusing(400, {"error": {"type": kind, "message": "no"}}))
    assert stripe.provider().send(stripe.request(reference)).standing is Standing.UNKNOWN


def test_an_old_spelling_of_a_pause(stripe: StripeDouble, reference: str) -> None:
    stripe.upset(refusing(400, {"error": {"type": "invalid_request_error", "code": "rate_limit"}}))
    assert stripe.provider().send(stripe.request(reference)).standing is Standing.NOT_SENT


def test_what_is_partly_reversed_is_still_paid(stripe: StripeDouble, reference: str) -> None:
    sent(stripe, stripe.provider(), reference)
    stripe.reverse(reference, 100)
    found = find(stripe.provider(), reference)
    assert found is not None
    assert (found.state, found.units, found.why) == (S.PAID, stripe.units, "partly_reversed")
    stripe.reverse(reference, stripe.units - 100)
    found = find(stripe.provider(), reference)
    assert found is not None
    assert (found.state, found.why) == (S.RETURNED, "reversed")


@pytest.mark.parametrize("kind", ["payout.paid", "payout.failed", "charge.succeeded", "transfer_group.odd"])
def test_events_of_others_are_about_nothing_of_ours(stripe: StripeDouble, kind: str) -> None:
    row = {"id": "po_1", "object": "payout", "metadata": {"reference": "r-1"}}
    assert stripe.provider().notices(json.dumps({"type": kind, "data": {"object": row}}).encode(), {}) == ()
    by_hand = json.dumps({"type": "transfer.created", "data": {"object": {"id": "tr_1", "metadata": {}}}})
    assert stripe.provider().notices(by_hand.encode(), {}) == ()


def test_lines_of_charges_and_of_our_own_payouts_belong_to_no_payout(stripe: StripeDouble, reference: str) -> None:
    provider = stripe.provider()
    sent(stripe, provider, reference)
    stripe._book(500, "charge", {"id": "ch_1", "object": "charge", "metadata": {"reference": "an-order"}})
    stripe._book(-900, "payout", {"id": "po_1", "object": "payout", "metadata": {}})
    stripe._book(-3, "stripe_fee", {"id": "fee_1", "object": "fee"})
    lines: dict[StatementKind, list[tuple[str | None, int]]] = defaultdict(list)
    for line in provider.statement(now() - timedelta(seconds=5), now() + timedelta(seconds=5)):
        lines[line.kind].append((line.reference, line.units))
    assert lines[StatementKind.PAYOUT] == [(reference, -stripe.units)]
    assert sorted(lines[StatementKind.OTHER], key=str) == [(None, -900), (None, 500)]
    assert lines[StatementKind.FEE] == [(None, -3)]
