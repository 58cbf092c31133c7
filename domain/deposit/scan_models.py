"""How far each chain was scanned, what was scanned once more, and how its nodes do."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, func
from sqlalchemy.orm import Mapped, mapped_column

from core.db import Base, IdColumn


class ChainCursor(Base):
    """How far a chain has been scanned, and whether it can be read."""

    __tablename__ = "chain_cursors"
    __table_args__ = (CheckConstraint("status IN ('running', 'stopped')", name="status"),)

    chain: Mapped[str] = mapped_column(primary_key=True)
    next_block: Mapped[int | None] = mapped_column(BigInteger)
    """None until an address of this chain is allotted."""
    read_until: Mapped[datetime | None]
    """The time of the last block scanned: nothing older is still to be found."""
    first_block: Mapped[int | None] = mapped_column(BigInteger)
    """The first that was ever scanned: from here to the cursor every block must be covered."""
    range_blocks: Mapped[int | None] = mapped_column(Integer)
    """How many blocks one reading asks for, as the nodes take it. None: the chain's `scan_blocks_max`."""
    next_scan_at: Mapped[datetime | None]
    """When it is to be scanned again, if no deposit begins to wait before. None: at once."""
    head_number: Mapped[int | None] = mapped_column(BigInteger)
    """The newest block that a node has told of."""
    head_time: Mapped[datetime | None]
    """Its time, by the chain's clock."""
    head_at: Mapped[datetime | None]
    """When we were first told of it, by ours: a chain that stands still lets it grow old."""
    status: Mapped[str] = mapped_column(default="running", server_default="running")
    """`stopped`: the scan found what it must not decide alone. A person restarts it."""
    last_read_at: Mapped[datetime | None]
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None]
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ChainBlock(Base):
    """A block that was scanned, kept for as long as a reorg may undo it."""

    __tablename__ = "chain_blocks"

    chain: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hash: Mapped[str]
    parent_hash: Mapped[str]


class ChainCoverage(Base):
    """A range of blocks that was read for transfers to our addresses. Ranges of a chain never overlap.

    Written in the transaction that moves the cursor and keeps what was found. Neighbours of one day are one row. That
    none overlap is an exclusion constraint of the migration.
    """

    __tablename__ = "chain_coverage"
    __table_args__ = (
        CheckConstraint("first_block BETWEEN 0 AND last_block", name="range"),
        CheckConstraint("by IN ('scan', 'rescan')", name="by"),
    )

    chain: Mapped[str] = mapped_column(primary_key=True)
    first_block: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_block: Mapped[int] = mapped_column(BigInteger)
    last_hash: Mapped[str | None]
    """None where it is not known, or the chain has no block of that number."""
    by: Mapped[str]
    addresses: Mapped[int] = mapped_column(Integer)
    """How many were watched when it was last added to."""
    began_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ChainRescan(Base):
    """A range that a person had scanned once more, and how far that has come."""

    __tablename__ = "chain_rescans"
    __table_args__ = (
        CheckConstraint("first_block BETWEEN 0 AND last_block", name="range"),
        CheckConstraint("status IN ('running', 'done')", name="status"),
        Index("ix_chain_rescans_chain", "chain", "id"),
    )

    id: Mapped[IdColumn]
    chain: Mapped[str]
    first_block: Mapped[int] = mapped_column(BigInteger)
    last_block: Mapped[int] = mapped_column(BigInteger)
    next_block: Mapped[int] = mapped_column(BigInteger)
    last_hash: Mapped[str | None]
    """Of the last block read: the next part must stand on it."""
    actor: Mapped[str]
    reason: Mapped[str]
    status: Mapped[str] = mapped_column(default="running", server_default="running")
    part: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Counts its jobs. Only the last one works on it; one that comes again after it was killed finds another number."""
    found: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    """Transfers that no scan had found."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    @property
    def subject(self) -> str:
        """How its jobs are found."""
        return f"rescan:{self.id}"


class ChainNode(Base):
    """How one endpoint of a chain does, as one of our processes sees it."""

    __tablename__ = "chain_nodes"

    chain: Mapped[str] = mapped_column(primary_key=True)
    label: Mapped[str] = mapped_column(primary_key=True)
    process: Mapped[str] = mapped_column(primary_key=True)
    head_number: Mapped[int | None] = mapped_column(BigInteger)
    head_time: Mapped[datetime | None]
    latency_ms: Mapped[int | None] = mapped_column(Integer)
    calls: Mapped[int] = mapped_column(BigInteger)
    failures: Mapped[int] = mapped_column(BigInteger)
    """Since the process began."""
    failing_since: Mapped[datetime | None]
    last_error: Mapped[str | None]
    open_until: Mapped[datetime | None]
    trouble: Mapped[str | None]
    updated_at: Mapped[datetime]
