"""What a waiting transaction uses up is told by every kind of chain, not by a sender's nonce alone.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE deposits ADD COLUMN tx_inputs text[]")
    op.execute(
        "UPDATE deposits SET tx_inputs = ARRAY[tx_sender || '/' || tx_nonce]"
        " WHERE tx_sender IS NOT NULL AND tx_nonce IS NOT NULL AND final_at IS NULL"
    )
    op.execute("ALTER TABLE deposits DROP COLUMN tx_sender, DROP COLUMN tx_nonce")


def downgrade() -> None:
    op.execute("ALTER TABLE deposits ADD COLUMN tx_sender text, ADD COLUMN tx_nonce bigint")
    op.execute(
        "UPDATE deposits SET tx_sender = split_part(tx_inputs[1], '/', 1),"
        " tx_nonce = split_part(tx_inputs[1], '/', 2)::bigint"
        " WHERE cardinality(tx_inputs) = 1 AND tx_inputs[1] ~ '^0x[0-9a-fA-F]+/[0-9]+$'"
    )
    op.execute("ALTER TABLE deposits DROP COLUMN tx_inputs")
