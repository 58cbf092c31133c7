from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, Text, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn


class Tenant(Base):
    """An upstream app. Its id is a short word that stands in every row that is its own."""

    __tablename__ = "tenants"

    id: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiKey(Base):
    """A credential of a tenant. The secret itself is shown once and never stored."""

    __tablename__ = "api_keys"

    id: Mapped[IdColumn]
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), index=True)
    name: Mapped[str]
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    """SHA-256 of the secret. The secret has 256 random bits, so a slow hash would add nothing."""
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    replaces: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    """The key that this one was made to replace."""
    person: Mapped[str | None]
    """Whose own key it is; None: a service's. Who makes the key says so, never who uses it."""


class IdempotencyKey(Base):
    """The first answer to a request, kept for ever: the same key with the same body gets it again."""

    __tablename__ = "idempotency_keys"

    tenant: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    """SHA-256 of the kind of request and its canonical body."""
    answer: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
