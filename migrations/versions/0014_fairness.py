"""Provably fair: seeds, sealed, and the draws that were taken from them.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from core.db import APP_ROLE
from migrations.functions import close

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)
SEED_CHECKS = {
    "state": "state IN ('committed', 'active', 'revealed')",
    "client_seed": "(state = 'committed') = (client_seed IS NULL)",
    "activated": "(client_seed IS NULL) = (activated_at IS NULL)",
    "revealed": "(state = 'revealed') = (revealed_at IS NOT NULL)",
    "next_nonce": "next_nonce >= 0 AND (next_nonce = 0 OR state <> 'committed')",
    "seed_hash": "seed_hash ~ '^[0-9a-f]{64}$'",
}
# What may change at all. The hash is not among it: it is what was promised.
CHANGES = "state, sealed, sealed_by, client_seed, next_nonce, activated_at, revealed_at"

# Sealing a seed anew, under another key, is no change of it.
GOES_ON = """
CREATE FUNCTION fairness_seed_goes_on() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong text := CASE
        WHEN NEW.state <> OLD.state AND (OLD.state, NEW.state) NOT IN (('committed', 'active'), ('active', 'revealed'))
            THEN 'its state goes on'
        WHEN OLD.state = 'revealed' AND NEW.next_nonce <> OLD.next_nonce THEN 'what is revealed draws nothing'
        WHEN NEW.next_nonce < OLD.next_nonce THEN 'a nonce is taken once'
        WHEN OLD.client_seed <> NEW.client_seed THEN 'its client seed stays'
        WHEN OLD.activated_at <> NEW.activated_at OR OLD.revealed_at <> NEW.revealed_at THEN 'its times stay'
    END;
BEGIN
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'fairness seed %: %', OLD.id, wrong USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fairness_seeds_go_on BEFORE UPDATE ON fairness_seeds
    FOR EACH ROW EXECUTE FUNCTION fairness_seed_goes_on();
"""


def upgrade() -> None:
    create_seeds()
    create_draws()
    op.execute(GOES_ON)
    op.execute(close(["fairness_seed_goes_on"]))


def create_seeds() -> None:
    op.create_table(
        "fairness_seeds",
        sa.Column("id", sa.Uuid(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("tenant", "owner", "state")],
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        *[sa.Column(name, sa.Text(), nullable=False) for name in ("sealed_by", "seed_hash")],
        sa.Column("client_seed", sa.Text()),
        sa.Column("next_nonce", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.text("now()")),
        sa.Column("activated_at", TIME),
        sa.Column("revealed_at", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fairness_seeds")),
        *[sa.CheckConstraint(rule, name=op.f(f"ck_fairness_seeds_{name}")) for name, rule in SEED_CHECKS.items()],
    )
    op.create_index(
        "uq_fairness_seeds_live",
        "fairness_seeds",
        ["tenant", "owner", "state"],
        unique=True,
        postgresql_where=sa.text("state <> 'revealed'"),
    )
    op.create_index("ix_fairness_seeds_owner", "fairness_seeds", ["tenant", "owner", "id"])
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON fairness_seeds FROM {APP_ROLE}")
    op.execute(f"GRANT UPDATE ({CHANGES}) ON fairness_seeds TO {APP_ROLE}")


def create_draws() -> None:
    op.create_table(
        "fairness_draws",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("seed_id", sa.Uuid(), nullable=False),
        sa.Column("first_nonce", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("game", sa.Text(), nullable=False),
        sa.Column("params", pg.JSONB(), nullable=False),
        sa.Column("created_at", TIME, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_fairness_draws")),
        sa.UniqueConstraint("seed_id", "first_nonce", name=op.f("uq_fairness_draws_seed_id_first_nonce")),
        sa.ForeignKeyConstraint(["seed_id"], ["fairness_seeds.id"], name=op.f("fk_fairness_draws_seed_id")),
        sa.CheckConstraint("count BETWEEN 1 AND 1000 AND first_nonce >= 0", name=op.f("ck_fairness_draws_nonces")),
    )
    # What was drawn is evidence.
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON fairness_draws FROM {APP_ROLE}")


def downgrade() -> None:
    op.drop_table("fairness_draws")
    op.drop_table("fairness_seeds")
    op.execute("DROP FUNCTION fairness_seed_goes_on")
