"""Many requests in one body: the fast way in."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.ingest import Ask, Kind, Outcome
from api.problems import Problem, ProblemDocument
from api.responses import JSON
from api.routes.deposits import DEPOSIT, DepositAccepted, DepositRequest
from config import settings
from domain.access.service import Principal, Scope

router = APIRouter(prefix="/v1", tags=["jobs"])

KINDS: dict[str, Kind] = {kind.name: kind for kind in (DEPOSIT,)}
_FIELDS = frozenset({"kind", "key", "body"})


class BatchItem(BaseModel):
    """One request. `key` is its idempotency key, `body` what its own endpoint takes."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["deposit"]
    key: str = Field(min_length=1, max_length=255, examples=["order-1001"])
    body: DepositRequest


class BatchRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    requests: list[BatchItem] = Field(min_length=1)


class BatchResult(BaseModel):
    """What came of one request: `body`, or `problem`."""

    status: int = Field(description="As its own endpoint would have answered")
    replayed: bool = Field(default=False, description="True if the key was known: this is the first answer")
    body: DepositAccepted | None = None
    problem: ProblemDocument | None = None


class BatchResponse(BaseModel):
    results: list[BatchResult] = Field(description="One for each request, in order")


@router.post(
    "/jobs:batch",
    summary="Ask for many things at once",
    responses={
        200: {"model": BatchResponse, "description": "Every request was accepted"},
        207: {"model": BatchResponse, "description": "Some were refused: see each result"},
    },
    openapi_extra=openapi.body_of(BatchRequest),
)
def create_batch(body: JsonBytes, caller: Annotated[Principal, needs(Scope.JOBS_WRITE)]) -> Response:
    """The good requests are written in one transaction; a bad one changes nothing and stops no other.

    Each has its own idempotency key, the same as its own endpoint's, so that a batch may be sent again whole. If one of
    its keys is in use by a request that doesn't end soon, the whole batch answers 409 and nothing is written.
    """
    asks = list(_asks(caller, _requests(body)))
    good = [ask for ask in asks if isinstance(ask, Ask)]
    outcomes = iter(ingest.carry_out(caller, good) if good else [])
    results = [next(outcomes) if isinstance(ask, Ask) else ask for ask in asks]
    status = 207 if any(isinstance(result, Problem) for result in results) else 200
    return Response(f'{{"results":[{",".join(map(_rendered, results))}]}}', status, media_type=JSON)


def _requests(body: bytes) -> list[Any]:
    content = parsed_object(body)
    requests = content.get("requests")
    most = settings.api().batch_max
    if not isinstance(requests, list) or not 1 <= len(requests) <= most or len(content) > 1:
        detail = f"the body is {{'requests': [...]}} with 1 to {most} requests"
        raise Problem("invalid-request", detail, [{"pointer": "/requests", "detail": detail}])
    return requests


def _asks(caller: Principal, requests: list[Any]) -> Iterator[Ask | Problem]:
    for item in requests:
        try:
            yield _ask(caller, item)
        except Problem as problem:
            yield problem


def _ask(caller: Principal, item: Any) -> Ask:
    if not isinstance(item, dict) or item.keys() != _FIELDS:
        raise Problem("invalid-request", "a request has exactly the fields kind, key and body")
    kind = KINDS.get(item["kind"]) if isinstance(item["kind"], str) else None
    if kind is None:
        detail = f"there are the kinds {', '.join(KINDS)}"
        raise Problem("invalid-request", detail, [{"pointer": "/kind", "detail": detail}])
    if not isinstance(item["key"], str):
        raise Problem("idempotency-key-malformed", "the key must be a string")
    return ingest.checked(caller, kind, item["key"], item["body"])


def _rendered(result: Outcome | Problem) -> str:
    if isinstance(result, Problem):
        return ingest.as_json({"status": result.status, "problem": result.document()})
    replayed = ',"replayed":true' if result.replayed else ""
    return f'{{"status":{result.answer.status}{replayed},"body":{ingest.as_json(result.answer.body)}}}'
