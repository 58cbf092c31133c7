"""Chains: how far each was read, what was passed over, and reading a range once more. The same for every tenant."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Header, Path
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from sqlalchemy.orm import Session

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.ingest import Kind
from api.problems import Problem
from api.responses import JSON, json_response
from config.assets import Chain, registry
from core import db
from core.errors import InvalidRequestError, NotFoundError
from domain.access.service import Principal, Scope
from domain.deposit import service as deposits
from domain.deposit.service import ChainRescan, ChainStatus

router = APIRouter(prefix="/v1/chains", tags=["chains"])

GAPS_MAX = 100
EXAMPLES: list[JsonValue] = [
    {"first_block": 21_000_000, "last_block": 21_000_999, "reason": "address registered after it was paid"}
]

ChainId = Annotated[str, Path(pattern=r"^[!-~]{1,100}$", description="CAIP-2 id, such as eip155:1")]
State = Literal["unread", "running", "failing lately", "failing", "stalled", "stopped"]


class RangeView(BaseModel):
    first_block: int
    last_block: int


class HeadView(BaseModel):
    """The newest block that a node has told of."""

    number: int
    time: datetime = Field(description="By the chain's clock")


class ChainView(BaseModel):
    """One chain that is watched here."""

    id: str
    name: str
    state: State = Field(
        description="`stalled`: the nodes answer, the chain does not move. `stopped`: waits for a person"
    )
    first_block: int | None = Field(description="The first that was scanned")
    next_block: int | None = Field(description="The first that is still to be scanned; null: there is nothing to scan")
    head: HeadView | None
    lag_blocks: int | None = Field(description="Blocks still to be scanned")
    gap_blocks: int = Field(description="Blocks between first and next that nobody has read")
    read_until: datetime | None = Field(description="The time of the last block scanned, by the chain's clock")
    last_read_at: datetime | None
    next_scan_at: datetime | None = Field(description="When it is scanned next, if nobody begins to wait before")
    failing_since: datetime | None


class ChainDetail(ChainView):
    gaps: list[RangeView] = Field(description=f"What makes up `gap_blocks`, at most {GAPS_MAX} ranges")


class ChainList(BaseModel):
    chains: list[ChainView]


class RescanRequest(BaseModel):
    """Blocks to be scanned once more, both ends included, all of them passed by the scan."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    first_block: int = Field(ge=0)
    last_block: int = Field(ge=0)
    # PostgreSQL can't keep U+0000 in a text.
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1_000, pattern=r"^[^\u0000]*$")]


class RescanView(BaseModel):
    """One range that is scanned once more, and how far that has come.

    A rescan belongs to no tenant, so every tenant may read it. Who asked for it, and in which words, is for operators:
    `tallyrail chains rescans`.
    """

    id: UUID
    chain: str
    first_block: int
    last_block: int
    next_block: int = Field(description="The first that is still to be read")
    status: Literal["running", "done"]
    found: int = Field(description="Transfers that no scan had found")
    created_at: datetime
    finished_at: datetime | None


# --- reading -----------------------------------------------------------------------------------------------------


READ = [needs(Scope.CHAINS_READ)]


@router.get("", summary="List the chains", responses={200: {"model": ChainList}}, dependencies=READ)
def list_chains() -> Response:
    """Every chain that has nodes here, or was read here."""
    known = _statuses()
    watched = [chain for chain in registry().chains.values() if chain.nodes or chain.id in known]
    return json_response(
        ChainList.model_construct(
            chains=[ChainView.model_construct(**_view(chain, known.get(chain.id))) for chain in watched]
        )
    )


@router.get("/{chain}", summary="Read a chain", responses={200: {"model": ChainDetail}}, dependencies=READ)
def read_chain(chain: ChainId) -> Response:
    known = _statuses().get(chain)
    described = registry().chains.get(chain)
    if described is None or (known is None and not described.nodes):
        raise NotFoundError(f"the chain {chain} is not watched here")
    gaps = known.gaps[:GAPS_MAX] if known is not None else ()
    ranges = [RangeView(first_block=gap.first, last_block=gap.last) for gap in gaps]
    return json_response(ChainDetail.model_construct(**_view(described, known), gaps=ranges))


