from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, CreatedAt, IdColumn
from domain.fairness.states import SeedState

DRAWS_MAX = 1_000
"""Nonces that one request may take."""


class FairnessSeed(Base):
    """A server seed, sealed, and the client seed that it is drawn with.

    Its text stands in no row, not even when it has been revealed. An owner has one that is committed to and one that is
    active at most; the database holds that, that its hash never changes, and that it only goes on (migration 0014).
    """

    __tablename__ = "fairness_seeds"
    __table_args__ = (
        CheckConstraint("state IN ('committed', 'active', 'revealed')", name="state"),
        CheckConstraint("(state = 'committed') = (client_seed IS NULL)", name="client_seed"),
        CheckConstraint("(client_seed IS NULL) = (activated_at IS NULL)", name="activated"),
        CheckConstraint("(state = 'revealed') = (revealed_at IS NOT NULL)", name="revealed"),
        CheckConstraint("next_nonce >= 0 AND (next_nonce = 0 OR state <> 'committed')", name="next_nonce"),
        CheckConstraint("seed_hash ~ '^[0-9a-f]{64}$'", name="seed_hash"),
        Index(
            "uq_fairness_seeds_live",
            "tenant",
            "owner",
            "state",
            unique=True,
            postgresql_where=text("state <> 'revealed'"),
        ),
        Index("ix_fairness_seeds_owner", "tenant", "owner", "id"),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    owner: Mapped[str]
    """The player, as the tenant names him."""
    state: Mapped[str]
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    """The server seed, encrypted: domain/fairness/sealing.py."""
    sealed_by: Mapped[str]
    """Which of FAIRNESS_KEYS."""
    seed_hash: Mapped[str]
    """SHA-256 of the server seed, as it was shown."""
    client_seed: Mapped[str | None]
    next_nonce: Mapped[int] = mapped_column(BigInteger, default=0, server_default=text("0"))
    """Also how many were taken."""
    created_at: Mapped[CreatedAt]
    activated_at: Mapped[datetime | None]
    revealed_at: Mapped[datetime | None]

    @property
    def current(self) -> SeedState:
        return SeedState(self.state)


class FairnessDraw(Base):
    """Nonces that were taken together, and for what: with the seed, outcomes follow from it. Rows are only added."""

    __tablename__ = "fairness_draws"
    __table_args__ = (
        CheckConstraint(f"count BETWEEN 1 AND {DRAWS_MAX} AND first_nonce >= 0", name="nonces"),
        UniqueConstraint("seed_id", "first_nonce"),
    )

    id: Mapped[IdColumn]
    tenant: Mapped[str]
    seed_id: Mapped[UUID] = mapped_column(ForeignKey("fairness_seeds.id"))
    first_nonce: Mapped[int] = mapped_column(BigInteger)
    count: Mapped[int] = mapped_column(Integer)
    game: Mapped[str]
    params: Mapped[dict[str, Any]]
    """All of them, defaults too."""
    created_at: Mapped[CreatedAt]
