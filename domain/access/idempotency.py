"""Permanent idempotency keys: one key, one request, one answer, for ever.

The key is claimed, the work done and the answer kept in one transaction. So there is never a key without its work nor
work without its answer, whatever is killed, and whoever comes second under a key waits in PostgreSQL for the first to
end: committed, he gets its answer; rolled back, the key is his.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from psycopg.errors import LockNotAvailable
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import vault
from core.errors import InvalidRequestError, InvariantError
from domain.access.errors import KeyReusedError, RequestInProgressError

KEY_LENGTH_MAX = 255
_KEY = re.compile(rf"[!-~]{{1,{KEY_LENGTH_MAX}}}")


@dataclass(frozen=True, slots=True)
class Claim:
    """A key and what is asked for under it."""

    key: str
    request_hash: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What the first request under a key was told."""

    status: int
    body: dict[str, Any]


def checked_key(key: str) -> str:
    """The key. Raises InvalidRequestError unless it is 1 to 255 printable ASCII characters without spaces."""
    if not _KEY.fullmatch(key):
        raise InvalidRequestError(
            f"an idempotency key has 1 to {KEY_LENGTH_MAX} printable ASCII characters and no spaces", field="key"
        )
    return key


def request_hash(kind: str, body: object) -> bytes:
    """SHA-256 of the kind of request and its parsed body: spacing and the order of fields don't make it another."""
    return hashlib.sha256(_canonical(kind, body).encode()).digest()


def keyed_request_hash(kind: str, body: object) -> bytes:
    """As `request_hash`, for bodies with what must not be read from the database: by the vault's key, as whoever has a
    plain hash can try all account numbers. Raises VaultOffError.
    """
    return bytes.fromhex(vault.fingerprint("request", _canonical(kind, body)))


def _canonical(kind: str, body: object) -> str:
    return f"{kind}\n{json.dumps(body, sort_keys=True, separators=(',', ':'))}"


# The lock timeout is set by the statement that it is first to bound: a subselect that depends on no row is evaluated
# before the first one. It holds for the rest of the transaction, too, where nothing may wait long either.
_CLAIM = text(
    """
    INSERT INTO idempotency_keys (tenant, key, request_hash, answer)
    SELECT :tenant, key, request_hash, 'null' FROM unnest(cast(:keys AS text[]), cast(:hashes AS bytea[]))
      AS new (key, request_hash)
    WHERE (SELECT set_config('lock_timeout', :wait, true)) IS NOT NULL
    ON CONFLICT DO NOTHING RETURNING key
    """
)
_FIRST = text(
    "SELECT key, request_hash, answer FROM idempotency_keys WHERE tenant = :tenant AND key = ANY(cast(:keys AS text[]))"
)
_ANSWER = text(
    """
    UPDATE idempotency_keys SET answer = given.answer
    FROM jsonb_each(cast(:answers AS jsonb)) AS given (key, answer)
    WHERE tenant = :tenant AND idempotency_keys.key = given.key
    """
)
_RELEASE = text("DELETE FROM idempotency_keys WHERE tenant = :tenant AND key = ANY(cast(:keys AS text[]))")


def claim(
    session: Session, tenant: str, claims: Sequence[Claim], *, wait: timedelta
) -> dict[str, Answer | KeyReusedError | None]:
    """Claim different keys, in one statement. For each: None if it is ours now, else its first answer or a refusal.

    Raises RequestInProgressError if another transaction that holds one of them doesn't end within `wait`.
    """
    # In one order everywhere, so that two transactions with the same keys wait for each other but never in a circle.
    claims = sorted(claims, key=lambda claim: claim.key)
    keys = [claim.key for claim in claims]
    try:
        ours = session.scalars(
            _CLAIM,
            {
                "tenant": tenant,
                "keys": keys,
                "hashes": [claim.request_hash for claim in claims],
                "wait": f"{max(1, int(wait.total_seconds() * 1_000))}ms",  # 0 would mean: for ever
            },
        ).all()
    except OperationalError as error:
        if isinstance(error.orig, LockNotAvailable):
            raise RequestInProgressError("a request under this idempotency key is still in progress") from None
        raise
    found: dict[str, Answer | KeyReusedError | None] = dict.fromkeys(ours)
    if len(found) < len(claims):
        taken = {claim.key: claim for claim in claims if claim.key not in found}
        # A statement of its own, so that it sees what the insert waited for.
        rows = session.execute(_FIRST, {"tenant": tenant, "keys": list(taken)})
        found |= {row.key: _first(taken[row.key], row.request_hash, row.answer) for row in rows}
    if missing := set(keys) - found.keys():
        raise InvariantError(f"the idempotency key {min(missing)!r} was neither claimed nor found")
    return found


def _first(claim: Claim, request_hash: bytes, answer: dict[str, Any] | None) -> Answer | KeyReusedError:
    if claim.request_hash != bytes(request_hash):
        return KeyReusedError(claim.key)
    if answer is None:
        raise InvariantError(f"the idempotency key {claim.key!r} was committed without its answer")
    return Answer(answer["status"], answer["body"])


def keep(session: Session, tenant: str, answers: Mapping[str, Answer]) -> None:
    """Keep the answers to claimed keys, in one statement."""
    if answers:
        # One document, and not an array of them, in which each quote of each would have to be escaped a second time.
        given = {key: {"status": answer.status, "body": answer.body} for key, answer in answers.items()}
        session.execute(_ANSWER, {"tenant": tenant, "answers": json.dumps(given, separators=(",", ":"))})


def release(session: Session, tenant: str, keys: Iterable[str]) -> None:
    """Give back claimed keys whose request was refused after all: a refusal binds nobody."""
    if keys := list(keys):
        session.execute(_RELEASE, {"tenant": tenant, "keys": keys})
