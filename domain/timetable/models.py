from datetime import datetime
from uuid import UUID

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class SchedulePeriod(Base):
    """One period of one schedule, whose job has been asked for. The key is what makes two beats do the work once."""

    __tablename__ = "schedule_periods"

    schedule: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[datetime] = mapped_column(primary_key=True)
    job_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
