"""Provably fair draws: seeds promised by their hash, drawn from, revealed; and a check that needs nobody's key."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from sqlalchemy.orm import Session

from api import ingest, openapi, problems
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.booking import IdempotencyKey
from api.ingest import Kind
from api.paging import Cursor, Limit, opened, seal
from api.problems import Problem
from api.responses import JSON, json_response
from api.routes.deposits import Word
from core import db
from core.errors import InvalidRequestError
from domain.access.service import Principal, Scope
from domain.fairness import service as fairness
from domain.fairness import verification
from domain.fairness.models import DRAWS_MAX, FairnessDraw, FairnessSeed
from domain.fairness.outcomes import Game
from domain.fairness.service import Rotation
from domain.fairness.states import SeedState

router = APIRouter(prefix="/v1/fairness", tags=["fairness"])

VERIFY_BYTES_MAX = 4_096
"""Nobody has to say who he is to have something verified: so it costs next to nothing."""
VERIFIED: dict[str, JsonValue] = {
    "server_seed": "18e93f4a7b5b58d2569765766d1b6c3296bbd8430d6f20249044d72f14720159",
    "client_seed": "bb62964774",
    "nonce": 1,
    "game": "mines",
    "params": {"mines": 3},
}
GameWord = Annotated[Game, Field(strict=False)]
Params = Annotated[
    dict[str, int],
    Field(
        max_length=10, description="crash: edge_bps (300); mines: mines (1 to 24); plinko: rows (8 to 16); dice: none"
    ),
]
OUTCOME = "crash: point, in hundredths; dice: roll, in hundredths; mines: the tiles, 0 to 24; plinko: path and slot"


class CommitRequest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"owner": "42"}]})

    owner: Word = Field(description="The player: 1 to 64 of A-Z a-z 0-9 . _ -")


class RotateRequest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"client_seed": "my-luck"}]})

    client_seed: Word | None = Field(
        default=None, description="The player's, best chosen after he saw `next.seed_hash`; null: the last one"
    )
    seed_hash: Word | None = Field(default=None, description="What he saw; if another seed comes next, it is refused")


class DrawRequest(BaseModel):
    """Take nonces of the owner's active seed."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"owner": "42", "game": "plinko", "params": {"rows": 16}, "count": 1}]},
    )

    owner: Word
    game: GameWord
    params: Params = Field(default_factory=dict)
    count: int = Field(default=1, ge=1, le=DRAWS_MAX)


