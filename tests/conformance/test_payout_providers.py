"""What every payout provider must do, over its double: real HTTP, its wire format, what goes wrong on demand."""

import random
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from core.errors import PermanentError, TransientError
from core.http import CredentialsRefusedError
from providers.payout import registry
from providers.payout.base import Kind, PayoutProvider, Refusal, RemittanceState, Standing
from tests.conformance.gateway_lab import SHORT, not_done, unknown
from tests.conformance.payout_lab import asked_to_move, find, now, rejected, sent, state
from tests.support import faulty
from tests.support.faulty import Fault
from tests.support.gateways.base import then_hangs_up, then_says
from tests.support.payouts import DOUBLES
from tests.support.payouts.base import Double, refusing

S = RemittanceState


@pytest.fixture(params=DOUBLES, ids=[kind.name for kind in DOUBLES])
def double(request: pytest.FixtureRequest) -> Iterator[Double]:
    with request.param() as double:
        yield double


@pytest.fixture
def provider(double: Double) -> PayoutProvider:
    return double.provider()


@pytest.fixture
def reference() -> str:
    return str(uuid4())


# --- which there are --------------------------------------------------------------------------------------------------


def test_each_provider_has_a_double() -> None:
    assert sorted(kind.name for kind in DOUBLES) == sorted(registry.PROVIDERS)


def test_it_says_what_it_can_do(double: Double, provider: PayoutProvider) -> None:
    abilities = provider.abilities
    assert provider.name == double.name
    assert double.currency in abilities.currencies
    assert abilities.kinds == {each.kind for each in double.destinations}
    assert abilities.enquires <= abilities.kinds
    assert abilities.per_second > 0
    # What the adapter relies on is not more than the double, as its provider, grants.
    assert double.key_window is None or (abilities.key_window or timedelta.max) <= double.key_window


# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_payout_is_made_once_and_says_what_it_is(double: Double, provider: PayoutProvider, reference: str) -> None:
    """To each kind of destination, and to the unit, also where the provider writes decimals."""
    for extra, destination in enumerate(double.destinations):
        made = sent(double, provider, mine := str(uuid4()), destination=destination, units=double.units + 7 + extra)
        assert (made.reference, made.currency, made.units) == (mine, double.currency, double.units + 7 + extra)
        assert made.provider_ref
        assert made.fee_units in {None, double.fee(made.units)}
        assert double.accepted(mine) == 1
    assert len(double.traffic.asked) == len(double.destinations)


def test_the_same_reference_twice_is_one_payout(double: Double, provider: PayoutProvider, reference: str) -> None:
    first, second = sent(double, provider, reference), sent(double, provider, reference)
    assert first.provider_ref == second.provider_ref
    assert double.accepted(reference) == 1


def test_what_it_knows_is_found_by_reference_alone(double: Double, provider: PayoutProvider, reference: str) -> None:
    made = sent(double, provider, reference)
    for _ in range(5):
        sent(double, provider, str(uuid4()))
    double.page_max = 2
    assert find(provider, reference) == made == find(provider, reference, made.provider_ref)
    assert find(provider, str(uuid4())) is None


def test_another_payout_is_never_taken_for_ours(double: Double, provider: PayoutProvider, reference: str) -> None:
    other = sent(double, provider, str(uuid4()))
    with pytest.raises(PermanentError):
        find(provider, reference, other.provider_ref)


def test_what_is_not_shown_by_its_name_is_looked_for_by_ours(
    double: Double, provider: PayoutProvider, reference: str
) -> None:
    made = sent(double, provider, reference)
    assert find(provider, reference, "0123456789") == made
    assert find(provider, str(uuid4()), "0123456789") is None


