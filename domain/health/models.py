from datetime import datetime

from sqlalchemy import func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base


class Heartbeat(Base):
    """When a part of the fleet last proved that it works. Names: each queue, `relay`, `sync`, `beat`."""

    __tablename__ = "heartbeats"

    name: Mapped[str] = mapped_column(primary_key=True)
    beat_at: Mapped[datetime] = mapped_column(server_default=func.now())
