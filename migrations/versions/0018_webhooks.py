"""What providers told us, as it came.

Revision ID: 0018
Revises: 0017
"""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

RECEIPTS = """
CREATE TABLE webhook_receipts (
    id uuid CONSTRAINT pk_webhook_receipts PRIMARY KEY,
    provider text NOT NULL,
    dedupe_key text NOT NULL,
    body bytea,
    bytes integer NOT NULL,
    headers jsonb NOT NULL,
    secret integer NOT NULL,
    remote inet,
    correlation_id text,
    state text NOT NULL DEFAULT 'received',
    note text,
    repeats integer NOT NULL DEFAULT 0,
    received_at timestamptz NOT NULL DEFAULT now(),
    repeated_at timestamptz,
    waiting_at timestamptz,
    settled_at timestamptz,
    CONSTRAINT uq_webhook_receipts_provider_dedupe_key UNIQUE (provider, dedupe_key),
    CONSTRAINT ck_webhook_receipts_state CHECK (state IN ('received', 'waiting', 'handled', 'ignored')),
    CONSTRAINT ck_webhook_receipts_settled CHECK ((state IN ('handled', 'ignored')) = (settled_at IS NOT NULL)),
    CONSTRAINT ck_webhook_receipts_waiting CHECK (state <> 'waiting' OR waiting_at IS NOT NULL),
    CONSTRAINT ck_webhook_receipts_body CHECK (body IS NOT NULL OR settled_at IS NOT NULL)
);
CREATE INDEX ix_webhook_receipts_open ON webhook_receipts (received_at) WHERE settled_at IS NULL;
CREATE INDEX ix_webhook_receipts_kept ON webhook_receipts (settled_at) WHERE body IS NOT NULL;
CREATE INDEX ix_webhook_receipts_provider ON webhook_receipts (provider, id);
"""


def upgrade() -> None:
    op.execute(RECEIPTS)


def downgrade() -> None:
    op.execute("DROP TABLE webhook_receipts")
