"""Holds: money that is bound for somebody before it moves. The first phase of a posting in two.

A hold takes nothing out of its account, it only makes less of the balance available: what can still leave is the
balance less what is held less the floor. It is settled once: captured (whole or in part, as a journal; the rest is let
go), voided, or expired when its deadline has passed. A deadline counts from the moment it passes, by the database's
clock, whether or not the sweep has come by.

Everything works in the caller's transaction, and what is refused is written nowhere.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, LiteralString
from uuid import UUID

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, NotFoundError, TallyrailError, TransientError
from core.ids import new_id
from ledger import calls
from ledger.calls import Scalar
from ledger.errors import (
    AccountClosedError,
    AccountFrozenError,
    HoldExceededError,
    HoldSettledError,
    InsufficientFundsError,
    ReferenceReusedError,
)
from ledger.models import LedgerAccount, LedgerHold
from ledger.paging import Page, bad_cursor, bounded, opened, sealed
from ledger.posting import Journal, Posted, Posting, check, keys_of, scalar_of, settled

CAPTURE = "hold.capture"
_PLACE: LiteralString = """
    SELECT ledger_place(%s::text, %s::uuid, %s::text, %s::bytea, %s::text, %s::text, %s::text, %s::numeric,
        %s::timestamptz, %s::text, %s::text, %s::uuid, %s::jsonb)
"""
_CAPTURE: LiteralString = """
    SELECT ledger_capture(%s::text, %s::uuid, %s::uuid, %s::text, %s::bytea, %s::text, %s::timestamptz, %s::text,
        %s::uuid, %s::text, %s::jsonb, %s::numeric)
"""
_VOID: LiteralString = "SELECT ledger_void(%s::text, %s::uuid)"
_EXPIRE: LiteralString = "SELECT ledger_expire(%s::int)"


class HoldState(StrEnum):
    PENDING = "pending"
    """Also past its deadline, until the sweep comes by or somebody needs the money."""
    POSTED = "posted"
    VOIDED = "voided"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHold:
    """`units` (an integer above zero, in the asset's smallest unit) of the source are to go to the destination.

    `reference` names the event, once for ever among the tenant's holds. Source, destination, asset, units, deadline and
    subject are the content: placing the reference again with the same content is a no-op, at any later time too.
    """

    tenant: str
    reference: str
    source: str
    """An account whose normal side is credit, in one row: what we owe a user, a merchant or an agent."""
    destination: str
    asset: str
    units: int
    expires_at: datetime | None = None
    """From then on it can't be captured. None: it stays until it is captured or voided."""
    subject: str | None = None
    correlation_id: str | None = None
    job_id: UUID | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def content_hash(self) -> bytes:
        content = [
            "1",
            self.source,
            self.destination,
            self.asset,
            str(self.units),
            None if self.expires_at is None else self.expires_at.astimezone(UTC).isoformat(),
            self.subject,
        ]
        return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).digest()


@dataclass(frozen=True, slots=True)
class Placed:
    id: UUID
    created: bool
    """False if the reference was placed before; `id` is that first hold, whatever has become of it."""


@dataclass(frozen=True, slots=True)
class Hold:
    id: UUID
    tenant: str
    reference: str
    source: str
    destination: str
    asset: str
    units: int
    state: HoldState
    posted_units: int | None
    """What was captured; the rest was let go."""
    expires_at: datetime | None
    journal_id: UUID | None
    """The capture's."""
    subject: str | None
    correlation_id: str | None
    job_id: UUID | None
    metadata: Mapping[str, Any]
    created_at: datetime
    settled_at: datetime | None


def place(session: Session, new: NewHold) -> Placed:
    """Hold the units, once for ever by (tenant, reference).

    Opens accounts that don't exist yet as the chart says. Raises InvalidRequestError (units, asset or accounts that
    can't be, a deadline that has passed), InsufficientFundsError, AccountFrozenError (of the source),
    AccountClosedError (of either) and ReferenceReusedError, all with nothing written.
    """
    _check(new)
    connection = session.connection()
    scalar = scalar_of(connection)
    placed = _try_to_place(scalar, new)
    if placed is not None:
        return placed
    with connection.begin_nested():  # a refused hold takes the accounts that were opened for it along
        calls.open_accounts(scalar, new.tenant, sorted({(new.source, new.asset), (new.destination, new.asset)}))
        placed = _try_to_place(scalar, new)
        if placed is None:
            raise TransientError(f"the accounts of {new.reference!r} can't be opened")
        return placed


