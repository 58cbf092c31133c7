"""Deposits: addresses, deposits with their history and transfers, the scan of each chain.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from core.db import APP_ROLE

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NOW = sa.text("now()")
UNITS: sa.NUMERIC[int] = sa.NUMERIC(38, 0)


def _text(name: str, *, null: bool = False, default: str | None = None) -> sa.Column[object]:
    return sa.Column(name, sa.Text(), nullable=null, server_default=default)


def _time(name: str, *, null: bool = False, default: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=null, server_default=NOW if default else None)


def upgrade() -> None:
    create_addresses()
    create_deposits()
    create_history()
    create_scan()
    # The history is evidence: the application adds to it and can't rewrite it.
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON deposit_events FROM {APP_ROLE}")


def create_addresses() -> None:
    op.create_table(
        "deposit_addresses",
        _text("chain"),
        _text("address"),
        _text("tenant"),
        _text("kind"),
        _text("owner_account", null=True),
        _time("allotted_at", null=True),
        _time("created_at", default=True),
        sa.PrimaryKeyConstraint("chain", "address", name=op.f("pk_deposit_addresses")),
        sa.CheckConstraint("kind IN ('shared', 'allotted')", name=op.f("ck_deposit_addresses_kind")),
        sa.CheckConstraint(
            "(owner_account IS NULL) = (allotted_at IS NULL)", name=op.f("ck_deposit_addresses_allotment")
        ),
        sa.CheckConstraint(
            "kind = 'allotted' OR owner_account IS NULL", name=op.f("ck_deposit_addresses_shared_has_no_owner")
        ),
    )
    op.create_index(
        "ix_deposit_addresses_free",
        "deposit_addresses",
        ["tenant", "chain", "address"],
        postgresql_where=sa.text("kind = 'allotted' AND owner_account IS NULL"),
    )
    op.create_index(
        "ix_deposit_addresses_owner",
        "deposit_addresses",
        ["tenant", "chain", "owner_account"],
        postgresql_where=sa.text("owner_account IS NOT NULL"),
    )


def create_deposits() -> None:
    op.create_table(
        "deposits",
        sa.Column("id", sa.Uuid(), nullable=False),
        *[_text(name) for name in ("tenant", "chain", "asset", "account", "mode", "address")],
        _text("chain_tx", null=True),
        _text("payer", null=True),
        sa.Column("units_expected", UNITS),
        sa.Column("tolerance_bps", sa.SmallInteger(), nullable=False),
        sa.Column("confirmations", sa.Integer()),
        _time("deadline_at"),
        sa.Column("metadata", pg.JSONB(), nullable=False),
        _text("correlation_id", null=True),
        sa.Column("look_job_id", sa.Uuid()),
        _text("state"),
        _text("reason", null=True),
        sa.Column("incarnation", sa.Integer(), nullable=False, server_default="0"),
        _time("reorged_at", null=True),
        sa.Column("index", sa.BigInteger()),
        _text("sender", null=True),
        sa.Column("units_received", UNITS),
        sa.Column("block_number", sa.BigInteger()),
        _text("block_hash", null=True),
        _time("block_time", null=True),
        sa.Column("confirmations_seen", sa.Integer(), nullable=False, server_default="0"),
        _text("tx_sender", null=True),
        sa.Column("tx_nonce", sa.BigInteger()),
        sa.Column("journal_id", sa.Uuid()),
        sa.Column("release_journal_id", sa.Uuid()),
        sa.Column("units_recovered", UNITS, nullable=False, server_default="0"),
        sa.Column("units_short", UNITS, nullable=False, server_default="0"),
        _time("next_poll_at", null=True),
        _time("final_at", null=True),
        _time("created_at"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deposits")),
        sa.CheckConstraint("mode IN ('tx', 'address', 'unexpected')", name=op.f("ck_deposits_mode")),
        sa.CheckConstraint("mode <> 'tx' OR chain_tx IS NOT NULL", name=op.f("ck_deposits_tx_mode_names_one")),
        sa.CheckConstraint("tolerance_bps BETWEEN 0 AND 10000", name=op.f("ck_deposits_tolerance_bps")),
        sa.CheckConstraint("units_expected > 0", name=op.f("ck_deposits_units_expected")),
        sa.CheckConstraint(
            "state NOT IN ('credited', 'suspended') OR (journal_id IS NOT NULL AND units_received > 0)",
            name=op.f("ck_deposits_booked_has_journal"),
        ),
        sa.CheckConstraint(
            "state NOT IN ('pending', 'credited', 'suspended', 'rejected') OR block_hash IS NOT NULL",
            name=op.f("ck_deposits_verdict_has_block"),
        ),
        postgresql_with={"fillfactor": 80},
    )
    for name, columns, where in (
        ("ix_deposits_due", ["chain", "next_poll_at"], "next_poll_at IS NOT NULL"),
        ("ix_deposits_live", ["state"], "final_at IS NULL"),
        ("ix_deposits_chain_tx", ["chain", "chain_tx"], "chain_tx IS NOT NULL"),
        ("ix_deposits_address", ["chain", "address"], "final_at IS NULL AND mode <> 'tx'"),
        ("ix_deposits_tenant", ["tenant", "id"], None),
    ):
        op.create_index(name, "deposits", columns, postgresql_where=sa.text(where) if where else None)


def create_history() -> None:
    op.create_table(
        "deposit_events",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("deposit_id", sa.Uuid(), nullable=False),
        _time("at"),
        _text("event"),
        _text("state_before", null=True),
        _text("state_after"),
        sa.Column("detail", pg.JSONB(), nullable=False, server_default=sa.text("'{}'::jsonb")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deposit_events")),
        sa.ForeignKeyConstraint(["deposit_id"], ["deposits.id"], name=op.f("fk_deposit_events_deposit_id")),
    )
    op.create_index("ix_deposit_events_deposit_id", "deposit_events", ["deposit_id", "id"])
    op.create_table(
        "deposit_transfers",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("chain"),
        _text("chain_tx"),
        sa.Column("index", sa.BigInteger(), nullable=False),
        _text("block_hash"),
        sa.Column("block_number", sa.BigInteger(), nullable=False),
        sa.Column("deposit_id", sa.Uuid(), nullable=False),
        sa.Column("units", UNITS, nullable=False),
        _time("attributed_at"),
        _time("orphaned_at", null=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deposit_transfers")),
        sa.ForeignKeyConstraint(["deposit_id"], ["deposits.id"], name=op.f("fk_deposit_transfers_deposit_id")),
    )
    living = sa.text("orphaned_at IS NULL")
    op.create_index(
        "uq_deposit_transfers_living",
        "deposit_transfers",
        ["chain", "chain_tx", "index"],
        unique=True,
        postgresql_where=living,
    )
    op.create_index("ix_deposit_transfers_block", "deposit_transfers", ["chain", "block_hash"], postgresql_where=living)
    op.create_index("ix_deposit_transfers_deposit_id", "deposit_transfers", ["deposit_id"])


def create_scan() -> None:
    op.create_table(
        "chain_cursors",
        _text("chain"),
        sa.Column("next_block", sa.BigInteger()),
        _time("read_until", null=True),
        _text("status", default="running"),
        _time("last_read_at", null=True),
        _time("failing_since", null=True),
        _text("last_error", null=True),
        _time("updated_at", default=True),
        sa.PrimaryKeyConstraint("chain", name=op.f("pk_chain_cursors")),
        sa.CheckConstraint("status IN ('running', 'stopped')", name=op.f("ck_chain_cursors_status")),
    )
    op.create_table(
        "chain_blocks",
        _text("chain"),
        sa.Column("number", sa.BigInteger(), nullable=False),
        _text("hash"),
        _text("parent_hash"),
        sa.PrimaryKeyConstraint("chain", "number", name=op.f("pk_chain_blocks")),
    )


def downgrade() -> None:
    for table in (
        "chain_blocks",
        "chain_cursors",
        "deposit_transfers",
        "deposit_events",
        "deposits",
        "deposit_addresses",
    ):
        op.drop_table(table)
