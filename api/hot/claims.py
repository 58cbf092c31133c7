"""Claims on red packets, one by one and many at once.

A claim needs no idempotency key: a packet and a user name it, and who asks again gets the first answer.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Annotated
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from api.hot.body import checked
from api.hot.front import OK, Call, Endpoint
from core.errors import NotFoundError
from domain.access.service import Scope
from domain.claim.hot import Answer, Ask, ClaimResult

BATCH_MAX = 1_000
ONE: list[JsonValue] = [{"user": "42"}]
MANY: list[JsonValue] = [
    {
        "claims": [
            {"packet_id": "019aa3c0-0000-7000-8000-000000000001", "user": "42"},
            {"packet_id": "019aa3c0-0000-7000-8000-000000000001", "user": "43", "group": "chat-7"},
        ]
    }
]

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ClaimRequest(BaseModel):
    """Somebody opens a packet. Asking again changes nothing."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": ONE})

    user: Name = Field(description="Who claims: 42 of user:42:available, which is credited")
    group: Name | None = Field(default=None, description="In which group, if the packet is for one")


class ClaimItem(ClaimRequest):
    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={})

    packet_id: UUID


class ClaimBatchRequest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": MANY})

    claims: list[ClaimItem] = Field(min_length=1, max_length=BATCH_MAX)


class ClaimView(BaseModel):
    """What was decided, for ever if it was won."""

    packet_id: UUID
    user: str
    result: ClaimResult = Field(
        description="won; already_claimed: with the first answer; empty, expired, cancelled: it is over; not_eligible;"
        " unknown, in batches only: no such packet of yours is open"
    )
    place: int | None = Field(default=None, description="Which share: 1 is the first that was claimed")
    units: str | None = Field(default=None, description="What the share has, in the asset's smallest unit")
    claimed_at: datetime | None = None


class ClaimBatchResponse(BaseModel):
    results: list[ClaimView] = Field(description="One for each claim, in order")


async def claim(call: Call) -> tuple[int, bytes]:
    asked = checked(ClaimRequest, call.body)
    ask = Ask(call.caller.tenant, _packet_id(call.parameter), asked.user, asked.group)
    [answer] = await call.engine.claims.claim([ask])
    if answer.result is ClaimResult.UNKNOWN:
        raise NotFoundError(f"there is no open packet {ask.packet_id}")
    return OK, _view(ask, answer).encode()


async def claim_batch(call: Call) -> tuple[int, bytes]:
    asked = checked(ClaimBatchRequest, call.body)
    tenant = call.caller.tenant
    call.engine.limiter.admit(tenant, len(asked.claims) - 1)  # the first was counted with the request
    asks = [Ask(tenant, each.packet_id, each.user, each.group) for each in asked.claims]
    answers = await call.engine.claims.claim(asks)
    return OK, _views(asks, answers).encode()


def _views(asks: Sequence[Ask], answers: Sequence[Answer]) -> str:
    return f'{{"results":[{",".join(map(_view, asks, answers))}]}}'


def _view(ask: Ask, answer: Answer) -> str:
    """As JSON. Written by hand: ids, names and numbers need no escape."""
    told = f'{{"packet_id":"{_text(ask.packet_id)}","user":"{ask.claimant}","result":"' + answer.result
    if answer.at is None:
        return told + '"}'
    return f'{told}","place":{answer.place},"units":"{answer.units}","claimed_at":"{_time(answer.at)}"}}'


@lru_cache(maxsize=1_000)
def _time(at: datetime) -> str:
    return at.isoformat()


_text = lru_cache(maxsize=10_000)(str)
"""Of a packet's id: thousands claim the same."""


@lru_cache(maxsize=10_000)
def _packet_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFoundError("there is nothing of this id") from None


ENDPOINTS = (
    Endpoint(
        "/v1/packets/{packet_id}/claims", Scope.CLAIMS_WRITE, claim, "packets", "Claim a share",
        ClaimRequest, ClaimView,
    ),
    Endpoint(
        "/v1/claims:batch", Scope.CLAIMS_WRITE, claim_batch, "packets", "Claim many shares at once",
        ClaimBatchRequest, ClaimBatchResponse,
    ),
)  # fmt: skip
