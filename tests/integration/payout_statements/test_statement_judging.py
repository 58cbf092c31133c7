"""The judgement itself, which is pure, over whatever the three may say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from domain.payout.matching import AMOUNT, BOOKS, FEE, MISSING, STATE, Facts, Moved, Verdict, Waiting, judge

NOW = datetime(2026, 7, 31, 12, tzinfo=UTC)
GRACE, UNDER_WAY = timedelta(days=2), timedelta(days=5)
LONG_AGO = NOW - timedelta(days=9)
NGN = "iso4217:NGN"

units = st.sampled_from([0, 1, 7, 1_000, 2_000])
moved = st.builds(Moved, units, units)


@st.composite
def known(draw: st.DrawFn) -> Facts:
    """Of long ago, so that all that differs is said."""
    told, lines = draw(moved), draw(st.integers(0, 3))
    return Facts(
        state="paid",
        currency=NGN,
        row=draw(moved),
        books=draw(units),
        settled=draw(st.builds(Moved, st.integers(-1_000, 1_000), st.integers(-10, 10))),
        told=told if lines else Moved(),
        strange=(),
        lines=lines,
        told_at=LONG_AGO if lines else None,
        booked_at=LONG_AGO if lines else None,
        is_under_way=draw(st.booleans()),
        asked_at=draw(st.sampled_from([None, LONG_AGO - GRACE, NOW])),
        begun_at=LONG_AGO,
        ended_at=LONG_AGO,
        covered=True,
    )


def verdict(facts: Facts) -> Verdict:
    return judge(facts, now=NOW, grace=GRACE, under_way=UNDER_WAY)


@given(known())
def test_each_difference_is_one_finding_and_nothing_else_is(facts: Facts) -> None:
    ours = facts.row + facts.settled
    found = {each.kind for each in verdict(facts).findings}
    assert (BOOKS in found) == (facts.books != facts.row.total)
    assert (MISSING in found) == (not facts.lines and ours.gone != 0)
    differs = facts.lines > 0 and facts.told.gone != ours.gone
    is_state = facts.told.gone == 0 or ours.gone == 0
    assert ((STATE in found), (AMOUNT in found)) == (differs and is_state, differs and not is_state)
    assert (FEE in found) == (facts.lines > 0 and not differs and facts.told.fee != ours.fee)
    assert len(verdict(facts).findings) == len(found)


@given(known())
def test_what_is_settled_agrees_and_custody_is_what_the_statement_says(facts: Facts) -> None:
    """As settling books it: each finding by journals of its units, which add to our account what it had less."""
    before = facts.books + facts.settled.total
    for each in verdict(facts).findings:
        if each.kind == BOOKS:
            facts = replace(facts, books=facts.books - each.units)
        else:
            facts = replace(facts, settled=facts.settled + Moved(-each.units, -each.fee_units))
        before -= each.units + each.fee_units
    assert verdict(facts).agrees
    assert facts.books + facts.settled.total == before
    if facts.lines:
        assert before == facts.told.total


@given(known(), st.timedeltas(timedelta(0), GRACE - timedelta(seconds=1)), st.booleans())
def test_nothing_is_said_of_what_may_be_news(facts: Facts, ago: timedelta, is_under_way: bool) -> None:
    """Neither before its provider was asked, nor while a line may still come. Of the books it is."""
    fresh = replace(
        facts, asked_at=None, is_under_way=is_under_way, told_at=NOW - ago, booked_at=NOW - ago, ended_at=NOW - ago
    )
    said = verdict(fresh)
    assert {each.kind for each in said.findings} <= {BOOKS}
    differs = bool({each.kind for each in verdict(replace(facts, is_under_way=False)).findings} - {BOOKS})
    expected = Waiting.NOT_YET if not facts.lines else Waiting.UNDER_WAY if is_under_way else Waiting.ASKED
    assert said.waits == (expected if differs else None)
    asked = replace(fresh, asked_at=NOW + timedelta(seconds=1))
    assert verdict(asked).waits in (None, Waiting.NOT_YET, Waiting.UNDER_WAY)


def test_a_line_in_another_currency_is_of_another_amount() -> None:
    facts = Facts(
        state="paid", currency=NGN, row=Moved(1_000, 5), books=1_005, settled=Moved(), told=Moved(), lines=1,
        strange=["-1005 iso4217:USD"], told_at=LONG_AGO, booked_at=LONG_AGO, is_under_way=False, asked_at=NOW,
        begun_at=LONG_AGO, ended_at=LONG_AGO, covered=False,
    )  # fmt: skip
    (found,) = verdict(facts).findings
    assert (found.kind, found.found, found.units, found.fee_units) == (AMOUNT, "-1005 iso4217:USD", 1_000, 5)
