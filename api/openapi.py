"""The description of the API for programs: what FastAPI finds by itself, and what it can't know."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.problems import KINDS, MEDIA_TYPE, ProblemDocument
from domain.access.idempotency import KEY_LENGTH_MAX

DESCRIPTION = """\
Takes work from upstream apps: what is answered with 2xx is finished, or stands visibly waiting, whatever fails.

Every request needs an API key (`Authorization: Bearer tr_...`); `POST /v1/fairness/verify` and the webhooks of
providers do not. Requests that ask for work need an idempotency key: the same key with the same body gets the first
answer again, for ever.
Amounts are integers in the asset's smallest unit, written as strings. Every refusal is a problem document (RFC 9457);
look at its `type`.
"""
TAGS = [
    {"name": "deposits", "description": "Payments to watch for on chains"},
    {"name": "addresses", "description": "Where an account is paid, for ever"},
    {"name": "chains", "description": "How far each chain was read, and reading a range once more"},
    {"name": "jobs", "description": "Durable work: what was asked for and how far it came"},
    {"name": "accounts", "description": "The books, read: balances now and then, entries, statements"},
    {"name": "journals", "description": "What moves money in the books: many postings in one, and their reversals"},
    {"name": "holds", "description": "Money bound before it moves: placed, then captured, voided or expired"},
    {"name": "rates", "description": "What assets are worth in currencies, and whether that can be trusted now"},
    {"name": "quotes", "description": "What we give for what, promised for half a minute and used once"},
    {"name": "fiat-payments", "description": "Payments by card, bank transfer and wallet, through gateways"},
    {"name": "beneficiaries", "description": "Where money may be sent: destinations, and whether their holders fit"},
    {"name": "payouts", "description": "Money that leaves: asked for, approved by people, sent exactly once"},
    {"name": "packets", "description": "Red packets: money in shares, for the first who claim"},
    {"name": "bets", "description": "Stakes bound and settled at once, against what players have loaded"},
    {"name": "players", "description": "What players have in their hands: loaded from their accounts, and back"},
    {"name": "fairness", "description": "Provably fair draws: seeds promised by hash, and a check for anybody"},
    {"name": "webhooks", "description": "What providers tell us, signed by them"},
    {"name": "health", "description": "For load balancers"},
]
_REF = "#/components/schemas/{model}"
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="ProblemDocument")}}}
_STATUSES = (400, 401, 403, 404, 409, 413, 415, 422, 429, 500, 503)
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": "; ".join(kind.title for kind in KINDS.values() if kind.status == status),
        "content": _PROBLEM,
    }
    for status in _STATUSES
}

# Checked by us, and not by FastAPI, which would call it optional and of any length.
_IDEMPOTENCY_KEY = {
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH_MAX, "pattern": "^[!-~]+$"},
}
_bodies: list[type[BaseModel]] = [ProblemDocument]


def body_of(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """`openapi_extra` of an endpoint that reads its body itself."""
    _bodies.append(model)
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}


def schema(app: FastAPI) -> dict[str, Any]:
    """The whole document, made once."""
    if app.openapi_schema:
        return app.openapi_schema
    made = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
    )
    _, definitions = models_json_schema([(model, "validation") for model in _bodies], ref_template=_REF)
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    for name, definition in definitions["$defs"].items():
        schemas.setdefault(name, definition)
    for path in made["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] == "Idempotency-Key":
                    parameter.update(_IDEMPOTENCY_KEY)
    app.openapi_schema = made
    return made
