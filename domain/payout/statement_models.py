"""What providers' statements say. A statement is one reading of one, over the network or of a file."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Integer, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn
from core.money import UnitsType


class PayoutStatement(Base):
    """Who read what, when. One that was read to its end proves what isn't in it."""

    __tablename__ = "payout_statements"
    __table_args__ = (
        CheckConstraint("since < until", name="period"),
        CheckConstraint("source IN ('provider', 'file')", name="source"),
        Index("ix_payout_statements_provider", "provider", "until"),
    )

    id: Mapped[IdColumn]
    provider: Mapped[str]
    source: Mapped[str]
    """`provider` or `file`."""
    actor: Mapped[str]
    """`payout` (we asked), or `person:<name>` who brought the file."""
    since: Mapped[datetime]
    until: Mapped[datetime]
    """It has all lines of [since, until), as far as the provider knew them when it was read."""
    lines: Mapped[int] = mapped_column(Integer, default=0)
    added: Mapped[int] = mapped_column(Integer, default=0)
    """New ones, and such as were told otherwise before."""
    withdrawn: Mapped[int] = mapped_column(Integer, default=0)
    """Lines of its time that it doesn't tell any more."""
    file_sha256: Mapped[bytes | None] = mapped_column(LargeBinary)
    begun_at: Mapped[datetime]
    read_at: Mapped[datetime | None]
    """When it was read to its end; None: it broke off."""


class PayoutStatementLine(Base):
    """A line of a provider's statement, matched three ways: our record, the provider's, the books."""

    __tablename__ = "payout_statement_lines"
    __table_args__ = (
        UniqueConstraint("provider", "line"),
        Index("ix_payout_statement_lines_payout_id", "payout_id"),
        Index("ix_payout_statement_lines_booked", "provider", "booked_at"),
        Index("ix_payout_statement_lines_unmatched", "provider", "id", postgresql_where=text("state = 'unmatched'")),
    )

    id: Mapped[IdColumn]
    provider: Mapped[str]
    line: Mapped[str]
    """The provider's name for it."""
    kind: Mapped[str]
    reference: Mapped[str | None]
    provider_ref: Mapped[str | None]
    currency: Mapped[str]
    units: Mapped[int] = mapped_column(UnitsType)
    """What it adds to our balance there."""
    fee_units: Mapped[int] = mapped_column(UnitsType)
    """How much of that was a fee: what left is -(units + fee_units)."""
    booked_at: Mapped[datetime]
    state: Mapped[str]
    """`matched`, `unmatched`, `noted`."""
    why: Mapped[str | None]
    """What keeps it unmatched."""
    payout_id: Mapped[UUID | None] = mapped_column(ForeignKey("payouts.id"))
    break_id: Mapped[UUID | None]
    """Of a line of no payout."""
    statement_id: Mapped[UUID] = mapped_column(ForeignKey("payout_statements.id"))
    """The last one that told it."""
    withdrawn_at: Mapped[datetime | None]
    """Since when its provider doesn't tell it any more: it counts no longer."""
    created_at: Mapped[datetime]
    """When it was told as it is now."""
