"""Journals: what moves money in the books. Read, booked and reversed; never changed."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator
from sqlalchemy.orm import Session

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes, OptionalJsonBytes
from api.booking import APP, AccountCode, Booking, CorrelationId, IdempotencyKey, Moment, Units, once
from api.paging import Cursor, Limit
from api.problems import Problem
from api.responses import json_response
from api.routes.deposits import Metadata, Word
from core import db
from core.errors import ConflictError, NotFoundError
from domain.access.service import Principal, Scope
from ledger import balances, posting
from ledger.balances import JournalRecord
from ledger.posting import Journal

router = APIRouter(prefix="/v1/journals", tags=["journals"])

POSTINGS_MAX = 500
EXAMPLES: list[JsonValue] = [
    {
        "category": "order.paid",
        "postings": [
            {
                "source": "user:42:available",
                "destination": "merchant:7:available",
                "asset": "iso4217:EUR",
                "units": "9750",
            },
            {"source": "user:42:available", "destination": "house:fees", "asset": "iso4217:EUR", "units": "250"},
        ],
        "subject": "order:1001",
        "metadata": {"order": "1001"},
    },
]
Category = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.:-]{0,63}$")]


class PostingRequest(BaseModel):
    """One movement of `units` from source to destination."""

    model_config = ConfigDict(strict=True, extra="forbid")

    source: AccountCode
    destination: AccountCode
    asset: Word = Field(description="CAIP-19 id, or iso4217:EUR")
    units: Units

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.source == self.destination:
            raise ValueError(f"source and destination are both {self.source}")
        return self


class JournalRequest(BaseModel):
    """One event: its postings are booked in their order, all of them or none."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    category: Category = Field(description="What kind of event it is; yours to choose")
    postings: list[PostingRequest] = Field(min_length=1, max_length=POSTINGS_MAX)
    subject: Word | None = Field(default=None, description="What it is about; journals can be listed by it")
    effective_at: Moment | None = Field(default=None, description="When it happened outside, if not now")
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the journal")
    correlation_id: CorrelationId | None = Field(default=None, description="Instead of the request's own")


class ReverseRequest(BaseModel):
    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"metadata": {"why": "order 1001 was cancelled"}}]}
    )

    category: Category = "reversal"
    effective_at: Moment | None = Field(default=None, description="When it happened outside, if not now")
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the journal")


class PostingView(BaseModel):
    source: str
    destination: str
    asset: str
    units: str


class JournalView(BaseModel):
    """One event in the books. Only `reversed_by` can still change, once."""

    id: UUID
    number: int = Field(description="Its place in the books")
    reference: str = Field(description="Names the event for ever: app: and its idempotency key, if an app booked it")
    category: str
    subject: str | None
    postings: list[PostingView]
    effective_at: datetime = Field(description="When it happened outside")
    booked_at: datetime = Field(description="When it was booked")
    correlation_id: str | None
    metadata: dict[str, Any]
    reverses: UUID | None = Field(description="The journal whose mirror it is")
    reversed_by: UUID | None


class JournalEntryView(BaseModel):
    position: int = Field(description="Posting i has the entries 2i, of its source, and 2i + 1, of its destination")
    account: str
    asset: str
    units: str = Field(description="The change; negative if the account has less by it")
    balance: str = Field(description="The account's balance after it")


class JournalDetail(JournalView):
    entries: list[JournalEntryView]


class JournalPage(BaseModel):
    journals: list[JournalView]
    next_cursor: str | None


# --- booking -----------------------------------------------------------------------------------------------------


