"""Red packets: made, read and taken back. Claims on them are answered by api.hot.claims."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from sqlalchemy.orm import Session

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes
from api.booking import Booking, IdempotencyKey, Moment, Units, once
from api.hot.claims import Name
from api.paging import Cursor, Limit, opened, seal
from api.responses import json_response
from api.routes.deposits import Metadata, Word
from core import db
from core.errors import NotFoundError
from domain.access.service import Principal, Scope
from domain.claim import service as packets
from domain.claim.service import NewPacket, Packet, PacketClaim, PacketState, Reason, Shares

router = APIRouter(prefix="/v1/packets", tags=["packets"])

EXAMPLES: list[JsonValue] = [
    {
        "sender": "user:42:available",
        "asset": "iso4217:EUR",
        "units": "10000",
        "count": 10,
        "shares": "random",
        "expires_at": "2030-01-31T12:00:00Z",
        "group": "chat-7",
    },
]


class PacketRequest(BaseModel):
    """Money that others may claim, each one share, until all are gone or its time is up."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    sender: Word = Field(description="The account that pays, and gets back what is left: user:42:available")
    asset: Word = Field(description="CAIP-19 id, or iso4217:EUR")
    units: Units
    count: int = Field(ge=1, le=packets.COUNT_MAX, description="Shares that it is split into")
    shares: Annotated[Shares, Field(strict=False)] = Field(
        description="equal, or random: every split with the minimum in each share is as likely as any other"
    )
    units_min: Units | None = Field(default=None, description="The least that a share is to have; default: 1")
    expires_at: Moment = Field(description=f"At most {packets.LIFE_MAX.days} days from now")
    group: Name | None = Field(default=None, description="Only who claims in this group may have a share")
    allowed: list[Name] | None = Field(
        default=None, min_length=1, max_length=packets.ALLOWED_MAX, description="Only these users; null: everybody"
    )
    metadata: Metadata = Field(default_factory=dict, description="Yours; given back with the packet")


class PacketView(BaseModel):
    """A packet, as far as the books have come: what was decided within the last second may be missing."""

    id: UUID
    state: PacketState = Field(description="funded: about to open; open; closed")
    reason: Reason | None = Field(description="Why it is closed")
    sender: str
    asset: str
    units: str
    count: int
    shares: Shares
    units_min: str
    group: str | None
    has_allow_list: bool
    expires_at: datetime
    claims: int = Field(description="Shares that were won")
    units_claimed: str
    units_refunded: str | None = Field(description="What goes back to the sender; null while it is not closed")
    seed_hash: str = Field(description="SHA-256 of the seed from which the shares were drawn")
    seed: str | None = Field(description="Told once it is closed: with it anybody can draw the shares again")
    metadata: dict[str, Any]
    correlation_id: str | None
    created_at: datetime
    opened_at: datetime | None
    closed_at: datetime | None


class PacketPage(BaseModel):
    packets: list[PacketView]
    next_cursor: str | None


class ClaimRecord(BaseModel):
    user: str
    place: int
    units: str
    claimed_at: datetime


class Ranking(BaseModel):
    ranking: list[ClaimRecord] = Field(description="The largest share first; of equal ones the earlier")


class ClaimPage(BaseModel):
    claims: list[ClaimRecord] = Field(description="In the order in which they were won")
    next_after: int | None = Field(description="`after` of the next page")


# --- making and taking back --------------------------------------------------------------------------------------


