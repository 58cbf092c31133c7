"""Jobs, tenants and their keys, dead letter actions, heartbeats, periods of schedules.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NOW = sa.text("now()")


def _time(name: str, *, default: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=not default, server_default=NOW if default else None)


def upgrade() -> None:
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("args", pg.JSONB(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False, server_default="queued"),
        _time("run_at", default=True),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("attempts_max", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
        _time("lease_until"),
        sa.Column("worker", sa.Text()),
        _time("published_at"),
        sa.Column("last_error", pg.JSONB()),
        sa.Column("correlation_id", sa.Text()),
        sa.Column("subject", sa.Text()),
        _time("created_at", default=True),
        _time("started_at"),
        _time("finished_at"),
        sa.CheckConstraint(
            "status IN ('queued', 'running', 'succeeded', 'dead', 'cancelled', 'discarded')", name="status"
        ),
        sa.CheckConstraint("status <> 'running' OR lease_until IS NOT NULL", name="running_has_lease"),
    )
    for name, columns, where in (
        ("ix_jobs_due", ["queue", "run_at"], "status = 'queued' AND published_at IS NULL"),
        ("ix_jobs_rung", ["published_at"], "status = 'queued' AND published_at IS NOT NULL"),
        ("ix_jobs_leased", ["lease_until"], "status = 'running'"),
        ("ix_jobs_dead", ["tenant", "id"], "status = 'dead'"),
        ("ix_jobs_tenant", ["tenant", "id"], None),
        ("ix_jobs_subject", ["subject"], "subject IS NOT NULL"),
    ):
        op.create_index(name, "jobs", columns, postgresql_where=sa.text(where) if where else None)
    # Every job is updated three times within seconds: vacuum by small steps, or its indexes swell with dead rows.
    op.execute("ALTER TABLE jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)")

    op.create_table(
        "tenants",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("name", sa.Text(), nullable=False),
        _time("created_at", default=True),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("tenant", sa.Text(), sa.ForeignKey("tenants.id"), nullable=False, index=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False, unique=True),
        sa.Column("scopes", pg.ARRAY(sa.Text()), nullable=False),
        _time("created_at", default=True),
        _time("expires_at"),
        _time("revoked_at"),
        sa.Column("replaces", sa.Uuid(), sa.ForeignKey("api_keys.id")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant", sa.Text(), primary_key=True),
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("answer", pg.JSONB(), nullable=False),
        _time("created_at", default=True),
    )
    op.create_table(
        "dead_letter_actions",
        sa.Column("id", sa.Uuid(), primary_key=True),
        sa.Column("job_id", sa.Uuid(), nullable=False, index=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("args_before", pg.JSONB(), nullable=False),
        sa.Column("args_after", pg.JSONB(), nullable=False),
        _time("created_at", default=True),
    )
    op.create_table(
        "heartbeats",
        sa.Column("name", sa.Text(), primary_key=True),
        _time("beat_at", default=True),
    )
    op.create_table(
        "schedule_periods",
        sa.Column("schedule", sa.Text(), primary_key=True),
        sa.Column("period", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        _time("created_at", default=True),
    )


def downgrade() -> None:
    for table in (
        "schedule_periods",
        "heartbeats",
        "dead_letter_actions",
        "idempotency_keys",
        "api_keys",
        "tenants",
        "jobs",
    ):
        op.drop_table(table)
