"""Payouts: money that leaves.

Revision ID: 0023
Revises: 0022
"""

from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

PAYOUTS = """
CREATE TABLE payouts (
    id uuid NOT NULL,
    tenant text NOT NULL,
    account text NOT NULL,
    asset text NOT NULL,
    units numeric(38, 0) NOT NULL,
    fee_units numeric(38, 0) NOT NULL,
    payout_asset text NOT NULL,
    payout_units numeric(38, 0) NOT NULL,
    quote_id uuid,
    quote_spread numeric(38, 0),
    quote_remainder numeric(38, 0),
    quote_rate text,
    quote_rate_at timestamptz,
    beneficiary_id uuid NOT NULL,
    destination_kind text NOT NULL,
    destination_sealed bytea NOT NULL,
    destination_sealed_by text NOT NULL,
    destination_fingerprint text NOT NULL,
    destination_masked text NOT NULL,
    narration text NOT NULL,
    purpose text NOT NULL,
    affiliate boolean NOT NULL,
    by_hand boolean NOT NULL,
    provider_wanted text,
    metadata jsonb NOT NULL,
    correlation_id text,
    maker text NOT NULL,
    batch_id uuid,
    batch_item integer,
    created_at timestamptz NOT NULL,
    revision integer NOT NULL,
    content_hash bytea NOT NULL,
    value_cents numeric(38, 0),
    score integer NOT NULL,
    findings jsonb NOT NULL,
    approvals_needed integer NOT NULL,
    approve_until timestamptz,
    counted_on date,
    state text NOT NULL,
    waits_for text,
    waits_since timestamptz,
    unknown_since timestamptz,
    failure text,
    hold_id uuid,
    begun_journal_id uuid,
    converted_journal_id uuid,
    paid_journal_id uuid,
    settled integer NOT NULL,
    short_units numeric(38, 0) NOT NULL,
    suspended_units numeric(38, 0) NOT NULL,
    provider text,
    provider_ref text,
    provider_fee_units numeric(38, 0) NOT NULL,
    evidence jsonb,
    looks integer NOT NULL,
    next_look_at timestamptz,
    submitted_at timestamptz,
    ended_at timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_payouts PRIMARY KEY (id),
    CONSTRAINT ck_payouts_units CHECK (units > 0 AND fee_units >= 0 AND payout_units > 0),
    CONSTRAINT ck_payouts_quoted CHECK (asset = payout_asset OR quote_id IS NOT NULL),
    CONSTRAINT ck_payouts_same CHECK (asset <> payout_asset OR units = payout_units),
    CONSTRAINT ck_payouts_short CHECK (short_units >= 0)
);
CREATE INDEX ix_payouts_account ON payouts (tenant, account, id);
CREATE INDEX ix_payouts_batch ON payouts (batch_id, id) WHERE batch_id IS NOT NULL;
CREATE INDEX ix_payouts_beneficiary ON payouts (beneficiary_id, id);
CREATE INDEX ix_payouts_destination ON payouts (tenant, destination_fingerprint, id);
CREATE INDEX ix_payouts_due ON payouts (next_look_at) WHERE next_look_at IS NOT NULL;
CREATE INDEX ix_payouts_expiring ON payouts (approve_until) WHERE state = 'awaiting_approval';
CREATE INDEX ix_payouts_open ON payouts (state, id) WHERE state IN ('held', 'awaiting_approval', 'approved', 'submitting', 'submitted', 'unknown', 'frozen');
CREATE INDEX ix_payouts_paid ON payouts (tenant, account) WHERE state = 'paid';
CREATE INDEX ix_payouts_sealed_by ON payouts (destination_sealed_by, id);
CREATE INDEX ix_payouts_tenant ON payouts (tenant, id);
CREATE INDEX ix_payouts_unknown ON payouts (unknown_since) WHERE unknown_since IS NOT NULL;
CREATE UNIQUE INDEX uq_payouts_by_hand_reference ON payouts (tenant, (evidence ->> 'reference')) WHERE by_hand;
CREATE TABLE payout_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    payout_id uuid NOT NULL,
    at timestamptz NOT NULL,
    event text NOT NULL,
    state_before text,
    state_after text NOT NULL,
    actor text NOT NULL,
    reason text,
    detail jsonb NOT NULL,
    CONSTRAINT pk_payout_events PRIMARY KEY (id),
    CONSTRAINT fk_payout_events_payout_id FOREIGN KEY(payout_id) REFERENCES payouts (id)
);
CREATE INDEX ix_payout_events_payout_id ON payout_events (payout_id, id);
CREATE TABLE payout_attempts (
    id uuid NOT NULL,
    payout_id uuid NOT NULL,
    number integer NOT NULL,
    provider text NOT NULL,
    request_hash bytea NOT NULL,
    state text NOT NULL,
    lost boolean NOT NULL,
    refusal text,
    why text,
    provider_ref text,
    sends integer NOT NULL,
    resends integer NOT NULL,
    first_sent_at timestamptz NOT NULL,
    last_sent_at timestamptz NOT NULL,
    answered_at timestamptz,
    asked_at timestamptz,
    extra_journal_id uuid,
    CONSTRAINT pk_payout_attempts PRIMARY KEY (id),
    CONSTRAINT uq_payout_attempts_payout_id_number UNIQUE (payout_id, number),
    CONSTRAINT fk_payout_attempts_payout_id FOREIGN KEY(payout_id) REFERENCES payouts (id)
);
CREATE INDEX ix_payout_attempts_open ON payout_attempts (provider, id) WHERE state IN ('asking', 'unknown', 'accepted');
CREATE UNIQUE INDEX uq_payout_attempts_open ON payout_attempts (payout_id) WHERE state IN ('asking', 'unknown', 'accepted');
CREATE UNIQUE INDEX uq_payout_attempts_provider_ref ON payout_attempts (provider, provider_ref) WHERE provider_ref IS NOT NULL;
CREATE TABLE payout_approvals (
    id uuid NOT NULL,
    payout_id uuid NOT NULL,
    revision integer NOT NULL,
    approver text NOT NULL,
    decision text NOT NULL,
    seen_hash bytea NOT NULL,
    reason text,
    decided_at timestamptz NOT NULL,
    CONSTRAINT pk_payout_approvals PRIMARY KEY (id),
    CONSTRAINT uq_payout_approvals_payout_id_revision_approver UNIQUE (payout_id, revision, approver),
    CONSTRAINT fk_payout_approvals_payout_id FOREIGN KEY(payout_id) REFERENCES payouts (id)
);
CREATE TABLE payout_resolutions (
    id uuid NOT NULL,
    payout_id uuid NOT NULL,
    outcome text NOT NULL,
    evidence jsonb NOT NULL,
    proposed_by text NOT NULL,
    proposed_at timestamptz NOT NULL,
    confirmed_by text,
    closed_at timestamptz,
    CONSTRAINT pk_payout_resolutions PRIMARY KEY (id),
    CONSTRAINT ck_payout_resolutions_two_people CHECK (confirmed_by IS NULL OR confirmed_by <> proposed_by),
    CONSTRAINT fk_payout_resolutions_payout_id FOREIGN KEY(payout_id) REFERENCES payouts (id)
);
CREATE UNIQUE INDEX uq_payout_resolutions_open ON payout_resolutions (payout_id) WHERE closed_at IS NULL;
CREATE TABLE payout_usage (
    tenant text NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    day date NOT NULL,
    value_cents numeric(38, 0) NOT NULL,
    count integer NOT NULL,
    CONSTRAINT pk_payout_usage PRIMARY KEY (tenant, scope, key, day),
    CONSTRAINT ck_payout_usage_least CHECK (value_cents >= 0 AND count >= 0)
);
CREATE TABLE payout_rules (
    id uuid NOT NULL,
    tenant text,
    name text NOT NULL,
    kind text NOT NULL,
    parameters jsonb NOT NULL,
    verdict text NOT NULL,
    score integer NOT NULL,
    enabled boolean NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_payout_rules PRIMARY KEY (id)
);
CREATE UNIQUE INDEX uq_payout_rules_name ON payout_rules (coalesce(tenant, ''), name);
CREATE TABLE payout_listings (
    id uuid NOT NULL,
    tenant text,
    list text NOT NULL,
    scope text NOT NULL,
    key text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL,
    created_at timestamptz NOT NULL,
    removed_at timestamptz,
    removed_by text,
    CONSTRAINT pk_payout_listings PRIMARY KEY (id),
    CONSTRAINT ck_payout_listings_list CHECK (list IN ('deny', 'allow')),
    CONSTRAINT ck_payout_listings_scope CHECK (scope IN ('account', 'destination'))
);
CREATE UNIQUE INDEX uq_payout_listings_live ON payout_listings (coalesce(tenant, ''), scope, key) WHERE removed_at IS NULL;
CREATE TABLE payout_providers (
    name text NOT NULL,
    currencies jsonb NOT NULL,
    kinds text[] NOT NULL,
    hours jsonb,
    balances jsonb NOT NULL,
    failures integer NOT NULL,
    failed_at timestamptz,
    stopped_by text,
    stopped_at timestamptz,
    stopped_reason text,
    seen_at timestamptz NOT NULL,
    CONSTRAINT pk_payout_providers PRIMARY KEY (name)
);
CREATE TABLE payout_batches (
    id uuid NOT NULL,
    tenant text NOT NULL,
    count integer NOT NULL,
    totals jsonb NOT NULL,
    refused jsonb NOT NULL,
    maker text NOT NULL,
    correlation_id text,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_payout_batches PRIMARY KEY (id)
);
CREATE INDEX ix_payout_batches_tenant ON payout_batches (tenant, id);
CREATE TABLE payout_statement_lines (
    id uuid NOT NULL,
    provider text NOT NULL,
    line text NOT NULL,
    kind text NOT NULL,
    reference text,
    provider_ref text,
    currency text NOT NULL,
    units numeric(38, 0) NOT NULL,
    fee_units numeric(38, 0) NOT NULL,
    booked_at timestamptz NOT NULL,
    state text NOT NULL,
    why text,
    payout_id uuid,
    break_id uuid,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_payout_statement_lines PRIMARY KEY (id),
    CONSTRAINT uq_payout_statement_lines_provider_line UNIQUE (provider, line),
    CONSTRAINT fk_payout_statement_lines_payout_id FOREIGN KEY(payout_id) REFERENCES payouts (id)
);
CREATE INDEX ix_payout_statement_lines_payout_id ON payout_statement_lines (payout_id);
CREATE INDEX ix_payout_statement_lines_unmatched ON payout_statement_lines (provider, id) WHERE state = 'unmatched';
"""
TABLES = (
    "payouts",
    "payout_events",
    "payout_attempts",
    "payout_approvals",
    "payout_resolutions",
    "payout_usage",
    "payout_rules",
    "payout_listings",
    "payout_providers",
    "payout_batches",
    "payout_statement_lines",
)


def upgrade() -> None:
    op.execute(PAYOUTS)
    # Who approves is a person, and a key says whose it is.
    op.execute("ALTER TABLE api_keys ADD COLUMN person text")


def downgrade() -> None:
    op.execute("ALTER TABLE api_keys DROP COLUMN person")
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
