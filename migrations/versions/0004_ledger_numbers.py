"""The ledger grows up: journals have numbers, accounts have stripes, limits, states and holds, and only functions write.

Entries name their journal by its number, carry the time at which it was booked, and no longer repeat the account's
asset. What the foreign keys of entries held, row by row, the trigger holds for a whole statement, and more: the tenant.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from core.db import APP_ROLE

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UNITS: sa.NUMERIC[int] = sa.NUMERIC(38, 0)
TIME = sa.DateTime(timezone=True)

# What CHECKs and foreign keys would say of each row, said once for a statement: PostgreSQL parses every CHECK of a table
# anew for each statement that writes it, which cost a third of a post (ADR 13). A posting is a pair of entries that
# cancel, in accounts of one asset and of the journal's tenant; no account is left out of its bounds; a journal's entries
# come in one statement, without a gap, so that with the primary key no later statement can add to it. One statement that
# can't be anything else is not looked at again (migration 0005): its function says so in a setting, and takes it back.
WHOLE = """
CREATE OR REPLACE FUNCTION ledger_entries_are_whole() RETURNS trigger LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    wrong record;
BEGIN
    SELECT e.journal_number, GROUPING(e.position / 2) = 0 AS pair,
           bool_and(ledger_within_bounds(a.normal_side, a.balance, a.held, a.floor, a.ceiling)) AS bounded INTO wrong
    FROM new_entries e
    LEFT JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = e.account_id LIMIT 1) a ON true
    LEFT JOIN LATERAL (SELECT * FROM ledger_journals WHERE number = e.journal_number LIMIT 1) j ON true
    GROUP BY GROUPING SETS ((e.journal_number, e.position / 2), (e.journal_number))
    HAVING CASE WHEN GROUPING(e.position / 2) = 0
                THEN sum(e.units) <> 0 OR bool_or(e.units = 0) OR count(*) <> 2 OR count(a.id) <> 2
                     OR count(j.number) <> 2 OR min(a.asset) <> max(a.asset) OR bool_or(a.tenant <> j.tenant)
                     OR bool_or(e.version > a.version)
                     OR NOT bool_and(ledger_within_bounds(a.normal_side, a.balance, a.held, a.floor, a.ceiling))
                ELSE min(e.position) <> 0 OR max(e.position) + 1 <> count(*) END
    LIMIT 1;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF NOT wrong.pair THEN
        RAISE EXCEPTION 'journal % is written once and whole: its entries have positions from 0 without a gap', wrong.journal_number
        USING ERRCODE = 'integrity_constraint_violation';
    ELSIF NOT wrong.bounded THEN
        RAISE EXCEPTION 'journal % leaves an account below its floor or above its ceiling', wrong.journal_number
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RAISE EXCEPTION 'journal % does not balance: a posting is two entries that cancel, in accounts of one asset and of the journal''s tenant', wrong.journal_number
    USING ERRCODE = 'integrity_constraint_violation';
END $$;
DROP TRIGGER ledger_entries_whole ON ledger_entries;
CREATE TRIGGER ledger_entries_whole AFTER INSERT ON ledger_entries
    REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT
    WHEN (current_setting('tallyrail.entries', true) IS DISTINCT FROM 'one pair')
    EXECUTE FUNCTION ledger_entries_are_whole();
"""

BOUNDS = """
CREATE FUNCTION ledger_within_bounds(normal_side text, balance numeric, held numeric, floor numeric, ceiling numeric)
RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
    SELECT (floor IS NULL OR CASE normal_side WHEN 'credit' THEN balance ELSE -balance END - held >= floor)
       AND (ceiling IS NULL OR CASE normal_side WHEN 'credit' THEN balance ELSE -balance END <= ceiling)
