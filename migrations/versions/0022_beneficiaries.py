"""The book of destinations that money may be sent to.

Revision ID: 0022
Revises: 0021
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

BENEFICIARIES = """
CREATE TABLE beneficiaries (
    id uuid NOT NULL,
    tenant text NOT NULL,
    account text NOT NULL,
    kind text NOT NULL,
    chain text,
    bank text,
    fingerprint text NOT NULL,
    sealed bytea NOT NULL,
    sealed_by text NOT NULL,
    masked text NOT NULL,
    label text NOT NULL,
    state text NOT NULL,
    failure text,
    holder_matches boolean,
    verified_by text,
    verified_at timestamptz,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    removed_at timestamptz,
    CONSTRAINT pk_beneficiaries PRIMARY KEY (id)
);
CREATE INDEX ix_beneficiaries_account ON beneficiaries (tenant, account, id);
CREATE INDEX ix_beneficiaries_fingerprint ON beneficiaries (fingerprint);
CREATE INDEX ix_beneficiaries_pending ON beneficiaries (id) WHERE state = 'pending';
CREATE INDEX ix_beneficiaries_sealed_by ON beneficiaries (sealed_by, id);
CREATE INDEX ix_beneficiaries_tenant ON beneficiaries (tenant, id);
CREATE UNIQUE INDEX uq_beneficiaries_live ON beneficiaries (tenant, account, fingerprint) WHERE removed_at IS NULL;
CREATE TABLE beneficiary_events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    beneficiary_id uuid NOT NULL,
    at timestamptz NOT NULL,
    event text NOT NULL,
    state_after text NOT NULL,
    actor text NOT NULL,
    reason text,
    detail jsonb NOT NULL,
    CONSTRAINT pk_beneficiary_events PRIMARY KEY (id),
    CONSTRAINT fk_beneficiary_events_beneficiary_id FOREIGN KEY(beneficiary_id) REFERENCES beneficiaries (id)
);
CREATE INDEX ix_beneficiary_events_beneficiary_id ON beneficiary_events (beneficiary_id, id);
CREATE TABLE bank_lists (
    provider text NOT NULL,
    kind text NOT NULL,
    banks jsonb NOT NULL,
    read_at timestamptz NOT NULL,
    CONSTRAINT pk_bank_lists PRIMARY KEY (provider, kind)
);
"""
TABLES = (
    "beneficiaries",
    "beneficiary_events",
    "bank_lists",
)


def upgrade() -> None:
    op.execute(BENEFICIARIES)


def downgrade() -> None:
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