def _statuses() -> dict[str, ChainStatus]:
    with db.transaction() as session:
        return {status.chain: status for status in deposits.statuses(session)}


def _view(chain: Chain, status: ChainStatus | None) -> dict[str, Any]:
    if status is None:
        nothing = dict.fromkeys(ChainView.model_fields)
        return nothing | {"id": chain.id, "name": chain.name, "state": "unread", "gap_blocks": 0}
    cursor = status.cursor
    head = None
    if cursor.head_number is not None and cursor.head_time is not None:
        head = HeadView(number=cursor.head_number, time=cursor.head_time)
    return {
        "id": chain.id,
        "name": chain.name,
        "state": status.state(),
        "first_block": cursor.first_block,
        "next_block": cursor.next_block,
        "head": head,
        "lag_blocks": status.lag_blocks,
        "gap_blocks": status.gap_blocks,
        "read_until": cursor.read_until,
        "last_read_at": cursor.last_read_at,
        "next_scan_at": cursor.next_scan_at,
        "failing_since": cursor.failing_since,
    }


# --- rescans -----------------------------------------------------------------------------------------------------


def _kind(chain: str, actor: str) -> Kind:
    # The key is bound to the chain as well: it stands in the address, not in the body.
    return Kind(
        f"rescan:{chain}",
        Scope.CHAINS_WRITE,
        RescanRequest,
        prepare=lambda _tenant, asked: asked,
        create=partial(_create, chain, actor),
    )


def _create(
    chain: str, actor: str, session: Session, asked: Sequence[RescanRequest]
) -> list[dict[str, Any] | InvalidRequestError]:
    made: list[dict[str, Any] | InvalidRequestError] = []
    for each in asked:
        try:
            rescan = deposits.request_rescan(
                session, chain, first=each.first_block, last=each.last_block, actor=actor, reason=each.reason
            )
        except InvalidRequestError as error:
            made.append(error)
        else:
            made.append(_rescan_view(rescan).model_dump(mode="json"))
    return made


@router.post(
    "/{chain}/rescans",
    status_code=202,
    summary="Scan a range once more",
    responses={202: {"model": RescanView, "description": "Durably accepted"}},
    openapi_extra=openapi.body_of(RescanRequest),
)
def create_rescan(
    chain: ChainId,
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.CHAINS_WRITE)],
    idempotency_key: Annotated[
        str | None,
        Header(alias="Idempotency-Key", description="Names this request for ever: again gets the first answer"),
    ] = None,
) -> Response:
    """Finds what a scan missed, for whichever tenant it is, and closes gaps. What was found before stays as it is."""
    if idempotency_key is None:
        raise Problem("idempotency-key-missing", "give a header Idempotency-Key, a new one for each new request")
    kind = _kind(chain, f"{caller.tenant}, key {caller.key_id}")
    [outcome] = ingest.carry_out(caller, [ingest.checked(caller, kind, idempotency_key, parsed_object(body))])
    if isinstance(outcome, Problem):
        raise outcome
    headers = {"Location": f"/v1/chains/{chain}/rescans/{outcome.answer.body['id']}"}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(ingest.as_json(outcome.answer.body), outcome.answer.status, headers, media_type=JSON)


@router.get(
    "/{chain}/rescans/{rescan_id}", summary="Read a rescan", responses={200: {"model": RescanView}}, dependencies=READ
)
def read_rescan(chain: ChainId, rescan_id: UUID) -> Response:
    with db.transaction() as session:
        found = deposits.get_rescan(session, rescan_id)
    if found is None or found.chain != chain:
        raise NotFoundError(f"there is no rescan {rescan_id} of {chain}")
    return json_response(_rescan_view(found))


def _rescan_view(rescan: ChainRescan) -> RescanView:
    return RescanView.model_construct(**{name: getattr(rescan, name) for name in RescanView.model_fields})


# --- for metrics -------------------------------------------------------------------------------------------------


def statuses() -> Sequence[ChainStatus]:
    with db.transaction() as session:
        return deposits.statuses(session)
