"""Bets: reserved, settled and voided, one by one and many at once.

A bet's id is its idempotency key: a UUIDv7 that the caller makes. Who asks again gets the first answer.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from api import problems
from api.hot.bet_desk import Told
from api.hot.body import checked
from api.hot.claims import BATCH_MAX, Name
from api.hot.front import MIXED, OK, Answering, Call, Endpoint
from api.problems import Problem, ProblemDocument
from core.errors import InvalidRequestError, NotFoundError
from domain.access.service import Scope
from domain.bet.decisions import EDGE_MAX, Answer, End, Facts, Reserve, Verdict
from domain.bet.players import checked_id, player

BET: dict[str, JsonValue] = {
    "id": "019aa3c0-0000-7000-8000-000000000001",
    "user": "42",
    "asset": "iso4217:EUR",
    "stake": "100",
    "game": "crash",
    "edge_bps": 300,
    "agent": "agent-7",
}
SETTLE: dict[str, JsonValue] = {"user": "42", "asset": "iso4217:EUR", "payout": "250"}
VOID: dict[str, JsonValue] = {"user": "42", "asset": "iso4217:EUR"}

Asset = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9:/.%_-]{1,200}$"), Field(examples=["iso4217:EUR"])]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,63}$")]
Units = Annotated[
    str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,37})$"), Field(description="In the asset's smallest unit")
]
STRICT = ConfigDict(strict=True, extra="forbid")


class WhoseBet(BaseModel):
    model_config = STRICT

    user: Name = Field(description="Who plays: 42 of user:42:playing")
    asset: Asset


class BetRequest(WhoseBet):
    """Bind the stake, if the player has so much free. The same id again changes nothing."""

    model_config = ConfigDict(**STRICT, json_schema_extra={"examples": [BET]})

    id: UUID = Field(description="A UUID of version 7 that you make, no more than five minutes before")
    stake: Units
    game: Word
    edge_bps: int = Field(default=0, ge=0, le=EDGE_MAX, description="What the house expects to keep, in 1/100 %")
    agent: Word | None = Field(default=None, description="Whose the player is, for commission")


class SettleRequest(WhoseBet):
    """The stake goes to the house, the payout to the player. 0: the bet is lost."""

    model_config = ConfigDict(**STRICT, json_schema_extra={"examples": [SETTLE]})

    payout: Units


class VoidRequest(WhoseBet):
    """The stake goes back to the player."""

    model_config = ConfigDict(**STRICT, json_schema_extra={"examples": [VOID]})


class SettleItem(SettleRequest):
    model_config = STRICT

    id: UUID


class VoidItem(VoidRequest):
    model_config = STRICT

    id: UUID


class BetBatchRequest(BaseModel):
    model_config = ConfigDict(**STRICT, json_schema_extra={"examples": [{"bets": [BET]}]})

    bets: list[BetRequest] = Field(min_length=1, max_length=BATCH_MAX)


class SettleBatchRequest(BaseModel):
    model_config = ConfigDict(**STRICT, json_schema_extra={"examples": [{"bets": [{"id": BET["id"], **SETTLE}]}]})

    bets: list[SettleItem] = Field(min_length=1, max_length=BATCH_MAX)


class VoidBatchRequest(BaseModel):
    model_config = ConfigDict(**STRICT, json_schema_extra={"examples": [{"bets": [{"id": BET["id"], **VOID}]}]})

    bets: list[VoidItem] = Field(min_length=1, max_length=BATCH_MAX)


class BetDecision(BaseModel):
    """What was decided, for ever."""

    id: UUID
    user: str
    asset: str
    result: str = Field(description="reserved, settled or voided")
    free: str = Field(description="What the player had free after it")
    locked: str | None = Field(default=None, description="reserved: what he had staked after it")
    payout: str | None = Field(default=None, description="settled: what he got")
    stake: str | None = Field(default=None, description="voided: what he got back")
    decided_at: datetime


class BetResult(BaseModel):
    """What came of one bet: `body`, or `problem`."""

    status: int = Field(description="As its own address would have answered")
    body: BetDecision | None = None
    problem: ProblemDocument | None = None


class BetBatchResponse(BaseModel):
    results: list[BetResult] = Field(description="One for each bet, in order")


async def reserve(call: Call) -> tuple[int, bytes]:
    ask = _reserve(call.caller.tenant, checked(BetRequest, call.body))
    [told] = await call.engine.bets.reserve([ask])
    return OK, _decided(ask, told).encode()


async def settle(call: Call) -> tuple[int, bytes]:
    asked = checked(SettleRequest, call.body)
    return await _end(call, _ending(call.caller.tenant, _id(call.parameter), asked, asked.payout))


async def void(call: Call) -> tuple[int, bytes]:
    return await _end(call, _ending(call.caller.tenant, _id(call.parameter), checked(VoidRequest, call.body), None))


async def _end(call: Call, ask: End) -> tuple[int, bytes]:
    [told] = await call.engine.bets.end([ask])
    return OK, _decided(ask, told).encode()


async def reserve_batch(call: Call) -> tuple[int, bytes]:
    """Each by itself: one that is refused stops no other."""
    bets = _counted(call, checked(BetBatchRequest, call.body).bets)
    asks = _each(bets, lambda bet: _reserve(call.caller.tenant, bet))
    return _results(asks, await call.engine.bets.reserve(asks))


async def settle_batch(call: Call) -> tuple[int, bytes]:
    """As a batch of bets."""
    bets = _counted(call, checked(SettleBatchRequest, call.body).bets)
    asks = _each(bets, lambda bet: _ending(call.caller.tenant, bet.id, bet, bet.payout))
    return _results(asks, await call.engine.bets.end(asks))


async def void_batch(call: Call) -> tuple[int, bytes]:
    """As a batch of bets."""
    bets = _counted(call, checked(VoidBatchRequest, call.body).bets)
    asks = _each(bets, lambda bet: _ending(call.caller.tenant, bet.id, bet, None))
    return _results(asks, await call.engine.bets.end(asks))


# --- what is asked -----------------------------------------------------------------------------------------------


def _reserve(tenant: str, bet: BetRequest) -> Reserve:
    who = player(tenant, bet.user, bet.asset)
    ask = Reserve(who, bet.id, int(bet.stake), Facts(bet.game, bet.edge_bps, bet.agent))
    ask.check()
    return ask


def _ending(tenant: str, bet_id: UUID, asked: WhoseBet, payout: str | None) -> End:
    ask = End(player(tenant, asked.user, asked.asset), bet_id, None if payout is None else int(payout))
    ask.check()
    return ask


Asked = TypeVar("Asked", bound=BaseModel)
Made = TypeVar("Made", Reserve, End)


def _counted(call: Call, bets: list[Asked]) -> list[Asked]:
    call.engine.limiter.admit(call.caller.tenant, len(bets) - 1)  # the first was counted with the request
    return bets


def _each(bets: Sequence[Asked], make: Callable[[Asked], Made]) -> list[Made]:
    """A batch with a bet that can't be is refused as a whole, with nothing decided."""
    made: list[Made] = []
    for place, bet in enumerate(bets):
        try:
            made.append(make(bet))
        except InvalidRequestError as error:
            raise _at(place, error) from None
    return made


