"""The rules of payouts: each kind speaks exactly when it should, and more money or graver findings never weigh less."""

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.errors import InvalidRequestError
from domain.payout import rules
from domain.payout.rules import GRAVITY, KINDS, Facts, Finding, Past
from domain.payout.settings import PayoutSettings
from domain.payout.states import Verdict

NOW = datetime(2026, 3, 4, 12, 30, tzinfo=UTC)
USD, ME, OTHER, THERE, ELSEWHERE = "iso4217:USD", "user:1:available", "user:2:available", "f" * 64, "e" * 64


def past(ago: int, units: int = 100, account: str = ME, destination: str = THERE, value: int | None = 100) -> Past:
    return Past(
        account=account,
        destination=destination,
        asset=USD,
        units=units,
        value_cents=value,
        at=NOW - timedelta(seconds=ago),
    )


QUIET = Facts(
    now=NOW,
    account=ME,
    destination=THERE,
    asset=USD,
    units=100,
    value_cents=100,
    affiliate=False,
    account_since=NOW - timedelta(days=400),
    destination_since=NOW - timedelta(days=400),
    paid_of_account=True,
    paid_of_tenant=10**6,
    free_units=100,
    needed_units=100,
)


def says(kind: str, parameters: dict[str, Any], **changed: Any) -> bool:
    rule = rules.rule("r", kind, parameters, Verdict.REVIEW, 1)
    return bool(rules.findings(replace(QUIET, **changed), [rule]))


HOUR = {"count": 2, "seconds": 3_600}
WINDOW = [past(10), past(3_599), past(3_600)]
NIGHT = {"zone": "Africa/Lagos", "begin": "22:00", "end": "06:00"}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], bool]] = [
    ("velocity", HOUR, {"of_account": WINDOW}, True),
    ("velocity", HOUR | {"count": 3}, {"of_account": WINDOW}, False),  # the third is an hour old
    ("velocity", HOUR, {"to_destination": WINDOW}, False),
    ("velocity", HOUR | {"of": "destination"}, {"to_destination": WINDOW}, True),
    ("repeats", HOUR, {"of_account": WINDOW}, True),
    ("repeats", HOUR, {"of_account": [past(1), past(2, units=101)]}, False),
    ("fan_in", {"accounts": 2, "seconds": 60}, {"to_destination": [past(1, account=OTHER)]}, True),
    ("fan_in", {"accounts": 2, "seconds": 60}, {"to_destination": [past(1), past(60, account=OTHER)]}, False),
    ("new_account", {"seconds": 60}, {"account_since": NOW - timedelta(seconds=59)}, True),
    ("new_account", {"seconds": 60}, {"account_since": NOW - timedelta(seconds=60)}, False),
    ("new_account", {"seconds": 60}, {"account_since": None, "allowed": frozenset({"account"})}, False),
    ("just_below", {"cents": 1_000, "percent": 10, "count": 1, "seconds": 60}, {"value_cents": 900}, True),
    ("just_below", {"cents": 1_000, "percent": 10, "count": 1, "seconds": 60}, {"value_cents": 899}, False),
    ("just_below", {"cents": 1_000, "percent": 10, "count": 1, "seconds": 60}, {"value_cents": 1_000}, False),
    (
        "just_below",
        {"cents": 1_000, "percent": 10, "count": 2, "seconds": 60},
        {"value_cents": 950, "of_account": [past(1, value=None), past(2, value=999)]},
        True,
    ),
    ("round_amount", {"asset": USD, "units": 50}, {}, True),
    ("round_amount", {"asset": USD, "units": 51}, {}, False),
    ("round_amount", {"asset": "iso4217:EUR", "units": 50}, {}, False),
    ("value", {"cents": 100}, {}, True),
    ("value", {"cents": 101}, {}, False),
    ("value", {"cents": 101}, {"value_cents": None}, True),
    ("hours", {"zone": "Africa/Lagos", "begin": "13:30", "end": "13:31"}, {}, True),  # an hour before UTC
    ("hours", NIGHT, {}, False),
    ("hours", NIGHT, {"now": NOW.replace(hour=23)}, True),
    ("hours", NIGHT, {"now": NOW.replace(hour=5, minute=0)}, False),
    ("affiliate", {}, {"affiliate": True}, True),
    ("affiliate", {}, {}, False),
    ("first_of_account", {}, {"paid_of_account": False}, True),
    ("first_of_account", {}, {"paid_of_account": False, "allowed": frozenset({"account"})}, False),
    ("first_of_account", {}, {"paid_of_account": False, "allowed": frozenset({"destination"})}, True),
    ("first_of_tenant", {"count": 5}, {"paid_of_tenant": 4}, True),
    ("first_of_tenant", {"count": 5}, {"paid_of_tenant": 5}, False),
    ("new_destination", {"seconds": 60}, {"destination_since": NOW - timedelta(seconds=59)}, True),
    ("new_destination", {"seconds": 60}, {"destination_since": NOW - timedelta(seconds=60)}, False),
    ("new_destination", {"seconds": 60}, {"destination_since": None, "allowed": frozenset({"destination"})}, False),
    ("denied", {}, {"denied": frozenset({"account"})}, True),
    ("denied", {}, {"denied": frozenset({"account"}), "allowed": frozenset({"account"})}, True),
    ("denied", {}, {}, False),
    ("unsettled", {}, {"unsettled_units": 1}, True),
    ("unsettled", {}, {"unsettled_units": 1, "free_units": 101}, False),
    ("no_rate", {}, {"value_cents": None}, True),
    ("no_rate", {}, {}, False),
]


