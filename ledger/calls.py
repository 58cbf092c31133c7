"""What posting asks of the database: the functions of migration 0005, called with journals turned into arrays.

Locks are taken in one order, so that posts over the same accounts queue up and never deadlock:
1. an account that is missing is opened while no account is locked, missing ones sorted by code and asset;
2. accounts are locked sorted by code and asset, and only if all of them exist;
3. references are claimed last, by the insert of the journals, when there is nothing left to wait for.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

from core.db import plain_array, text_array
from core.errors import InvalidRequestError
from ledger.chart import rule

if TYPE_CHECKING:
    from ledger.posting import Journal

Key = tuple[str, str]
"""An account within its tenant: (code, asset)."""

Scalar = Callable[[LiteralString, Sequence[Any]], Any]
"""Runs a statement and gives the first column of its first row."""

_POST_ONE: LiteralString = """
    SELECT ledger_post_one(%s::text, %s::uuid, %s::text, %s::bytea, %s::text, %s::timestamptz, %s::text, %s::uuid,
        %s::text, %s::jsonb, %s::uuid, %s::text, %s::text, %s::int, %s::text, %s::int, %s::numeric)
"""
_POST: LiteralString = """
    SELECT ledger_post(%s::text, %s::uuid[], %s::text[], %s::bytea[], %s::text[], %s::timestamptz[], %s::text[],
        %s::uuid[], %s::text[], %s::jsonb[], %s::uuid[], %s::text[], %s::text[], %s::int[], %s::int[], %s::int[],
        %s::numeric[])
"""
_OPEN: LiteralString = """SELECT ledger_open(%s::text, %s::text[], %s::text[], %s::text[], %s::text[], %s::numeric[],
    %s::int[])"""
_KNOWN: LiteralString = "SELECT array_agg(id) FROM ledger_assets WHERE id = ANY(%s::text[])"


def post(
    scalar: Scalar, tenant: str, journals: Sequence["Journal"], ids: Sequence[UUID], keys: Mapping[Key, int]
) -> Any:
    """Call the function for these journals. `keys` gives each of their accounts a place, from 1. Returns its answer."""
    if len(journals) == 1 and len(journals[0].postings) == 1:
        return scalar(_POST_ONE, _one(journals[0], ids[0]))
    places, sources, destinations, amounts = [], [], [], []
    for place, journal in enumerate(journals, 1):
        for move in journal.postings:
            places.append(place)
            sources.append(keys[move.source, move.asset])
            destinations.append(keys[move.destination, move.asset])
            amounts.append(move.units)
    return scalar(
        _POST,
        (
            tenant,
            plain_array(ids),
            text_array([journal.reference for journal in journals]),
            text_array(["\\x" + journal.content_hash().hex() for journal in journals]),
            text_array([journal.category for journal in journals]),
            _unless_empty([_time(journal.effective_at) for journal in journals]),
            _unless_empty([journal.correlation_id for journal in journals]),
            _unless_empty([_text(journal.job_id) for journal in journals]),
            _unless_empty([journal.subject for journal in journals]),
            _unless_empty([_notes(journal) for journal in journals]),
            _unless_empty([_text(journal.reverses) for journal in journals]),
            text_array([code for code, _ in keys]),
            text_array([asset for _, asset in keys]),
            plain_array(places),
            plain_array(sources),
            plain_array(destinations),
            plain_array(amounts),
        ),
    )


def _one(journal: "Journal", journal_id: UUID) -> Sequence[Any]:
    move = journal.postings[0]
    return (
        journal.tenant,
        journal_id.hex,
        journal.reference,
        journal.content_hash(),
        journal.category,
        journal.effective_at,
        journal.correlation_id,
        journal.job_id,
        journal.subject,
        _notes(journal),
        journal.reverses,
        move.asset,
        move.source,
        rule(move.source).stripes,
        move.destination,
        rule(move.destination).stripes,
        str(move.units),
    )


def open_accounts(scalar: Scalar, tenant: str, missing: Sequence[Key]) -> None:
    """Open what the chart says of each. Raises InvalidRequestError for an asset that the ledger doesn't know."""
    assets = {asset for _, asset in missing}
    for asset in sorted(assets - known_assets(scalar, assets)):
        raise InvalidRequestError(f"the asset {asset[:200]!r} is unknown", field="asset")
    rules = [rule(code) for code, _ in missing]
    scalar(
        _OPEN,
        (
            tenant,
            text_array([code for code, _ in missing]),
            text_array([asset for _, asset in missing]),
            text_array([made.kind.value for made in rules]),
            text_array([made.normal_side.value for made in rules]),
            text_array([None if made.floor is None else str(made.floor) for made in rules]),
            plain_array([made.stripes for made in rules]),
        ),
    )


def known_assets(scalar: Scalar, assets: Iterable[str]) -> set[str]:
    return set(scalar(_KNOWN, (text_array(assets),)) or ())


def _notes(journal: "Journal") -> str | None:
    return json.dumps(dict(journal.metadata)) if journal.metadata else None


def _text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def _time(value: datetime | None) -> str | None:
    """In UTC, as PostgreSQL reads no offset with a fraction of a second."""
    return None if value is None else value.astimezone(UTC).isoformat()


def _unless_empty(values: Sequence[str | None]) -> str | None:
    """None for a column that no journal fills, which spares the database the array."""
    return text_array(values) if any(value is not None for value in values) else None
