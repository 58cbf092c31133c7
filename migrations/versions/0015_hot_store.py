"""The hot store's generations, who decides in them and how far the books have come; and the list of breaks.

Revision ID: 0015
Revises: 0014
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

HOT = """
CREATE TABLE hot_store (
    id smallint PRIMARY KEY CHECK (id = 1),
    generation bigint NOT NULL CHECK (generation > 0),
    mode text NOT NULL CHECK (mode IN ('redis', 'postgres')),
    state text NOT NULL CHECK (state IN ('open', 'closing')),
    shards integer NOT NULL CHECK (shards > 0),
    reason text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE hot_shards (
    generation bigint NOT NULL,
    shard integer NOT NULL,
    applied_seq bigint NOT NULL CHECK (applied_seq >= 0),
    owner text,
    owned_until timestamptz,
    applied_at timestamptz,
    PRIMARY KEY (generation, shard)
);
CREATE TABLE hot_deciders (
    id uuid PRIMARY KEY,
    name text NOT NULL,
    left_generation bigint NOT NULL,
    lost_generation bigint NOT NULL DEFAULT 0,
    started_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE hot_events (
    generation bigint NOT NULL,
    shard integer NOT NULL,
    seq bigint NOT NULL,
    event text NOT NULL,
    decider uuid NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (generation, shard, seq)
);
-- Generation 1 was over before it began: the first sync process turns to one that exists.
INSERT INTO hot_store (id, generation, mode, state, shards, reason) VALUES (1, 1, 'redis', 'closing', 1, 'migrated');
"""

BREAKS = """
CREATE TABLE breaks (
    id uuid PRIMARY KEY,
    kind text NOT NULL,
    subject text NOT NULL,
    tenant text,
    asset text,
    expected text NOT NULL,
    found text NOT NULL,
    detail jsonb NOT NULL DEFAULT '{}',
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'explained')),
    times integer NOT NULL DEFAULT 1,
    opened_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    explained_at timestamptz,
    explained_by text,
    explanation text,
    CHECK ((state = 'explained') = (explanation IS NOT NULL))
);
CREATE UNIQUE INDEX uq_breaks_open ON breaks (kind, subject) WHERE state = 'open';
CREATE INDEX ix_breaks_state ON breaks (state, id);
"""


def upgrade() -> None:
    op.execute(HOT)
    op.execute(BREAKS)


def downgrade() -> None:
    for table in ("breaks", "hot_events", "hot_deciders", "hot_shards", "hot_store"):
        op.execute(f"DROP TABLE {table}")