@router.post(
    "",
    status_code=201,
    summary="Make a red packet",
    responses={201: {"model": PacketView, "description": "It can be claimed; or it was made by the same request"}},
    openapi_extra=openapi.body_of(PacketRequest),
)
def create_packet(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.PACKETS_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """Its money leaves the sender's account before anybody can claim. The same key again: the first answer."""
    booking = Booking(
        "packet", Scope.PACKETS_WRITE, PacketRequest, partial(_create, caller.tenant), location="/v1/packets",
        fields={"account": "sender", "source": "sender"},
    )  # fmt: skip
    return once(caller, booking, idempotency_key, body)


def _create(tenant: str, session: Session, _reference: str, asked: PacketRequest) -> tuple[PacketView, bool]:
    """Held and opened in one transaction: once it is answered, it can be claimed."""
    new = NewPacket(
        tenant=tenant,
        sender=asked.sender,
        asset=asked.asset,
        units=asked.units,
        count=asked.count,
        kind=asked.shares,
        units_min=asked.units_min or 1,
        expires_at=asked.expires_at,
        group=asked.group,
        allowed=None if asked.allowed is None else tuple(asked.allowed),
        metadata=asked.metadata,
        correlation_id=ingest.correlation_id(),
    )
    made = packets.create(session, new)
    return _view(packets.open_packet(session, made.id)), True


@router.post(
    "/{packet_id}/cancel", status_code=202, summary="Take a packet back", responses={202: {"model": PacketView}}
)
def cancel_packet(packet_id: UUID, caller: Annotated[Principal, needs(Scope.PACKETS_WRITE)]) -> Response:
    """No further claim wins. What was won stays won; the rest is with the sender once the books have caught up.

    Cancelling twice is once, so no idempotency key is needed. One that is over otherwise: 409.
    """
    packets.cancel(caller.tenant, packet_id)
    with db.transaction() as session:
        return json_response(_view(_read(session, caller.tenant, packet_id)), status=202)


# --- reading -----------------------------------------------------------------------------------------------------


@router.get("", summary="List packets, newest first", responses={200: {"model": PacketPage}})
def list_packets(
    caller: Annotated[Principal, needs(Scope.PACKETS_READ)],
    state: PacketState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Pages stay put while packets are made: what is newer than the first page appears on no later one."""
    before = opened("packets", cursor)
    with db.transaction() as session:
        rows = packets.page(session, tenant=caller.tenant, state=state, before=before, limit=limit + 1)
        views = [_view(row) for row in rows[:limit]]
    more = seal("packets", rows[limit - 1].id) if len(rows) > limit else None
    return json_response(PacketPage.model_construct(packets=views, next_cursor=more))


@router.get("/{packet_id}", summary="Read a packet", responses={200: {"model": PacketView}})
def read_packet(packet_id: UUID, caller: Annotated[Principal, needs(Scope.PACKETS_READ)]) -> Response:
    with db.transaction() as session:
        return json_response(_view(_read(session, caller.tenant, packet_id)))


@router.get("/{packet_id}/ranking", summary="The luckiest of a packet", responses={200: {"model": Ranking}})
def read_ranking(
    packet_id: UUID, caller: Annotated[Principal, needs(Scope.PACKETS_READ)], limit: Limit = 100
) -> Response:
    with db.transaction() as session:
        _read(session, caller.tenant, packet_id)
        rows = packets.ranking(session, packet_id, limit)
        return json_response(Ranking.model_construct(ranking=[_claim(row) for row in rows]))


@router.get("/{packet_id}/claims", summary="List the claims that won", responses={200: {"model": ClaimPage}})
def list_claims(
    packet_id: UUID,
    caller: Annotated[Principal, needs(Scope.PACKETS_READ)],
    after: Annotated[int, Query(ge=0, le=packets.COUNT_MAX, description="The last place of the page before")] = 0,
    limit: Limit = 100,
) -> Response:
    with db.transaction() as session:
        _read(session, caller.tenant, packet_id)
        rows = packets.claims(session, packet_id, after=after, limit=limit + 1)
        views = [_claim(row) for row in rows[:limit]]
    more = views[-1].place if len(rows) > limit else None
    return json_response(ClaimPage.model_construct(claims=views, next_after=more))


def _read(session: Session, tenant: str, packet_id: UUID) -> Packet:
    found = packets.get(session, packet_id, tenant=tenant)
    if found is None:
        raise NotFoundError(f"there is no packet {packet_id}")
    return found


def _claim(row: PacketClaim) -> ClaimRecord:
    return ClaimRecord.model_construct(
        user=row.claimant, place=row.place, units=str(row.units), claimed_at=row.claimed_at
    )


def _view(packet: Packet) -> PacketView:
    return PacketView.model_construct(
        id=packet.id,
        state=packet.current,
        reason=packet.ended,
        sender=packet.sender,
        asset=packet.asset,
        units=str(packet.units),
        count=packet.count,
        shares=Shares(packet.kind),
        units_min=str(packet.units_min),
        group=packet.group_name,
        has_allow_list=packet.allow_list,
        expires_at=packet.expires_at,
        claims=packet.claims,
        units_claimed=str(packet.units_claimed),
        units_refunded=None if packet.units_refunded is None else str(packet.units_refunded),
        seed_hash=packet.seed_hash,
        seed=packet.revealed_seed,
        metadata=dict(packet.details),
        correlation_id=packet.correlation_id,
        created_at=packet.created_at,
        opened_at=packet.opened_at,
        closed_at=packet.closed_at,
    )
