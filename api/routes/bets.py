"""Bets and players, read from the books; and money into a player's hands and back. Bets are made by api.hot.bets."""

from datetime import datetime
from functools import partial
from typing import Annotated
from uuid import NAMESPACE_URL, UUID, uuid5

import anyio.from_thread
import structlog
from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.orm import Session

from api import openapi
from api.auth import needs
from api.body import JsonBytes
from api.booking import Booking, IdempotencyKey, Units, once
from api.hot.bets import Asset
from api.hot.engine import Engine
from api.paging import Cursor, Limit, opened, seal
from api.responses import json_response
from core import db
from core.errors import NotFoundError, OutcomeUnknownError, TransientError
from domain.access.service import Principal, Scope
from domain.bet import moving
from domain.bet import service as bets
from domain.bet.models import HotLoad, HotUnload
from domain.bet.moving import Move
from domain.bet.players import Player, player
from domain.bet.service import PAGE_MAX, BetFacts
from domain.bet.states import BetState, LoadState, UnloadState

log = structlog.stdlib.get_logger(__name__)
router = APIRouter(prefix="/v1", tags=["bets"])
players = APIRouter(prefix="/v1/players", tags=["players"])

User = Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
InAsset = Annotated[str, Query(pattern=r"^[A-Za-z0-9:/.%_-]{1,200}$", examples=["iso4217:EUR"])]


class BetView(BaseModel):
    """A bet as far as the books have come: what was decided within the last second may be missing."""

    id: UUID
    user: str
    asset: str
    state: BetState
    stake: str
    payout: str | None = Field(description="What the player got; null unless it is settled")
    game: str
    edge_bps: int
    agent: str | None
    reserved_at: datetime
    ended_at: datetime | None
    settled_number: int | None = Field(description="Its place among all settled bets")


class BetPage(BaseModel):
    bets: list[BetView]
    next_cursor: str | None


class SettledPage(BaseModel):
    bets: list[BetView] = Field(description="By `settled_number`")
    next_after: int = Field(description="`after` of the next page, also when this one is empty")


class OpenBet(BaseModel):
    id: UUID
    stake: str


class InHand(BaseModel):
    """What the player has now, with all that was decided."""

    free: str
    locked: str
    bets: list[OpenBet] = Field(description="Those not settled and not voided")


class PlayerView(BaseModel):
    user: str
    asset: str
    free: str = Field(description="What he can stake, as far as the books have come")
    locked: str = Field(description="What he has staked, as far as the books have come")
    last_active_at: datetime
    now: InHand | None = Field(description="As the hot store has it; null while he isn't there or it is away")


class MoveRequest(BaseModel):
    """Units that a player is to have in his hands."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{"asset": "iso4217:EUR", "units": "10000"}]}
    )

    asset: Asset
    units: Units


class UnloadRequest(BaseModel):
    """Units that a player is to give back."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": [{"asset": "iso4217:EUR"}]})

    asset: Asset
    units: Units | None = Field(default=None, description="null: all that is free")


class LoadView(BaseModel):
    id: UUID
    user: str
    asset: str
    units: str
    state: LoadState
    created_at: datetime
    settled_at: datetime | None


class UnloadView(BaseModel):
    id: UUID
    user: str
    asset: str
    units: str | None = Field(description="What was asked for; null: all that is free")
    moved: str | None = Field(description="What came back")
    state: UnloadState
    why: str | None = Field(description="Of a refusal")
    created_at: datetime
    settled_at: datetime | None


# --- bets --------------------------------------------------------------------------------------------------------


@router.get("/bets", summary="List settled bets in their order", responses={200: {"model": SettledPage}})
def list_settled(
    caller: Annotated[Principal, needs(Scope.BETS_READ)],
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="The last `settled_number` that is known")] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 500,
) -> Response:
    """For whoever works on each settled bet once, such as commissions. Who has worked up to a number missed none."""
    with db.transaction() as session:
        rows = bets.settled_since(session, after, tenant=caller.tenant, limit=limit)
    views = [_bet(row) for row in rows]
    last = max((view.settled_number or after for view in views), default=after)
    return json_response(SettledPage.model_construct(bets=views, next_after=last))