@unknown
def test_a_payout_of_unknown_outcome_is_said_to_be_and_found(double: Double, fault: Fault, reference: str) -> None:
    double.upset(fault)
    said = double.provider(answer_timeout=SHORT).send(double.request(reference))
    assert (said.standing, said.remittance, said.refusal) == (Standing.UNKNOWN, None, None)
    assert said.why
    assert asked_to_move(double) == 1, "an unknown outcome is never tried again by itself"
    provider = double.provider()
    found = find(provider, reference)
    assert found is not None
    assert (found.reference, found.units) == (reference, double.units)
    again = sent(double, provider, reference)  # inside its window the key makes no second one
    assert (again.provider_ref, double.accepted(reference)) == (found.provider_ref, 1)


@not_done
def test_a_payout_that_may_have_been_made_and_was_not(
    double: Double, provider: PayoutProvider, fault: Fault, reference: str
) -> None:
    double.upset(fault)
    assert provider.send(double.request(reference)).standing is Standing.UNKNOWN
    assert find(provider, reference) is None
    sent(double, provider, reference)
    assert double.accepted(reference) == 1


def test_a_payout_that_appears_late(double: Double, provider: PayoutProvider, reference: str) -> None:
    """A repeat meanwhile is no second one, and what it is refused with is no proof that there is none."""
    double.upset(then_hangs_up)
    assert provider.send(double.request(reference)).standing is Standing.UNKNOWN
    double.hidden = 2
    assert find(provider, reference) is None
    assert provider.send(double.request(reference)).standing in {Standing.UNKNOWN, Standing.ACCEPTED}
    double.hidden = 0
    assert find(provider, reference) is not None
    assert double.accepted(reference) == 1


def test_a_reference_that_is_taken_is_no_refusal(double: Double, provider: PayoutProvider, reference: str) -> None:
    """Asked for otherwise under the same reference: what is there, or unknown if it isn't shown."""
    made = sent(double, provider, reference)
    other = double.request(reference, units=double.units + 1)
    assert provider.send(other).remittance == made
    double.hidden = 1
    assert provider.send(other).standing is Standing.UNKNOWN
    assert double.accepted(reference) == 1


def test_a_key_whose_time_is_over_makes_a_second_one(double: Double, provider: PayoutProvider, reference: str) -> None:
    """Why nothing is sent again after `key_window`. Two of one reference are told by their own names only."""
    assert double.key_window is not None
    first = sent(double, provider, reference)
    double.age(double.key_window - timedelta(minutes=1))
    assert sent(double, provider, reference).provider_ref == first.provider_ref
    double.age(timedelta(minutes=2))
    second = provider.send(double.request(reference))
    assert second.remittance is not None
    assert (second.remittance.provider_ref != first.provider_ref, double.accepted(reference)) == (True, 2)
    with pytest.raises(PermanentError, match="several"):
        find(provider, reference)
    assert find(provider, reference, first.provider_ref) == first


def test_a_provider_that_asks_for_a_pause_has_done_nothing(
    double: Double, provider: PayoutProvider, reference: str
) -> None:
    double.upset(faulty.saying(429, retry_after=3))
    assert provider.send(double.request(reference)).standing is Standing.NOT_SENT
    sent(double, provider, reference)


def test_a_provider_that_is_away_has_done_nothing(double: Double, reference: str) -> None:
    double.__exit__()
    try:
        assert double.provider().send(double.request(reference)).standing is Standing.NOT_SENT
        with pytest.raises(TransientError):
            find(double.provider(), reference)
        with pytest.raises(TransientError):
            double.provider().balance(double.currency)
    finally:
        double.__enter__()
    assert double.accepted(reference) == 0


