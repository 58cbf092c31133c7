"""What makes two journals the same content."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from core.errors import InvalidRequestError
from ledger.posting import Journal, Posting, post

MOVE = Posting(source="custody:eip155:1", destination="user:42:available", asset="eip155:1/slip44:60", units=5)
JOURNAL = Journal(
    tenant="t",
    reference="deposit:1",
    category="deposit",
    postings=[MOVE],
    effective_at=datetime(2026, 1, 1, tzinfo=UTC),
)


def test_notes_beside_the_content_dont_change_it() -> None:
    noted = replace(JOURNAL, correlation_id="c", job_id=UUID(int=1), metadata={"a": 1})
    assert noted.content_hash() == JOURNAL.content_hash()


def test_one_moment_in_two_time_zones_is_one_content() -> None:
    there = datetime(2026, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    assert replace(JOURNAL, effective_at=there).content_hash() == JOURNAL.content_hash()


def test_the_hash_stays_what_it_was() -> None:
    """Hashes of years ago are compared with today's: a change here would refuse every redelivery of an old journal."""
    assert JOURNAL.content_hash().hex() == "afe46074d696aec8a29bb1290fd830657f9101fa47c385deeb1df7ddf4145110"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"reference": ""}, "reference"),
        ({"reference": "x" * 301}, "reference"),
        ({"reference": "a\x00b"}, "reference"),
        ({"category": "Not A Category"}, "category"),
        ({"effective_at": datetime(2026, 1, 1)}, "effective_at"),  # noqa: DTZ001
    ],
)
def test_a_malformed_journal_is_refused_before_the_database_hears_of_it(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        post(None, replace(JOURNAL, **change))  # type: ignore[arg-type]
    assert caught.value.field == field
