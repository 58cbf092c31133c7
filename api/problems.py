"""Every refusal as one kind of document: RFC 9457, `application/problem+json`. docs/api.md lists the types."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, NamedTuple, cast

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException

from core.errors import ConflictError, InvalidRequestError, NotFoundError, OutcomeUnknownError, TransientError
from domain.access.errors import CredentialError, KeyReusedError, RequestInProgressError
from domain.payout.errors import LimitExceededError, PayoutRefusedError, TooManyRequestsError
from domain.rates.reasons import RateUnusableError
from ledger.errors import (
    AccountClosedError,
    AccountFrozenError,
    AlreadyReversedError,
    CeilingExceededError,
    HoldExceededError,
    HoldSettledError,
    InsufficientFundsError,
    ReferenceReusedError,
)

log = structlog.stdlib.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
ERRORS_MAX = 50
"""Faults told of one body: enough to mend it, too few to make the answer large."""


class Kind(NamedTuple):
    status: HTTPStatus
    title: str


KINDS = {
    "bad-request": Kind(HTTPStatus.BAD_REQUEST, "The request can't be read"),
    "idempotency-key-missing": Kind(HTTPStatus.BAD_REQUEST, "An idempotency key is needed"),
    "idempotency-key-malformed": Kind(HTTPStatus.BAD_REQUEST, "The idempotency key is malformed"),
    "invalid-cursor": Kind(HTTPStatus.BAD_REQUEST, "The cursor was not made by this listing"),
    "unauthenticated": Kind(HTTPStatus.UNAUTHORIZED, "A valid API key is needed"),
    "webhook-not-verified": Kind(HTTPStatus.UNAUTHORIZED, "The webhook is not signed as it should be"),
    "forbidden": Kind(HTTPStatus.FORBIDDEN, "The API key lacks the scope"),
    "not-found": Kind(HTTPStatus.NOT_FOUND, "There is no such thing"),
    "method-not-allowed": Kind(HTTPStatus.METHOD_NOT_ALLOWED, "The method is not allowed here"),
    "conflict": Kind(HTTPStatus.CONFLICT, "It is not in a state to do that"),
    "insufficient-funds": Kind(HTTPStatus.CONFLICT, "The account has too little available"),
    "ceiling-exceeded": Kind(HTTPStatus.CONFLICT, "The account would have more than it may"),
    "account-frozen": Kind(HTTPStatus.CONFLICT, "Nothing may leave the account"),
    "account-closed": Kind(HTTPStatus.CONFLICT, "Nothing may move in the account"),
    "already-reversed": Kind(HTTPStatus.CONFLICT, "The journal was reversed before"),
    "hold-settled": Kind(HTTPStatus.CONFLICT, "The hold is not pending any more"),
    "hold-exceeded": Kind(HTTPStatus.CONFLICT, "More was asked for than is held"),
    "request-in-progress": Kind(HTTPStatus.CONFLICT, "The same request is still in progress"),
    "body-too-large": Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large"),
    "unsupported-media-type": Kind(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "The body must be application/json"),
    "limit-exceeded": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "It would be more than may leave"),
    "payout-refused": Kind(HTTPStatus.FORBIDDEN, "The payout is refused by rules"),
    "invalid-request": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The request can't be carried out"),
    "idempotency-key-reused": Kind(HTTPStatus.UNPROCESSABLE_ENTITY, "The idempotency key stands for another request"),
    "rate-limited": Kind(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests"),
    "rate-unusable": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "There is no rate to be trusted at the moment"),
    "internal": Kind(HTTPStatus.INTERNAL_SERVER_ERROR, "Something is wrong on our side"),
    "unavailable": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "The service can't answer at the moment"),
    "outcome-unknown": Kind(HTTPStatus.SERVICE_UNAVAILABLE, "It may be done, or not"),
}
"""By the end of the type's URI, `/problems/<kind>`. Names are for ever; a new case gets a new one."""


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818  # it is both: what is raised and what is told
    """One refusal. `errors` points at each part at fault: a JSON pointer into the body, or a parameter's name.

    `members` are what this kind of problem tells besides (RFC 9457, 3.2), amounts as strings.
    """

    kind: str
    detail: str
    errors: Sequence[Mapping[str, str]] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        return int(KINDS[self.kind].status)

    def document(self) -> dict[str, Any]:
        kind = KINDS[self.kind]
        made: dict[str, Any] = {
            "type": f"/problems/{self.kind}",
            "title": kind.title,
            "status": int(kind.status),
            "detail": self.detail,
        }
        if self.errors:
            made["errors"] = [dict(error) for error in self.errors]
        return {**made, **self.members}

    def content(self) -> bytes:
        """The document, with the correlation id of the request."""
        correlation = structlog.contextvars.get_contextvars().get("correlation_id")
        document = self.document() | ({"correlation_id": correlation} if correlation else {})
        return json.dumps(document, separators=(",", ":")).encode()

    def response(self) -> Response:
        return Response(self.content(), self.status, dict(self.headers), media_type=MEDIA_TYPE)


