"""Posting: the only way money moves in the books.

A journal is a list of movements, each source -> destination, so it balances by construction. Its reference makes it
idempotent for ever. A post is one call of a function in the database (ADR 13), which locks the accounts in the order of
their codes, runs the postings and writes. Nothing is written before every check has passed, so a caller may catch a
refusal and go on in the same transaction.

`post` works in the caller's transaction, `book` in one of its own: where a journal is all there is to commit, that is a
single round trip. Many journals at once: `ledger.batches`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Connection, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import db
from core.errors import InvalidRequestError, NotFoundError, TallyrailError, TransientError
from core.ids import new_id
from core.money import UNITS_MAX
from ledger import calls
from ledger.calls import Key, Scalar
from ledger.chart import rule
from ledger.errors import (
    AccountClosedError,
    AccountFrozenError,
    AlreadyReversedError,
    CeilingExceededError,
    InsufficientFundsError,
    ReferenceReusedError,
)
from ledger.models import LedgerAccount, LedgerEntry, LedgerJournal

T = TypeVar("T")
REFERENCE_LENGTH_MAX = 300
TENANT_LENGTH_MAX, SUBJECT_LENGTH_MAX, CORRELATION_LENGTH_MAX = 200, 300, 300
"""What is in an index with the tenant must fit into a third of a page, at four bytes a character."""
_ASSET = re.compile(r"[A-Za-z0-9:/.%_-]{1,200}")
_CATEGORY = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_ATTEMPTS = 5
"""Each further one means that others did the same at the same moment."""
DEADLOCK, RACE = "40P01", "40001"
"""PostgreSQL's deadlock_detected and serialization_failure: the transaction did nothing and may be run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Posting:
    """One movement: `units` (an integer above zero, in the asset's smallest unit) go from source to destination."""

    source: str
    destination: str
    asset: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """What one event does to the books, whole or not at all.

    `reference` names the event, once for ever in its tenant. Category, postings (in order), subject, effective_at and
    reverses are the content: posting the reference again with the same content is a no-op. So make journals from rows,
    without a clock. What is noted beside the content (metadata, correlation and job) stays as the first post wrote it.
    """

    tenant: str
    reference: str
    category: str
    postings: Sequence[Posting]
    subject: str | None = None
    """What it is about, such as `deposit:0190...`; journals can be listed by it."""
    correlation_id: str | None = None
    job_id: UUID | None = None
    effective_at: datetime | None = None
    """When it happened outside; None means when it is booked."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reverses: UUID | None = None
    """Set by `reverse`, which makes the mirror."""

    def content_hash(self) -> bytes:
        content = [
            "1",
            self.category,
            self.subject,
            None if self.effective_at is None else self.effective_at.astimezone(UTC).isoformat(),
            None if self.reverses is None else str(self.reverses),
            [[move.source, move.destination, move.asset, str(move.units)] for move in self.postings],
        ]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True, slots=True)
class Posted:
    id: UUID
    created: bool
    """False if the reference was booked before; `id` is that first journal."""


def post(session: Session, journal: Journal) -> Posted:
    """Book the journal in the caller's transaction, once for ever by (tenant, reference).

    Opens accounts that don't exist yet as the chart says. Raises InvalidRequestError (units, asset or account that
    can't be), InsufficientFundsError, CeilingExceededError, AccountFrozenError, AccountClosedError,
    AlreadyReversedError and ReferenceReusedError, all with nothing written.
    """
    check(journal)
    connection = session.connection()
    scalar = scalar_of(connection)
    posted = _attempt(scalar, journal)
    if posted is not None:
        return posted
    with connection.begin_nested():  # a refused journal takes the accounts that were opened for it along
        for _ in range(_ATTEMPTS):
            keys = keys_of([journal])
            calls.open_accounts(scalar, journal.tenant, list(keys))
            posted = _attempt(scalar, journal)
            if posted is not None:
                return posted
        raise TransientError(f"the accounts of {journal.reference!r} can't be opened")


def book(journal: Journal) -> Posted:
    """Book the journal in a transaction of its own, as `post` does. One round trip, where its accounts exist."""
    check(journal)

    def once() -> Posted:
        with db.direct() as connection:
            posted = _attempt(connection.scalar, journal)
        if posted is not None:
            return posted
        with db.transaction() as session:
            return post(session, journal)

    return again(once)


def again(once: Callable[[], T]) -> T:
    """Run a transaction, and run it again if PostgreSQL has broken a deadlock or a race with another by ending it."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return once()
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in (DEADLOCK, RACE):
                raise
    return once()


def _attempt(scalar: Scalar, journal: Journal) -> Posted | None:
    """None if an account is missing."""
    made = new_id()
    keys = keys_of([journal]) if len(journal.postings) > 1 else {}  # a single posting names its accounts itself
    answer = calls.post(scalar, journal.tenant, [journal], [made], keys)
    if answer is None:
        return Posted(made, created=True)
    if "missing" in answer:
        return None
    # Of two findings, that the reference is booked is the one that counts.
    result = settled(journal, min(answer, key=lambda found: "id" not in found), list(keys or keys_of([journal])))
    if isinstance(result, TallyrailError):
        raise result
    return result


def scalar_of(connection: Connection) -> Scalar:
    return lambda statement, parameters: connection.exec_driver_sql(statement, tuple(parameters)).scalar()


