"""Payments by card, bank transfer and wallet.

Revision ID: 0020
Revises: 0019
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

PAYMENTS = """
CREATE TABLE fiat_payments (
    id uuid NOT NULL,
    duplicate_of uuid,
    tenant text NOT NULL,
    account text NOT NULL,
    currency text NOT NULL,
    units numeric(38, 0) NOT NULL,
    credit_asset text NOT NULL,
    quote_id uuid,
    quote_units_out numeric(38, 0),
    quote_spread numeric(38, 0),
    quote_remainder numeric(38, 0),
    quote_rate text,
    quote_rate_at timestamptz,
    quote_slippage_bps integer,
    fee_bps integer NOT NULL,
    spread_bps integer NOT NULL,
    method text NOT NULL,
    automatic boolean NOT NULL,
    return_url text,
    description text NOT NULL,
    metadata jsonb NOT NULL,
    correlation_id text,
    payer_sealed bytea,
    expires_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    provider text,
    provider_ref text,
    page_url text,
    instructions jsonb NOT NULL,
    closed boolean NOT NULL,
    paid_currency text NOT NULL,
    paid_units numeric(38, 0) NOT NULL,
    provider_fee_units numeric(38, 0),
    refunded_units numeric(38, 0) NOT NULL,
    disputed_units numeric(38, 0) NOT NULL,
    charged_back_units numeric(38, 0) NOT NULL,
    asked_at timestamptz,
    paid_at timestamptz,
    settle_by timestamptz,
    state text NOT NULL,
    hold_reason text,
    waits_for text,
    waits_since timestamptz,
    failure text,
    released_units numeric(38, 0) NOT NULL,
    slippage_accepted boolean NOT NULL,
    at_moment boolean NOT NULL,
    booked_units numeric(38, 0) NOT NULL,
    suspended_units numeric(38, 0) NOT NULL,
    credited_asset text,
    credited_units numeric(38, 0) NOT NULL,
    credited_fee numeric(38, 0) NOT NULL,
    credited_spread numeric(38, 0) NOT NULL,
    credited_remainder numeric(38, 0) NOT NULL,
    credited_out numeric(38, 0) NOT NULL,
    returned_units numeric(38, 0) NOT NULL,
    returned_fee numeric(38, 0) NOT NULL,
    returned_spread numeric(38, 0) NOT NULL,
    returned_remainder numeric(38, 0) NOT NULL,
    returned_out numeric(38, 0) NOT NULL,
    short_units numeric(38, 0) NOT NULL,
    fee_units numeric(38, 0) NOT NULL,
    journals integer NOT NULL,
    looks integer NOT NULL,
    next_look_at timestamptz,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_payments PRIMARY KEY (id),
    CONSTRAINT fk_fiat_payments_duplicate_of FOREIGN KEY(duplicate_of) REFERENCES fiat_payments (id),
    CONSTRAINT ck_fiat_payments_units CHECK (units > 0),
    CONSTRAINT ck_fiat_payments_totals
        CHECK (paid_units >= 0 AND refunded_units >= 0 AND disputed_units >= 0 AND charged_back_units >= 0),
    CONSTRAINT ck_fiat_payments_credited CHECK (credited_units <= paid_units AND returned_units <= credited_units),
    CONSTRAINT ck_fiat_payments_suspended CHECK (suspended_units >= 0 AND short_units >= 0)
);
CREATE INDEX ix_fiat_payments_due ON fiat_payments (next_look_at) WHERE next_look_at IS NOT NULL;
CREATE INDEX ix_fiat_payments_account ON fiat_payments (tenant, account, id);
CREATE INDEX ix_fiat_payments_held ON fiat_payments (id) WHERE hold_reason IS NOT NULL;
CREATE INDEX ix_fiat_payments_live ON fiat_payments (state) WHERE state IN ('created', 'pending', 'paid', 'disputed');
CREATE INDEX ix_fiat_payments_settle_by ON fiat_payments (provider, settle_by) WHERE settle_by IS NOT NULL;
CREATE INDEX ix_fiat_payments_tenant ON fiat_payments (tenant, id);
CREATE INDEX ix_fiat_payments_waiting ON fiat_payments (waits_since) WHERE waits_for IS NOT NULL;
CREATE UNIQUE INDEX uq_fiat_payments_provider_ref ON fiat_payments (provider, provider_ref)
    WHERE provider_ref IS NOT NULL;
CREATE UNIQUE INDEX uq_fiat_payments_duplicate_of ON fiat_payments (duplicate_of, provider)
    WHERE duplicate_of IS NOT NULL;
