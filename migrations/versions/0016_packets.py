"""Red packets: what was put in, who may claim, who did.

Revision ID: 0016
Revises: 0015
"""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

PACKETS = """
CREATE TABLE packets (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    sender text NOT NULL,
    asset text NOT NULL,
    units numeric(38, 0) NOT NULL CHECK (units > 0),
    count integer NOT NULL CHECK (count BETWEEN 1 AND 10000),
    kind text NOT NULL CHECK (kind IN ('equal', 'random')),
    units_min numeric(38, 0) NOT NULL CHECK (units_min > 0),
    seed bytea NOT NULL CHECK (octet_length(seed) = 32),
    group_name text,
    allow_list boolean NOT NULL,
    expires_at timestamptz NOT NULL CHECK (expires_at = date_trunc('milliseconds', expires_at)),
    hold_id uuid NOT NULL,
    metadata jsonb NOT NULL DEFAULT '{}',
    correlation_id text,
    state text NOT NULL CHECK (state IN ('funded', 'open', 'closed')),
    reason text CHECK (reason IN ('empty', 'expired', 'cancelled')),
    claims integer NOT NULL DEFAULT 0 CHECK (claims BETWEEN 0 AND count),
    units_claimed numeric(38, 0) NOT NULL DEFAULT 0 CHECK (units_claimed BETWEEN 0 AND units),
    units_refunded numeric(38, 0),
    refund_refused text,
    created_at timestamptz NOT NULL,
    opened_at timestamptz,
    closed_at timestamptz,
    forgotten_at timestamptz,
    CHECK (units >= count * units_min),
    CHECK ((state = 'closed') = (reason IS NOT NULL)),
    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    CHECK ((state = 'closed') = (units_refunded IS NOT NULL)),
    CHECK (units_refunded IN (0, units - units_claimed))
);
CREATE INDEX ix_packets_tenant ON packets (tenant, id);
CREATE INDEX ix_packets_due ON packets (expires_at) WHERE state <> 'closed';
CREATE INDEX ix_packets_open ON packets (id) WHERE state = 'open';
CREATE INDEX ix_packets_unforgotten ON packets (id) WHERE state = 'closed' AND forgotten_at IS NULL;
"""
CLAIMS = """
CREATE TABLE packet_allowed (
    packet_id uuid NOT NULL REFERENCES packets (id),
    claimant text NOT NULL,
    PRIMARY KEY (packet_id, claimant)
);
-- Without a foreign key: it would cost a look at the packet for each claim of a batch that has the packet locked.
CREATE TABLE packet_claims (
    packet_id uuid NOT NULL,
    claimant text NOT NULL,
    place integer NOT NULL CHECK (place > 0),
    units numeric(38, 0) NOT NULL CHECK (units > 0),
    claimed_at timestamptz NOT NULL,
    generation bigint NOT NULL,
    seq bigint,
    refused text,
    PRIMARY KEY (packet_id, claimant),
    CONSTRAINT uq_packet_claims_packet_id_place UNIQUE (packet_id, place)
);
"""


def upgrade() -> None:
    op.execute(PACKETS)
    op.execute(CLAIMS)


def downgrade() -> None:
    for table in ("packet_claims", "packet_allowed", "packets"):
        op.execute(f"DROP TABLE {table}")