def _check(new: NewHold) -> None:
    """Refuse what no state of the books could accept: what its capture could not be."""
    move = Posting(source=new.source, destination=new.destination, asset=new.asset, units=new.units)
    check(
        Journal(
            tenant=new.tenant,
            reference=new.reference,
            category=CAPTURE,
            postings=(move,),
            subject=new.subject,
            correlation_id=new.correlation_id,
            metadata=new.metadata,
        )
    )
    if new.expires_at is not None and new.expires_at.tzinfo is None:
        raise InvalidRequestError("expires_at needs a time zone", field="expires_at")


def _try_to_place(scalar: Scalar, new: NewHold) -> Placed | None:
    """None if an account is missing."""
    made, content = new_id(), new.content_hash()
    answer = scalar(
        _PLACE,
        (
            new.tenant,
            made,
            new.reference,
            content,
            new.source,
            new.destination,
            new.asset,
            str(new.units),
            new.expires_at,
            new.subject,
            new.correlation_id,
            new.job_id,
            _notes(new.metadata),
        ),
    )
    if answer is None:
        return Placed(made, created=True)
    if "missing" in answer:
        return None
    if "id" in answer:
        if answer["hash"] != content.hex():
            raise ReferenceReusedError(new.reference, UUID(answer["id"]), noun="hold")
        return Placed(UUID(answer["id"]), created=False)
    raise _refusal(new, answer)


def _refusal(new: NewHold, found: Mapping[str, Any]) -> TallyrailError:
    source, asset = new.source, new.asset
    match found["refused"]:
        case "floor":
            available = int(found["available"])
            error: TallyrailError = InsufficientFundsError(
                account=source, asset=asset, available=available, needed=new.units
            )
        case "frozen":
            error = AccountFrozenError(source, asset)
        case "closed":
            error = AccountClosedError(found["account"], asset)
        case "deadline":
            error = InvalidRequestError("expires_at has passed already", field="expires_at")
        case "striped":
            error = InvalidRequestError(f"{source} is kept in several rows and can't be held", field="source")
        case "debit":
            error = InvalidRequestError(
                f"{source} grows by what leaves it (its normal side is debit) and can't be held", field="source"
            )
        case _:
            error = InvalidRequestError(f"the holds of {source} would need more than 38 digits", field="units")
    return error


