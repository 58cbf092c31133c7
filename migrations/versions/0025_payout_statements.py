"""Statements of payout providers; breaks have an owner, and the journal that settled them.

Revision ID: 0025
Revises: 0024
"""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

STATEMENTS = """
CREATE TABLE payout_statements (
    id uuid NOT NULL,
    provider text NOT NULL,
    source text NOT NULL,
    actor text NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    lines integer NOT NULL,
    added integer NOT NULL,
    withdrawn integer NOT NULL,
    file_sha256 bytea,
    begun_at timestamptz NOT NULL,
    read_at timestamptz,
    CONSTRAINT pk_payout_statements PRIMARY KEY (id),
    CONSTRAINT ck_payout_statements_period CHECK (since < until),
    CONSTRAINT ck_payout_statements_source CHECK (source IN ('provider', 'file'))
);
CREATE INDEX ix_payout_statements_provider ON payout_statements (provider, until);
-- Nothing has ever written lines, so none needs a statement made up for it.
ALTER TABLE payout_statement_lines
    ADD COLUMN statement_id uuid NOT NULL,
    ADD COLUMN withdrawn_at timestamptz,
    ADD CONSTRAINT fk_payout_statement_lines_statement_id FOREIGN KEY(statement_id) REFERENCES payout_statements (id);
CREATE INDEX ix_payout_statement_lines_booked ON payout_statement_lines (provider, booked_at);
"""
BREAKS = """
ALTER TABLE breaks ADD COLUMN owner text, ADD COLUMN journal_id uuid;
CREATE INDEX ix_breaks_subject ON breaks (subject, kind);
"""


def upgrade() -> None:
    op.execute(STATEMENTS)
    op.execute(BREAKS)


def downgrade() -> None:
    op.execute("DROP INDEX ix_breaks_subject")
    op.execute("ALTER TABLE breaks DROP COLUMN owner, DROP COLUMN journal_id")
    op.execute("DROP INDEX ix_payout_statement_lines_booked")
    op.execute("ALTER TABLE payout_statement_lines DROP COLUMN statement_id, DROP COLUMN withdrawn_at")
    op.execute("DROP TABLE payout_statements")