class VerifyRequest(BaseModel):
    """Everything that a draw is made of."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [VERIFIED]})

    server_seed: str = Field(description="As it was revealed: 64 hexadecimal digits")
    client_seed: str
    nonce: int = Field(ge=0, le=verification.NONCE_MAX)
    game: GameWord
    params: Params = Field(default_factory=dict)
    seed_hash: str | None = Field(default=None, description="As it was shown before the draw")
    outcome: dict[str, JsonValue] | None = Field(default=None, description="As it was told after the draw")


class SeedView(BaseModel):
    id: UUID
    owner: str
    state: SeedState
    seed_hash: str = Field(description="SHA-256 of the server seed's text")
    client_seed: str | None = Field(description="null until it is active")
    nonces: int = Field(description="How many were taken: 0 up to and without it")
    server_seed: str | None = Field(description="null until it is revealed")
    created_at: datetime
    activated_at: datetime | None
    revealed_at: datetime | None


class SeedsView(BaseModel):
    """What an owner has now."""

    active: SeedView | None
    next: SeedView


class RotationView(SeedsView):
    revealed: SeedView | None = Field(description="The seed before, with its text; null at the first")


class SeedPage(BaseModel):
    seeds: list[SeedView]
    next_cursor: str | None


class DrawView(BaseModel):
    """Nonces that were taken together. Of each of them the outcome follows from the two seeds."""

    id: UUID
    seed_id: UUID
    game: Game
    params: dict[str, int]
    first_nonce: int
    count: int
    created_at: datetime


class DrawDetail(DrawView):
    seed_hash: str
    client_seed: str
    outcomes: list[dict[str, Any]] = Field(description=f"In the order of the nonces. {OUTCOME}")


class DrawPage(BaseModel):
    draws: list[DrawView]
    next_cursor: str | None


class VerdictView(BaseModel):
    outcome: dict[str, Any] = Field(description=OUTCOME)
    seed_hash: str = Field(description="SHA-256 of the given server seed")
    hash_fits: bool | None = Field(description="null: no hash was given")
    outcome_fits: bool | None = Field(description="null: no outcome was given")


# --- seeds -------------------------------------------------------------------------------------------------------


@router.post(
    "/seeds",
    summary="Commit to a seed",
    responses={200: {"model": SeedsView}},
    openapi_extra=openapi.body_of(CommitRequest),
)
def commit_to_seed(body: JsonBytes, caller: Annotated[Principal, needs(Scope.FAIRNESS_WRITE)]) -> Response:
    """Show `next.seed_hash` to the player before he chooses a client seed. Asked again, the answer is the same."""
    asked = _validated(CommitRequest, parsed_object(body))
    with db.transaction() as session:
        seeds = fairness.commit(session, caller.tenant, asked.owner)
    return json_response(SeedsView(active=_seed(seeds.active), next=_seed(seeds.committed)))


@router.post(
    "/seeds/{owner}/rotate",
    summary="Reveal the active seed and begin the next",
    responses={200: {"model": RotationView, "description": "Rotated; or rotated before, by the same request"}},
    openapi_extra=openapi.body_of(RotateRequest),
)
def rotate_seed(
    owner: str,
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.FAIRNESS_WRITE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """The first rotation begins with the seed that was committed to and reveals none."""
    kind = Kind(
        f"fairness.rotate:{owner}",
        Scope.FAIRNESS_WRITE,
        RotateRequest,
        prepare=lambda _tenant, asked: asked,
        create=partial(_rotate, caller.tenant, owner),
        status=200,
    )
    return _carried_out(caller, kind, idempotency_key, body, complete=partial(_with_server_seed, caller.tenant))


def _rotate(
    tenant: str, owner: str, session: Session, asked: Sequence[RotateRequest]
) -> list[dict[str, Any] | InvalidRequestError]:
    [request] = asked
    try:
        made = fairness.rotate(session, tenant, owner, client_seed=request.client_seed, seed_hash=request.seed_hash)
    except InvalidRequestError as error:
        return [_at_a_field(error, RotateRequest)]
    return [_rotation(made).model_dump(mode="json")]


def _rotation(made: Rotation) -> RotationView:
    # Without the text of the revealed seed: until this is committed it is not revealed, and an error on the way there
    # may tell what was to be written.
    return RotationView(
        revealed=_seed(made.revealed, reveal=False), active=_seed(made.active), next=_seed(made.committed)
    )


def _with_server_seed(tenant: str, answer: Mapping[str, Any]) -> dict[str, Any]:
    if answer["revealed"] is None:
        return dict(answer)
    with db.transaction() as session:
        seed = fairness.seed(session, tenant, UUID(answer["revealed"]["id"]))
    return {**answer, "revealed": answer["revealed"] | {"server_seed": fairness.revealed_seed(seed)}}


@router.get("/seeds", summary="List seeds, newest first", responses={200: {"model": SeedPage}})
def list_seeds(
    caller: Annotated[Principal, needs(Scope.FAIRNESS_READ)],
    owner: Annotated[str | None, Query(pattern=r"^[!-~]{1,64}$")] = None,
    state: SeedState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    """Those that are revealed with their texts."""
    with db.transaction() as session:
        found = fairness.seeds(
            session,
            tenant=caller.tenant,
            owner=owner,
            state=state,
            before=opened("fairness.seeds", cursor),
            limit=limit + 1,
        )
    more = seal("fairness.seeds", found[limit - 1].id) if len(found) > limit else None
    return json_response(SeedPage(seeds=[_seed(row) for row in found[:limit]], next_cursor=more))


@router.get("/seeds/{owner}", summary="Read what an owner has now", responses={200: {"model": SeedsView}})
def read_seeds(owner: str, caller: Annotated[Principal, needs(Scope.FAIRNESS_READ)]) -> Response:
    with db.transaction() as session:
        seeds = fairness.seeds_of(session, caller.tenant, owner)
    return json_response(SeedsView(active=_seed(seeds.active), next=_seed(seeds.committed)))


# --- draws -------------------------------------------------------------------------------------------------------


@router.post(
    "/draws",
    status_code=201,
    summary="Draw",
    responses={201: {"model": DrawDetail, "description": "Drawn; or drawn before, by the same request"}},
    openapi_extra=openapi.body_of(DrawRequest),
)
def create_draw(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.FAIRNESS_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """Each nonce is taken once, in order and without gaps, whoever asks at the same moment."""
    kind = Kind(
        "fairness.draw",
        Scope.FAIRNESS_WRITE,
        DrawRequest,
        prepare=lambda _tenant, asked: asked,
        create=partial(_draw, caller.tenant),
        status=201,
    )
    return _carried_out(
        caller,
        kind,
        idempotency_key,
        body,
        complete=lambda answer: _detail(caller.tenant, UUID(answer["id"])).model_dump(mode="json"),
        location="/v1/fairness/draws",
    )


def _draw(tenant: str, session: Session, asked: Sequence[DrawRequest]) -> list[dict[str, Any] | InvalidRequestError]:
    [request] = asked
    try:
        made = fairness.draw(session, tenant, request.owner, request.game, request.params, count=request.count)
    except InvalidRequestError as error:
        return [_at_a_field(error, DrawRequest)]
    return [_draw_view(made).model_dump(mode="json")]


@router.get("/draws", summary="List the draws of a seed, highest nonces first", responses={200: {"model": DrawPage}})
def list_draws(
    caller: Annotated[Principal, needs(Scope.FAIRNESS_READ)], seed_id: UUID, cursor: Cursor = None, limit: Limit = 50
) -> Response:
    with db.transaction() as session:
        found = fairness.draws(
            session, caller.tenant, seed_id, before=opened("fairness.draws", cursor), limit=limit + 1
        )
    more = seal("fairness.draws", found[limit - 1].id) if len(found) > limit else None
    return json_response(DrawPage(draws=[_draw_view(row) for row in found[:limit]], next_cursor=more))


@router.get("/draws/{draw_id}", summary="Read a draw", responses={200: {"model": DrawDetail}})
def read_draw(draw_id: UUID, caller: Annotated[Principal, needs(Scope.FAIRNESS_READ)]) -> Response:
    return json_response(_detail(caller.tenant, draw_id))


# --- verifying ---------------------------------------------------------------------------------------------------


@router.post(
    "/verify",
    summary="Verify a draw, without an API key",
    responses={200: {"model": VerdictView}},
    openapi_extra=openapi.body_of(VerifyRequest),
)
def verify_draw(body: JsonBytes) -> Response:
    """Pure computation: nothing is looked up, so anybody may ask, and anybody can compute the same for himself."""
    if len(body) > VERIFY_BYTES_MAX:
        raise Problem("body-too-large", f"a body has at most {VERIFY_BYTES_MAX} bytes here")
    asked = _validated(VerifyRequest, parsed_object(body))
    verdict = verification.verify(
        server_seed=asked.server_seed,
        client_seed=asked.client_seed,
        nonce=asked.nonce,
        game=asked.game,
        params=asked.params,
        seed_hash=asked.seed_hash,
        outcome=asked.outcome,
    )
    return json_response(
        VerdictView(
            outcome=verdict.outcome,
            seed_hash=verdict.seed_hash,
            hash_fits=verdict.hash_fits,
            outcome_fits=verdict.outcome_fits,
        )
    )


# --- both --------------------------------------------------------------------------------------------------------


def _validated(schema: type[Any], body: object) -> Any:
    try:
        return schema.model_validate(body)
    except ValidationError as error:
        raise problems.of_validation(error) from None


def _at_a_field(error: InvalidRequestError, schema: type[BaseModel]) -> InvalidRequestError:
    """Pointing into the body only at what the body has."""
    error.field = error.field if error.field in schema.model_fields else None
    return error


def _carried_out(
    caller: Principal,
    kind: Kind,
    key: str | None,
    body: bytes,
    *,
    complete: Callable[[dict[str, Any]], dict[str, Any]],
    location: str | None = None,
) -> Response:
    """Carry it out once for ever. What is kept of the answer has no secret and no outcome: `complete` adds them."""
    if key is None:
        raise Problem("idempotency-key-missing", "give a header Idempotency-Key, a new one for each new request")
    [outcome] = ingest.carry_out(caller, [ingest.checked(caller, kind, key, parsed_object(body))])
    if isinstance(outcome, Problem):
        raise outcome
    headers = {} if location is None else {"Location": f"{location}/{outcome.answer.body['id']}"}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(ingest.as_json(complete(outcome.answer.body)), outcome.answer.status, headers, media_type=JSON)


def _seed(seed: FairnessSeed | None, *, reveal: bool = True) -> Any:
    if seed is None:
        return None
    return SeedView(
        id=seed.id,
        owner=seed.owner,
        state=seed.current,
        seed_hash=seed.seed_hash,
        client_seed=seed.client_seed,
        nonces=seed.next_nonce,
        server_seed=fairness.revealed_seed(seed) if reveal else None,
        created_at=seed.created_at,
        activated_at=seed.activated_at,
        revealed_at=seed.revealed_at,
    )


def _draw_view(draw: FairnessDraw) -> DrawView:
    return DrawView.model_validate(draw, from_attributes=True)


def _detail(tenant: str, draw_id: UUID) -> DrawDetail:
    with db.transaction() as session:
        draw, seed = fairness.draw_and_seed(session, tenant, draw_id)
    return DrawDetail(
        **dict(_draw_view(draw)),
        seed_hash=seed.seed_hash,
        client_seed=seed.client_seed or "",
        outcomes=fairness.outcomes_of(draw, seed),
    )
