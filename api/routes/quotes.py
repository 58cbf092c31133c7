"""Quotes: what we give for what, promised for a short time and used once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from sqlalchemy.orm import Session

from api import ingest, openapi
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.booking import IdempotencyKey, Units
from api.ingest import Kind
from api.problems import Problem
from api.responses import JSON
from api.routes.deposits import Word
from core import db
from core.errors import InvalidRequestError, NotFoundError
from domain.access.service import Principal, Scope
from domain.quote import service as quotes
from domain.quote.service import Fixed, NewQuote, Quote
from domain.rates import service as rates

router = APIRouter(prefix="/v1/quotes", tags=["quotes"])

EXAMPLES: list[JsonValue] = [
    {"from": "iso4217:NGN", "to": "eip155:56/erc20:0x55d398326f99059ff775485246999027b3197955", "units_in": "5000000"},
    {"from": "iso4217:EUR", "to": "eip155:1/slip44:60", "units_out": "10000000000000000"},
]
CREATED = 201


class QuoteRequest(BaseModel):
    """One of the two amounts; the other is told."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    from_asset: Word = Field(alias="from", description="What is given: CAIP-19 id, or iso4217:EUR")
    to_asset: Word = Field(alias="to", description="What is got")
    units_in: Units | None = Field(default=None, description="So much is given, all in")
    units_out: Units | None = Field(default=None, description="So much is got, exactly")

    @model_validator(mode="after")
    def _has_one_amount(self) -> Self:
        if (self.units_in is None) == (self.units_out is None):
            raise ValueError("give units_in or units_out, and not both")
        return self


class QuoteView(BaseModel):
    """A promise. Who gives `units_in` before `expires_at` gets `units_out`."""

    id: UUID
    from_asset: str = Field(serialization_alias="from")
    to_asset: str = Field(serialization_alias="to")
    fixed: Fixed = Field(description="The amount that was asked for")
    units_in: str
    units_out: str
    spread_units: str = Field(description="Of units_in: what is ours")
    spread_bps: int
    rate: str = Field(description="Whole units of `to` for a whole `from`, without the spread; exactly, as a fraction")
    rate_source: str
    rate_at: datetime
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = Field(description="A quote is used once")
    used_by: str | None = Field(description="What it was used for, such as fiat_payment:<id>")


def _prepare(tenant: str, asked: QuoteRequest) -> NewQuote:
    fixed, units = (Fixed.OUT, asked.units_out) if asked.units_in is None else (Fixed.IN, asked.units_in)
    if units is None:
        raise InvalidRequestError("give units_in or units_out", field="units_in")
    return NewQuote(tenant, asked.from_asset, asked.to_asset, fixed, units)


def _create(session: Session, new: Sequence[NewQuote]) -> list[dict[str, Any] | InvalidRequestError]:
    return [_created(session, one) for one in new]


def _created(session: Session, new: NewQuote) -> dict[str, Any] | InvalidRequestError:
    try:
        return _view(quotes.create(session, new, rates.usable)).model_dump(mode="json", by_alias=True)
    except InvalidRequestError as error:
        names = {"asset": "from", "currency": "to", "units": f"units_{new.fixed.value}", "from": "from", "to": "to"}
        error.field = names.get(error.field or "")
        return error


QUOTE = Kind("quote", Scope.QUOTES_WRITE, QuoteRequest, _prepare, _create, status=CREATED)


@router.post(
    "",
    status_code=CREATED,
    summary="Lock a conversion",
    responses={CREATED: {"model": QuoteView, "description": "Promised; or promised before, by the same request"}},
    openapi_extra=openapi.body_of(QuoteRequest),
)
def create_quote(
    body: JsonBytes, caller: Annotated[Principal, needs(Scope.QUOTES_WRITE)], idempotency_key: IdempotencyKey = None
) -> Response:
    """At the usable rate of now, less our spread. While there is no usable rate: 503, and nothing is promised."""
    if idempotency_key is None:
        raise Problem("idempotency-key-missing", "give a header Idempotency-Key, a new one for each new request")
    ask = ingest.checked(caller, QUOTE, idempotency_key, parsed_object(body))
    [outcome] = ingest.carry_out(caller, [ask])
    if isinstance(outcome, Problem):
        raise outcome
    headers = {"Location": f"/v1/quotes/{outcome.answer.body['id']}"}
    if outcome.replayed:
        headers["Idempotency-Replayed"] = "true"
    return Response(ingest.as_json(outcome.answer.body), outcome.answer.status, headers, media_type=JSON)


@router.get("/{quote_id}", summary="Read a quote", responses={200: {"model": QuoteView}})
def read_quote(quote_id: UUID, caller: Annotated[Principal, needs(Scope.QUOTES_WRITE)]) -> Response:
    with db.transaction() as session:
        quote = quotes.get(session, quote_id, tenant=caller.tenant)
    if quote is None:
        raise NotFoundError(f"there is no quote {quote_id}")
    return Response(_view(quote).model_dump_json(by_alias=True), media_type=JSON)


def _view(quote: Quote) -> QuoteView:
    made: dict[str, Any] = {name: getattr(quote, name) for name in QuoteView.model_fields}
    units = {name: str(getattr(quote, name)) for name in ("units_in", "units_out", "spread_units")}
    return QuoteView.model_construct(**made | units | {"fixed": Fixed(quote.fixed), "rate": str(quote.rate)})
