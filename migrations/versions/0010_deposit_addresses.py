"""Addresses derived from extended public keys, and shared addresses whose payments are told apart by tag.

Revision ID: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

from core.db import APP_ROLE

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

WATCHED = "CASE WHEN kind = 'allotted' THEN allotted_at WHEN tagged THEN created_at END"


def upgrade() -> None:
    create_wallets()
    create_tags()
    alter_addresses()
    alter_deposits()


def create_wallets() -> None:
    op.create_table(
        "deposit_wallets",
        sa.Column("id", sa.Uuid(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "chain", "extended_key")],
        sa.Column("next_index", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("closed_by", sa.Text()),
        sa.Column("closed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deposit_wallets")),
        sa.UniqueConstraint(
            "tenant", "chain", "extended_key", name=op.f("uq_deposit_wallets_tenant_chain_extended_key")
        ),
        sa.CheckConstraint("next_index BETWEEN 0 AND 2147483648", name=op.f("ck_deposit_wallets_next_index")),
        sa.CheckConstraint("(closed_at IS NULL) = (closed_by IS NULL)", name=op.f("ck_deposit_wallets_closed")),
    )
    op.create_index(
        "uq_deposit_wallets_open",
        "deposit_wallets",
        ["tenant", "chain"],
        unique=True,
        postgresql_where=sa.text("closed_at IS NULL"),
    )
    op.create_index("ix_deposit_wallets_extended_key", "deposit_wallets", ["extended_key"])
    # An index given twice would be one address for two owners: wallets are closed, never deleted.
    op.execute(f"REVOKE DELETE, TRUNCATE ON deposit_wallets FROM {APP_ROLE}")


def create_tags() -> None:
    op.create_table(
        "deposit_tags",
        *[
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("chain", "address", "tag", "tenant", "owner_account")
        ],
        sa.Column("allotted_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("chain", "address", "tag", name=op.f("pk_deposit_tags")),
        sa.UniqueConstraint(
            "chain", "address", "owner_account", name=op.f("uq_deposit_tags_chain_address_owner_account")
        ),
        sa.ForeignKeyConstraint(
            ["chain", "address"],
            ["deposit_addresses.chain", "deposit_addresses.address"],
            name=op.f("fk_deposit_tags_chain_address"),
        ),
    )
    op.create_index("ix_deposit_tags_owner", "deposit_tags", ["tenant", "owner_account", "chain"])
    # Money can arrive with a tag for ever, so it is somebody's for ever.
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON deposit_tags FROM {APP_ROLE}")


def alter_addresses() -> None:
    op.execute(
        "ALTER TABLE deposit_addresses"
        " ADD COLUMN tagged boolean NOT NULL DEFAULT false,"
        " ADD COLUMN wallet_id uuid,"
        " ADD COLUMN wallet_index bigint,"
        f" ADD COLUMN watched_at timestamptz GENERATED ALWAYS AS ({WATCHED}) STORED,"
        " ADD CONSTRAINT ck_deposit_addresses_tagged_is_shared CHECK (NOT tagged OR kind = 'shared'),"
        " ADD CONSTRAINT ck_deposit_addresses_derived CHECK ((wallet_id IS NULL) = (wallet_index IS NULL)"
        " AND (wallet_id IS NULL OR owner_account IS NOT NULL)),"
        " ADD CONSTRAINT fk_deposit_addresses_wallet_id FOREIGN KEY (wallet_id) REFERENCES deposit_wallets (id)"
    )
    # One address has one owner on whatever chains it is: looked for by address alone, and by owner on all chains.
    op.create_index("ix_deposit_addresses_address", "deposit_addresses", ["address"])
    op.drop_index("ix_deposit_addresses_owner", "deposit_addresses")
    for name, columns, where, unique in (
        ("ix_deposit_addresses_owner", ["tenant", "owner_account", "chain"], "owner_account IS NOT NULL", False),
        ("ix_deposit_addresses_watched", ["chain", "address"], "watched_at IS NOT NULL", False),
        ("ix_deposit_addresses_watched_at", ["chain", "watched_at"], "watched_at IS NOT NULL", False),
        ("ix_deposit_addresses_tagged", ["tenant", "chain", "created_at"], "tagged", False),
        ("uq_deposit_addresses_wallet", ["wallet_id", "wallet_index"], "wallet_id IS NOT NULL", True),
    ):
        op.create_index(name, "deposit_addresses", columns, unique=unique, postgresql_where=sa.text(where))


def alter_deposits() -> None:
    op.execute("ALTER TABLE deposits ADD COLUMN tag text")
    # A shared address may have a hundred thousand deposits that wait; a payment locks those of its tag.
    op.drop_index("ix_deposits_address", "deposits")
    op.create_index(
        "ix_deposits_address",
        "deposits",
        ["chain", "address", sa.text("coalesce(tag, '')")],
        postgresql_where=sa.text("final_at IS NULL AND mode <> 'tx'"),
    )
    op.create_index("ix_deposits_tenant_state", "deposits", ["tenant", "state", "id"])
    op.create_index("ix_deposits_state", "deposits", ["state", "id"])


def downgrade() -> None:
    for name in ("ix_deposits_state", "ix_deposits_tenant_state", "ix_deposits_address"):
        op.drop_index(name, "deposits")
    op.create_index(
        "ix_deposits_address",
        "deposits",
        ["chain", "address"],
        postgresql_where=sa.text("final_at IS NULL AND mode <> 'tx'"),
    )
    op.execute("ALTER TABLE deposits DROP COLUMN tag")
    for name in (
        "uq_deposit_addresses_wallet",
        "ix_deposit_addresses_tagged",
        "ix_deposit_addresses_watched_at",
        "ix_deposit_addresses_watched",
        "ix_deposit_addresses_owner",
        "ix_deposit_addresses_address",
    ):
        op.drop_index(name, "deposit_addresses")
    op.create_index(
        "ix_deposit_addresses_owner",
        "deposit_addresses",
        ["tenant", "chain", "owner_account"],
        postgresql_where=sa.text("owner_account IS NOT NULL"),
    )
    # Derived addresses stay, with their owners: money can arrive on them for ever.
    op.execute(
        "ALTER TABLE deposit_addresses"
        " DROP CONSTRAINT fk_deposit_addresses_wallet_id,"
        " DROP CONSTRAINT ck_deposit_addresses_derived,"
        " DROP CONSTRAINT ck_deposit_addresses_tagged_is_shared,"
        " DROP COLUMN watched_at, DROP COLUMN wallet_index, DROP COLUMN wallet_id, DROP COLUMN tagged"
    )
    op.drop_table("deposit_tags")
    op.drop_table("deposit_wallets")