def capture(
    session: Session,
    *,
    tenant: str,
    hold_id: UUID,
    reference: str,
    units: int | None = None,
    category: str = CAPTURE,
    subject: str | None = None,
    correlation_id: str | None = None,
    job_id: UUID | None = None,
    effective_at: datetime | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Posted:
    """Post `units` of the hold, or all of it, as one journal from its source to its destination; the rest is let go.

    Idempotent by the journal's reference and content, like a post. `subject` and `correlation_id` default to those of
    the hold, which the journal's metadata name. Raises NotFoundError, InvalidRequestError (units), HoldExceededError,
    HoldSettledError (posted under another reference, voided, past its deadline), ReferenceReusedError and what a post
    raises (AccountFrozenError, AccountClosedError, CeilingExceededError), all with nothing written.
    """
    found = hold(session, tenant, hold_id)  # what a journal is made of never changes
    asked = found.units if units is None else units
    journal = Journal(
        tenant=tenant,
        reference=reference,
        category=category,
        postings=(Posting(source=found.source, destination=found.destination, asset=found.asset, units=asked),),
        subject=found.subject if subject is None else subject,
        correlation_id=found.correlation_id if correlation_id is None else correlation_id,
        job_id=job_id,
        effective_at=effective_at,
        metadata={"hold_id": str(hold_id), **(metadata or {})},
    )
    check(journal)
    made = new_id()
    answer = scalar_of(session.connection())(
        _CAPTURE,
        (
            tenant,
            hold_id,
            made,
            reference,
            journal.content_hash(),
            category,
            effective_at,
            journal.correlation_id,
            job_id,
            journal.subject,
            _notes(journal.metadata),
            str(asked),
        ),
    )
    return Posted(made, created=True) if answer is None else _captured(found, journal, answer)


def _captured(found: Hold, journal: Journal, answer: Mapping[str, Any]) -> Posted:
    """What ledger_capture's answer means: the first journal, or a refusal."""
    if "id" in answer:
        result = settled(journal, answer, ())
    elif "settled" in answer:
        result = _settled_error(found, answer["settled"])
    elif "more" in answer:
        result = HoldExceededError(found.id, held=found.units, asked=journal.postings[0].units)
    else:
        [finding] = answer["post"]
        if "id" in finding:  # of the same content or not: it is no capture of this hold
            result = ReferenceReusedError(journal.reference, UUID(finding["id"]))
        else:
            result = settled(journal, finding, list(keys_of([journal])))
    if isinstance(result, TallyrailError):
        raise result
    return result


def _settled_error(found: Hold, state: str) -> HoldSettledError:
    return HoldSettledError(found.id, state, found.expires_at if state == HoldState.EXPIRED else None)


def void(session: Session, *, tenant: str, hold_id: UUID) -> bool:
    """Let all of the hold go. False if it was voided before, a harmless repeat.

    Raises NotFoundError and HoldSettledError (posted, or past its deadline).
    """
    state = scalar_of(session.connection())(_VOID, (tenant, hold_id))
    if state is None:
        return True
    if state == HoldState.VOIDED:
        return False
    raise _settled_error(hold(session, tenant, hold_id), state)


def expire_due(session: Session, limit: int) -> int:
    """Let go of holds whose deadline has passed, the oldest first and at most `limit`, and say how many.

    Holds of an account that somebody is working on are left for the next time.
    """
    return int(scalar_of(session.connection())(_EXPIRE, (limit,)))


def hold(session: Session, tenant: str, hold_id: UUID) -> Hold:
    """Raises NotFoundError."""
    row = session.execute(_query(tenant).where(LedgerHold.id == hold_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no hold {hold_id}", field="hold_id")
    return _hold(row)


def holds(
    session: Session,
    tenant: str,
    *,
    account: str | None = None,
    state: HoldState | None = None,
    subject: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page[Hold]:
    """The tenant's holds, newest first: of one source account (in all assets), in one state, about one subject."""
    query = _query(tenant)
    if account is not None:
        rows_of = select(LedgerAccount.id).where(LedgerAccount.tenant == tenant, LedgerAccount.code == account)
        query = query.where(LedgerHold.account_id.in_(session.scalars(rows_of).all()))
    if state is not None:
        # In the statement's text, so that a plan made once for all may use the index of the pending.
        query = query.where(LedgerHold.state == bindparam("state", state.value, literal_execute=True))
    if subject is not None:
        query = query.where(LedgerHold.subject == subject)
    if cursor is not None:
        query = query.where(LedgerHold.id < _place_of(cursor))
    limit = bounded(limit)
    rows: Sequence[Any] = session.execute(query.order_by(LedgerHold.id.desc()).limit(limit + 1)).all()
    made = tuple(_hold(row) for row in rows[:limit])
    return Page(made, sealed(made[-1].id.hex) if len(rows) > limit else None)


def _place_of(cursor: str) -> UUID:
    try:
        return UUID(hex=opened(cursor))
    except (ValueError, TypeError, AttributeError):
        raise bad_cursor() from None


def _query(tenant: str) -> Select[Any]:
    return (
        select(LedgerHold.__table__, LedgerAccount.code, LedgerAccount.asset)
        .join(LedgerAccount, LedgerAccount.id == LedgerHold.account_id)
        .where(LedgerHold.tenant == tenant)
    )


def _hold(row: Any) -> Hold:
    return Hold(
        id=row.id,
        tenant=row.tenant,
        reference=row.reference,
        source=row.code,
        destination=row.destination,
        asset=row.asset,
        units=row.units,
        state=HoldState(row.state),
        posted_units=row.posted_units,
        expires_at=row.expires_at,
        journal_id=row.journal_id,
        subject=row.subject,
        correlation_id=row.correlation_id,
        job_id=row.job_id,
        metadata=row.metadata,
        created_at=row.created_at,
        settled_at=row.settled_at,
    )


def _notes(metadata: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(metadata)) if metadata else None
