"""Webhooks that came in: kept before they are answered, handled by a job each, repeats counted.

What an authentic webhook says is a hint of what to look at. Handling one any number of times, in any order, comes to
the same; so nothing here decides about money.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session
from uuid_utils import uuid7

from core import db, jobs
from core.errors import ConflictError
from core.jobs import NewJob
from domain.webhook import queries
from domain.webhook.models import WebhookReceipt
from domain.webhook.queries import JobOfEach, NewReceipt, Scalar
from domain.webhook.states import WEBHOOK, ReceiptState

__all__ = [
    "Arrived",
    "Kept",
    "Unsettled",
    "get",
    "keep",
    "keep_now",
    "now",
    "page",
    "remove_old",
    "replay",
    "settle",
    "unsettled",
    "wait",
]

HANDLE = "fiat_webhook.handle"
ATTEMPTS_MAX = 200
"""Of its job. Looking for an unknown reference for a day takes some fifty; the rest is for providers that are away."""
HEADERS_KEPT = frozenset({"content-type", "user-agent", "x-razorpay-event-id", "timestamp"})
HEADER_MAX = 256
"""Characters of one that are kept."""
NOTE_MAX = 1_000
SUBJECT = "webhook:"
_JOB = JobOfEach(queue="fiat_webhook", task=HANDLE, attempts_max=ATTEMPTS_MAX, subject=SUBJECT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """An authentic webhook. `headers`: all that it came with, by lower-case name."""

    provider: str
    event_id: str | None
    body: bytes
    headers: Mapping[str, str]
    secret: int
    remote: str | None
    correlation_id: str | None

    @property
    def dedupe_key(self) -> str:
        return f"sha256:{sha256(self.body).hexdigest()}" if self.event_id is None else f"event:{self.event_id}"


@dataclass(frozen=True, slots=True)
class Kept:
    is_repeat: bool


def keep(session: Session, arrived: Sequence[Arrived]) -> list[Kept]:
    """Keep each that is new and ask for its job; count the repeats. An answer to each, in order.

    What is answered is kept once the caller's transaction is committed, and not before. Nobody is rung for: that is
    `core.jobs.ring`, and the caller's to do when it is committed.
    """
    connection = session.connection()
    return _keep(lambda statement, values: connection.exec_driver_sql(statement, tuple(values)).scalar(), arrived)


def keep_now(arrived: Sequence[Arrived]) -> list[Kept]:
    """As `keep`, in a transaction of its own, which is one round trip: what is answered is kept."""
    with db.direct() as connection:
        return _keep(connection.scalar, arrived)


def _keep(scalar: Scalar, arrived: Sequence[Arrived]) -> list[Kept]:
    if not arrived:
        return []
    firsts: dict[tuple[str, str], int] = {}
    again: dict[tuple[str, str], int] = {}
    keys = [(one.provider, one.dedupe_key) for one in arrived]
    for place, key in enumerate(keys):
        again[key] = again.get(key, -1) + 1
        firsts.setdefault(key, place)
    new = [_receipt(arrived[place], key[1], again[key]) for key, place in firsts.items()]
    there = queries.keep(scalar, new, _JOB)
    fresh = {(one.provider, one.dedupe_key) for one in new if one.id in there}
    return [Kept(is_repeat=firsts[key] != place or key not in fresh) for place, key in enumerate(keys)]


def _receipt(one: Arrived, dedupe_key: str, repeats: int) -> NewReceipt:
    headers = {name: _printable(one.headers[name], HEADER_MAX) for name in HEADERS_KEPT if name in one.headers}
    return NewReceipt(
        # As text: the standard library's class for ids costs more than all the rest of a row.
        id=str(uuid7()),
        job_id=str(uuid7()),
        provider=one.provider,
        dedupe_key=dedupe_key,
        headers=json.dumps(headers),
        secret=one.secret,
        remote=one.remote,
        correlation_id=one.correlation_id,
        repeats=repeats,
        body=one.body,
    )


def _printable(text: str, length: int) -> str:
    """Whatever a sender writes, PostgreSQL keeps it."""
    text = text[:length]
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "?" for sign in text)


def _job(receipt_id: UUID, correlation_id: str | None) -> NewJob:
    return NewJob(
        HANDLE,
        {"receipt_id": str(receipt_id)},
        subject=subject(receipt_id),
        correlation_id=correlation_id,
        attempts_max=ATTEMPTS_MAX,
    )


def subject(receipt_id: UUID) -> str:
    """What its jobs are found by."""
    return f"{SUBJECT}{receipt_id}"


# --- handling ----------------------------------------------------------------------------------------------------


def settle(session: Session, receipt_id: UUID, event: str, *, note: str | None = None) -> None:
    """`handle` or `ignore`. Nothing happens if it is settled already, such as by another run."""
    receipt = queries.lock(session, receipt_id)
    if receipt.settled_at is not None:
        return
    at = now(session)
    receipt.state = WEBHOOK.then(receipt.current, event)
    receipt.settled_at = at
    receipt.note = note


def wait(session: Session, receipt_id: UUID, *, note: str) -> timedelta:
    """It is about what isn't known yet. Returns for how long it has been waiting."""
    receipt = queries.lock(session, receipt_id)
    at = now(session)
    if receipt.settled_at is not None:
        return timedelta(0)
    if receipt.current is ReceiptState.RECEIVED:
        receipt.state = WEBHOOK.then(receipt.current, "wait")
        receipt.waiting_at = at
    receipt.note = _printable(note, NOTE_MAX)
    return at - (receipt.waiting_at or at)


def ignore(session: Session, receipt_id: UUID, *, actor: str, reason: str) -> WebhookReceipt:
    """A person says that it is about nothing of ours. Raises NotFoundError, ConflictError if it is settled."""
    receipt = queries.lock(session, receipt_id)
    if receipt.settled_at is not None:
        raise ConflictError(f"the webhook {receipt_id} is {receipt.state}")
    settle(session, receipt_id, "ignore", note=_printable(f"by {actor}: {reason}", NOTE_MAX))
    return receipt


def replay(session: Session, receipt_id: UUID, *, actor: str) -> WebhookReceipt:
    """Handle it once more, from the beginning. Raises NotFoundError, ConflictError if its body is gone."""
    receipt = queries.lock(session, receipt_id)
    if receipt.body is None:
        raise ConflictError(f"the body of the webhook {receipt_id} was deleted: its time was over")
    receipt.state = WEBHOOK.then(receipt.current, "replay")
    receipt.waiting_at = receipt.settled_at = None
    receipt.note = _printable(f"replayed by {actor}", NOTE_MAX)
    jobs.submit(session, _job(receipt.id, receipt.correlation_id))
    return receipt


def now(session: Session) -> datetime:
    """By PostgreSQL's clock, which all processes share."""
    found: datetime = session.scalars(select(func.clock_timestamp())).one()
    return found


# --- reading and removing ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Unsettled:
    """Of one provider, those that wait in one state."""

    provider: str
    state: ReceiptState
    count: int
    oldest: timedelta


def unsettled(session: Session) -> list[Unsettled]:
    """What was kept and is not handled yet."""
    rows = queries.unsettled(session)
    return [Unsettled(row.provider, ReceiptState(row.state), row.receipts, row.oldest) for row in rows]


def remove_old(session: Session, *, keep: timedelta, limit: int) -> int:
    """Remove body, headers and address of what was settled so long ago. What is not settled keeps them."""
    return queries.forget(session, keep=keep, limit=limit)


get = queries.get
page = queries.page