def test_each_kind_speaks_when_it_should_and_only_then() -> None:
    assert [case for case in CASES if says(*case[:2], **case[2]) is not case[3]] == []
    assert {case[0] for case in CASES if case[3]} == {case[0] for case in CASES if not case[3]} == set(KINDS)


@pytest.mark.parametrize(
    ("kind", "parameters", "field"),
    [
        ("nothing", {}, "kind"),
        ("velocity", {"count": 2}, "parameters"),
        ("velocity", {"count": 0, "seconds": 60}, "parameters"),
        ("velocity", {"count": "2", "seconds": 60}, "parameters"),
        ("velocity", {"count": 2, "seconds": rules.WITHIN_MAX + 1}, "parameters"),
        ("velocity", {"count": 2, "seconds": 60, "of": "tenant"}, "parameters"),
        ("velocity", {"count": 2, "seconds": 60, "more": 1}, "parameters"),
        ("hours", {"zone": "Nowhere/City", "begin": "01:00", "end": "02:00"}, "parameters"),
        ("hours", {"zone": "../../etc/passwd", "begin": "01:00", "end": "02:00"}, "parameters"),
        ("hours", {"zone": "UTC", "begin": "01:00+02:00", "end": "02:00"}, "parameters"),
        ("just_below", {"cents": 1_000, "percent": 101, "count": 1, "seconds": 60}, "parameters"),
        ("value", {"cents": 1.5}, "parameters"),
        ("affiliate", {"x": 1}, "parameters"),
    ],
)
def test_a_rule_that_is_none_is_refused(kind: str, parameters: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        rules.rule("r", kind, parameters, Verdict.REVIEW, 1)
    assert caught.value.field == field


@pytest.mark.parametrize("score", [-1, 1_001])
def test_a_score_is_bounded(score: int) -> None:
    with pytest.raises(InvalidRequestError):
        rules.rule("r", "affiliate", {}, Verdict.NOTE, score)


FINDINGS = st.lists(
    st.builds(
        Finding,
        rule=st.just("r"),
        verdict=st.sampled_from(GRAVITY),
        score=st.integers(0, rules.SCORE_MAX),
        reason=st.just("because"),
    ),
    max_size=6,
)
TIERS = st.lists(st.integers(0, 10**6), unique=True, min_size=2, max_size=2).map(
    lambda cents: tuple(zip(sorted(cents), (1, 2), strict=True))
)


def weight(found: list[Finding]) -> int:
    return GRAVITY.index(rules.verdict_of(found, review_score=50, refuse_score=100))


@given(FINDINGS, FINDINGS)
def test_more_findings_are_never_less_grave(some: list[Finding], more: list[Finding]) -> None:
    assert weight([*some, *more]) >= max(weight(some), weight(more))
    assert weight(some) >= max((GRAVITY.index(each.verdict) for each in some), default=0)
    if sum(each.score for each in some) >= 100:
        assert weight(some) == GRAVITY.index(Verdict.REFUSE)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(GRAVITY), TIERS)
def test_more_money_never_needs_fewer_people(
    value: int, more: int, verdict: Verdict, tiers: tuple[tuple[int, int], ...]
) -> None:
    needed = rules.approvals_needed(value, verdict, tiers)
    assert needed <= rules.approvals_needed(value + more, verdict, tiers) <= 2
    assert rules.approvals_needed(None, verdict, tiers) == 2
    assert needed >= (verdict is not Verdict.NOTE)
    if verdict is Verdict.NOTE:
        assert needed == sum(value >= cents for cents, _ in tiers)


@given(st.times().map(lambda at: at.replace(tzinfo=None)), st.times().map(lambda at: at.replace(tzinfo=None)))
def test_hours_and_their_complement_share_the_day(begin: time, end: time) -> None:
    parameters = {"zone": "UTC", "begin": begin.isoformat(), "end": end.isoformat()}
    turned = {"zone": "UTC", "begin": end.isoformat(), "end": begin.isoformat()}
    if begin != end:
        assert says("hours", parameters) is not says("hours", turned)


@pytest.mark.parametrize(
    "wrong",
    [
        {"approvals": ((10, 1), (10, 2))},
        {"approvals": ((10, 2), (20, 1))},
        {"approvals": ((10, 3),)},
        {"refuse_score": 10, "review_score": 20},
        {"tenant_limits": {"shop": {"monthly": 1}}},
        {"fees": {USD: (-1, 0)}},
    ],
)
def test_settings_that_contradict_themselves_stop_the_start(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PayoutSettings(**wrong)