def _at(place: int, error: InvalidRequestError) -> Problem:
    pointer = problems.pointer(("bets", place, *([error.field] if error.field else [])))
    return Problem("invalid-request", f"{pointer}: {error}", [{"pointer": pointer, "detail": str(error)}])


def _id(text: str) -> UUID:
    try:
        return checked_id(UUID(text))
    except (ValueError, InvalidRequestError):
        raise NotFoundError("there is nothing of this id") from None


# --- what is answered --------------------------------------------------------------------------------------------


def _results(asks: Sequence[Reserve | End], told: Sequence[Told]) -> tuple[int, bytes]:
    results = []
    status = OK
    for ask, each in zip(asks, told, strict=True):
        try:
            results.append(f'{{"status":200,"body":{_decided(ask, each)}}}')
        except Problem as problem:
            status = MIXED
            results.append(json.dumps({"status": problem.status, "problem": problem.document()}, separators=(",", ":")))
    return status, f'{{"results":[{",".join(results)}]}}'.encode()


def _decided(ask: Reserve | End, told: Told) -> str:
    """As JSON. Written by hand: ids, names and numbers need no escape. Raises Problem for what was refused."""
    if not isinstance(told, Answer):
        raise problems.of_error(told)
    who = ask.player
    match told.verdict:
        case Verdict.RESERVED:
            result = f'"reserved","locked":"{told.locked}"'
        case Verdict.SETTLED:
            result = f'"settled","payout":"{told.units}"'
        case Verdict.VOIDED:
            result = f'"voided","stake":"{told.units}"'
        case _:
            raise _refusal(ask, told)
    return (
        f'{{"id":"{ask.id}","user":"{who.user}","asset":"{who.asset}","result":{result},"free":"{told.free}",'
        f'"decided_at":"{_time(told.at_ms or 0)}"}}'
    )