class ProblemPart(BaseModel):
    pointer: str | None = Field(default=None, description="JSON pointer into the body")
    parameter: str | None = Field(default=None, description="Name of a query parameter or header")
    detail: str


class ProblemDocument(BaseModel):
    """RFC 9457. `type` is what programs should look at."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[ProblemPart] | None = None
    correlation_id: str | None = None
    account: str | None = Field(default=None, description="The account that refuses")
    asset: str | None = None
    available: str | None = Field(default=None, description="insufficient-funds: what could still leave the account")
    needed: str | None = Field(default=None, description="insufficient-funds: what was to leave it")
    room: str | None = Field(default=None, description="ceiling-exceeded: what the account could still take")
    offered: str | None = Field(default=None, description="ceiling-exceeded: what it was to take")
    journal_id: str | None = Field(default=None, description="already-reversed: the journal")
    reversed_by: str | None = Field(default=None, description="already-reversed: its reversal")
    hold_id: str | None = Field(default=None, description="hold-settled, hold-exceeded: the hold")
    limit: str | None = Field(default=None, description="limit-exceeded: such as each or account_day")
    most: str | None = Field(default=None, description="limit-exceeded: what the limit allows, in cents or in number")
    would_be: str | None = Field(default=None, description="limit-exceeded: what this would make it")
    reason: str | None = Field(default=None, description="rate-unusable: such as jump, spread or stale")
    state: str | None = Field(default=None, description="hold-settled: posted, voided or expired")
    expires_at: str | None = Field(default=None, description="hold-settled: the deadline that has passed")
    held: str | None = Field(default=None, description="hold-exceeded: what the hold has")
    asked: str | None = Field(default=None, description="hold-exceeded: what was to be captured")


def pointer(location: Sequence[str | int]) -> str:
    """RFC 6901."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)


