"""Carrying out requests that ask for work: checked one by one, written together, each once for ever.

One request and a batch of a thousand take the same way: claim every key in one statement, write the work in a few, keep
the answers in one, commit. A refused request leaves nothing behind, not even its key.
"""

import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import BaseModel, ValidationError
from sqlalchemy.orm import Session

from api import problems
from api.problems import Problem
from config import settings
from core import db
from core.errors import InvalidRequestError
from domain.access import idempotency
from domain.access.errors import KeyReusedError
from domain.access.idempotency import Answer, Claim
from domain.access.service import Principal, Scope

ACCEPTED = 202


@dataclass(frozen=True)
class Kind:
    """One kind of request. `deposit` in a batch and POST /v1/deposits are the same thing under the same key."""

    name: str
    scope: Scope
    schema: type[BaseModel]
    prepare: Callable[[str, Any], Any]
    """(tenant, checked body) -> what the domain is asked for. Raises InvalidRequestError; touches nothing."""
    create: Callable[[Session, Sequence[Any]], Sequence[dict[str, Any] | InvalidRequestError]]
    """Writes them all, in a few statements. For each, in order, the body of its answer, or why not."""
    status: int = ACCEPTED
    """Of its answer. 202: more is still to be done."""
    request_hash: Callable[[str, object], bytes] = idempotency.request_hash
    """What is kept of its body, to tell another request under its key."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A request that can be carried out as far as can be said without looking into the database."""

    kind: Kind
    claim: Claim
    work: Any


@dataclass(frozen=True, slots=True)
class Outcome:
    answer: Answer
    replayed: bool


def checked(caller: Principal, kind: Kind, key: str, body: object) -> Ask:
    """Check one request by itself. Raises Problem."""
    if kind.scope not in caller.scopes:
        raise Problem("forbidden", f"the API key lacks the scope {kind.scope}")
    try:
        key = idempotency.checked_key(key)
    except InvalidRequestError as error:
        raise Problem("idempotency-key-malformed", str(error)) from None
    try:
        work = kind.prepare(caller.tenant, kind.schema.__pydantic_validator__.validate_python(body))
    except ValidationError as error:
        raise problems.of_validation(error) from None
    except InvalidRequestError as error:
        raise problems.of_error(error) from None
    return Ask(kind, Claim(key, kind.request_hash(kind.name, body)), work)


def carry_out(caller: Principal, asks: Sequence[Ask]) -> list[Outcome | Problem]:
    """What came of each request, in order. All that is new is committed together before this returns."""
    first: dict[str, Ask] = {}
    for ask in asks:
        first.setdefault(ask.claim.key, ask)
    wait = settings.api().idempotency_wait
    with db.transaction() as session:
        claimed = idempotency.claim(session, caller.tenant, [ask.claim for ask in first.values()], wait=wait)
        fresh = _create(session, caller.tenant, [ask for key, ask in first.items() if claimed[key] is None])
    known = {key: before for key, before in claimed.items() if before is not None} | fresh
    return [_outcome(ask, known[ask.claim.key], first=first[ask.claim.key], fresh=fresh) for ask in asks]


def _create(session: Session, tenant: str, asks: Sequence[Ask]) -> dict[str, Answer | InvalidRequestError]:
    made: dict[str, Answer | InvalidRequestError] = {}
    for kind in dict.fromkeys(ask.kind for ask in asks):
        of_kind = [ask for ask in asks if ask.kind is kind]
        bodies = kind.create(session, [ask.work for ask in of_kind])
        for ask, body in zip(of_kind, bodies, strict=True):
            made[ask.claim.key] = Answer(kind.status, body) if isinstance(body, dict) else body
    idempotency.keep(session, tenant, {key: answer for key, answer in made.items() if isinstance(answer, Answer)})
    idempotency.release(session, tenant, [key for key, answer in made.items() if not isinstance(answer, Answer)])
    return made


def _outcome(
    ask: Ask,
    known: Answer | InvalidRequestError,
    *,
    first: Ask,
    fresh: Container[str],
) -> Outcome | Problem:
    key = ask.claim.key
    if ask.claim.request_hash != first.claim.request_hash:
        known = KeyReusedError(key)  # within one batch
    if isinstance(known, Answer):
        return Outcome(known, replayed=ask is not first or key not in fresh)
    return problems.of_error(known)


def correlation_id() -> str | None:
    """The request's, for the jobs it asks for."""
    found = structlog.contextvars.get_contextvars().get("correlation_id")
    return str(found) if found else None


def as_json(body: Mapping[str, Any]) -> str:
    return json.dumps(body, separators=(",", ":"))