def reverse(
    session: Session,
    *,
    tenant: str,
    reference: str,
    journal_id: UUID,
    category: str = "reversal",
    subject: str | None = None,
    correlation_id: str | None = None,
    job_id: UUID | None = None,
    effective_at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Posted:
    """Book the mirror of a journal, which names it; a journal is reversed at most once. `subject` defaults to its own.

    Raises NotFoundError, AlreadyReversedError (under another reference) and, where the money has moved on,
    InsufficientFundsError: then it is the caller's to say who bears it.
    """
    found = session.execute(
        select(LedgerJournal.subject, LedgerAccount.code, LedgerAccount.asset, LedgerEntry.units)
        .join(LedgerEntry, LedgerEntry.journal_number == LedgerJournal.number)
        .join(LedgerAccount, LedgerAccount.id == LedgerEntry.account_id)
        .where(LedgerJournal.tenant == tenant, LedgerJournal.id == journal_id)
        .order_by(LedgerEntry.position)
    ).all()
    if not found:
        raise NotFoundError(f"there is no journal {journal_id}", field="journal_id")
    # Backwards, so that money which passed through an account comes back before it is taken on.
    pairs = list(zip(found[::2], found[1::2], strict=True))[::-1]
    mirror = [
        Posting(source=into.code, destination=out_of.code, asset=into.asset, units=into.units) for out_of, into in pairs
    ]
    return post(
        session,
        Journal(
            tenant=tenant,
            reference=reference,
            category=category,
            postings=mirror,
            subject=found[0].subject if subject is None else subject,
            correlation_id=correlation_id,
            job_id=job_id,
            effective_at=effective_at,
            metadata=metadata or {},
            reverses=journal_id,
        ),
    )


def check(journal: Journal) -> None:
    """Refuse what no state of the books could accept."""
    if not journal.tenant:
        raise InvalidRequestError("a journal belongs to a tenant", field="tenant")
    _check_text("tenant", journal.tenant, TENANT_LENGTH_MAX)
    if not (1 <= len(journal.reference) <= REFERENCE_LENGTH_MAX and journal.reference.isprintable()):
        raise InvalidRequestError(
            f"a reference has 1 to {REFERENCE_LENGTH_MAX} printable characters", field="reference"
        )
    if not _CATEGORY.fullmatch(journal.category):
        raise InvalidRequestError(f"{journal.category[:80]!r} is no category", field="category")
    if journal.subject is not None:
        _check_text("subject", journal.subject, SUBJECT_LENGTH_MAX)
    if journal.correlation_id is not None:
        _check_text("correlation_id", journal.correlation_id, CORRELATION_LENGTH_MAX)
    if journal.metadata:
        _check_metadata(journal.metadata)
    if journal.effective_at is not None:
        _check_time(journal.effective_at)
    if not journal.postings:
        raise InvalidRequestError("a journal needs at least one posting", field="postings")
    for move in journal.postings:
        _check_posting(move)


def _check_text(name: str, value: str, most: int) -> None:
    """PostgreSQL's text holds no NUL, and UTF-8 no half of a surrogate pair."""
    if len(value) > most or "\0" in value or not _encodable(value):
        raise InvalidRequestError(f"{name} has at most {most} characters, none of them NUL or a surrogate", field=name)


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    try:
        # As it is, but for NUL, which stays escaped. Of numbers JSON has none that is infinite or none at all.
        written = json.dumps(dict(metadata), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequestError(f"metadata is not JSON: {error}", field="metadata") from error
    if _NUL.search(written) or not _encodable(written):
        raise InvalidRequestError("metadata has a NUL or a surrogate in its text", field="metadata")


def _check_time(effective_at: datetime) -> None:
    if effective_at.tzinfo is None:
        raise InvalidRequestError("effective_at needs a time zone", field="effective_at")
    try:
        effective_at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequestError("effective_at is not within the years 1 to 9999", field="effective_at") from error


def _encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_posting(move: Posting) -> None:
    rule(move.source)
    rule(move.destination)
    if move.source == move.destination:
        raise InvalidRequestError(f"source and destination are both {move.source!r}", field="destination")
    if not _ASSET.fullmatch(move.asset):
        raise InvalidRequestError(f"{move.asset[:200]!r} is no asset", field="asset")
    if not isinstance(move.units, int) or isinstance(move.units, bool):
        raise InvalidRequestError(f"units are integers, not {type(move.units).__name__}", field="units")
    if not 0 < move.units <= UNITS_MAX:
        raise InvalidRequestError("units must be above zero and have at most 38 digits", field="units")


def keys_of(journals: Sequence[Journal]) -> dict[Key, int]:
    """The accounts of the journals, in the order in which they are locked, each with its place, from 1."""
    keys = {(code, move.asset) for one in journals for move in one.postings for code in (move.source, move.destination)}
    return {key: place for place, key in enumerate(sorted(keys), 1)}


def settled(journal: Journal, found: Mapping[str, Any], codes: Sequence[Key]) -> Posted | TallyrailError:
    """What one object of ledger_post's answer says of its journal."""
    if "id" in found:
        if found["hash"] != journal.content_hash().hex():
            return ReferenceReusedError(journal.reference, UUID(found["id"]))
        return Posted(UUID(found["id"]), created=False)
    if "reversed_by" in found:
        return AlreadyReversedError(journal.reverses or UUID(int=0), UUID(found["reversed_by"]))
    code, asset = codes[found["account"] - 1]
    available, units = int(found.get("available", 0)), int(found.get("units", 0))
    match found["refused"]:
        case "frozen":
            error: TallyrailError = AccountFrozenError(code, asset)
        case "closed":
            error = AccountClosedError(code, asset)
        case "floor":
            error = InsufficientFundsError(account=code, asset=asset, available=available, needed=units)
        case "ceiling":
            error = CeilingExceededError(account=code, asset=asset, room=available, offered=units)
        case _:
            error = InvalidRequestError(f"{code} would need more than 38 digits", field="units")
    return error