def of_validation(error: ValidationError) -> Problem:
    """What pydantic found in a body."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [{"pointer": pointer(one["loc"]), "detail": one["msg"]} for one in details[:ERRORS_MAX]]
    first = errors[0]
    return Problem("invalid-request", f"{first['pointer'] or 'the body'}: {first['detail']}", errors)


def body_too_large(bytes_max: int) -> Problem:
    # Close: the rest of the body is not worth reading to get at the next request.
    return Problem("body-too-large", f"a body has at most {bytes_max} bytes", headers={"Connection": "close"})


def _at_field(error: InvalidRequestError) -> Sequence[Mapping[str, str]]:
    return [{"pointer": f"/{error.field}", "detail": str(error)}] if error.field else ()


# The ledger's refusals: the kind, and each member with the error's attribute that it tells.
_LEDGER: Mapping[type[Exception], tuple[str, Mapping[str, str]]] = {
    InsufficientFundsError: (
        "insufficient-funds",
        {"account": "account", "asset": "asset", "available": "available", "needed": "needed"},
    ),
    CeilingExceededError: (
        "ceiling-exceeded",
        {"account": "account", "asset": "asset", "room": "room", "offered": "offered"},
    ),
    AccountFrozenError: ("account-frozen", {"account": "account", "asset": "asset"}),
    AccountClosedError: ("account-closed", {"account": "account", "asset": "asset"}),
    AlreadyReversedError: ("already-reversed", {"journal_id": "journal_id", "reversed_by": "by"}),
    HoldSettledError: ("hold-settled", {"hold_id": "hold_id", "state": "state", "expires_at": "deadline"}),
    HoldExceededError: ("hold-exceeded", {"hold_id": "hold_id", "held": "held", "asked": "asked"}),
}


def _of_conflict(error: ConflictError) -> Problem:
    kind, told = _LEDGER.get(type(error), ("conflict", {}))
    values = {member: getattr(error, attribute) for member, attribute in told.items()}
    members = {member: _told(value) for member, value in values.items() if value is not None}
    return Problem(kind, str(error), _at_field(error), members=members)


def _told(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)


def _of_payout(error: PayoutRefusedError | LimitExceededError | TooManyRequestsError) -> Problem:
    if isinstance(error, LimitExceededError):
        members = {"limit": error.limit, "most": str(error.most), "would_be": str(error.would_be)}
        return Problem("limit-exceeded", str(error), _at_field(error), members=members)
    if isinstance(error, TooManyRequestsError):
        seconds = max(1, -(-error.retry_after // timedelta(seconds=1)))
        return Problem("rate-limited", str(error), _at_field(error), headers={"Retry-After": str(seconds)})
    return Problem("payout-refused", str(error))


def of_error(error: Exception) -> Problem:  # noqa: C901, PLR0911, PLR0912  # a table
    """The problem for one of our errors. Anything unforeseen is `internal`, and tells nothing of itself."""
    match error:
        case Problem():
            return error
        case CredentialError():
            return Problem("unauthenticated", str(error), headers={"WWW-Authenticate": 'Bearer realm="tallyrail"'})
        case RequestInProgressError():
            return Problem("request-in-progress", str(error), headers={"Retry-After": "1"})
        case KeyReusedError() | ReferenceReusedError():
            # Where a request books, its reference is made of its key. A flow of ours whose reference names two things
            # runs in a worker, and stops there.
            return Problem("idempotency-key-reused", str(error))
        case NotFoundError():
            return Problem("not-found", str(error))
        case ConflictError():
            return _of_conflict(error)
        case PayoutRefusedError() | LimitExceededError() | TooManyRequestsError():
            return _of_payout(error)
        case InvalidRequestError(field="cursor"):
            return Problem("invalid-cursor", str(error), [{"parameter": "cursor", "detail": str(error)}])
        case InvalidRequestError():
            return Problem("invalid-request", str(error), _at_field(error))
        case RateUnusableError():
            return Problem("rate-unusable", str(error), headers={"Retry-After": "30"}, members={"reason": error.reason})
        case TransientError() | OperationalError() | InterfaceError() | PoolTimeoutError():
            # Whether the work was committed is not known here. The same key tells, whichever way it went.
            return Problem("unavailable", "nothing is lost: send the request again", headers={"Retry-After": "1"})
        case OutcomeUnknownError():
            return Problem(
                "outcome-unknown",
                "it may be done: send the same request again, and it answers what was decided",
                headers={"Retry-After": "1"},
            )
        case _:
            return Problem("internal", "the error is recorded under the correlation id")


# --- handlers ----------------------------------------------------------------------------------------------------


async def _handle(_request: Request, error: Exception) -> Response:
    problem = of_error(error)
    if problem.kind == "unavailable":
        log.warning("request.unavailable", error=str(error).splitlines()[0] if str(error) else type(error).__name__)
    return problem.response()


async def _handle_parameters(_request: Request, error: Exception) -> Response:
    """Query, path and header parameters, which FastAPI checks."""
    details = cast("RequestValidationError", error).errors()
    if any(one["loc"][0] == "path" for one in details):
        return Problem("not-found", "there is nothing of this id").response()
    errors = [{"parameter": str(one["loc"][-1]), "detail": str(one["msg"])} for one in details[:ERRORS_MAX]]
    return Problem("invalid-request", f"{errors[0]['parameter']}: {errors[0]['detail']}", errors).response()


_BY_STATUS = {
    HTTPStatus.NOT_FOUND: ("not-found", "there is nothing at this address"),
    HTTPStatus.METHOD_NOT_ALLOWED: ("method-not-allowed", "see the header Allow"),
}


async def _handle_http(_request: Request, error: Exception) -> Response:
    """What Starlette's router refuses."""
    error = cast("HTTPException", error)
    kind, detail = _BY_STATUS.get(HTTPStatus(error.status_code), ("bad-request", str(error.detail)))
    return Problem(kind, detail, headers=error.headers or {}).response()


def install(app: FastAPI) -> None:
    """Answer every foreseen error with its problem. The unforeseen are the middleware's."""
    for known in (
        Problem,
        CredentialError,
        InvalidRequestError,
        ReferenceReusedError,
        TransientError,
        OutcomeUnknownError,
        OperationalError,
        InterfaceError,
        PoolTimeoutError,
    ):
        app.add_exception_handler(known, _handle)
    app.add_exception_handler(RequestValidationError, _handle_parameters)
    app.add_exception_handler(HTTPException, _handle_http)
