"""Players, the moves of their money, and bets.

Revision ID: 0017
Revises: 0016
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

PLAYERS = """
CREATE TABLE bet_players (
    id uuid CONSTRAINT pk_bet_players PRIMARY KEY,
    tenant text NOT NULL,
    user_id text NOT NULL,
    asset text NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    free numeric(38, 0) NOT NULL DEFAULT 0,
    locked numeric(38, 0) NOT NULL DEFAULT 0,
    last_active_at timestamptz NOT NULL DEFAULT now(),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_bet_players_tenant_user_id_asset UNIQUE (tenant, user_id, asset),
    CONSTRAINT ck_bet_players_balances CHECK (free >= 0 AND locked >= 0 AND version >= 0)
) WITH (fillfactor = 70);  -- each batch of decisions updates it, and no index
CREATE TABLE hot_loads (
    id uuid CONSTRAINT pk_hot_loads PRIMARY KEY,
    player uuid NOT NULL CONSTRAINT fk_hot_loads_player REFERENCES bet_players (id),
    units numeric(38, 0) NOT NULL,
    hold_id uuid NOT NULL,
    state text NOT NULL,
    refused text,
    created_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    CONSTRAINT ck_hot_loads_units CHECK (units > 0),
    CONSTRAINT ck_hot_loads_state CHECK (state IN ('held', 'loaded', 'voided')),
    CONSTRAINT ck_hot_loads_settled CHECK ((state = 'held') = (settled_at IS NULL))
);
CREATE INDEX ix_hot_loads_player ON hot_loads (player, id);
CREATE TABLE hot_unloads (
    id uuid CONSTRAINT pk_hot_unloads PRIMARY KEY,
    player uuid NOT NULL CONSTRAINT fk_hot_unloads_player REFERENCES bet_players (id),
    units numeric(38, 0),
    idle boolean NOT NULL,
    moved numeric(38, 0),
    state text NOT NULL,
    why text,
    created_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz,
    CONSTRAINT ck_hot_unloads_units CHECK (units > 0),
    CONSTRAINT ck_hot_unloads_state CHECK (state IN ('asked', 'unloaded', 'refused')),
    CONSTRAINT ck_hot_unloads_moved CHECK ((state = 'unloaded') = (moved IS NOT NULL)),
    CONSTRAINT ck_hot_unloads_settled CHECK ((state = 'asked') = (settled_at IS NULL))
);
CREATE INDEX ix_hot_unloads_player ON hot_unloads (player, id);
CREATE UNIQUE INDEX uq_hot_unloads_idle ON hot_unloads (player) WHERE idle AND state = 'asked';
"""

BETS = """
CREATE SEQUENCE bets_settled_number_seq AS bigint;
CREATE TABLE bets (
    player uuid NOT NULL,
    id uuid NOT NULL,
    game text NOT NULL,
    stake numeric(38, 0) NOT NULL,
    edge_bps integer NOT NULL,
    agent text,
    state text NOT NULL,
    payout numeric(38, 0),
    reserved_at timestamptz NOT NULL,
    reserved_free numeric(38, 0) NOT NULL,
    reserved_locked numeric(38, 0) NOT NULL,
    reserved_generation bigint NOT NULL,
    reserved_seq bigint NOT NULL,
    ended_at timestamptz,
    ended_free numeric(38, 0),
    ended_generation bigint,
    ended_seq bigint,
    settled_number bigint,
    CONSTRAINT pk_bets PRIMARY KEY (player, id),
    CONSTRAINT ck_bets_facts CHECK (stake > 0 AND edge_bps BETWEEN 0 AND 10000),
    CONSTRAINT ck_bets_state CHECK (state IN ('reserved', 'settled', 'voided')),
    CONSTRAINT ck_bets_ended CHECK (
        (state = 'reserved') = (ended_at IS NULL) AND (state = 'reserved') = (ended_free IS NULL)),
    CONSTRAINT ck_bets_settled CHECK (
        (state = 'settled') = (payout IS NOT NULL) AND (state = 'settled') = (settled_number IS NOT NULL))
);
CREATE INDEX ix_bets_id ON bets (id);
CREATE INDEX ix_bets_open ON bets (player) WHERE state = 'reserved';
CREATE UNIQUE INDEX uq_bets_settled_number ON bets (settled_number) WHERE state = 'settled';
"""


def upgrade() -> None:
    op.execute(PLAYERS)
    op.execute(BETS)


def downgrade() -> None:
    for table in ("bets", "hot_unloads", "hot_loads", "bet_players"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP SEQUENCE bets_settled_number_seq")
