"""The ledger: assets, accounts, journals, entries, and the role that may not rewrite them.

What the code promises of the books is held here a second time by the database: the application's role can only add
journals and entries, triggers refuse to change or remove them for everybody (the owner included), every journal sums
to zero in each asset and is written once and whole, and no balance passes its floor.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from core.db import APP_ROLE

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

UNITS: sa.NUMERIC[int] = sa.NUMERIC(38, 0)
TIME = sa.DateTime(timezone=True)

# The role is the whole cluster's, and two databases may be migrated at once: whoever comes second finds it made.
# Membership lets whoever migrates also run processes; a separate login of the processes needs the same grant. From
# PostgreSQL 16 on, the maker of a role is its member without the right to act as it, which is what we need.
ROLE = f"""
DO $$
DECLARE
    may text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{APP_ROLE}') THEN
        BEGIN
            CREATE ROLE {APP_ROLE} NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the role {APP_ROLE} is missing and % may not create roles', current_user
                USING HINT = 'As an administrator: CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO '
                             || quote_ident(current_user) || '; then migrate again.';
        END;
    END IF;
    IF NOT pg_has_role(current_user, '{APP_ROLE}', may) THEN
        BEGIN
            GRANT {APP_ROLE} TO CURRENT_USER;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION '% is no member of the role {APP_ROLE} and may not grant it', current_user
            USING HINT = 'As an administrator: GRANT {APP_ROLE} TO ' || quote_ident(current_user) || ';';
        END;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO {APP_ROLE}', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I '
                   'GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {APP_ROLE}', current_schema());
    EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I '
                   'GRANT USAGE, SELECT ON SEQUENCES TO {APP_ROLE}', current_schema());
END $$
"""

# The tables of this migration, and Alembic's own (which /ready reads), take back what the defaults just gave.
GRANTS = f"""
REVOKE ALL ON alembic_version, ledger_assets, ledger_accounts, ledger_journals, ledger_entries FROM {APP_ROLE};
GRANT SELECT ON alembic_version TO {APP_ROLE};
GRANT SELECT, INSERT ON ledger_assets, ledger_accounts, ledger_journals, ledger_entries TO {APP_ROLE};
GRANT UPDATE (balance, version) ON ledger_accounts TO {APP_ROLE};
"""

# Each statement that inserts entries must bring whole journals: zero in every asset, and positions from 0 without a
# gap. With the unique (journal_id, position) that also keeps a later statement from adding to a journal, without a
# look at what is there. The transition table makes it one pass, however many journals a statement brings.
WHOLE = """
CREATE FUNCTION ledger_entries_are_whole() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wrong record;
BEGIN
    SELECT journal_id, asset, sum(units) AS total INTO wrong
    FROM new_entries GROUP BY journal_id, asset HAVING sum(units) <> 0 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal % does not balance: its entries in % sum to %', wrong.journal_id, wrong.asset, wrong.total
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    SELECT journal_id INTO wrong
    FROM new_entries GROUP BY journal_id HAVING min(position) <> 0 OR max(position) + 1 <> count(*) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'journal % is written once and whole: its entries have positions from 0 without a gap', wrong.journal_id
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_entries_whole AFTER INSERT ON ledger_entries
    REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_are_whole();
"""

APPEND_ONLY = """
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: book a reversal instead of %', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER ledger_journals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_journals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_entries_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_entries
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();
"""


def upgrade() -> None:
    op.execute(ROLE)
    op.create_table(
        "ledger_assets",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("scale", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_assets")),
        sa.CheckConstraint("scale BETWEEN 0 AND 36", name=op.f("ck_ledger_assets_scale")),
    )
    create_accounts()
    create_journals()
    create_entries()
    op.execute(GRANTS)
    op.execute(WHOLE)
    op.execute(APPEND_ONLY)


def create_accounts() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("normal_side", sa.Text(), nullable=False),
        sa.Column("floor", UNITS, nullable=True),
        sa.Column("balance", UNITS, server_default=sa.text("0"), nullable=False),
        sa.Column("version", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("created_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_accounts")),
        sa.UniqueConstraint("tenant", "code", "asset", name=op.f("uq_ledger_accounts_tenant_code_asset")),
        sa.UniqueConstraint("id", "asset", name=op.f("uq_ledger_accounts_id_asset")),
        sa.ForeignKeyConstraint(["asset"], ["ledger_assets.id"], name=op.f("fk_ledger_accounts_asset")),
        sa.CheckConstraint(
            "kind IN ('asset', 'liability', 'equity', 'income', 'expense')", name=op.f("ck_ledger_accounts_kind")
        ),
        sa.CheckConstraint("normal_side IN ('debit', 'credit')", name=op.f("ck_ledger_accounts_normal_side")),
        sa.CheckConstraint(
            "floor IS NULL OR CASE normal_side WHEN 'credit' THEN balance ELSE -balance END >= floor",
            name=op.f("ck_ledger_accounts_floor"),
        ),
        sa.CheckConstraint("version >= 0", name=op.f("ck_ledger_accounts_version")),
        postgresql_with={"fillfactor": 70},
    )


def create_journals() -> None:
    op.create_table(
        "ledger_journals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("category", sa.Text(), nullable=False),
        sa.Column("effective_at", TIME, nullable=False),
        sa.Column("booked_at", TIME, nullable=False),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("reverses", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_journals")),
        sa.UniqueConstraint("tenant", "reference", name=op.f("uq_ledger_journals_tenant_reference")),
        sa.ForeignKeyConstraint(["reverses"], ["ledger_journals.id"], name=op.f("fk_ledger_journals_reverses")),
        sa.CheckConstraint("length(reference) BETWEEN 1 AND 300", name=op.f("ck_ledger_journals_reference")),
        sa.CheckConstraint("reverses <> id", name=op.f("ck_ledger_journals_reverses")),
    )
    op.create_index(
        op.f("ix_ledger_journals_tenant_subject"),
        "ledger_journals",
        ["tenant", "subject"],
        postgresql_where=sa.text("subject IS NOT NULL"),
    )
    op.create_index(
        "uq_ledger_journals_reverses",
        "ledger_journals",
        ["reverses"],
        unique=True,
        postgresql_where=sa.text("reverses IS NOT NULL"),
    )


def create_entries() -> None:
    op.create_table(
        "ledger_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("journal_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("units", UNITS, nullable=False),
        sa.Column("balance", UNITS, nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_entries")),
        sa.ForeignKeyConstraint(["journal_id"], ["ledger_journals.id"], name=op.f("fk_ledger_entries_journal_id")),
        sa.ForeignKeyConstraint(
            ["account_id", "asset"],
            ["ledger_accounts.id", "ledger_accounts.asset"],
            name=op.f("fk_ledger_entries_account_id_asset"),
        ),
        sa.UniqueConstraint("account_id", "version", name=op.f("uq_ledger_entries_account_id_version")),
        sa.UniqueConstraint("journal_id", "position", name=op.f("uq_ledger_entries_journal_id_position")),
        sa.CheckConstraint("units <> 0", name=op.f("ck_ledger_entries_units")),
        sa.CheckConstraint("version > 0", name=op.f("ck_ledger_entries_version")),
        sa.CheckConstraint("position >= 0", name=op.f("ck_ledger_entries_position")),
    )


def downgrade() -> None:
    """For development. Dropping the books is the owner's to do by hand; the role stays, other databases may use it."""
    for table in ("ledger_entries", "ledger_journals", "ledger_accounts", "ledger_assets"):
        op.drop_table(table)
    op.execute("DROP FUNCTION ledger_entries_are_whole")
    op.execute("DROP FUNCTION ledger_is_append_only")