@router.post(
    "",
    status_code=201,
    summary="Book a journal",
    responses={201: {"model": JournalView, "description": "Booked; or booked before, by the same request"}},
    openapi_extra=openapi.body_of(JournalRequest),
)
def create_journal(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.JOURNALS_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """Whole or not at all, and once for ever: the key becomes the journal's reference.

    Postings run in their order, so money must have arrived before it can go on. Accounts need no setting up.
    """
    # The ledger doesn't say which posting it was that it refused.
    booking = Booking(
        "journal",
        Scope.JOURNALS_WRITE,
        JournalRequest,
        partial(_book, caller.tenant),
        location="/v1/journals",
        fields=dict.fromkeys(("source", "destination", "account", "asset", "units"), "postings"),
    )
    return once(caller, booking, idempotency_key, body)


def _book(tenant: str, session: Session, reference: str, asked: JournalRequest) -> tuple[JournalView, bool]:
    posted = posting.post(
        session,
        Journal(
            tenant=tenant,
            reference=reference,
            category=asked.category,
            postings=[
                posting.Posting(source=move.source, destination=move.destination, asset=move.asset, units=move.units)
                for move in asked.postings
            ],
            subject=asked.subject,
            correlation_id=asked.correlation_id or ingest.correlation_id(),
            effective_at=asked.effective_at,
            metadata=asked.metadata,
        ),
    )
    return _view(_read(session, tenant, posted.id)), posted.created


@router.post(
    "/{journal_id}/reverse",
    status_code=201,
    summary="Reverse a journal",
    responses={
        201: {"model": JournalView, "description": "The reversal; or it was booked before, by the same request"}
    },
    openapi_extra=openapi.body_of(ReverseRequest, required=False),
)
def reverse_journal(
    journal_id: UUID,
    body: OptionalJsonBytes,
    caller: Annotated[Principal, needs(Scope.JOURNALS_WRITE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Book the mirror of a journal, which names it. At most once, and only what an app booked.

    If the money has moved on: 409 insufficient-funds. Then book a journal that says who bears it.
    """
    booking = Booking(
        f"journal.reverse:{journal_id}",
        Scope.JOURNALS_WRITE,
        ReverseRequest,
        partial(_reverse, caller.tenant, journal_id),
        location="/v1/journals",
    )
    return once(caller, booking, idempotency_key, body)


def _reverse(
    tenant: str, journal_id: UUID, session: Session, reference: str, asked: ReverseRequest
) -> tuple[JournalView, bool]:
    found = _read(session, tenant, journal_id)
    if not found.reference.startswith(APP):
        # Its flow goes on from what it booked: a deposit that is undone behind its back would stay credited.
        raise ConflictError(f"journal {journal_id} was booked by {found.reference}, and only that can undo it")
    posted = posting.reverse(
        session,
        tenant=tenant,
        reference=reference,
        journal_id=journal_id,
        category=asked.category,
        correlation_id=ingest.correlation_id(),
        effective_at=asked.effective_at,
        metadata=asked.metadata,
    )
    return _view(_read(session, tenant, posted.id)), posted.created


# --- reading -----------------------------------------------------------------------------------------------------


@router.get("", summary="List journals by subject or reference, oldest first", responses={200: {"model": JournalPage}})
def list_journals(
    caller: Annotated[Principal, needs(Scope.JOURNALS_READ)],
    subject: Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$", examples=["order:1001"])] = None,
    reference: Annotated[str | None, Query(pattern=r"^[!-~]{1,300}$", examples=["app:order-1001"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Give one of `subject` and `reference`. A reference names one journal at most, and none of another tenant."""
    if (subject is None) == (reference is None):
        detail = "give either a subject or a reference"
        raise Problem("invalid-request", detail, [{"parameter": "subject", "detail": detail}])
    with db.transaction() as session:
        if subject is not None:
            page = balances.journals_about(session, caller.tenant, subject, cursor=cursor, limit=limit)
            rows, more = page.rows, page.cursor
        else:
            found = balances.journal(session, caller.tenant, reference=reference)
            rows, more = (() if found is None else (found,)), None
    return json_response(JournalPage.model_construct(journals=[_view(row) for row in rows], next_cursor=more))


@router.get("/{journal_id}", summary="Read a journal and its entries", responses={200: {"model": JournalDetail}})
def read_journal(journal_id: UUID, caller: Annotated[Principal, needs(Scope.JOURNALS_READ)]) -> Response:
    with db.transaction() as session:
        found = _read(session, caller.tenant, journal_id)
    entries = [
        JournalEntryView.model_construct(
            position=entry.position,
            account=entry.code,
            asset=entry.asset,
            units=str(entry.units),
            balance=str(entry.balance),
        )
        for entry in found.entries
    ]
    return json_response(JournalDetail.model_construct(**_view(found).__dict__, entries=entries))


def _read(session: Session, tenant: str, journal_id: UUID) -> JournalRecord:
    found = balances.journal(session, tenant, journal_id=journal_id)
    if found is None:
        raise NotFoundError(f"there is no journal {journal_id}")
    return found


def _view(row: JournalRecord) -> JournalView:
    return JournalView.model_construct(
        id=row.id,
        number=row.number,
        reference=row.reference,
        category=row.category,
        subject=row.subject,
        postings=list(_postings(row)),
        effective_at=row.effective_at,
        booked_at=row.booked_at,
        correlation_id=row.correlation_id,
        metadata=dict(row.metadata),
        reverses=row.reverses,
        reversed_by=row.reversed_by,
    )


def _postings(row: JournalRecord) -> Iterator[PostingView]:
    for source, destination in zip(row.entries[::2], row.entries[1::2], strict=True):
        yield PostingView.model_construct(
            source=source.code,
            destination=destination.code,
            asset=source.asset,
            units=str(abs(source.units)),
        )
