"""What a round of prices is worth: the median, who counts, and what makes it unusable."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.rates.judging import Jump, Rules, Told, Verdict, judge, median
from domain.rates.reasons import Dropped, Reason

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULES = Rules(
    age_max=timedelta(minutes=2), sources_min=2, outlier_bps=200, spread_bps=300, jump_bps=1_000, jump_rounds=3
)
PRICES = st.fractions(min_value=Fraction(1, 10**6), max_value=10**6)


def told(prices: Mapping[str, Any], **age: int) -> dict[str, Told]:
    """Prices by source; `a=90` makes that of the source a so many seconds old."""
    return {name: Told(Fraction(price), NOW - timedelta(seconds=age.get(name, 1))) for name, price in prices.items()}


def verdict(prices: Mapping[str, Any], *, rules: Rules = RULES, **given_: Any) -> Verdict:
    return judge(told(prices), asked_at=NOW, rules=rules, **given_)


@pytest.mark.parametrize(
    ("prices", "middle"),
    [([3], 3), ([1, 2], Fraction(3, 2)), ([5, 1, 3], 3), ([1, 2, 4, 9], 3), ([Fraction(1, 3), 1], Fraction(2, 3))],
)
def test_the_median_is_exact(prices: list[Fraction], middle: Fraction) -> None:
    assert median(prices) == middle


@pytest.mark.parametrize(
    ("prices", "reason", "sources", "dropped"),
    [
        ({"a": 100, "b": 101}, None, ("a", "b"), {}),
        ({"a": 100, "b": 101, "c": 102}, None, ("a", "b", "c"), {}),
        ({"a": 100, "b": 101, "c": 1_000}, None, ("a", "b"), {"c": Dropped.OUTLIER}),
        ({"a": 100, "b": 101, "c": Fraction(1, 1_000)}, None, ("a", "b"), {"c": Dropped.OUTLIER}),
        ({}, Reason.TOO_FEW, (), {}),
        ({"a": 100}, Reason.TOO_FEW, ("a",), {}),
        ({"a": 100, "b": 200}, Reason.TOO_FEW, (), {"a": Dropped.OUTLIER, "b": Dropped.OUTLIER}),
        ({"a": 100, "b": 150, "c": 200}, Reason.TOO_FEW, ("b",), {"a": Dropped.OUTLIER, "c": Dropped.OUTLIER}),
        ({"a": "98.1", "b": 100, "c": "101.9"}, Reason.SPREAD, ("a", "b", "c"), {}),
    ],
)
def test_enough_sources_must_agree(
    prices: dict[str, Any], reason: Reason | None, sources: tuple[str, ...], dropped: dict[str, Dropped]
) -> None:
    found = verdict(prices)
    assert (found.reason, found.sources, dict(found.dropped)) == (reason, sources, dropped)


def test_the_limits_are_within_and_the_spread_is_rounded_up() -> None:
    assert verdict({"a": 98, "b": 100, "c": "102.0001"}).sources == ("a", "b")
    assert verdict({"a": 98, "b": 100}).spread_bps == 203  # of 99: 202.02
    exact = verdict({"a": "98.5", "b": 100, "c": "101.5"})
    assert (exact.spread_bps, exact.reason) == (300, None)
    assert verdict({"a": "98.5", "b": 100, "c": "101.5001"}).reason is Reason.SPREAD


def test_a_stale_price_counts_for_nothing() -> None:
    prices = told({"a": 100, "b": 100, "c": 300}, c=121)
    found = judge(prices, asked_at=NOW, rules=RULES)
    assert (found.value, found.reason, dict(found.dropped)) == (Fraction(100), None, {"c": Dropped.STALE})
    assert judge(told({"a": 100}, a=120), asked_at=NOW, rules=RULES).sources == ("a",)
    two = judge(told({"a": 100, "b": 100}, a=121), asked_at=NOW, rules=RULES)
    assert (two.reason, two.sources) == (Reason.STALE, ("b",))
    none = judge(told({"a": 100, "b": 100}, a=121, b=500), asked_at=NOW, rules=RULES)
    assert (none.value, none.reason) == (None, Reason.STALE)


def test_a_jump_is_believed_when_it_has_held_for_three_rounds() -> None:
    last, jump, reasons = [Fraction(100)], None, []
    for price in (109, 121, 122, 120):
        found = verdict({"a": price, "b": price}, last=last, jump=jump)
        reasons.append(found.reason)
        jump = found.jump
        if found.reason is None and found.value is not None:
            last = [found.value]
    # From 109 it is more than ten percent to each of the three; the third is believed.
    assert reasons == [None, Reason.JUMP, Reason.JUMP, None]


@pytest.mark.parametrize("path", [(200, 100), (200, 400, 800), (200, 100, 200), (200, 230, 260), (200, None, 200)])
def test_what_comes_back_or_runs_away_has_not_held(path: tuple[int | None, ...]) -> None:
    jump = None
    for price in path:
        prices = {} if price is None else {"a": price, "b": price}
        found = verdict(prices, last=[Fraction(100)], jump=jump)
        jump = found.jump
        assert (found.reason is None) == (price == 100)
    assert jump is None or jump.rounds < 3


def test_what_a_person_says_bears_a_jump_out() -> None:
    assert verdict({"a": 200, "b": 200}, last=[Fraction(100)]).reason is Reason.JUMP
    assert verdict({"a": 200, "b": 200}, last=[Fraction(100), Fraction(199)]).reason is None


# --- properties ----------------------------------------------------------------------------------------------------

ROUNDS = st.dictionaries(st.sampled_from("abcdefg"), PRICES, min_size=1)


@given(prices=ROUNDS)
def test_the_rate_lies_between_the_lowest_and_the_highest_that_count(prices: dict[str, Fraction]) -> None:
    found = verdict(prices)
    assert found.value is not None
    if found.sources:
        kept = [prices[name] for name in found.sources]
        assert min(kept) <= found.value <= max(kept)
    assert set(found.sources) | set(found.dropped) == set(prices)


@given(honest=st.tuples(PRICES, PRICES), lie=PRICES, rules=st.sampled_from([1, 200, 5_000]))
def test_one_liar_of_three_never_moves_the_rate_beyond_the_honest_ones(
    honest: tuple[Fraction, Fraction], lie: Fraction, rules: int
) -> None:
    loose = Rules(timedelta(minutes=2), 1, rules, 10_000, 10_000, 1)
    found = verdict({"a": honest[0], "b": honest[1], "liar": lie}, rules=loose)
    assert found.value is not None
    assert min(honest) <= found.value <= max(honest)


@given(prices=ROUNDS, data=st.data())
def test_the_order_of_the_sources_does_not_matter(prices: dict[str, Fraction], data: st.DataObject) -> None:
    names = data.draw(st.permutations(sorted(prices)))
    assert verdict({name: prices[name] for name in names}) == verdict(prices)


@given(prices=ROUNDS, last=PRICES, rounds=st.integers(1, 5), jumped=PRICES, old=st.sets(st.sampled_from("abcdefg")))
def test_what_is_usable_is_near_what_was_or_has_held_and_is_told_by_enough_fresh_sources(
    prices: dict[str, Fraction], last: Fraction, rounds: int, jumped: Fraction, old: set[str]
) -> None:
    ages = dict.fromkeys(old, 121)
    found = judge(told(prices, **ages), asked_at=NOW, rules=RULES, last=[last], jump=Jump(jumped, rounds))
    if found.reason is not None:
        return
    assert found.value is not None and found.spread_bps is not None
    assert len(found.sources) >= RULES.sources_min and not old & set(found.sources)
    assert found.spread_bps <= RULES.spread_bps
    near = abs(found.value - last) * 10 <= last
    held = abs(found.value - jumped) * 10 <= jumped and rounds + 1 >= RULES.jump_rounds
    assert near or held
