from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn


class DeadLetterAction(Base):
    """What a person did with a dead letter: who, what, why, and how the arguments were before and after."""

    __tablename__ = "dead_letter_actions"

    id: Mapped[IdColumn]
    job_id: Mapped[UUID] = mapped_column(index=True)
    action: Mapped[str]
    actor: Mapped[str]
    reason: Mapped[str | None]
    args_before: Mapped[dict[str, Any]]
    args_after: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
