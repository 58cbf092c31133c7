"""Payouts that are asked for: what is bound, counted, decided; and that a refusal leaves nothing behind."""

from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from api import payout_ports
from config.assets import registry
from core import clock
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError, TransientError
from core.vault import VaultOffError
from domain.beneficiary import service as book
from domain.onchain.service import OnchainProvider
from domain.payout import limits, providers, sealing
from domain.payout.content import content_hash
from domain.payout.errors import LimitExceededError, PayoutRefusedError, TooManyRequestsError
from domain.payout.ports import NewDestination
from domain.payout.service import Payout, PayoutState
from domain.quote.models import Quote
from domain.quote.service import Fixed
from ledger import accounts
from ledger.errors import AccountFrozenError, InsufficientFundsError
from providers.payout.base import Destination, Kind
from tasks import payout_screening
from tasks.base import TASKS
from tests.integration.payout_asking.desk import ACCT, BNB, NGN, NUBAN, SHOP, USD, USER, Desk


def test_money_and_fee_are_held_and_a_trusted_one_is_approved_at_once(desk: Desk) -> None:
    desk.set(PAYOUT_FEES='{"iso4217:USD": [25, 150]}')
    desk.fund(5_000)
    there = desk.destination()
    desk.trust(there)
    made = desk.ask(1_999, beneficiary_id=there, details={"order": 7})
    assert (made.units, made.fee_units, made.payout_units, made.payout_asset) == (1_999, 25 + 29, 1_999, USD)
    assert (made.current, made.approvals_needed, made.findings) == (PayoutState.APPROVED, 0, [])
    assert (desk.held(), desk.pending_holds()) == (2_053, 1)
    assert desk.events(made) == ["create", "hold", "screen", "approve"]
    assert [job.args for job in desk.jobs("payout.submit")] == [{"payout_id": str(made.id)}]
    assert desk.used() == dict.fromkeys(("account", "tenant", "destination"), (1_999, 1))
    assert made.content_hash == content_hash(made) != content_hash(_changed(made, narration="other"))
    assert sealing.opened(made) == ACCT
    assert made.destination_masked == "acct_****KlMn"
    assert b"KlMn" not in made.destination_sealed


def _changed(payout: Any, **given: Any) -> Any:
    class Copy:
        def __getattr__(self, name: str) -> Any:
            return given.get(name, getattr(payout, name))

    return Copy()


def test_what_is_new_is_looked_at_by_people(desk: Desk) -> None:
    desk.set(PAYOUT_FIRST_BY_HAND="3", PAYOUT_APPROVALS="[[1000, 2]]")
    desk.fund(5_000)
    there = desk.destination()
    small, large = desk.ask(999, beneficiary_id=there), desk.ask(1_000, beneficiary_id=there)
    rules = [found["rule"] for found in small.findings]
    assert sorted(rules) == ["first_of_account", "first_of_tenant", "new_destination"]
    assert (small.current, small.approvals_needed) == (PayoutState.AWAITING_APPROVAL, 1)
    assert (large.current, large.approvals_needed) == (PayoutState.AWAITING_APPROVAL, 2)
    assert small.approve_until is not None and small.approve_until > clock.now() + timedelta(hours=71)
    assert desk.jobs("payout.submit") == []


REFUSED: list[tuple[dict[str, Any], type[Exception], str | None]] = [
    ({"units": 5_001}, InsufficientFundsError, "units"),
    ({"units": 0}, InvalidRequestError, "units"),
    ({"account": "house:fees"}, InvalidRequestError, "account"),
    ({"account": "user:42:playing"}, InvalidRequestError, "account"),
    ({"account": "user:42:bonus"}, InvalidRequestError, "account"),
    ({"account": "user:7:available"}, InvalidRequestError, "beneficiary_id"),
    ({"tenant": "other"}, NotFoundError, "beneficiary_id"),
    ({"beneficiary_id": uuid4()}, NotFoundError, "beneficiary_id"),
    ({"destination": NewDestination(destination=ACCT)}, InvalidRequestError, "beneficiary_id"),
    ({"asset": "iso4217:XXX"}, InvalidRequestError, "asset"),
    ({"payout_asset": NGN}, InvalidRequestError, "quote_id"),
    ({"quote_id": uuid4()}, NotFoundError, "quote"),
    ({"narration": "naïve"}, InvalidRequestError, "narration"),
    ({"narration": "x" * 101}, InvalidRequestError, "narration"),
    ({"purpose": "Two words"}, InvalidRequestError, "purpose"),
    ({"details": {"x": "y" * 9_000}}, InvalidRequestError, "metadata"),
    ({"provider": "nobody"}, InvalidRequestError, "provider"),
    ({"provider": "nobody", "by_hand": True}, InvalidRequestError, "provider"),
]


