"""What every payout provider must tell of our account there and of others'. See test_payout_providers.py."""

from collections.abc import Iterator
from datetime import timedelta
from uuid import uuid4

import pytest

from core.errors import PermanentError
from providers.payout.base import Kind, PayoutProvider, StatementKind
from tests.conformance.payout_lab import now, sent
from tests.support.payouts import DOUBLES
from tests.support.payouts.base import Double


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


def test_the_balance_is_what_can_be_sent(double: Double, provider: PayoutProvider, reference: str) -> None:
    assert provider.balance(double.currency) == double.balance_units
    made = sent(double, provider, reference)
    assert provider.balance(double.currency) == double.balance_units
    assert double.balance_units in {10_000_000_00 - made.units, 10_000_000_00 - made.units - double.fee(made.units)}
    double.balance_units = -17
    assert provider.balance(double.currency) == 0


def test_the_statement_is_what_happened_to_the_balance(double: Double, provider: PayoutProvider) -> None:
    """Of what was paid and what came back, however many pages; each line once, and only of that time."""
    before, since = double.balance_units, now() - timedelta(seconds=2)
    references = [str(uuid4()) for _ in range(5)]
    refs = {reference: sent(double, provider, reference).provider_ref for reference in references}
    for reference in references:
        double.pay(reference)
    double.give_back(references[0])
    double.page_max = 2
    lines = list(provider.statement(since, now() + timedelta(seconds=2)))
    assert sum(line.units for line in lines) == double.balance_units - before
    assert len({line.id for line in lines}) == len(lines)
    paid = [line for line in lines if line.kind is StatementKind.PAYOUT]
    expected = references if double.tells_returns else references[1:]
    assert sorted(str(line.provider_ref) for line in paid) == sorted(refs[each] for each in expected)
    assert {line.units for line in paid} == {-double.units - line.fee_units for line in paid}
    back = [line for line in lines if line.kind is StatementKind.RETURN]
    assert [line.provider_ref for line in back] == ([refs[references[0]]] if double.tells_returns else [])
    cut = max(line.booked_at for line in lines)  # to the second it belongs to the later time, and to that alone
    early, late = list(provider.statement(since, cut)), list(provider.statement(cut, now() + timedelta(seconds=2)))
    assert sorted(line.id for line in early + late) == sorted(line.id for line in lines)
    assert {line.booked_at for line in late} == {cut}
    assert list(provider.statement(since - timedelta(days=3), since)) == []


def test_holders_are_told_where_it_says_so(double: Double, provider: PayoutProvider) -> None:
    for destination in double.destinations:
        if destination.kind not in provider.abilities.enquires:
            with pytest.raises(PermanentError):
                provider.holder(destination)
            continue
        assert provider.holder(destination) == double.holders[destination.number]
        double.holders[destination.number] = "Somebody Else"  # not whom the destination names
        assert provider.holder(destination) == "Somebody Else"
        double.closed.add(destination.number)
        assert provider.holder(destination) is None


def test_banks_are_told_where_codes_follow_no_rule(double: Double, provider: PayoutProvider) -> None:
    banks = provider.banks(Kind.BANK_NG)
    assert bool(banks) == (Kind.BANK_NG in provider.abilities.kinds)
    assert all(bank.code and bank.name for bank in banks)
    assert provider.banks(Kind.CHAIN) == ()
