"""Payouts: money that leaves, asked for and read. What people decide about them: api.routes.payout_approvals."""

from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy.orm import Session

from api import ingest, openapi, payout_views, problems
from api.auth import needs
from api.body import JsonBytes
from api.booking import Booking, IdempotencyKey, Units, once
from api.paging import Cursor, Limit, opened, seal
from api.payout_ports import PORTS
from api.payout_views import PayoutDetail, PayoutEventView, PayoutView
from api.problems import ProblemDocument
from api.responses import json_response
from api.routes.beneficiaries import KindWord, Line
from api.routes.deposits import Metadata, Text, Word
from api.routes.fiat_payments import Id
from core import db
from core.errors import InvalidRequestError, NotFoundError
from domain.access import idempotency
from domain.access.service import Principal, Scope
from domain.payout import service as payouts
from domain.payout.service import NewBatch, NewDestination, NewPayout, Payout, PayoutBatch, PayoutState
from providers.payout.base import Destination

router = APIRouter(prefix="/v1/payouts", tags=["payouts"])

ACCEPTED = 202
EXAMPLES: list[JsonValue] = [
    {
        "account": "user:42:available",
        "asset": "iso4217:NGN",
        "units": "1500000",
        "beneficiary_id": "01890a5d-ac96-774b-bcce-b302099a8057",
        "narration": "Prize 1001",
    },
    {
        "account": "user:42:available",
        "asset": "iso4217:INR",
        "units": "50000",
        "destination": {"kind": "upi", "number": "ada@okaxis", "holder": "Ada Obi"},
        "purpose": "cash_out",
    },
]


class DestinationBody(BaseModel):
    """As `POST /v1/beneficiaries` takes it. None of `number`, `holder` and `tag` is ever told again."""

    model_config = ConfigDict(strict=True, extra="forbid")

    kind: KindWord
    number: Line = Field(repr=False)
    bank_code: Word | None = None
    holder: Line | None = Field(default=None, repr=False)
    chain: Word | None = None
    tag: Line | None = Field(default=None, repr=False)


class PayoutRequest(BaseModel):
    """Money that is to leave an account. Give either `beneficiary_id` or `destination`."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    account: Word = Field(description="The account that pays, such as user:42:available")
    asset: Word = Field(description="What it pays in, such as iso4217:NGN")
    units: Units
    beneficiary_id: Id | None = Field(default=None, description="Of the account's destination book")
    destination: DestinationBody | None = Field(
        default=None, repr=False, description="Looked for in the account's book, and added if it is not there"
    )
    payout_asset: Word | None = Field(
        default=None, description="What arrives; default: the asset, or what the quote says"
    )
    quote_id: Id | None = Field(default=None, description="Converts as it promises. Nothing is converted without")
    narration: Text = Field(default="", description="What the recipient reads: at most 100 printable ASCII characters")
    purpose: Word = Field(default="payout", description="A word of yours: a-z, 0-9 and _")
    affiliate: bool = Field(default=False, description="It pays somebody who brings players")
    by_hand: bool = Field(default=False, description="A person pays it outside and records the evidence")
    provider: Word | None = Field(default=None, description="Left out, we choose one that can take it")
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the payout")


class BatchBody(BaseModel):
    """Payouts that are asked for together. Nothing of it is looked at unless count and totals are the items'."""

    model_config = ConfigDict(strict=True, extra="forbid")

    count: int = Field(ge=1, le=1_000, description="How many items there are")
    totals: dict[Word, Units] = Field(description="Asset -> the sum of the items' units")
    items: list[PayoutRequest] = Field(min_length=1, max_length=1_000)


class PayoutPage(BaseModel):
    payouts: list[PayoutView]
    next_cursor: str | None


class EventList(BaseModel):
    events: list[PayoutEventView] = Field(description="Oldest first")


class BatchItem(BaseModel):
    """What came of one item: a payout, or a problem."""

    item: int = Field(description="Its place in the batch, from 0")
    payout_id: UUID | None = None
    state: PayoutState | None = None
    problem: ProblemDocument | None = None


class BatchView(BaseModel):
    id: UUID
    count: int
    totals: dict[str, str]
    made: int = Field(description="Items that became payouts")
    refused: int
    items: list[BatchItem] = Field(description="In their order")


# --- asking ----------------------------------------------------------------------------------------------------------


def _new(caller: Principal, asked: PayoutRequest) -> NewPayout:
    given = asked.destination
    return NewPayout(
        tenant=caller.tenant,
        account=asked.account,
        asset=asked.asset,
        units=asked.units,
        beneficiary_id=asked.beneficiary_id,
        destination=None if given is None else _destination(given),
        payout_asset=asked.payout_asset,
        quote_id=asked.quote_id,
        narration=asked.narration,
        purpose=asked.purpose,
        affiliate=asked.affiliate,
        by_hand=asked.by_hand,
        provider=asked.provider,
        details=asked.metadata,
        correlation_id=ingest.correlation_id(),
        maker=caller.actor,
    )


def _destination(given: DestinationBody) -> NewDestination:
    destination = Destination(
        kind=given.kind, number=given.number, bank_code=given.bank_code, holder=given.holder, tag=given.tag
    )
    return NewDestination(destination=destination, chain=given.chain)


def _create(caller: Principal, session: Session, _reference: str, asked: PayoutRequest) -> tuple[PayoutView, bool]:
    return payout_views.view(payouts.create(session, _new(caller, asked), PORTS)), True


