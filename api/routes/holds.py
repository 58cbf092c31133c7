"""Holds: money that is bound for somebody before it moves. Placed, then captured, voided or expired, once."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from sqlalchemy.orm import Session

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes, OptionalJsonBytes
from api.booking import AccountCode, Booking, IdempotencyKey, Moment, Units, once
from api.paging import Cursor, Limit
from api.responses import json_response
from api.routes.deposits import Metadata, Word
from core import db
from domain.access.service import Principal, Scope
from ledger import chart, holds
from ledger.errors import AccountClosedError
from ledger.holds import Hold, HoldState, NewHold
from ledger.posting import again

router = APIRouter(prefix="/v1/holds", tags=["holds"])

EXAMPLES: list[JsonValue] = [
    {
        "source": "user:42:available",
        "destination": "merchant:7:available",
        "asset": "iso4217:EUR",
        "units": "10000",
        "expires_at": "2030-01-31T12:00:00Z",
        "subject": "order:1001",
    },
]


class HoldRequest(BaseModel):
    """Units of the source that are to go to the destination, and can go nowhere else until then."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    source: AccountCode = Field(description="What you owe a user, a merchant or an agent")
    destination: AccountCode
    asset: Word = Field(description="CAIP-19 id, or iso4217:EUR")
    units: Units
    expires_at: Moment | None = Field(default=None, description="From then on it can't be captured; null: never")
    subject: Word | None = Field(default=None, description="What it is about; holds can be listed by it")
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the hold")

    @model_validator(mode="after")
    def _moves(self) -> Self:
        if self.source == self.destination:
            raise ValueError(f"source and destination are both {self.source}")
        return self


class CaptureRequest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"units": "7500"}]})

    units: Units | None = Field(default=None, description="What to post of it, the rest is let go; null: all")


class HoldView(BaseModel):
    """Money bound for somebody."""

    id: UUID
    state: HoldState = Field(description="pending may also be past its deadline, until the sweep comes by")
    reference: str = Field(description="app: and its idempotency key, if an app placed it")
    source: str
    destination: str
    asset: str
    units: str
    posted_units: str | None = Field(description="What was captured; the rest was let go")
    journal_id: UUID | None = Field(description="The capture's")
    expires_at: datetime | None
    subject: str | None
    correlation_id: str | None
    metadata: dict[str, Any]
    created_at: datetime
    settled_at: datetime | None


class HoldPage(BaseModel):
    holds: list[HoldView]
    next_cursor: str | None


# --- placing and settling ----------------------------------------------------------------------------------------


@router.post(
    "",
    status_code=201,
    summary="Place a hold",
    responses={201: {"model": HoldView, "description": "Held; or held before, by the same request"}},
    openapi_extra=openapi.body_of(HoldRequest),
)
def create_hold(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.HOLDS_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """Nothing moves yet; the source has less available. The key becomes the hold's reference, for ever."""
    booking = Booking(
        "hold", Scope.HOLDS_WRITE, HoldRequest, partial(_place, caller.tenant), location="/v1/holds",
        fields={"account": "source"},
    )  # fmt: skip
    return once(caller, booking, idempotency_key, body)


def _place(tenant: str, session: Session, reference: str, asked: HoldRequest) -> tuple[HoldView, bool]:
    new = NewHold(
        tenant=tenant,
        reference=reference,
        source=asked.source,
        destination=asked.destination,
        asset=asked.asset,
        units=asked.units,
        expires_at=asked.expires_at,
        subject=asked.subject,
        correlation_id=ingest.correlation_id(),
        metadata=asked.metadata,
    )
    try:
        placed = holds.place(session, new)
    except AccountClosedError as error:
        error.field = "destination" if error.account == asked.destination else "source"
        raise
    return _view(holds.hold(session, tenant, placed.id)), placed.created


@router.post(
    "/{hold_id}/capture",
    summary="Capture a hold, whole or in part",
    responses={200: {"model": HoldView, "description": "Captured; or captured before, by the same request"}},
    openapi_extra=openapi.body_of(CaptureRequest, required=False),
)
def capture_hold(
    hold_id: UUID,
    body: OptionalJsonBytes,
    caller: Annotated[Principal, needs(Scope.HOLDS_WRITE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Post it as one journal, whose reference the key becomes. Once only; what is left of it is let go."""
    booking = Booking(
        f"hold.capture:{hold_id}",
        Scope.HOLDS_WRITE,
        CaptureRequest,
        partial(_capture, caller.tenant, hold_id),
        status=200,
    )
    return once(caller, booking, idempotency_key, body)


def _capture(
    tenant: str, hold_id: UUID, session: Session, reference: str, asked: CaptureRequest
) -> tuple[HoldView, bool]:
    posted = holds.capture(
        session,
        tenant=tenant,
        hold_id=hold_id,
        reference=reference,
        units=asked.units,
        correlation_id=ingest.correlation_id(),
    )
    return _view(holds.hold(session, tenant, hold_id)), posted.created


@router.post("/{hold_id}/void", summary="Void a hold", responses={200: {"model": HoldView}})
def void_hold(hold_id: UUID, caller: Annotated[Principal, needs(Scope.HOLDS_WRITE)]) -> Response:
    """Let all of it go. Voiding twice is once, so no idempotency key is needed. Captured or past its deadline: 409."""

    def void() -> Hold:
        with db.transaction() as session:
            holds.void(session, tenant=caller.tenant, hold_id=hold_id)
            return holds.hold(session, caller.tenant, hold_id)

    return json_response(_view(again(void)))


# --- reading -----------------------------------------------------------------------------------------------------


@router.get("", summary="List holds, newest first", responses={200: {"model": HoldPage}})
def list_holds(  # noqa: PLR0917  # FastAPI names them at the call
    caller: Annotated[Principal, needs(Scope.HOLDS_READ)],
    account: Annotated[
        str | None,
        Query(pattern=rf"^[!-~]{{1,{chart.CODE_LENGTH_MAX}}}$", description="Whose money is held: the holds' source"),
    ] = None,
    state: HoldState | None = None,
    subject: Annotated[str | None, Query(pattern=r"^[!-~]{1,200}$")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Pages stay put while holds are placed: what is newer than the first page appears on no later one."""
    with db.transaction() as session:
        page = holds.holds(
            session, caller.tenant, account=account, state=state, subject=subject, cursor=cursor, limit=limit
        )
    return json_response(HoldPage.model_construct(holds=[_view(row) for row in page.rows], next_cursor=page.cursor))


@router.get("/{hold_id}", summary="Read a hold", responses={200: {"model": HoldView}})
def read_hold(hold_id: UUID, caller: Annotated[Principal, needs(Scope.HOLDS_READ)]) -> Response:
    with db.transaction() as session:
        found = holds.hold(session, caller.tenant, hold_id)
    return json_response(_view(found))


def _view(hold: Hold) -> HoldView:
    made: dict[str, Any] = {name: getattr(hold, name) for name in HoldView.model_fields}
    posted = None if hold.posted_units is None else str(hold.posted_units)
    return HoldView.model_construct(
        **made | {"units": str(hold.units), "posted_units": posted, "metadata": dict(hold.metadata)}
    )
