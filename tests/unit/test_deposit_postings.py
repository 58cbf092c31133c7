"""What each event of a deposit does to the books."""

from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.deposit import postings
from ledger.posting import Journal
from tests.unit.deposit_facts import CHAIN, COIN, NOW, deposit

ACCOUNT, OWED, SUSPENSE, CUSTODY = "user:42:available", "user:42:owed", "suspense:deposits", f"custody:{CHAIN}"
JOURNAL, RELEASE = UUID(int=7), UUID(int=8)


def booked(**fields: Any) -> Any:
    given_fields = {"units_received": 1_000, "block_time": NOW, "journal_id": JOURNAL, "correlation_id": "c-1"}
    return deposit(**given_fields | fields)


def moved(*journals: Journal) -> dict[str, int]:
    """What the journals change, by account."""
    sums: Counter[str] = Counter()
    for journal in journals:
        for posting in journal.postings:
            assert posting.units > 0 and posting.asset == COIN
            sums[posting.source] -= posting.units
            sums[posting.destination] += posting.units
    return {code: units for code, units in sums.items() if units}


def test_a_credit_goes_from_custody_to_its_owner() -> None:
    journal = postings.credit(booked(), recovered=0)
    assert moved(journal) == {CUSTODY: -1_000, ACCOUNT: 1_000}
    assert (journal.reference, journal.subject) == (f"deposit:{deposit().id}:credit:0", f"deposit:{deposit().id}")
    assert (journal.effective_at, journal.correlation_id, journal.tenant) == (NOW, "c-1", "shop")


def test_a_credit_pays_the_debt_first() -> None:
    assert moved(postings.credit(booked(), recovered=300)) == {CUSTODY: -1_000, OWED: 300, ACCOUNT: 700}
    assert moved(postings.credit(booked(), recovered=1_000)) == {CUSTODY: -1_000, OWED: 1_000}


def test_suspense_and_release_end_where_a_credit_does() -> None:
    suspended, released = postings.suspend(booked()), postings.release(booked(), recovered=0)
    assert moved(suspended) == {CUSTODY: -1_000, SUSPENSE: 1_000}
    assert moved(suspended, released) == moved(postings.credit(booked(), recovered=0))


@given(units=st.integers(1, 10**38 - 1), data=st.data(), released=st.booleans())
def test_an_undoing_takes_back_everything_from_the_owner_or_as_a_debt(
    units: int, data: st.DataObject, released: bool
) -> None:
    recovered = data.draw(st.integers(0, units))
    taken = data.draw(st.integers(0, units))
    row = booked(units_received=units, units_recovered=recovered, release_journal_id=RELEASE if released else None)
    if released:
        done = [postings.suspend(row), postings.release(row, recovered=recovered)]
        undone = [postings.undo_owner(row, taken=taken), postings.undo_suspense(row)]
    else:
        done, undone = [postings.credit(row, recovered=recovered)], [postings.undo_owner(row, taken=taken)]
    left = moved(*done, *undone)
    owner = {code: change for code, change in left.items() if code in (ACCOUNT, OWED)}
    assert left == owner  # custody and suspense are as before
    assert sum(owner.values()) == 0
    mirrors = undone[0].reverses == (RELEASE if released else JOURNAL)
    assert mirrors == (taken == units and recovered == 0)
    assert not (mirrors and owner)


def test_each_incarnation_has_references_of_its_own() -> None:
    journals = [
        make(booked(incarnation=incarnation))
        for incarnation in (0, 1)
        for make in (
            lambda row: postings.credit(row, recovered=0),
            postings.suspend,
            lambda row: postings.release(row, recovered=0),
            lambda row: postings.undo_owner(row, taken=1),
            postings.undo_suspense,
        )
    ]
    assert len({journal.reference for journal in journals}) == len(journals)


def test_nothing_received_is_nothing_to_book() -> None:
    with pytest.raises(ValueError, match="received nothing"):
        postings.suspend(booked(units_received=None))
