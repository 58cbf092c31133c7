"""Agreement, prices and what nodes are worth.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

from core.db import APP_ROLE
from core.money import UNITS_MAX

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = (
    "accepts text[] NOT NULL DEFAULT '{}'",
    "value_currency text",
    "value_units numeric(38, 0)",
    "priced_at timestamptz",
    "agreed_at timestamptz",
    "disputed_at timestamptz",
    "waits_for text",
    "waits_since timestamptz",
    "tx_valid_until timestamptz",
    "freezes boolean NOT NULL DEFAULT false",
)
CHECKS = {
    "accepts": "accepts <@ ARRAY['underpaid', 'overpaid', 'late', 'unexpected']",
    "value": "(value_currency IS NULL) = (value_units IS NULL) AND (value_units IS NULL OR units_expected IS NULL)"
    " AND value_units > 0",
    "booked_is_priced": "state NOT IN ('credited', 'suspended') OR value_units IS NULL OR priced_at IS NOT NULL",
    "waits": "waits_for IN ('agreement', 'second_node', 'rate') AND (waits_for IS NULL) = (waits_since IS NULL)",
}
INDEXES = {
    "ix_deposits_waits": ("chain, waits_for, waits_since", "waits_for IS NOT NULL"),
    "ix_deposits_owed": ("tenant, account", "units_short > 0 OR freezes"),
    "ix_deposits_suspended": ("state", "state = 'suspended' AND final_at IS NOT NULL"),
}


def upgrade() -> None:
    for column in COLUMNS:
        op.execute(f"ALTER TABLE deposits ADD COLUMN {column}")
    for name, rule in CHECKS.items():
        op.execute(f"ALTER TABLE deposits ADD CONSTRAINT ck_deposits_{name} CHECK ({rule})")
    for name, (columns, where) in INDEXES.items():
        op.execute(f"CREATE INDEX {name} ON deposits ({columns}) WHERE {where}")
    create_rates()
    create_nodes()


def create_rates() -> None:
    op.create_table(
        "asset_rates",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("numerator", sa.NUMERIC(80, 0), nullable=False),
        sa.Column("denominator", sa.NUMERIC(80, 0), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_asset_rates")),
        sa.CheckConstraint("numerator > 0 AND denominator > 0", name=op.f("ck_asset_rates_price")),
    )
    op.create_index("ix_asset_rates_newest", "asset_rates", ["asset", "currency", "observed_at", "id"])
    # What money was judged by is evidence.
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON asset_rates FROM {APP_ROLE}")


def create_nodes() -> None:
    op.create_table(
        "chain_nodes",
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("chain", "label", "process")],
        sa.Column("head_number", sa.BigInteger()),
        sa.Column("head_time", sa.DateTime(timezone=True)),
        sa.Column("latency_ms", sa.Integer()),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True)),
        sa.Column("last_error", sa.Text()),
        sa.Column("open_until", sa.DateTime(timezone=True)),
        sa.Column("trouble", sa.Text()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("chain", "label", "process", name=op.f("pk_chain_nodes")),
    )


def downgrade() -> None:
    op.drop_table("chain_nodes")
    op.drop_table("asset_rates")
    for name in INDEXES:
        op.execute(f"DROP INDEX {name}")
    for name in CHECKS:
        op.execute(f"ALTER TABLE deposits DROP CONSTRAINT ck_deposits_{name}")
    # Expected by value, and no longer known of what: without it any amount would do. So none does, and a person decides.
    op.execute(
        f"UPDATE deposits SET units_expected = {UNITS_MAX}, reason = CASE WHEN state = 'pending' THEN 'underpaid' END"
        " WHERE value_units IS NOT NULL AND priced_at IS NULL AND final_at IS NULL"
    )
    # The states of deposits stay as they are: what was credited under a policy was credited.
    for column in COLUMNS:
        op.execute(f"ALTER TABLE deposits DROP COLUMN {column.split()[0]}")