@router.post(
    "",
    status_code=ACCEPTED,
    summary="Ask for a payout",
    responses={ACCEPTED: {"model": PayoutView, "description": "Durably accepted: the money is held"}},
    openapi_extra=openapi.body_of(PayoutRequest),
)
def create_payout(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """Its money is held, limits are counted and rules asked in the transaction that accepts it.

    What can't be is refused with nothing left behind. `held`: its destination is being verified; `awaiting_approval`:
    people decide; `approved`: it is sent.
    """
    booking = Booking(
        "payout",
        Scope.PAYOUTS_WRITE,
        PayoutRequest,
        partial(_create, caller),
        status=ACCEPTED,
        location="/v1/payouts",
        fields={"quote": "quote_id"} | dict.fromkeys(("bank_code", "number", "holder", "chain", "tag"), "destination"),
        request_hash=idempotency.keyed_request_hash,
    )
    return once(caller, booking, idempotency_key, body)


def _told(error: InvalidRequestError) -> dict[str, Any]:
    return problems.of_error(error).document()


def _create_batch(caller: Principal, session: Session, _reference: str, asked: BatchBody) -> tuple[BatchView, bool]:
    batch = payouts.create_batch(
        session,
        NewBatch(
            tenant=caller.tenant,
            count=asked.count,
            totals=asked.totals,
            items=[_new(caller, item) for item in asked.items],
            maker=caller.actor,
            correlation_id=ingest.correlation_id(),
        ),
        PORTS,
        _told,
    )
    return _batch(session, batch), True


@router.post(
    "/batches",
    status_code=ACCEPTED,
    summary="Ask for many payouts at once",
    responses={ACCEPTED: {"model": BatchView, "description": "Durably accepted: see what came of each item"}},
    openapi_extra=openapi.body_of(BatchBody),
)
def create_payout_batch(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.PAYOUTS_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """An item that can't be is refused alone. Meanwhile the tenant's other payouts wait for it."""
    booking = Booking(
        "payout.batch",
        Scope.PAYOUTS_WRITE,
        BatchBody,
        partial(_create_batch, caller),
        status=ACCEPTED,
        location="/v1/payouts/batches",
        request_hash=idempotency.keyed_request_hash,
    )
    return once(caller, booking, idempotency_key, body)


# --- reading ---------------------------------------------------------------------------------------------------------


@router.get("", summary="List payouts, newest first", responses={200: {"model": PayoutPage}})
def list_payouts(
    caller: Annotated[Principal, needs(Scope.PAYOUTS_READ)],
    *,
    state: Annotated[list[PayoutState] | None, Query(description="Repeat it for several")] = None,
    account: Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$", examples=["user:42:available"])] = None,
    beneficiary_id: UUID | None = None,
    batch_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    before = opened("payouts", cursor)
    with db.transaction() as session:
        rows = payouts.page(
            session,
            tenant=caller.tenant,
            states=state or (),
            account=account,
            beneficiary_id=beneficiary_id,
            batch_id=batch_id,
            before=before,
            limit=limit + 1,
        )
        views = [payout_views.view(row) for row in rows[:limit]]
    more = seal("payouts", rows[limit - 1].id) if len(rows) > limit else None
    return json_response(PayoutPage(payouts=views, next_cursor=more))


@router.get("/batches/{batch_id}", summary="Read a batch", responses={200: {"model": BatchView}})
def read_payout_batch(batch_id: UUID, caller: Annotated[Principal, needs(Scope.PAYOUTS_READ)]) -> Response:
    with db.transaction() as session:
        batch = payouts.get_batch(session, batch_id, tenant=caller.tenant)
        if batch is None:
            raise NotFoundError(f"there is no batch {batch_id}")
        view = _batch(session, batch)
    return json_response(view)


@router.get(
    "/{payout_id}", summary="Read a payout, with what an approver must see", responses={200: {"model": PayoutDetail}}
)
def read_payout(payout_id: UUID, caller: Annotated[Principal, needs(Scope.PAYOUTS_READ)]) -> Response:
    with db.transaction() as session:
        view = payout_views.detail(found(session, caller.tenant, payout_id))
    return json_response(view)


@router.get("/{payout_id}/events", summary="Read a payout's history", responses={200: {"model": EventList}})
def read_payout_events(payout_id: UUID, caller: Annotated[Principal, needs(Scope.PAYOUTS_READ)]) -> Response:
    with db.transaction() as session:
        found(session, caller.tenant, payout_id)
        events = [payout_views.event(row) for row in payouts.history(session, payout_id)]
    return json_response(EventList(events=events))


def found(session: Session, tenant: str, payout_id: UUID) -> Payout:
    """Raises NotFoundError if there is none, or it is another tenant's."""
    payout = payouts.get(session, payout_id, tenant=tenant)
    if payout is None:
        raise NotFoundError(f"there is no payout {payout_id}")
    return payout


def _batch(session: Session, batch: PayoutBatch) -> BatchView:
    made = [
        BatchItem(item=payout.batch_item or 0, payout_id=payout.id, state=payout.current)
        for payout in payouts.batch_items(session, batch.id)
    ]
    refused = [BatchItem(item=row["item"], problem=ProblemDocument(**row["problem"])) for row in batch.refused]
    return BatchView(
        id=batch.id,
        count=batch.count,
        totals=batch.totals,
        made=len(made),
        refused=len(refused),
        items=sorted([*made, *refused], key=lambda each: each.item),
    )
