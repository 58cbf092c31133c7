"""The hot addresses as the framework sees them: in its description of the API, and for any method but POST.

Their POST never comes here, as api.hot.front answers before the router is asked.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter
from fastapi.responses import Response

from api import openapi
from api.auth import needs
from api.hot import bets, claims
from api.hot.front import Endpoint
from core.errors import NotFoundError
from domain.access.service import Principal, Scope

ENDPOINTS = (*claims.ENDPOINTS, *bets.ENDPOINTS)


def router() -> APIRouter:
    made = APIRouter()
    for endpoint in ENDPOINTS:
        made.add_api_route(
            endpoint.route,
            _beyond(endpoint.scope),
            methods=["POST"],
            name=endpoint.answer.__name__,
            tags=[endpoint.tag],
            summary=endpoint.summary,
            description=endpoint.answer.__doc__,
            responses=_responses(endpoint),
            openapi_extra=_operation(endpoint),
        )
    return made


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    _, brace, rest = endpoint.route.partition("{")
    parameter = {
        "name": rest.partition("}")[0],
        "in": "path",
        "required": True,
        "schema": {"type": "string", "format": "uuid"},
    }
    return {**openapi.body_of(endpoint.request), **({"parameters": [parameter]} if brace else {})}


def _beyond(scope: Scope) -> Callable[..., Awaitable[Response]]:
    async def beyond(_caller: Annotated[Principal, needs(scope)]) -> Response:
        raise NotFoundError("there is nothing at this address")

    return beyond


def _responses(endpoint: Endpoint) -> dict[int | str, dict[str, Any]]:
    told: dict[int | str, dict[str, Any]] = {200: {"model": endpoint.response, "description": "Decided"}}
    if endpoint.may_be_mixed:
        told[207] = {"model": endpoint.response, "description": "Some were refused: see each result"}
    return told