@pytest.mark.parametrize("seed", range(3))
def test_who_keeps_to_what_it_can_do_never_pays_twice(double: Double, seed: int) -> None:
    """Whatever goes wrong: within `key_window` the same is sent again until somebody knows, or it stays unknown."""
    chance = random.Random(seed)
    faults = [
        then_says(500), then_says(400), then_says(424), then_hangs_up, faulty.dies, faulty.html, faulty.hangs_up,
        faulty.saying(500), faulty.saying(429), faulty.saying(403), None, None,
    ]  # fmt: skip
    provider = double.provider()
    window = provider.abilities.key_window or timedelta(days=365)
    ended: dict[str, Standing] = {}
    for _ in range(12):
        mine, age, standing, lost = str(uuid4()), timedelta(0), Standing.UNKNOWN, False
        while age < window and standing in {Standing.UNKNOWN, Standing.NOT_SENT}:
            fault = chance.choice(faults)
            if fault is not None:
                double.upset(fault)
            double.hidden = chance.choice([0, 0, 1, 2])
            standing = provider.send(double.request(mine)).standing
            if standing is Standing.REJECTED and lost:  # it says nothing of what was sent before
                standing = Standing.UNKNOWN
            lost = lost or standing is Standing.UNKNOWN
            if standing is Standing.UNKNOWN and find(provider, mine) is not None:
                standing = Standing.ACCEPTED
            step = window * chance.random() / 4
            age += step
            double.age(step)
            double.calm()
        double.hidden = 0
        ended[mine] = standing
    assert double.twice() == []
    for mine, standing in ended.items():
        made = double.accepted(mine) == 1
        assert (find(provider, mine) is not None) == made
        assert made or standing is not Standing.ACCEPTED
        assert not made or standing is not Standing.REJECTED
    assert Standing.ACCEPTED in ended.values()


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_refusals_say_what_to_do_next(double: Double, provider: PayoutProvider) -> None:
    """Each of an attempt of its own: a provider may repeat its refusal whenever it sees that reference again."""

    def refused(**changes: Any) -> Refusal:
        return rejected(provider.send(double.request(references.pop(), **changes)))

    references = [str(uuid4()) for _ in range(3)]
    all_of_them = list(references)
    assert refused(units=double.units_max + 100) is Refusal.LIMIT
    double.closed.add(double.destinations[0].number)
    assert refused() is Refusal.DESTINATION
    double.closed.clear()
    double.balance_units = double.units - 1
    assert refused() is Refusal.FUNDS
    assert [double.accepted(each) for each in all_of_them] == [0, 0, 0]
    assert double.balance_units == double.units - 1


@pytest.mark.parametrize("status", [401, 403])
def test_who_is_not_let_in_has_sent_nothing(
    double: Double, provider: PayoutProvider, status: int, reference: str
) -> None:
    """A revoked key is nothing that this payout mends: later, or elsewhere."""
    double.upset(faulty.saying(status), times=1000, when=lambda _: True)
    assert rejected(provider.send(double.request(reference))) is Refusal.PROVIDER
    with pytest.raises(CredentialsRefusedError):
        find(provider, reference)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_in_words_that_nobody_knows_stops(
    double: Double, provider: PayoutProvider, status: int, reference: str
) -> None:
    """The request was wrong, and it isn't said how: neither another try nor an end of the payout follows from it."""
    error = {"code": "PONDERED", "type": "pondered", "description": "pondered"}
    double.upset(refusing(status, {"status": "error", "message": "pondered", "error": error}))
    assert rejected(provider.send(double.request(reference))) is Refusal.REQUEST


def test_a_refusal_is_no_proof_where_the_payout_is_there(
    double: Double, provider: PayoutProvider, reference: str
) -> None:
    """A server in front that repeats our request, and hands on what the second one was told, or words of its own."""
    double.upset(then_says(400))
    said = provider.send(double.request(reference))
    assert (said.standing, said.remittance) == (Standing.ACCEPTED, find(provider, reference))
    double.upset(then_says(400))
    double.hidden = 1
    assert provider.send(double.request(str(uuid4()))).standing is Standing.UNKNOWN


@pytest.mark.parametrize("status", [418, 424, 425, 499])
def test_a_refusal_that_no_page_promises_proves_nothing(
    double: Double, provider: PayoutProvider, status: int, reference: str
) -> None:
    double.upset(faulty.saying(status))
    assert provider.send(double.request(reference)).standing is Standing.UNKNOWN
    double.upset(faulty.saying(400))
    double.upset(faulty.saying(500), when=lambda asked: asked.method == "GET")
    assert provider.send(double.request(reference)).standing is Standing.UNKNOWN, "nobody could look"


