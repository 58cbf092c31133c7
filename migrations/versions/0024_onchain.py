"""Payouts on chains: transfers, their versions, what they use up, and the wallets that pay.

Revision ID: 0024
Revises: 0023
"""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

ONCHAIN = """
CREATE TABLE onchain_wallets (
    chain text NOT NULL,
    address text NOT NULL,
    takes bigint NOT NULL,
    fee_units numeric(38, 0),
    coin_units numeric(38, 0),
    coin_at timestamptz,
    CONSTRAINT pk_onchain_wallets PRIMARY KEY (chain, address)
);
CREATE TABLE onchain_transfers (
    id uuid NOT NULL,
    reference text NOT NULL,
    tenant text NOT NULL,
    chain text NOT NULL,
    wallet text NOT NULL,
    asset text NOT NULL,
    recipient text NOT NULL,
    tag text,
    units numeric(38, 0) NOT NULL,
    created_at timestamptz NOT NULL,
    state text NOT NULL,
    failure text,
    why text,
    cancel_asked_at timestamptz,
    version integer,
    block_number bigint,
    block_hash text,
    looks integer NOT NULL,
    next_look_at timestamptz,
    sent_at timestamptz,
    waits_since timestamptz,
    ended_at timestamptz,
    final_at timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_onchain_transfers PRIMARY KEY (id),
    CONSTRAINT uq_onchain_transfers_reference UNIQUE (reference),
    CONSTRAINT ck_onchain_transfers_units CHECK (units > 0)
);
CREATE INDEX ix_onchain_transfers_chain ON onchain_transfers (chain, id);
CREATE INDEX ix_onchain_transfers_due ON onchain_transfers (chain, next_look_at) WHERE next_look_at IS NOT NULL;
CREATE INDEX ix_onchain_transfers_open ON onchain_transfers (chain, state, created_at) WHERE state IN ('planned', 'signed', 'sent', 'mined');
CREATE TABLE onchain_versions (
    id uuid NOT NULL,
    transfer_id uuid NOT NULL,
    number integer NOT NULL,
    chain text NOT NULL,
    wallet text NOT NULL,
    terms jsonb NOT NULL,
    fee_max numeric(38, 0) NOT NULL,
    created_at timestamptz NOT NULL,
    asks integer NOT NULL,
    asked_at timestamptz,
    raw text,
    chain_tx text,
    signed_at timestamptz,
    refused_at timestamptz,
    refusal text,
    broadcasts integer NOT NULL,
    broadcast_at timestamptz,
    reception text,
    reception_why text,
    cost_units numeric(38, 0),
    cost_journal_id uuid,
    CONSTRAINT pk_onchain_versions PRIMARY KEY (id),
    CONSTRAINT uq_onchain_versions_transfer_id_number UNIQUE (transfer_id, number),
    CONSTRAINT uq_onchain_versions_chain_chain_tx UNIQUE (chain, chain_tx),
    CONSTRAINT ck_onchain_versions_signed CHECK ((raw IS NULL) = (chain_tx IS NULL) AND (raw IS NULL OR refused_at IS NULL)),
    CONSTRAINT fk_onchain_versions_transfer_id FOREIGN KEY(transfer_id) REFERENCES onchain_transfers (id)
);
CREATE UNIQUE INDEX uq_onchain_versions_unsigned ON onchain_versions (chain, wallet) WHERE raw IS NULL AND refused_at IS NULL;
CREATE TABLE onchain_inputs (
    id bigint GENERATED ALWAYS AS IDENTITY,
    chain text NOT NULL,
    wallet text NOT NULL,
    input text NOT NULL,
    transfer_id uuid NOT NULL,
    reserved_at timestamptz NOT NULL,
    released_at timestamptz,
    CONSTRAINT pk_onchain_inputs PRIMARY KEY (id),
    CONSTRAINT fk_onchain_inputs_transfer_id FOREIGN KEY(transfer_id) REFERENCES onchain_transfers (id)
);
CREATE INDEX ix_onchain_inputs_held ON onchain_inputs (chain, wallet) WHERE released_at IS NULL;
CREATE INDEX ix_onchain_inputs_transfer_id ON onchain_inputs (transfer_id);
CREATE UNIQUE INDEX uq_onchain_inputs_held ON onchain_inputs (chain, input) WHERE released_at IS NULL;
CREATE TABLE onchain_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    transfer_id uuid NOT NULL,
    at timestamptz NOT NULL,
    event text NOT NULL,
    state_before text NOT NULL,
    state_after text NOT NULL,
    actor text NOT NULL,
    reason text,
    detail jsonb NOT NULL,
    CONSTRAINT pk_onchain_events PRIMARY KEY (id),
    CONSTRAINT fk_onchain_events_transfer_id FOREIGN KEY(transfer_id) REFERENCES onchain_transfers (id)
);
CREATE INDEX ix_onchain_events_transfer_id ON onchain_events (transfer_id, id);
"""
TABLES = ("onchain_wallets", "onchain_transfers", "onchain_versions", "onchain_inputs", "onchain_events")


def upgrade() -> None:
    op.execute(ONCHAIN)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