@pytest.mark.filterwarnings("error")
def test_what_cant_be_is_refused_and_leaves_nothing(desk: Desk) -> None:
    desk.fund(5_000)
    there = desk.destination()
    for given, error, field in REFUSED:
        with pytest.raises(error) as caught:
            desk.ask(**({"beneficiary_id": there} | given))
        assert isinstance(caught.value, InvalidRequestError)
        assert caught.value.field == field, given
    desk.nothing_is_left()


BAD: list[tuple[dict[str, Any], str | None, str, str]] = [
    # the wrong checksum of a NUBAN, of an IBAN, of an address
    ({"kind": Kind.BANK_NG, "bank_code": "058", "number": "0123456789", "holder": "Ada Obi"}, None, NGN, "number"),
    ({"kind": Kind.IBAN, "number": "DE89370400440532013001", "holder": "Ada Obi"}, None, "iso4217:EUR", "number"),
    (
        {"kind": Kind.CHAIN, "number": "0x5AAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
        "eip155:1",
        "eip155:1/slip44:60",
        "number",
    ),
    # unknown bank code, no holder
    ({"kind": Kind.BANK_IN, "bank_code": "HDFC1", "number": "50100123456789", "holder": "Ada"}, None, NGN, "bank_code"),
    ({"kind": Kind.UPI, "number": "ada@okaxis"}, None, "iso4217:INR", "holder"),
    # right by itself, and not where this money can arrive
    ({"kind": Kind.UPI, "number": "ada@okaxis", "holder": "Ada Obi"}, None, USD, "payout_asset"),
    ({"kind": Kind.IBAN, "number": "DE89370400440532013000", "holder": "Ada Obi"}, None, USD, "payout_asset"),
    ({"kind": Kind.CHAIN, "number": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"}, "eip155:1", USD, "payout_asset"),
    (
        {"kind": Kind.CHAIN, "number": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
        "eip155:1",
        f"{BNB}/erc20:0x55d398326f99059ff775485246999027b3197955",
        "payout_asset",
    ),
    # we have no wallet there
    (
        {"kind": Kind.CHAIN, "number": "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"},
        "eip155:1",
        "eip155:1/slip44:60",
        "by_hand",
    ),
]


def test_a_bad_destination_is_refused_and_not_kept(desk: Desk) -> None:
    desk.fund(5_000)
    for given, chain, asset, field in BAD:
        wanted = NewDestination(destination=Destination(**given), chain=chain)
        with pytest.raises(InvalidRequestError) as caught:
            desk.ask(destination=wanted, asset=asset)
        assert caught.value.field == field, given
    desk.nothing_is_left()
    with transaction() as session:
        assert book.page(session, tenant=SHOP) == []


def test_an_address_is_paid_where_we_have_a_wallet(desk: Desk) -> None:
    """BAD has it where there is none."""
    address, wallet = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
    ether = registry().of_chain("eip155:1")
    provider = OnchainProvider(wallet, ether, "eip155:1", lambda: pytest.fail("nobody needs a node"))
    with transaction() as session:
        providers.write(session, {provider.name: provider}, {})
    desk.fund(5_000, asset="eip155:1/slip44:60")
    to = NewDestination(destination=Destination(kind=Kind.CHAIN, number=address), chain="eip155:1")
    made = desk.ask(destination=to, asset="eip155:1/slip44:60")
    assert (made.destination_kind, made.by_hand) == (Kind.CHAIN, False)
    assert desk.held(asset="eip155:1/slip44:60") == 1_000


def test_frozen_accounts_and_refused_destinations_pay_nothing(desk: Desk) -> None:
    desk.fund(5_000)
    there = desk.destination()
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=USD, reason="asked by the police", actor="person:ada")
    with pytest.raises(AccountFrozenError):
        desk.ask(beneficiary_id=there)
    with transaction() as session:
        accounts.unfreeze(session, tenant=SHOP, code=USER, asset=USD, reason="over", actor="person:ada")
        book.refuse(session, there, actor="person:ada", reason="a mule")
    with pytest.raises(ConflictError, match="refused") as caught:
        desk.ask(beneficiary_id=there)
    assert caught.value.field == "beneficiary_id"
    desk.nothing_is_left()


def test_without_a_vault_nothing_is_taken_in(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from config import settings

    there = desk.destination()
    desk.fund(5_000)
    monkeypatch.delenv("VAULT_KEYS")
    settings.reload()
    with pytest.raises(VaultOffError):
        desk.ask(beneficiary_id=there)
    desk.nothing_is_left()


def test_the_deny_list_refuses_and_says_nothing_of_why(desk: Desk) -> None:
    desk.fund(5_000)
    desk.fund(5_000, asset=NGN)
    there = desk.destination()
    desk.put("account", USER, "deny")
    with pytest.raises(PayoutRefusedError) as caught:
        desk.ask(beneficiary_id=there)
    assert caught.value.rules[0] == "denied" and "denied" not in str(caught.value) and caught.value.field is None
    # Also while its destination is not verified yet, and so not screened.
    with pytest.raises(PayoutRefusedError):
        desk.ask(destination=NewDestination(destination=NUBAN), asset=NGN)
    desk.nothing_is_left()
    desk.put("account", USER, "allow")
    assert desk.ask(beneficiary_id=there).current is PayoutState.AWAITING_APPROVAL


# --- limits ----------------------------------------------------------------------------------------------------------


def test_limits_by_value_and_number_refuse_and_what_ends_unpaid_is_given_back(desk: Desk) -> None:
    desk.set(
        PAYOUT_LIMIT_EACH="1000",
        PAYOUT_LIMIT_ACCOUNT_DAY="2000",
        PAYOUT_LIMIT_DESTINATION_WEEK_COUNT="3",
        PAYOUT_TENANT_LIMITS='{"shop": {"tenant_day": 2100}, "other": {"each": 1}}',
    )
    desk.fund(50_000)
    desk.fund(50_000, "user:7:available")
    mine, theirs = desk.destination(), desk.destination(account="user:7:available")
    with pytest.raises(LimitExceededError) as caught:
        desk.ask(1_001, beneficiary_id=mine)
    assert (caught.value.limit, caught.value.most, caught.value.would_be) == ("each", 1_000, 1_001)
    desk.nothing_is_left()
    first, second = desk.ask(1_000, beneficiary_id=mine), desk.ask(1_000, beneficiary_id=mine)
    assert "limit:account_day" not in [found["rule"] for found in first.findings]
    assert "limit:account_day" in [found["rule"] for found in second.findings]  # over 80 %
    over: list[tuple[dict[str, Any], str]] = [
        ({"beneficiary_id": mine, "units": 1}, "account_day"),
        ({"beneficiary_id": theirs, "units": 101, "account": "user:7:available"}, "tenant_day"),
    ]
    for given, limit in over:
        with pytest.raises(LimitExceededError) as caught:
            desk.ask(**given)
        assert caught.value.limit == limit
    # The two accounts' destination is one and the same.
    desk.ask(1, beneficiary_id=theirs, account="user:7:available")
    with pytest.raises(LimitExceededError) as caught:
        desk.ask(1, beneficiary_id=theirs, account="user:7:available")
    assert (caught.value.limit, caught.value.would_be) == ("destination_week_count", 4)
    assert desk.used() == {"account": (2_001, 3), "tenant": (2_001, 3), "destination": (2_001, 3)}
    with transaction() as session:
        book.refuse(session, mine, actor="person:ada", reason="a mule")
    assert desk.proceed(first).current is desk.proceed(second).current is PayoutState.REJECTED
    assert desk.used() == {"account": (1, 1), "tenant": (1, 1), "destination": (1, 1)}
    desk.proceed(first)  # once more changes nothing
    assert desk.used()["tenant"] == (1, 1)
    desk.ask(1_000, beneficiary_id=theirs, account="user:7:available")


def test_giving_back_and_counting_again_twice_is_once(desk: Desk) -> None:
    desk.fund(50_000)
    there = desk.destination()
    made, _ = desk.ask(1_000, beneficiary_id=there), desk.ask(1_000, beneficiary_id=there)
    for step, left in ((limits.release_usage, (1_000, 1)), (partial(limits.recount, now=clock.now()), (2_000, 2))):
        for _ in range(2):
            with transaction() as session:
                step(session, session.get_one(Payout, made.id))
        assert desk.used() == dict.fromkeys(("account", "tenant", "destination"), left)


def test_a_week_is_seven_days_and_a_day_is_one(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.set(PAYOUT_LIMIT_ACCOUNT_DAY="1000", PAYOUT_LIMIT_ACCOUNT_WEEK="2500")
    desk.fund(50_000)
    there = desk.destination()
    today = clock.now()

    def on(days: int, units: int) -> None:
        monkeypatch.setattr(clock, "now", lambda: today + timedelta(days=days))
        desk.ask(units, beneficiary_id=there)

    on(0, 1_000)
    with pytest.raises(LimitExceededError, match="account_day"):
        on(0, 1)
    on(1, 1_000)
    with pytest.raises(LimitExceededError, match="account_week"):
        on(6, 501)
    on(6, 500)
    on(7, 1_000)  # the first day is out of it
    with pytest.raises(LimitExceededError, match="account_day"):
        on(7, 1)


def test_an_account_asks_five_times_an_hour(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.set(PAYOUT_REQUESTS_HOURLY="5")
    desk.fund(50_000)
    there = desk.destination()
    begin = clock.now()
    for minute in range(5):
        monkeypatch.setattr(clock, "now", lambda minute=minute: begin + timedelta(minutes=minute))
        desk.ask(1, beneficiary_id=there)
    with pytest.raises(TooManyRequestsError) as caught:
        desk.ask(1, beneficiary_id=there)
    assert caught.value.retry_after == timedelta(minutes=56)
    monkeypatch.setattr(clock, "now", lambda: begin + timedelta(minutes=60, seconds=1))
    desk.ask(1, beneficiary_id=there)
    assert desk.used()["account"] == (6, 6)


def test_without_a_rate_people_look_and_numbers_still_count(desk: Desk) -> None:
    def nobody_knows(*_: object) -> Any:
        raise TransientError("no rate")

    desk.set(PAYOUT_LIMIT_ACCOUNT_DAY_COUNT="1")
    desk.fund(50_000)
    there = desk.destination()
    desk.trust(there)
    desk.bring(rate=nobody_knows)
    made = desk.ask(40_000, beneficiary_id=there)
    assert (made.value_cents, made.approvals_needed, made.current) == (None, 2, PayoutState.AWAITING_APPROVAL)
    assert "no_rate" in [found["rule"] for found in made.findings]
    with pytest.raises(LimitExceededError, match="account_day_count"):
        desk.ask(1, beneficiary_id=there)
    assert desk.used()["account"] == (0, 1)


# --- what it waits for -----------------------------------------------------------------------------------------------


def test_it_waits_for_its_destination_and_goes_on_when_that_is_verified(desk: Desk) -> None:
    desk.fund(5_000, asset=NGN)
    desk.bring(rate=lambda *_: Fraction(1, 1_500))
    made = desk.ask(destination=NewDestination(destination=NUBAN), asset=NGN)
    assert (made.current, made.value_cents, desk.held(asset=NGN)) == (PayoutState.HELD, 1, 1_000)
    assert desk.proceed(made).current is PayoutState.HELD
    with transaction() as session:
        book.verify_by_hand(session, made.beneficiary_id, actor="person:ada", reason="called the bank")
    [job] = desk.jobs("payout.follow_beneficiary")
    assert job.args == {"beneficiary_id": str(made.beneficiary_id)}
    TASKS[job.task].function(**TASKS[job.task].validate(job.args))
    gone_on = desk.read(made)
    assert gone_on.current is PayoutState.AWAITING_APPROVAL
    assert "new_destination" in [found["rule"] for found in gone_on.findings]
    assert gone_on.content_hash == content_hash(gone_on) != made.content_hash


@pytest.mark.parametrize("ended", ["refuse", "remove"])
def test_it_is_rejected_and_its_money_free_when_its_destination_is_refused(desk: Desk, ended: str) -> None:
    desk.fund(5_000, asset=NGN)
    desk.bring(rate=lambda *_: Fraction(1, 1_500))
    made = desk.ask(destination=NewDestination(destination=NUBAN), asset=NGN)
    with transaction() as session:
        if ended == "refuse":
            book.refuse(session, made.beneficiary_id, actor="provider:acme", reason="-", failure="holder_differs")
        else:
            book.remove(session, made.beneficiary_id, actor="person:ada")
    over = desk.proceed(made)
    assert (over.current, over.failure) == (
        PayoutState.REJECTED,
        "destination_refused" if ended == "refuse" else "destination_removed",
    )
    assert (desk.pending_holds(), desk.held(asset=NGN), desk.used()) == (0, 0, {})


def test_money_of_deposits_that_are_not_final_is_frozen_until_they_are(desk: Desk) -> None:
    unsettled = [4_001]
    desk.bring(unsettled=lambda *_: unsettled[0])
    desk.fund(5_000)
    there = desk.destination()
    desk.trust(there)
    frozen = desk.ask(1_000, beneficiary_id=there)
    assert (frozen.current, frozen.findings[0]["rule"]) == (PayoutState.FROZEN, "unsettled")
    [job] = desk.jobs("payout.proceed")
    assert job.run_at > clock.now() + timedelta(seconds=50)
    assert desk.proceed(frozen).current is PayoutState.FROZEN
    assert len(desk.jobs("payout.proceed")) == 2  # it is looked at again
    unsettled[0] = 4_000
    assert desk.proceed(frozen).current is PayoutState.APPROVED
    assert desk.events(frozen)[-4:] == ["freeze", "thaw", "screen", "approve"]


# --- quotes ----------------------------------------------------------------------------------------------------------


def _quote(desk: Desk, **given: Any) -> Quote:
    now = clock.now()
    fields: dict[str, Any] = {
        "id": uuid4(),
        "tenant": SHOP,
        "from_asset": USD,
        "to_asset": NGN,
        "fixed": Fixed.IN,
        "units_in": 1_000,
        "units_out": 1_485_000,
        "spread_units": 10,
        "remainder": 0,
        "rate_numerator": 1_500,
        "rate_denominator": 1,
        "rate_source": "test",
        "rate_at": now,
        "spread_bps": 100,
        "created_at": now,
        "expires_at": now + timedelta(seconds=30),
    }
    with transaction() as session:
        quote = Quote(**(fields | given))
        session.add(quote)
        session.flush()
        session.expunge(quote)
    return quote


def test_a_quote_converts_once_and_one_that_doesnt_fit_stays_unused(desk: Desk) -> None:
    desk.fund(5_000)
    there = desk.destination(NUBAN)
    quote, other = _quote(desk), _quote(desk, units_in=999)
    for given in (
        {"quote_id": other.id},
        {"quote_id": quote.id, "payout_asset": USD},
        {"quote_id": quote.id, "units": 9_999},
    ):
        with pytest.raises(ConflictError):
            desk.ask(**({"beneficiary_id": there} | given))
    desk.nothing_is_left()
    made = desk.ask(beneficiary_id=there, quote_id=quote.id)
    assert (made.payout_asset, made.payout_units, made.quote_spread, made.quote_rate) == (NGN, 1_485_000, 10, "1500")
    with pytest.raises(ConflictError, match="used before"):
        desk.ask(beneficiary_id=there, quote_id=quote.id)
    with transaction() as session:
        assert session.get_one(Quote, quote.id).used_by == made.subject
        assert session.get_one(Quote, other.id).used_by is None


def test_requests_and_jobs_have_the_same_ports() -> None:
    assert payout_ports.PORTS == payout_screening.PORTS
