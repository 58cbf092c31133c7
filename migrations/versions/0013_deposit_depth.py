"""How deep a deposit must lie stands in its row, so that those that don't yet are put off by one statement.

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Of those that lie in a block already it is not known: they are looked at one by one.
    op.execute("ALTER TABLE deposits ADD COLUMN depth_needed integer CHECK (depth_needed >= 0)")


def downgrade() -> None:
    op.execute("ALTER TABLE deposits DROP COLUMN depth_needed")
