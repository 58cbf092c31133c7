"""Coverage, rescans and pace of scans.

Revision ID: 0011
Revises: 0010
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
CURSOR_COLUMNS: dict[str, Any] = {
    "first_block": sa.BigInteger(),
    "range_blocks": sa.Integer(),
    "next_scan_at": sa.DateTime(timezone=True),
    "head_number": sa.BigInteger(),
    "head_time": sa.DateTime(timezone=True),
    "head_at": sa.DateTime(timezone=True),
}


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _block(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.BigInteger(), nullable=False)


def _time(name: str, *, null: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, server_default=None if null else NOW)


def upgrade() -> None:
    for name, kind in CURSOR_COLUMNS.items():
        op.add_column("chain_cursors", sa.Column(name, kind))
    # What was scanned before is not proven: coverage begins where the cursor stands now.
    op.execute("UPDATE chain_cursors SET first_block = next_block")
    create_coverage()
    create_rescans()
    op.create_index(
        "ix_deposits_waiting", "deposits", ["chain"], postgresql_where=sa.text("mode <> 'tx' AND state = 'watching'")
    )


def create_coverage() -> None:
    op.create_table(
        "chain_coverage",
        _text("chain"),
        _block("first_block"),
        _block("last_block"),
        _text("last_hash", null=True),
        _text("by"),
        sa.Column("addresses", sa.Integer(), nullable=False),
        _time("began_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("chain", "first_block", name=op.f("pk_chain_coverage")),
        sa.CheckConstraint("first_block BETWEEN 0 AND last_block", name=op.f("ck_chain_coverage_range")),
        sa.CheckConstraint("by IN ('scan', 'rescan')", name=op.f("ck_chain_coverage_by")),
    )
    # A range of texts, so that "the same chain" can stand in an exclusion without the extension btree_gist.
    op.execute("CREATE TYPE text_range AS RANGE (subtype = text)")
    op.execute(
        """
        ALTER TABLE chain_coverage ADD CONSTRAINT ex_chain_coverage_overlap EXCLUDE USING gist (
          text_range(chain, chain, '[]') WITH &&, int8range(first_block, last_block, '[]') WITH &&)
        """
    )


def create_rescans() -> None:
    op.create_table(
        "chain_rescans",
        sa.Column("id", sa.Uuid(), nullable=False),
        _text("chain"),
        *[_block(name) for name in ("first_block", "last_block", "next_block")],
        _text("last_hash", null=True),
        _text("actor"),
        _text("reason"),
        _text("status", default="running"),
        sa.Column("part", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("found", sa.Integer(), nullable=False, server_default="0"),
        _time("created_at"),
        _time("updated_at"),
        _time("finished_at", null=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chain_rescans")),
        sa.CheckConstraint("first_block BETWEEN 0 AND last_block", name=op.f("ck_chain_rescans_range")),
        sa.CheckConstraint("status IN ('running', 'done')", name=op.f("ck_chain_rescans_status")),
    )
    op.create_index("ix_chain_rescans_chain", "chain_rescans", ["chain", "id"])


def downgrade() -> None:
    op.drop_index("ix_deposits_waiting", "deposits")
    op.drop_table("chain_rescans")
    op.drop_table("chain_coverage")
    op.execute("DROP TYPE text_range")
    for name in CURSOR_COLUMNS:
        op.drop_column("chain_cursors", name)