CREATE TABLE fiat_payment_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    payment_id uuid NOT NULL,
    at timestamptz NOT NULL,
    event text NOT NULL,
    state_before text,
    state_after text NOT NULL,
    detail jsonb NOT NULL,
    CONSTRAINT pk_fiat_payment_events PRIMARY KEY (id),
    CONSTRAINT fk_fiat_payment_events_payment_id FOREIGN KEY(payment_id) REFERENCES fiat_payments (id)
);
CREATE INDEX ix_fiat_payment_events_payment_id ON fiat_payment_events (payment_id, id);
"""
ORDERS = """
CREATE TABLE fiat_attempts (
    payment_id uuid NOT NULL,
    number integer NOT NULL,
    provider text NOT NULL,
    request_hash bytea NOT NULL,
    provider_ref text,
    state text NOT NULL,
    why text,
    asked_at timestamptz NOT NULL,
    answered_at timestamptz,
    CONSTRAINT pk_fiat_attempts PRIMARY KEY (payment_id, number),
    CONSTRAINT fk_fiat_attempts_payment_id FOREIGN KEY(payment_id) REFERENCES fiat_payments (id)
);
CREATE INDEX ix_fiat_attempts_unknown ON fiat_attempts (asked_at) WHERE state IN ('asking', 'unknown');
CREATE INDEX ix_fiat_attempts_provider_ref ON fiat_attempts (provider, provider_ref) WHERE provider_ref IS NOT NULL;
CREATE UNIQUE INDEX uq_fiat_attempts_open ON fiat_attempts (payment_id)
    WHERE state IN ('asking', 'unknown', 'accepted');
CREATE TABLE fiat_refunds (
    id uuid NOT NULL,
    payment_id uuid NOT NULL,
    tenant text NOT NULL,
    units numeric(38, 0) NOT NULL,
    reason text NOT NULL,
    actor text NOT NULL,
    state text NOT NULL,
    provider_ref text,
    why text,
    hold_id uuid,
    refunded_before numeric(38, 0) NOT NULL,
    lost boolean NOT NULL,
    asked_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_refunds PRIMARY KEY (id),
    CONSTRAINT ck_fiat_refunds_units CHECK (units > 0),
    CONSTRAINT fk_fiat_refunds_payment_id FOREIGN KEY(payment_id) REFERENCES fiat_payments (id)
);
CREATE INDEX ix_fiat_refunds_open ON fiat_refunds (asked_at)
    WHERE state IN ('requested', 'asking', 'unknown', 'pending');
CREATE INDEX ix_fiat_refunds_payment_id ON fiat_refunds (payment_id, id);
CREATE TABLE fiat_gateways (
    name text NOT NULL,
    currencies jsonb NOT NULL,
    methods text[] NOT NULL,
    refunds boolean NOT NULL,
    settlements boolean NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    failed_at timestamptz,
    refused_at timestamptz,
    seen_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_gateways PRIMARY KEY (name)
);
CREATE TABLE fiat_settlement_lines (
    id uuid NOT NULL,
    provider text NOT NULL,
    line text NOT NULL,
    settlement text NOT NULL,
    kind text NOT NULL,
    reference text,
    provider_ref text,
    currency text NOT NULL,
    units numeric(38, 0) NOT NULL,
    fee_units numeric(38, 0) NOT NULL,
    settled_at timestamptz NOT NULL,
    state text NOT NULL,
    why text,
    payment_id uuid,
    journal_id uuid,
    break_id uuid,
    created_at timestamptz NOT NULL,
    CONSTRAINT pk_fiat_settlement_lines PRIMARY KEY (id),
    CONSTRAINT uq_fiat_settlement_lines_provider_line UNIQUE (provider, line),
    CONSTRAINT fk_fiat_settlement_lines_payment_id FOREIGN KEY(payment_id) REFERENCES fiat_payments (id)
);
CREATE INDEX ix_fiat_settlement_lines_payment_id ON fiat_settlement_lines (payment_id);
CREATE INDEX ix_fiat_settlement_lines_unmatched ON fiat_settlement_lines (provider, id) WHERE state = 'unmatched';
"""
TABLES = (
    "fiat_payments",
    "fiat_payment_events",
    "fiat_attempts",
    "fiat_refunds",
    "fiat_gateways",
    "fiat_settlement_lines",
)


def upgrade() -> None:
    op.execute(PAYMENTS)
    op.execute(ORDERS)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