@router.get("/bets/{bet_id}", summary="Read a bet", responses={200: {"model": BetView}})
def read_bet(
    bet_id: UUID,
    caller: Annotated[Principal, needs(Scope.BETS_READ)],
    user: Annotated[str | None, Query(description="Whose it is, if several players used the same id")] = None,
    asset: str | None = None,
) -> Response:
    with db.transaction() as session:
        return json_response(_bet(bets.bet(session, caller.tenant, bet_id, user=user, asset=asset)))


@players.get("/{user}/bets", summary="List a player's bets, newest first", responses={200: {"model": BetPage}})
def list_bets(  # noqa: PLR0917  # FastAPI names them at the call
    user: User,
    caller: Annotated[Principal, needs(Scope.BETS_READ)],
    asset: InAsset,
    state: BetState | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Response:
    before = opened("bets", cursor)
    who = player(caller.tenant, user, asset)
    with db.transaction() as session:
        rows = bets.bets_of(session, who, state=state, before=before, limit=limit + 1)
    more = seal("bets", rows[limit - 1].id) if len(rows) > limit else None
    return json_response(BetPage.model_construct(bets=[_bet(row) for row in rows[:limit]], next_cursor=more))


def _bet(row: BetFacts) -> BetView:
    return BetView.model_construct(
        id=row.id,
        user=row.player.user,
        asset=row.player.asset,
        state=row.state,
        stake=str(row.stake),
        payout=None if row.payout is None else str(row.payout),
        game=row.facts.game,
        edge_bps=row.facts.edge_bps,
        agent=row.facts.agent,
        reserved_at=row.reserved_at,
        ended_at=row.ended_at,
        settled_number=row.settled_number,
    )


# --- players -----------------------------------------------------------------------------------------------------


@players.get("/{user}", summary="Read a player", responses={200: {"model": PlayerView}})
def read_player(
    user: User, request: Request, caller: Annotated[Principal, needs(Scope.BETS_READ)], asset: InAsset
) -> Response:
    who = player(caller.tenant, user, asset)
    with db.transaction() as session:
        known = bets.player_facts(session, who)
    return json_response(
        PlayerView.model_construct(
            user=who.user,
            asset=who.asset,
            free=str(known.free),
            locked=str(known.locked),
            last_active_at=known.last_active_at,
            now=_in_hand(request.app.state.engine, who),
        )
    )


def _in_hand(engine: Engine, who: Player) -> InHand | None:
    try:
        found = anyio.from_thread.run(engine.bets.look, who)
    except (TransientError, OutcomeUnknownError):
        return None
    if found is None:
        return None
    staked = [OpenBet.model_construct(id=bet, stake=str(stake)) for bet, stake in sorted(found.bets.items())]
    return InHand.model_construct(free=str(found.free), locked=str(found.locked), bets=staked)


@players.post(
    "/{user}/loads",
    status_code=202,
    summary="Put money into a player's hands",
    responses={202: {"model": LoadView, "description": "Held for him, and in his hands as soon as may be"}},
    openapi_extra=openapi.body_of(MoveRequest),
)
def load_player(
    user: User,
    request: Request,
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.BETS_WRITE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """From his available balance, where it is held at once. If the hot store is away, a job goes on trying."""
    moves: list[Move] = []
    booking = Booking(
        f"player.load:{user}", Scope.BETS_WRITE, MoveRequest, partial(_load, (caller.tenant, user), moves),
        status=202, location=f"/v1/players/{user}/loads",
    )  # fmt: skip
    answer = once(caller, booking, idempotency_key, body)
    _carry_out(request.app.state.engine, moves)
    return answer


def _load(
    whose: tuple[str, str], moves: list[Move], session: Session, reference: str, asked: MoveRequest
) -> tuple[LoadView, bool]:
    who = player(*whose, asked.asset)
    move = moving.begin_load(session, _move_id(who.tenant, reference), who, asked.units)
    moves[:] = [move]
    session.flush()
    return _load_view(who, moving.load(session, who.tenant, move.id)), True


@players.post(
    "/{user}/unloads",
    status_code=202,
    summary="Take money out of a player's hands",
    responses={202: {"model": UnloadView, "description": "Asked for; what came of it is read at its address"}},
    openapi_extra=openapi.body_of(UnloadRequest),
)
def unload_player(
    user: User,
    request: Request,
    body: JsonBytes,
    caller: Annotated[Principal, needs(Scope.BETS_WRITE)],
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Back to his available balance: so much, or all that is not staked. Too little there: refused, nothing moves."""
    moves: list[Move] = []
    booking = Booking(
        f"player.unload:{user}", Scope.BETS_WRITE, UnloadRequest, partial(_unload, (caller.tenant, user), moves),
        status=202, location=f"/v1/players/{user}/unloads",
    )  # fmt: skip
    answer = once(caller, booking, idempotency_key, body)
    _carry_out(request.app.state.engine, moves)
    return answer


def _unload(
    whose: tuple[str, str], moves: list[Move], session: Session, reference: str, asked: UnloadRequest
) -> tuple[UnloadView, bool]:
    who = player(*whose, asked.asset)
    move = moving.begin_unload(session, _move_id(who.tenant, reference), who, asked.units)
    moves[:] = [move]
    session.flush()
    return _unload_view(who, moving.unload(session, who.tenant, move.id)), True


def _move_id(tenant: str, reference: str) -> UUID:
    """The same for the same key, for ever: should its row be gone, a second load is still the first."""
    return uuid5(NAMESPACE_URL, f"tallyrail:{tenant}:{reference}")


def _carry_out(engine: Engine, moves: list[Move]) -> None:
    """What was begun is committed. Whatever comes of this, a job sees to its end."""
    for move in moves:
        try:
            anyio.from_thread.run(engine.bets.move, move)
        except (TransientError, OutcomeUnknownError) as error:
            log.warning("move.undecided", move_id=str(move.id), error=str(error))


@players.get("/{user}/loads/{load_id}", summary="Read a load", responses={200: {"model": LoadView}})
def read_load(user: User, load_id: UUID, caller: Annotated[Principal, needs(Scope.BETS_READ)]) -> Response:
    with db.transaction() as session:
        row = moving.load(session, caller.tenant, load_id)
        return json_response(_load_view(_whose(session, row, user, "load"), row))


@players.get("/{user}/unloads/{unload_id}", summary="Read an unload", responses={200: {"model": UnloadView}})
def read_unload(user: User, unload_id: UUID, caller: Annotated[Principal, needs(Scope.BETS_READ)]) -> Response:
    with db.transaction() as session:
        row = moving.unload(session, caller.tenant, unload_id)
        return json_response(_unload_view(_whose(session, row, user, "unload"), row))


def _whose(session: Session, row: HotLoad | HotUnload, user: str, what: str) -> Player:
    who = bets.player_by_id(session, row.player)
    if who.user != user:
        raise NotFoundError(f"{user} has no {what} {row.id}")
    return who


def _load_view(who: Player, row: HotLoad) -> LoadView:
    return LoadView.model_construct(
        id=row.id,
        user=who.user,
        asset=who.asset,
        units=str(row.units),
        state=LoadState(row.state),
        created_at=row.created_at,
        settled_at=row.settled_at,
    )


def _unload_view(who: Player, row: HotUnload) -> UnloadView:
    return UnloadView.model_construct(
        id=row.id,
        user=who.user,
        asset=who.asset,
        units=None if row.units is None else str(row.units),
        moved=None if row.moved is None else str(row.moved),
        state=UnloadState(row.state),
        why=row.why,
        created_at=row.created_at,
        settled_at=row.settled_at,
    )