$$;
"""

# Likewise for accounts: what a post does not change is checked when it changes.
FIT = """
CREATE FUNCTION ledger_accounts_fit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rule text := CASE
        WHEN NEW.kind NOT IN ('asset', 'liability', 'equity', 'income', 'expense') THEN 'kind'
        WHEN NEW.normal_side <> CASE WHEN NEW.kind IN ('asset', 'expense') THEN 'debit' ELSE 'credit' END THEN 'normal_side'
        WHEN NEW.state NOT IN ('open', 'frozen', 'closed') THEN 'state'
        WHEN NEW.state = 'closed' AND (NEW.balance <> 0 OR NEW.held <> 0) THEN 'closed'
        WHEN NEW.held < 0 THEN 'held'
        WHEN NEW.stripe NOT BETWEEN 0 AND NEW.stripes - 1 THEN 'stripe'
        WHEN NEW.stripes > 1 AND (NEW.floor IS NOT NULL OR NEW.ceiling IS NOT NULL OR NEW.held <> 0) THEN 'striped'
        WHEN NEW.floor > NEW.ceiling THEN 'floor'
        WHEN NEW.ceiling = 'NaN' THEN 'ceiling'
        WHEN NOT ledger_within_bounds(NEW.normal_side, NEW.balance, NEW.held, NEW.floor, NEW.ceiling) THEN 'bounds'
    END;
BEGIN
    -- Rows are opened together: none is added later to an account that has fewer, or is of another kind.
    IF NEW.stripe > 0 AND NOT EXISTS (
        SELECT FROM ledger_accounts a WHERE a.tenant = NEW.tenant AND a.code = NEW.code AND a.asset = NEW.asset
        AND a.stripe = 0 AND a.stripes = NEW.stripes AND a.kind = NEW.kind
    ) THEN
        rule := coalesce(rule, 'stripes');
    END IF;
    IF rule IS NOT NULL THEN
        RAISE EXCEPTION 'account %/% in %: its % is impossible', NEW.tenant, NEW.code, NEW.asset, rule
        USING ERRCODE = 'check_violation', CONSTRAINT = 'ck_ledger_accounts_' || rule;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_accounts_fit
    AFTER INSERT OR UPDATE OF tenant, code, asset, kind, normal_side, floor, ceiling, held, state, stripe, stripes
    ON ledger_accounts FOR EACH ROW EXECUTE FUNCTION ledger_accounts_fit();