@lru_cache(maxsize=1_000)
def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1_000, UTC).replace(microsecond=ms % 1_000 * 1_000).isoformat()


def _refusal(ask: Reserve | End, told: Answer) -> Problem:  # noqa: PLR0911  # a table
    who = ask.player
    account = {"account": f"user:{who.user}:playing", "asset": who.asset}
    match told.verdict:
        case Verdict.LOW if isinstance(ask, Reserve):
            return Problem(
                "insufficient-funds",
                f"{who.user} has {told.free} free, and {ask.stake} were to be staked",
                members={**account, "available": str(told.free), "needed": str(ask.stake)},
            )
        case Verdict.TOO_MANY:
            wait = -(-(told.wait_ms or 1) // 1_000)
            return Problem("rate-limited", f"{who.user} bets too often", headers={"Retry-After": str(wait)})
        case Verdict.CONFLICT if isinstance(ask, Reserve):
            return Problem("idempotency-key-reused", f"there is another bet {ask.id} of {who.user}")
        case Verdict.CONFLICT:
            return Problem("conflict", f"the bet {ask.id} is {told.state} already", members={"state": str(told.state)})
        case Verdict.STALE:
            detail = "the id's time is too long ago or to come; nothing was decided under it, nor will be"
            return Problem("invalid-request", detail, [{"pointer": "/id", "detail": detail}])
        case Verdict.UNKNOWN:
            return Problem("not-found", f"{who.user} has no bet {ask.id}")
        case Verdict.TOO_LARGE:
            return Problem("ceiling-exceeded", f"{who.user} would have more than 38 digits", members=account)
        case _:
            return Problem("internal", f"the hot store said {told.verdict}")


def _one(route: str, answer: Answering, summary: str, request: type[BaseModel]) -> Endpoint:
    return Endpoint(route, Scope.BETS_WRITE, answer, "bets", summary, request, BetDecision)


def _many(route: str, answer: Answering, summary: str, request: type[BaseModel]) -> Endpoint:
    return Endpoint(route, Scope.BETS_WRITE, answer, "bets", summary, request, BetBatchResponse, may_be_mixed=True)


ENDPOINTS = (
    _one("/v1/bets", reserve, "Reserve a stake", BetRequest),
    _one("/v1/bets/{bet_id}/settle", settle, "Settle a bet", SettleRequest),
    _one("/v1/bets/{bet_id}/void", void, "Void a bet", VoidRequest),
    _many("/v1/bets:batch", reserve_batch, "Reserve many stakes", BetBatchRequest),
    _many("/v1/bets:settle", settle_batch, "Settle many bets", SettleBatchRequest),
    _many("/v1/bets:void", void_batch, "Void many bets", VoidBatchRequest),
)