def test_what_it_does_not_take_is_not_asked_for(double: Double, provider: PayoutProvider, reference: str) -> None:
    for kind in set(Kind) - provider.abilities.kinds:
        request = double.request(reference)
        other = double.request(reference, destination=type(request.destination)(kind=kind, number="1"))
        assert rejected(provider.send(other)) is Refusal.REQUEST
    assert double.traffic.asked == []


# --- what became of them ----------------------------------------------------------------------------------------------


def test_a_payout_is_paid(double: Double, provider: PayoutProvider, reference: str) -> None:
    sent(double, provider, reference)
    double.pay(reference)
    found = find(provider, reference)
    assert found is not None
    assert (found.state, found.units, found.refusal) == (S.PAID, double.units, None)
    assert found.fee_units in {None, double.fee(double.units)}
    assert double.paid_units() == double.units


def test_a_payout_fails_and_says_why(double: Double, provider: PayoutProvider) -> None:
    if not double.fails:
        pytest.skip(f"what {double.name} has accepted has reached its account")
    for refusal in Refusal:
        if refusal is not Refusal.REQUEST:
            before = double.balance_units
            sent(double, provider, mine := str(uuid4()))
            double.fail(mine, refusal)
            found = find(provider, mine)
            assert found is not None
            assert (found.state, found.refusal) == (S.FAILED, refusal)
            assert found.why
            assert (double.paid_units(), double.balance_units) == (0, before)


def test_paid_money_comes_back(double: Double, provider: PayoutProvider, reference: str) -> None:
    """Where the provider doesn't tell it from a failure, it has failed: who has seen it paid books a return."""
    before = double.balance_units
    made = sent(double, provider, reference)
    double.pay(reference)
    assert state(provider, reference) is S.PAID
    double.give_back(reference)
    assert double.twice() == []
    found = find(provider, reference, made.provider_ref)
    assert found is not None
    assert found.state is (S.RETURNED if double.tells_returns else S.FAILED)
    assert found.refusal is not None
    assert (found.units, double.paid_units(), double.balance_units) == (double.units, 0, before)


def test_a_status_that_was_never_seen_is_pending(double: Double, provider: PayoutProvider, reference: str) -> None:
    if not double.fails:
        pytest.skip(f"{double.name} has no statuses")
    sent(double, provider, reference)
    double.puzzle(reference)
    assert state(provider, reference) is S.PENDING


@pytest.mark.parametrize("amount", [-100, "12.345", 1e-9, 12.5001, "many", None, [], True, 10**30])
def test_an_amount_that_cannot_be_is_unreadable(double: Double, provider: PayoutProvider, amount: Any) -> None:
    sent(double, provider, before := str(uuid4()))
    double.spoilt = {} if amount is None else amount
    assert provider.send(double.request(str(uuid4()))).standing is Standing.UNKNOWN
    with pytest.raises(PermanentError):
        find(provider, before)


def test_another_amount_is_told_as_it_is(double: Double, provider: PayoutProvider, reference: str) -> None:
    """It isn't for the adapter to say what follows from it."""
    double.spoilt = 77
    assert sent(double, provider, reference).units in {77, 77_00}


@pytest.mark.parametrize("fault", [faulty.saying(500), faulty.saying(429), faulty.html, faulty.hangs_up, faulty.dies])
def test_reading_may_always_be_done_again(
    double: Double, provider: PayoutProvider, fault: Fault, reference: str
) -> None:
    made = sent(double, provider, reference)
    double.upset(fault, times=1000, when=lambda _: True)
    asks: list[Callable[[], Any]] = [
        lambda: find(provider, reference),
        lambda: find(provider, reference, made.provider_ref),
        lambda: provider.balance(double.currency),
        lambda: list(provider.statement(now() - timedelta(hours=1), now())),
    ]
    if provider.abilities.enquires:
        asks += [
            lambda: provider.holder(double.destinations[0]),
            lambda: provider.banks(double.destinations[0].kind),
        ]
    for ask in asks:
        with pytest.raises(TransientError):
            ask()
    double.calm()
    assert find(provider, reference) == made
