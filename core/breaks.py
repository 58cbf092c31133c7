"""Breaks: differences between two sources that should agree, kept until a person explains them. docs/breaks.md.

Nothing is ever overwritten to make a difference go away. One that is found again is the same break, seen once more.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Index, func, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column

from core.db import Base, IdColumn
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.ids import new_id

OPEN, EXPLAINED = "open", "explained"


class Break(Base):
    """`kind` says what was compared, `subject` which thing of it: at most one of both is open."""

    __tablename__ = "breaks"
    __table_args__ = (
        Index("uq_breaks_open", "kind", "subject", unique=True, postgresql_where=text("state = 'open'")),
        Index("ix_breaks_state", "state", "id"),
        Index("ix_breaks_subject", "subject", "kind"),
    )

    id: Mapped[IdColumn]
    kind: Mapped[str]
    subject: Mapped[str]
    tenant: Mapped[str | None]
    asset: Mapped[str | None]
    expected: Mapped[str]
    """What the books say."""
    found: Mapped[str]
    """What the other source says."""
    detail: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    state: Mapped[str] = mapped_column(server_default=OPEN)
    times: Mapped[int] = mapped_column(server_default="1")
    """How often it was seen."""
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
    explained_at: Mapped[datetime | None]
    explained_by: Mapped[str | None]
    explanation: Mapped[str | None]
    owner: Mapped[str | None]
    """Who looks into it."""
    journal_id: Mapped[UUID | None]
    """What booked the difference, if a journal did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    kind: str
    subject: str
    expected: str
    found: str
    tenant: str | None = None
    asset: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


_NOTE = text(
    """
    INSERT INTO breaks (id, kind, subject, tenant, asset, expected, found, detail)
    VALUES (:id, :kind, :subject, :tenant, :asset, :expected, :found, cast(:detail AS jsonb))
    ON CONFLICT (kind, subject) WHERE state = 'open' DO UPDATE
      SET times = breaks.times + 1, seen_at = now(), expected = excluded.expected, found = excluded.found,
          detail = excluded.detail
    RETURNING id
    """
)


def note(session: Session, difference: Difference) -> UUID:
    """Put the difference on the list, or say that it was seen again. Returns the break's id."""
    found: UUID = session.execute(
        _NOTE,
        {
            "id": new_id(),
            "kind": difference.kind,
            "subject": difference.subject,
            "tenant": difference.tenant,
            "asset": difference.asset,
            "expected": difference.expected,
            "found": difference.found,
            "detail": json.dumps(dict(difference.detail)),
        },
    ).scalar_one()
    return found


def get(session: Session, break_id: UUID) -> Break:
    """Raises NotFoundError."""
    found = session.get(Break, break_id)
    if found is None:
        raise NotFoundError(f"there is no break {break_id}")
    return found


def page(
    session: Session,
    *,
    state: str | None = OPEN,
    kind: str | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[Break]:
    """Newest first. `before` is the id of the last break of the page before."""
    query = select(Break).order_by(Break.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Break.state == state)
    if kind is not None:
        query = query.where(Break.kind == kind)
    if before is not None:
        query = query.where(Break.id < before)
    return session.scalars(query).all()


def explain(session: Session, break_id: UUID, *, actor: str, explanation: str) -> Break:
    """Take it off the list, with the reason why. Raises NotFoundError, ConflictError if it is explained already."""
    if not explanation.strip():
        raise InvalidRequestError("an explanation is needed", field="explanation")
    found = locked(session, break_id)
    found.state, found.explained_by, found.explanation = EXPLAINED, actor, explanation.strip()
    found.explained_at = session.scalar(select(func.now()))
    return found


def assign(session: Session, break_id: UUID, *, owner: str | None) -> Break:
    """Say who looks into it; None: nobody any more. Raises NotFoundError, ConflictError if it is explained already."""
    found = locked(session, break_id)
    if owner is not None and not owner.strip():
        raise InvalidRequestError("an owner has a name", field="owner")
    found.owner = None if owner is None else owner.strip()
    return found


def locked(session: Session, break_id: UUID) -> Break:
    """An open one, nobody else's until the transaction ends. Raises NotFoundError, ConflictError if it is explained."""
    found = session.scalars(
        select(Break).where(Break.id == break_id).with_for_update(), execution_options={"populate_existing": True}
    ).one_or_none()
    if found is None:
        raise NotFoundError(f"there is no break {break_id}")
    if found.state != OPEN:
        raise ConflictError(f"the break {break_id} was explained by {found.explained_by} already")
    return found


def count_open(session: Session) -> dict[str, int]:
    """By kind, for metrics."""
    rows = session.execute(select(Break.kind, func.count()).where(Break.state == OPEN).group_by(Break.kind))
    return {row[0]: row[1] for row in rows}
