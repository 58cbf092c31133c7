"""Every SELECT and lock of webhooks that came in, and the statements that write many."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.orm import Session

from core.errors import NotFoundError
from domain.webhook.models import WebhookReceipt
from domain.webhook.states import ReceiptState


@dataclass(frozen=True, slots=True, kw_only=True)
class NewReceipt:
    id: UUID
    provider: str
    dedupe_key: str
    body: bytes
    headers: Mapping[str, str]
    secret: int
    remote: str | None
    correlation_id: str | None
    repeats: int


# In the order of their keys, so that two that write the same at once wait for each other and not in a circle.
_KEEP = text(
    """
    INSERT INTO webhook_receipts AS kept (id, provider, dedupe_key, body, bytes, headers, secret, remote,
                                          correlation_id, repeats)
    SELECT id, provider, dedupe_key, body, octet_length(body), headers, secret, remote, correlation_id, repeats
    FROM unnest(cast(:ids AS uuid[]), cast(:providers AS text[]), cast(:keys AS text[]), cast(:bodies AS bytea[]),
                cast(:headers AS jsonb[]), cast(:secrets AS int[]), cast(:remotes AS inet[]),
                cast(:correlation_ids AS text[]), cast(:repeats AS int[]))
      AS new (id, provider, dedupe_key, body, headers, secret, remote, correlation_id, repeats)
    ORDER BY provider, dedupe_key
    ON CONFLICT (provider, dedupe_key) DO UPDATE
      SET repeats = kept.repeats + excluded.repeats + 1, repeated_at = now()
    RETURNING id
    """
)


def keep(session: Session, new: Sequence[NewReceipt]) -> set[UUID]:
    """Write them, or count a repeat of what is there. Returns the ids that those have which stand for them now.

    No two of them may have the same provider and key.
    """
    rows = session.scalars(
        _KEEP,
        {
            "ids": [one.id for one in new],
            "providers": [one.provider for one in new],
            "keys": [one.dedupe_key for one in new],
            "bodies": [one.body for one in new],
            "headers": [json.dumps(dict(one.headers)) for one in new],
            "secrets": [one.secret for one in new],
            "remotes": [one.remote for one in new],
            "correlation_ids": [one.correlation_id for one in new],
            "repeats": [one.repeats for one in new],
        },
    )
    return set(rows)


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
