"""Every SELECT and lock of webhooks that came in, and the statements that write many."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from core.db import plain_array, text_array
from core.errors import NotFoundError
from core.jobs import SYSTEM_TENANT
from domain.webhook.models import WebhookReceipt
from domain.webhook.states import ReceiptState

Scalar = Callable[[LiteralString, Sequence[Any]], Any]
"""Runs a statement with positional parameters and returns the first column of its first row."""


class NewReceipt(NamedTuple):
    """In the order of the statement's parameters."""

    id: str
    job_id: str
    provider: str
    dedupe_key: str
    headers: str
    """JSON."""
    secret: int
    remote: str | None
    correlation_id: str | None
    repeats: int
    body: bytes


class JobOfEach(NamedTuple):
    """What the jobs have in common. `subject` is what stands before the receipt's id."""

    queue: str
    task: str
    attempts_max: int
    subject: str
    tenant: str = SYSTEM_TENANT


# One statement, as each further one is a round trip that all in the batch wait for. Its jobs are those that core.jobs
# would write; a test compares the two. Receipts are written in the order of their keys, so that two that write the same
# at once wait for each other and not in a circle. Bodies go as they are (%b): as text the driver would take longer
# over them than all the rest takes.
_KEEP: LiteralString = """
    WITH new AS (
      SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::text[], %s::text[], %s::jsonb[], %s::int[], %s::inet[],
                           %s::text[], %s::int[], %b::bytea[])
        AS new (id, job_id, provider, dedupe_key, headers, secret, remote, correlation_id, repeats, body)
    ), kept AS (
      INSERT INTO webhook_receipts AS kept (id, provider, dedupe_key, body, bytes, headers, secret, remote,
                                            correlation_id, repeats)
      SELECT id, provider, dedupe_key, body, octet_length(body), headers, secret, remote, correlation_id, repeats
      FROM new ORDER BY provider, dedupe_key
      ON CONFLICT (provider, dedupe_key) DO UPDATE
        SET repeats = kept.repeats + excluded.repeats + 1, repeated_at = now()
      RETURNING id
    ), asked AS (
      INSERT INTO jobs (id, queue, task, attempts_max, subject, tenant, args, correlation_id)
      SELECT job_id, %s, %s, %s, %s || id, %s, jsonb_build_object('receipt_id', id), correlation_id
      FROM new JOIN kept USING (id)
    )
    SELECT array_agg(id::text) FROM kept
"""


def keep(scalar: Scalar, new: Sequence[NewReceipt], job: JobOfEach) -> set[str]:
    """Write them with a job each, or count a repeat of what is there. Returns the ids that those have which stand for
    them now.

    No two of them may have the same provider and key.
    """
    columns = list(zip(*new, strict=True))
    ids, job_ids, providers, keys, headers, secrets, remotes, correlation_ids, repeats, bodies = columns
    parameters = [
        plain_array(ids), plain_array(job_ids), text_array(providers), text_array(keys), text_array(headers),
        plain_array(secrets), text_array(remotes), text_array(correlation_ids), plain_array(repeats), list(bodies),
    ]  # fmt: skip
    return set(scalar(_KEEP, [*parameters, *job]))


def get(session: Session, receipt_id: UUID) -> WebhookReceipt:
    """Raises NotFoundError."""
    return _there(session.get(WebhookReceipt, receipt_id), receipt_id)


def lock(session: Session, receipt_id: UUID) -> WebhookReceipt:
    """Raises NotFoundError."""
    return _there(session.get(WebhookReceipt, receipt_id, with_for_update=True, populate_existing=True), receipt_id)


def _there(found: WebhookReceipt | None, receipt_id: UUID) -> WebhookReceipt:
    if found is None:
        raise NotFoundError(f"there is no webhook {receipt_id}")
    return found


def page(
    session: Session,
    *,
    provider: str | None = None,
    state: ReceiptState | None = None,
    before: UUID | None = None,
    limit: int,
) -> Sequence[WebhookReceipt]:
    """Newest first."""
    found = select(WebhookReceipt).order_by(WebhookReceipt.id.desc()).limit(limit)
    if provider is not None:
        found = found.where(WebhookReceipt.provider == provider)
    if state is not None:
        found = found.where(WebhookReceipt.state == state)
    if before is not None:
        found = found.where(WebhookReceipt.id < before)
    return session.scalars(found).all()


_OPEN = text(
    """
    SELECT provider, state, count(*) AS receipts, now() - min(received_at) AS oldest
    FROM webhook_receipts WHERE settled_at IS NULL GROUP BY provider, state
    """
)


def unsettled(session: Session) -> Sequence[Row[Any]]:
    """provider, state, receipts (how many) and oldest (its age)."""
    return session.execute(_OPEN).all()


# The row stays, since it is what tells a repeat.
_FORGET = text(
    """
    UPDATE webhook_receipts SET body = NULL, headers = '{}', remote = NULL
    WHERE id IN (
      SELECT id FROM webhook_receipts WHERE body IS NOT NULL AND settled_at < now() - cast(:keep AS interval)
      ORDER BY settled_at LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    """
)


def forget(session: Session, *, keep: timedelta, limit: int) -> int:
    """Remove the content of what was settled so long ago. Returns how many had some."""
    done = session.execute(_FORGET, {"keep": keep, "limit": limit})
    return int(done.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has a count
