"""Addresses: where an account is paid, for ever, whatever deposits are asked for."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from api import openapi, problems
from api.auth import needs
from api.body import JsonBytes, parsed_object
from api.responses import json_response
from api.routes.deposits import RouteWord, Word
from core import db
from domain.access.service import Principal, Scope
from domain.deposit import service as deposits
from domain.deposit.service import OwnAddress, Route

router = APIRouter(prefix="/v1/addresses", tags=["addresses"])

_WORD = r"^[!-~]{1,200}$"
EXAMPLES: list[JsonValue] = [
    {"chain": "eip155:1", "account": "user:42:available"},
    {"chain": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp", "account": "user:42:available", "route": "tag"},
]


class AddressRequest(BaseModel):
    """Where is this account paid on this chain? Asked again, the answer is the same."""

    model_config = ConfigDict(strict=True, extra="forbid", json_schema_extra={"examples": EXAMPLES})

    chain: Word = Field(description="CAIP-2 id")
    account: Word = Field(description="The account to credit, such as user:42:available")
    route: RouteWord = Field(
        default=Route.ADDRESS, description="By an address of its own, or by its tag on a shared address"
    )


class AddressView(BaseModel):
    """What is paid there is the account's, for ever."""

    chain: str
    account: str
    route: Route
    address: str
    tag: str | None = Field(description="What a payment must carry to be this account's; null: nothing")


class ListedAddress(AddressView):
    allotted_at: datetime


class AddressList(BaseModel):
    addresses: list[ListedAddress] = Field(description="Oldest first, at most 1,000")


@router.post(
    "",
    summary="The account's own address on a chain",
    responses={200: {"model": AddressView, "description": "The account's, from before or from now on"}},
    openapi_extra=openapi.body_of(AddressRequest),
)
def own_address(body: JsonBytes, caller: Annotated[Principal, needs(Scope.DEPOSITS_WRITE)]) -> Response:
    """What it has, else a free one of the pool, else one derived from the tenant's wallet. Needs no idempotency key.

    What arrives there while no deposit waits for it goes to suspense as `unexpected`, unless the asset's policy
    credits it.
    """
    try:
        asked = AddressRequest.__pydantic_validator__.validate_python(parsed_object(body))
    except ValidationError as error:
        raise problems.of_validation(error) from None
    with db.transaction() as session:
        own = deposits.own_address(session, caller.tenant, asked.chain, asked.account, asked.route)
    return json_response(AddressView(**_said(own)))


@router.get("", summary="List an account's addresses", responses={200: {"model": AddressList}})
def list_addresses(
    caller: Annotated[Principal, needs(Scope.DEPOSITS_READ)],
    account: Annotated[str, Query(pattern=_WORD, description="Whose", examples=["user:42:available"])],
    chain: Annotated[str | None, Query(pattern=_WORD, description="Only on this chain")] = None,
) -> Response:
    """Allots none."""
    with db.transaction() as session:
        found = deposits.addresses_of(session, caller.tenant, account, chain=chain)
    return json_response(
        AddressList(addresses=[ListedAddress(**_said(own), allotted_at=own.allotted_at) for own in found])
    )


def _said(own: OwnAddress) -> dict[str, str | None]:
    return {"chain": own.chain, "account": own.account, "route": own.route, "address": own.address, "tag": own.tag}
