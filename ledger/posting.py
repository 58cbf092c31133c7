"""Posting: the only way money moves in the books.

A journal is a list of movements, each source -> destination, so it balances by construction. Its reference makes it
idempotent for ever. A post takes two statements when its accounts exist: lock them in the order of their ids, then
write journal, entries and balances at once. Nothing is written before every check has passed, so a caller may catch a
refusal and go on in the same transaction.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, NotFoundError, TransientError
from core.ids import new_id
from core.money import UNITS_MAX
from ledger import statements
from ledger.chart import rule
from ledger.errors import AlreadyReversedError, InsufficientFundsError, ReferenceReusedError
from ledger.models import LedgerAccount, LedgerEntry, LedgerJournal
from ledger.statements import State

REFERENCE_LENGTH_MAX = 300
_ASSET = re.compile(r"[A-Za-z0-9:/.%_-]{1,200}")
_CATEGORY = re.compile(r"[a-z][a-z0-9_.:-]{0,63}")
_ATTEMPTS = 5
"""Each further attempt means that another transaction opened an account or booked this reference in between."""


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
    can't be), InsufficientFundsError (a floor would be crossed) and ReferenceReusedError, all with nothing written.
    """
    _check(journal)
    keys = sorted({(code, move.asset) for move in journal.postings for code in (move.source, move.destination)})
    for _ in range(_ATTEMPTS):
        states = statements.lock(session, journal.tenant, journal.reference, keys)
        if states is None:
            seen = statements.look(session, journal.tenant, journal.reference, keys)
            if seen.journal_id is not None:
                return _again(journal, seen.journal_id, seen.content_hash)
            # Refuse on what is known so far, so that a refused posting doesn't leave empty accounts behind.
            _plan(seen.states, journal.postings)
            statements.open_accounts(session, journal.tenant, [state for state in seen.states if state.id is None])
            continue
        moves = _plan(states, journal.postings)
        journal_id = new_id()
        if statements.write(session, _row(journal, journal_id), states, moves):
            return Posted(journal_id, created=True)
        _refuse_second_reversal(session, journal)
    raise TransientError(f"the accounts of {journal.reference!r} changed under {_ATTEMPTS} attempts to book it")


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
        select(LedgerJournal.subject, LedgerAccount.code, LedgerEntry.asset, LedgerEntry.units)
        .join(LedgerEntry, LedgerEntry.journal_id == LedgerJournal.id)
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


def _check(journal: Journal) -> None:
    """Refuse what no state of the books could accept."""
    if not journal.tenant:
        raise InvalidRequestError("a journal belongs to a tenant", field="tenant")
    if not (1 <= len(journal.reference) <= REFERENCE_LENGTH_MAX and journal.reference.isprintable()):
        raise InvalidRequestError(
            f"a reference has 1 to {REFERENCE_LENGTH_MAX} printable characters", field="reference"
        )
    if not _CATEGORY.fullmatch(journal.category):
        raise InvalidRequestError(f"{journal.category[:80]!r} is no category", field="category")
    if journal.effective_at is not None and journal.effective_at.tzinfo is None:
        raise InvalidRequestError("effective_at needs a time zone", field="effective_at")
    if not journal.postings:
        raise InvalidRequestError("a journal needs at least one posting", field="postings")
    for move in journal.postings:
        _check_posting(move)


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


def _plan(states: Sequence[State], postings: Sequence[Posting]) -> list[statements.Move]:
    """Run the postings over the states in order: every entry's running balance and version, or a refusal.

    Works on copies of the balances, so it may run on what was only looked at and again on what is locked.
    """
    accounts = {(state.code, state.asset): state for state in states}
    balances = {key: state.balance for key, state in accounts.items()}
    versions = {key: state.version for key, state in accounts.items()}
    moves = []
    for index, move in enumerate(postings):
        for half, (code, units) in enumerate(((move.source, -move.units), (move.destination, move.units))):
            key = (code, move.asset)
            state = accounts[key]
            before = balances[key]
            after = balances[key] = before + units
            versions[key] += 1
            sign = state.normal_side.sign
            if state.floor is not None and sign * units < 0 and sign * after < state.floor:
                raise InsufficientFundsError(
                    account=code, asset=move.asset, available=sign * before - state.floor, needed=move.units
                )
            if abs(after) > UNITS_MAX:
                raise InvalidRequestError(f"{code} would need more than 38 digits", field="units")
            moves.append(
                statements.Move(key=key, units=units, balance=after, version=versions[key], position=2 * index + half)
            )
    return moves


def _again(journal: Journal, journal_id: UUID, content_hash: bytes | None) -> Posted:
    if content_hash != journal.content_hash():
        raise ReferenceReusedError(journal.reference, journal_id)
    return Posted(journal_id, created=False)


def _refuse_second_reversal(session: Session, journal: Journal) -> None:
    """Called when a unique index refused the journal's row: if it was not the one on references, it was this one."""
    if journal.reverses is None:
        return
    by = session.execute(
        select(LedgerJournal.id, LedgerJournal.reference).where(LedgerJournal.reverses == journal.reverses)
    ).one_or_none()
    if by is not None and by.reference != journal.reference:
        raise AlreadyReversedError(journal.reverses, by.id)


def _row(journal: Journal, journal_id: UUID) -> dict[str, Any]:
    return {
        "id": journal_id,
        "tenant": journal.tenant,
        "reference": journal.reference,
        "content_hash": journal.content_hash(),
        "category": journal.category,
        "effective_at": journal.effective_at,
        "correlation_id": journal.correlation_id,
        "job_id": journal.job_id,
        "subject": journal.subject,
        "metadata": json.dumps(dict(journal.metadata)),
        "reverses": journal.reverses,
    }