"""

# Without foreign keys from entries, this is what keeps an account under its entries.
KEPT = """
CREATE FUNCTION ledger_accounts_are_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'accounts are kept for ever: close the account instead of %', TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER ledger_accounts_kept BEFORE DELETE OR TRUNCATE ON ledger_accounts
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_accounts_are_kept();
"""

GRANTS = f"""
REVOKE ALL ON ledger_accounts, ledger_journals, ledger_entries FROM {APP_ROLE};
GRANT SELECT ON ledger_accounts, ledger_journals, ledger_entries TO {APP_ROLE};
REVOKE ALL ON SEQUENCE ledger_accounts_id_seq, ledger_journals_number_seq FROM {APP_ROLE};
"""


def upgrade() -> None:
    change_accounts()
    change_journals()
    change_entries()
    for made in (BOUNDS, WHOLE, FIT, KEPT):
        op.execute(made)
    op.execute(
        f"GRANT EXECUTE ON FUNCTION ledger_within_bounds(text, numeric, numeric, numeric, numeric) TO {APP_ROLE}"
    )
    op.execute(GRANTS)


def change_accounts() -> None:
    for column in (
        sa.Column("stripe", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("stripes", sa.SmallInteger(), server_default=sa.text("1"), nullable=False),
        sa.Column("ceiling", UNITS, nullable=True),
        sa.Column("held", UNITS, server_default=sa.text("0"), nullable=False),
        sa.Column("state", sa.Text(), server_default="open", nullable=False),
        sa.Column("metadata", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("booked_at", TIME, nullable=True),
    ):
        op.add_column("ledger_accounts", column)
    op.drop_constraint(op.f("uq_ledger_accounts_tenant_code_asset"), "ledger_accounts")
    op.create_unique_constraint(
        op.f("uq_ledger_accounts_tenant_code_asset_stripe"), "ledger_accounts", ["tenant", "code", "asset", "stripe"]
    )
    for name in ("kind", "normal_side", "floor", "version"):
        op.drop_constraint(op.f(f"ck_ledger_accounts_{name}"), "ledger_accounts")
    # Accounts that are spread from now on and were opened in one row.
    op.execute("""
        UPDATE ledger_accounts SET stripes = 16
        WHERE code LIKE 'custody:%' OR code LIKE 'suspense:%' OR code = 'house:fees'
    """)
    op.execute("""
        INSERT INTO ledger_accounts (tenant, code, asset, stripe, stripes, kind, normal_side)
        SELECT tenant, code, asset, n.stripe, 16, kind, normal_side
        FROM ledger_accounts a CROSS JOIN generate_series(1, 15) AS n (stripe)
        WHERE a.stripes = 16 ORDER BY a.id, n.stripe
    """)


def change_journals() -> None:
    # Not numbered by adding an identity column: that would follow the table, and numbers must follow the booking.
    op.add_column("ledger_journals", sa.Column("number", sa.BigInteger(), nullable=True))
    op.execute("ALTER TABLE ledger_journals DISABLE TRIGGER ledger_journals_append_only")
    op.execute("""
        UPDATE ledger_journals j SET number = n.number
        FROM (SELECT journal_id, row_number() OVER (ORDER BY min(id)) AS number
              FROM ledger_entries GROUP BY journal_id) n
        WHERE n.journal_id = j.id
    """)
    op.execute("ALTER TABLE ledger_journals ENABLE TRIGGER ledger_journals_append_only")
    op.alter_column("ledger_journals", "number", nullable=False)
    op.execute("ALTER TABLE ledger_journals ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY")
    op.execute("""
        SELECT setval(pg_get_serial_sequence('ledger_journals', 'number'), max(number))
        FROM ledger_journals HAVING count(*) > 0
    """)
    op.create_unique_constraint(op.f("uq_ledger_journals_number"), "ledger_journals", ["number"])
    op.drop_constraint(op.f("ck_ledger_journals_reference"), "ledger_journals")
    op.drop_constraint(op.f("ck_ledger_journals_reverses"), "ledger_journals")
    op.execute("""
        CREATE INDEX ix_ledger_journals_dated ON ledger_journals
        USING gist (tstzrange(LEAST(effective_at, booked_at), GREATEST(effective_at, booked_at)))
        WHERE effective_at <> booked_at
    """)


def change_entries() -> None:
    op.add_column("ledger_entries", sa.Column("journal_number", sa.BigInteger(), nullable=True))
    op.add_column("ledger_entries", sa.Column("booked_at", TIME, nullable=True))
    op.execute("ALTER TABLE ledger_entries DISABLE TRIGGER ledger_entries_append_only")
    op.execute("""
        UPDATE ledger_entries e SET journal_number = j.number, booked_at = j.booked_at
        FROM ledger_journals j WHERE j.id = e.journal_id
    """)
    op.execute("ALTER TABLE ledger_entries ENABLE TRIGGER ledger_entries_append_only")
    op.execute("""
        UPDATE ledger_accounts a SET booked_at = e.booked_at
        FROM ledger_entries e WHERE e.account_id = a.id AND e.version = a.version
    """)
    for name in ("units", "version", "position"):
        op.drop_constraint(op.f(f"ck_ledger_entries_{name}"), "ledger_entries")
    op.alter_column("ledger_entries", "journal_number", nullable=False)
    op.alter_column("ledger_entries", "booked_at", nullable=False)
    for column in ("id", "journal_id", "asset"):  # their keys and constraints go with them
        op.drop_column("ledger_entries", column)
    op.create_primary_key(op.f("pk_ledger_entries"), "ledger_entries", ["journal_number", "position"])
    op.drop_constraint(op.f("uq_ledger_accounts_id_asset"), "ledger_accounts")


def downgrade() -> None:
    """Only of books without entries, for development: what was dropped from entries can't be told from striped rows."""
    op.execute("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM ledger_journals) THEN
                RAISE EXCEPTION 'the books have journals: they can''t go back to an older schema';
            END IF;
        END $$
    """)
    for trigger in ("kept", "fit"):
        op.execute(f"DROP TRIGGER ledger_accounts_{trigger} ON ledger_accounts")
    op.execute("DROP FUNCTION ledger_accounts_are_kept")
    op.execute("DROP FUNCTION ledger_accounts_fit")
    op.execute("DELETE FROM ledger_accounts")
    op.create_unique_constraint(op.f("uq_ledger_accounts_id_asset"), "ledger_accounts", ["id", "asset"])
    op.drop_constraint(op.f("pk_ledger_entries"), "ledger_entries")
    op.drop_column("ledger_entries", "journal_number")
    op.drop_column("ledger_entries", "booked_at")
    op.add_column("ledger_entries", sa.Column("id", sa.BigInteger(), sa.Identity(always=True), primary_key=True))
    op.create_primary_key(op.f("pk_ledger_entries"), "ledger_entries", ["id"])
    op.add_column("ledger_entries", sa.Column("journal_id", sa.Uuid(), nullable=False))
    op.add_column("ledger_entries", sa.Column("asset", sa.Text(), nullable=False))
    op.create_foreign_key(
        op.f("fk_ledger_entries_journal_id"), "ledger_entries", "ledger_journals", ["journal_id"], ["id"]
    )
    op.create_foreign_key(
        op.f("fk_ledger_entries_account_id_asset"),
        "ledger_entries",
        "ledger_accounts",
        ["account_id", "asset"],
        ["id", "asset"],
    )
    op.create_unique_constraint(
        op.f("uq_ledger_entries_journal_id_position"), "ledger_entries", ["journal_id", "position"]
    )
    op.drop_column("ledger_journals", "number")
    op.drop_index("ix_ledger_journals_dated", "ledger_journals")
    for table, name, rule in (
        ("accounts", "kind", "kind IN ('asset', 'liability', 'equity', 'income', 'expense')"),
        ("accounts", "normal_side", "normal_side IN ('debit', 'credit')"),
        (
            "accounts",
            "floor",
            "floor IS NULL OR CASE normal_side WHEN 'credit' THEN balance ELSE -balance END >= floor",
        ),
        ("accounts", "version", "version >= 0"),
        ("journals", "reference", "length(reference) BETWEEN 1 AND 300"),
        ("journals", "reverses", "reverses <> id"),
        ("entries", "units", "units <> 0"),
        ("entries", "version", "version > 0"),
        ("entries", "position", "position >= 0"),
    ):
        op.create_check_constraint(op.f(f"ck_ledger_{table}_{name}"), f"ledger_{table}", rule)
    op.drop_constraint(op.f("uq_ledger_accounts_tenant_code_asset_stripe"), "ledger_accounts")
    op.create_unique_constraint(
        op.f("uq_ledger_accounts_tenant_code_asset"), "ledger_accounts", ["tenant", "code", "asset"]
    )
    for column in ("stripe", "stripes", "ceiling", "held", "state", "metadata", "booked_at"):
        op.drop_column("ledger_accounts", column)
    op.execute(f"GRANT SELECT, INSERT ON ledger_accounts, ledger_journals, ledger_entries TO {APP_ROLE}")
    op.execute(f"GRANT UPDATE (balance, version) ON ledger_accounts TO {APP_ROLE}")
    op.execute("""
        CREATE OR REPLACE FUNCTION ledger_entries_are_whole() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE wrong record;
        BEGIN
            SELECT journal_id INTO wrong FROM new_entries GROUP BY journal_id, asset HAVING sum(units) <> 0 LIMIT 1;
            IF FOUND THEN RAISE EXCEPTION 'journal % does not balance', wrong.journal_id
                USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NULL;
        END $$;
        DROP TRIGGER ledger_entries_whole ON ledger_entries;
        CREATE TRIGGER ledger_entries_whole AFTER INSERT ON ledger_entries
            REFERENCING NEW TABLE AS new_entries FOR EACH STATEMENT EXECUTE FUNCTION ledger_entries_are_whole();
    """)
    op.execute("DROP FUNCTION ledger_within_bounds")
