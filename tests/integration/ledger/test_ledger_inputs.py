"""What a journal may be made of: kept as it was given, or refused by name before the database sees it."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import text

from core.db import transaction
from core.errors import InvalidRequestError
from ledger import posting
from ledger.batches import book_all
from ledger.errors import ReferenceReusedError
from ledger.holds import NewHold, place
from ledger.posting import Journal, Posted
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, move

EAST, WEST = timezone(timedelta(hours=12)), timezone(timedelta(hours=-12))
ODD = 'NULL","{}\\\n\t\\u0000,\U0001f4b0é'
KEPT: list[dict[str, Any]] = [
    {"subject": ODD},
    {"subject": ""},
    {"subject": "\U0001f4b0" * 300},
    {"correlation_id": ODD},
    {"metadata": {ODD: [ODD, {"NULL": None}], "deep": json.loads("[" * 80 + "]" * 80), "big": 10**60}},
    {"reference": 'NULL"},{\\",é\U0001f4b0'},
    {"reference": "\U0001f4b0" * 290, "tenant": "\U0001f4b0" * 200},
    {"effective_at": datetime.max.replace(tzinfo=UTC)},
    {"effective_at": datetime.min.replace(tzinfo=UTC)},
    {"effective_at": datetime(2020, 1, 1, tzinfo=timezone(timedelta(seconds=30, microseconds=5)))},
    {"job_id": uuid.UUID(int=1)},
]
REFUSED: list[tuple[str, Any]] = [
    *(("subject", value) for value in ("a\0b", "a\ud800", "a" * 301)),
    *(("correlation_id", value) for value in ("a\0b", "\udfff", "a" * 301)),
    *(("tenant", value) for value in ("a\0b", "\ud800", "a" * 201)),
    *(("reference", value) for value in ("a\0b", "\ud800")),
    *(
        ("metadata", {"key": value})
        for value in ("\0", "\\\0", "\ud800", Decimal(1), float("nan"), float("inf"), object(), {"\0": 1}, 10**5000)
    ),
    ("effective_at", datetime(2020, 1, 1)),  # noqa: DTZ001
    ("effective_at", datetime.max.replace(tzinfo=WEST)),
    ("effective_at", datetime.min.replace(tzinfo=EAST)),
]


def book(journal: Journal) -> Posted:
    return posting.book(journal)


def post(journal: Journal) -> Posted:
    with transaction() as session:
        return posting.post(session, journal)


def batch(journal: Journal) -> Posted:
    """Beside one of the same tenant that nothing is wrong with, so that arrays carry it, and which must be booked."""
    good = b.journal(journal.tenant, "good:" + uuid.uuid4().hex, move(CUSTODY, BOB, 1))
    first, second = book_all([good, journal])
    assert first.posted is not None or isinstance(first.error, InvalidRequestError)
    if second.error is not None:
        raise second.error
    assert second.posted is not None
    return second.posted


WAYS: list[Callable[[Journal], Posted]] = [book, post, batch]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_journal_notes_is_kept_as_it_was_given(
    books: str, way: Callable[[Journal], Posted], subtests: pytest.Subtests
) -> None:
    for place_, more in enumerate(KEPT):
        journal = b.journal(
            more.get("tenant", books),
            f"{place_}:{more.get('reference', '')}",
            move(CUSTODY, ALICE, 1),
            **{name: value for name, value in more.items() if name not in ("tenant", "reference")},
        )
        with subtests.test(place=place_):
            assert way(journal).created
            assert way(journal).created is False
            with transaction() as session:
                row = session.execute(
                    text("""SELECT subject, correlation_id, job_id, metadata, effective_at FROM ledger_journals
                            WHERE tenant = :tenant AND reference = :reference"""),
                    {"tenant": journal.tenant, "reference": journal.reference},
                ).one()
            assert row[:4] == (journal.subject, journal.correlation_id, journal.job_id, journal.metadata)
            assert journal.effective_at in (None, row.effective_at)
    b.assert_sound()


@pytest.mark.parametrize("way", WAYS)
def test_what_the_database_could_not_keep_is_refused_by_name(
    books: str, way: Callable[[Journal], Posted], subtests: pytest.Subtests
) -> None:
    for place_, (field, value) in enumerate(REFUSED):
        made = {"tenant": books, "reference": f"bad:{place_}", "category": "test", field: value}
        journal = Journal(postings=[move(CUSTODY, ALICE, 1)], **made)
        with subtests.test(field, place=place_), pytest.raises(InvalidRequestError) as refused:
            way(journal)
        assert refused.value.field == field
    with transaction() as session:
        assert not [reference for reference in b.references(session, books) if reference.startswith("bad")]


def test_a_hold_is_refused_what_its_journal_would_be(books: str, subtests: pytest.Subtests) -> None:
    b.book(books, "open", move(CUSTODY, ALICE, 10))
    for field, value in REFUSED:
        if field == "effective_at":
            continue
        made = {"tenant": books, "reference": "hold", field: value}
        with subtests.test(field), transaction() as session, pytest.raises(InvalidRequestError) as refused:
            place(session, NewHold(source=ALICE, destination=BOB, asset=ETH, units=1, **made))
        assert refused.value.field == field


def test_a_reference_that_is_taken_comes_before_an_asset_that_nobody_knows(
    books: str, subtests: pytest.Subtests
) -> None:
    b.book(books, "taken", move(CUSTODY, ALICE, 10))
    for way in WAYS:
        with subtests.test(way=way.__name__), pytest.raises(ReferenceReusedError):
            way(b.journal(books, "taken", move(CUSTODY, ALICE, 10, "eip155:1/none:1")))
