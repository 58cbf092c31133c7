"""Requests that move money in the books, each once for ever by its idempotency key; and the shapes they have in common.

Two guards stand one behind the other. The key's row (`domain.access.idempotency`) is claimed first: it makes those who
come at the same moment wait, tells another request under the key apart by every field, and gives the first answer
again as it was. The ledger's reference, which is made of the key, is the last word: should the row be gone (taken out,
restored from another day), the same content still is the first journal or hold, and other content is refused.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import Header
from fastapi.responses import Response
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StringConstraints, WithJsonSchema
from sqlalchemy.orm import Session

from api import ingest
from api.body import parsed_object
from api.ingest import Kind
from api.problems import Problem
from api.responses import JSON
from api.routes.deposits import Time, Word
from core.errors import InvalidRequestError
from domain.access import idempotency
from domain.access.errors import KeyReusedError
from domain.access.service import Principal, Scope
from ledger import chart
from ledger.errors import ReferenceReusedError
from ledger.posting import again

APP = "app:"
"""Begins the reference of whatever an app books, and of nothing else: our own flows begin with their names, such as
`deposit:`. So no key that an app may choose is the reference of an event of ours."""
_DIGITS = re.compile(r"[0-9]{1,38}")

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", description="Names this request for ever: again gets the first answer"),
]


def _units(value: object) -> int:
    """Strings only: nobody between the app and us may have read the amount as a float."""
    if not isinstance(value, str) or not _DIGITS.fullmatch(value):
        raise ValueError("units are a string of 1 to 38 digits, such as '1500000'")
    if (units := int(value)) == 0:
        raise ValueError("units are above zero")
    return units


def _in_chart(code: str) -> str:
    try:
        chart.rule(code)
    except InvalidRequestError as error:
        raise ValueError(str(error)) from None
    return code


def _movable(code: str) -> str:
    """Playing, staked and packets mirror what the hot store has decided: only claims and bets move money there."""
    if chart.is_kept(_in_chart(code)):
        raise ValueError(f"{code} is kept by claims and bets, and nothing else may move money into or out of it")
    return code


def _in_utc(at: datetime) -> datetime:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time is in the years 1 to 9999 of UTC") from None


Units = Annotated[
    int,
    BeforeValidator(_units),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9]{1,38}$",
            "description": "In the asset's smallest unit, above zero",
            "examples": ["1500000"],
        }
    ),
]
Moment = Annotated[Time, AfterValidator(_in_utc)]
AccountCode = Annotated[Word, AfterValidator(_movable), Field(examples=["user:42:available"])]
CorrelationId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,128}$")]


@dataclass(frozen=True)
class Booking:
    """One kind of request that books. `name` holds what its address says, too: a key is bound to both."""

    name: str
    scope: Scope
    schema: type[BaseModel]
    book: Callable[[Session, str, Any], tuple[BaseModel, bool]]
    """(session, reference, checked body) -> the answer, and whether this request made it. Raises what the ledger
    raises, with nothing written."""
    status: int = 201
    location: str | None = None
    """Of what was made, with the answer's `id` behind it."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Where in the body to find what the ledger calls by another name. What is neither here nor in the schema is not
    pointed at."""
    request_hash: Callable[[str, object], bytes] = idempotency.request_hash
    """See ingest.Kind: keyed where the body has what must not be read from the database."""


def once(caller: Principal, booking: Booking, key: str | None, body: bytes) -> Response:
    """Carry the request out, or give the answer that it was given before."""
    if key is None:
        raise Problem("idempotency-key-missing", "give a header Idempotency-Key, a new one for each new request")
    repeats: list[bool] = []
    kind = Kind(
        booking.name,
        booking.scope,
        booking.schema,
        prepare=lambda _tenant, asked: asked,
        create=partial(_create, booking, key, repeats),
        status=booking.status,
        request_hash=booking.request_hash,
    )
    ask = ingest.checked(caller, kind, key, parsed_object(body))
    [outcome] = again(lambda: ingest.carry_out(caller, [ask]))
    if isinstance(outcome, Problem):
        raise outcome
    headers = {} if booking.location is None else {"Location": f"{booking.location}/{outcome.answer.body['id']}"}
    if outcome.replayed or any(repeats):
        headers["Idempotency-Replayed"] = "true"
    return Response(ingest.as_json(outcome.answer.body), outcome.answer.status, headers, media_type=JSON)


def _create(
    booking: Booking, key: str, repeats: list[bool], session: Session, asked: Iterable[Any]
) -> list[dict[str, Any] | InvalidRequestError]:
    [request] = asked
    try:
        answer, created = booking.book(session, APP + key, request)
    except ReferenceReusedError:
        return [KeyReusedError(key)]
    except InvalidRequestError as error:
        field = booking.fields.get(error.field or "", error.field)
        error.field = field if field in booking.schema.model_fields else None
        return [error]
    repeats[:] = [not created]  # of the last attempt
    return [answer.model_dump(mode="json")]
