"""Holds, and accounts that a person freezes, closes or bounds.

The row of the source's account is the lock of its holds: whoever changes a hold holds that row first, and reads the
hold again under it. So holds add nothing to the order of locks that posting has, and no hold is ever waited for.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from core.db import APP_ROLE
from migrations.functions import close

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UNITS: sa.NUMERIC[int] = sa.NUMERIC(38, 0)
TIME = sa.DateTime(timezone=True)

KEPT = """
CREATE FUNCTION ledger_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is kept for ever: there is no %', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER ledger_holds_kept BEFORE DELETE OR TRUNCATE ON ledger_holds
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
CREATE TRIGGER ledger_account_changes_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_account_changes
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_kept();
CREATE FUNCTION ledger_hold_is_settled_once() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.state <> 'pending' THEN
        RAISE EXCEPTION 'hold % is %: a settled hold never changes', OLD.id, OLD.state
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    -- What settling writes aside, the row stays as it was placed.
    OLD.state := NEW.state;
    OLD.posted_units := NEW.posted_units;
    OLD.journal_id := NEW.journal_id;
    OLD.settled_at := NEW.settled_at;
    IF NEW IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'hold %: what was placed never changes', OLD.id
        USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER ledger_holds_settled_once BEFORE UPDATE ON ledger_holds
    FOR EACH ROW EXECUTE FUNCTION ledger_hold_is_settled_once();
"""

# Two rules of migration 0004, now that there are holds and closing. Holds bind what may leave, so accounts that are
# debit-normal, which grow by what leaves them, have none. A closed account's balance is that of its stripes together.
FIT = """
CREATE OR REPLACE FUNCTION ledger_accounts_fit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rule text := CASE
        WHEN NEW.kind NOT IN ('asset', 'liability', 'equity', 'income', 'expense') THEN 'kind'
        WHEN NEW.normal_side <> CASE WHEN NEW.kind IN ('asset', 'expense') THEN 'debit' ELSE 'credit' END THEN 'normal_side'
        WHEN NEW.state NOT IN ('open', 'frozen', 'closed') THEN 'state'
        WHEN NEW.state = 'closed' AND {closed} THEN 'closed'
        WHEN {held} THEN 'held'
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
"""
FIT_NOW = FIT.format(
    closed="(NEW.balance <> 0 AND NEW.stripes = 1 OR NEW.held <> 0)",
    held="NEW.held < 0 OR NEW.held > 0 AND NEW.normal_side = 'debit'",
)
FIT_BEFORE = FIT.format(closed="(NEW.balance <> 0 OR NEW.held <> 0)", held="NEW.held < 0")

# Each takes the index that it names, whatever the planner believes about the size of a table (migration 0005).
SETTINGS = "SECURITY DEFINER\nSET plan_cache_mode = force_generic_plan SET enable_seqscan = off"

# Returns NULL if the hold was placed, and otherwise
#   {"missing": true}                                   the accounts are not all open: open them and come back
#   {"id", "hash"}                                      placed before; the caller compares the hashes
#   {"refused": "floor" | "frozen" | "closed" | "deadline" | "striped" | "debit" | "digits", "account", "available"}
# with nothing written, but that holds past their deadline may have been let go. The reference is claimed last, when
# there is nothing left to wait for.
PLACE = f"""
CREATE FUNCTION ledger_place(
    of_tenant text, of_id uuid, of_reference text, of_hash bytea, source text, target text, of_asset text,
    of_units numeric, deadline timestamptz, of_subject text, of_correlation text, of_job uuid, of_notes jsonb
) RETURNS jsonb LANGUAGE plpgsql {SETTINGS} AS $$
DECLARE
    limitless constant numeric := 99999999999999999999999999999999999999;
    account ledger_accounts;
    target_state text;
    known jsonb;
    available numeric;
BEGIN
    -- Before anything is locked: whoever opens an account must hold none.
    SELECT a.state INTO target_state FROM ledger_accounts a
    WHERE a.tenant = of_tenant AND a.code = target AND a.asset = of_asset AND a.stripe = 0;
    IF NOT FOUND THEN
        RETURN '{{"missing": true}}';
    END IF;
    SELECT * INTO account FROM ledger_accounts a
    WHERE a.tenant = of_tenant AND a.code = source AND a.asset = of_asset AND a.stripe = 0 FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN '{{"missing": true}}';
    END IF;
    -- A repeat is no refusal, whatever has become of the accounts and of the deadline. A range in order, because a plan
    -- that is made while the table is empty finds (tenant, id) as good for an equation, and then reads all of a tenant's.
    SELECT jsonb_build_object('id', h.id, 'hash', encode(h.content_hash, 'hex')) INTO known
    FROM ledger_holds h WHERE h.tenant = of_tenant AND h.reference BETWEEN of_reference AND of_reference
    ORDER BY h.reference LIMIT 1;
    IF FOUND THEN
        RETURN known;
    ELSIF deadline <= clock_timestamp() THEN
        RETURN jsonb_build_object('refused', 'deadline');
    ELSIF account.stripes > 1 THEN
        RETURN jsonb_build_object('refused', 'striped');
    ELSIF account.normal_side = 'debit' THEN
        RETURN jsonb_build_object('refused', 'debit');
    ELSIF account.state = 'closed' OR target_state = 'closed' THEN
        RETURN jsonb_build_object('refused', 'closed', 'account', CASE account.state WHEN 'closed' THEN source ELSE target END);
    ELSIF account.state = 'frozen' THEN
        RETURN jsonb_build_object('refused', 'frozen', 'account', source);
    ELSIF account.held + of_units > limitless THEN
        RETURN jsonb_build_object('refused', 'digits');
    END IF;
    available := account.balance - account.held - account.floor;
    IF available < of_units THEN
        available := available + ledger_let_go(account.id);
        IF available < of_units THEN
            RETURN jsonb_build_object('refused', 'floor', 'account', source, 'available', available);
        END IF;
    END IF;
    INSERT INTO ledger_holds (id, tenant, reference, content_hash, account_id, destination, units, state, expires_at,
                              subject, correlation_id, job_id, metadata, created_at)
    VALUES (of_id, of_tenant, of_reference, of_hash, account.id, target, of_units, 'pending', deadline,
            of_subject, of_correlation, of_job, coalesce(of_notes, '{{}}'), clock_timestamp())
    ON CONFLICT (tenant, reference) DO NOTHING;
    IF NOT FOUND THEN
        RETURN (SELECT jsonb_build_object('id', h.id, 'hash', encode(h.content_hash, 'hex'))
                FROM ledger_holds h WHERE h.tenant = of_tenant AND h.reference BETWEEN of_reference AND of_reference
                ORDER BY h.reference LIMIT 1);
    END IF;
    UPDATE ledger_accounts SET held = held + of_units WHERE id = account.id;
    RETURN NULL;
END $$;
"""

# One call: lock, look, let the held money go, post part or all of it, mark the hold. Both accounts are locked in
# posting's order (code, asset) before the hold is read, though posting locks them again: a hold is changed only under
# its account, so what is read then stays true, and nothing is waited for out of order.
#
# Returns NULL if it was captured, and otherwise, with nothing written,
#   {"missing": true}               there is no such hold
#   {"id", "hash"}                  captured before by the journal of this reference; the caller compares the hashes
#   {"settled": state}              it is no longer pending, or its deadline has passed by this clock
#   {"more": units}                 more than is held
#   {"post": answer}                what ledger_post says
CAPTURE = f"""
CREATE FUNCTION ledger_capture(
    of_tenant text, of_hold uuid, of_id uuid, of_reference text, of_hash bytea, of_category text,
    of_effective_at timestamptz, of_correlation text, of_job uuid, of_subject text, of_notes jsonb, of_units numeric
) RETURNS jsonb LANGUAGE plpgsql {SETTINGS} AS $$
DECLARE
    hold ledger_holds;
    route record;
    answer jsonb;
BEGIN
    SELECT a.id, a.code, a.asset, z.code AS target, z.stripes INTO route
    FROM ledger_holds h
    JOIN ledger_accounts a ON a.id = h.account_id
    JOIN ledger_accounts z ON z.tenant = a.tenant AND z.code = h.destination AND z.asset = a.asset AND z.stripe = 0
    WHERE h.id = of_hold AND h.tenant = of_tenant;
    IF NOT FOUND THEN
        RETURN '{{"missing": true}}';
    END IF;
    PERFORM FROM ledger_accounts a
    WHERE a.tenant = of_tenant AND a.code = least(route.code, route.target COLLATE "C") AND a.asset = route.asset
      AND a.stripe = pg_backend_pid() % a.stripes FOR NO KEY UPDATE;
    PERFORM FROM ledger_accounts a
    WHERE a.tenant = of_tenant AND a.code = greatest(route.code, route.target COLLATE "C") AND a.asset = route.asset
      AND a.stripe = pg_backend_pid() % a.stripes FOR NO KEY UPDATE;
    SELECT * INTO hold FROM ledger_holds h WHERE h.id = of_hold;
    IF hold.state = 'posted' THEN
        SELECT jsonb_build_object('id', j.id, 'hash', encode(j.content_hash, 'hex')) INTO answer
        FROM ledger_journals j WHERE j.id = hold.journal_id AND j.reference = of_reference;
        RETURN coalesce(answer, '{{"settled": "posted"}}');
    ELSIF hold.state <> 'pending' THEN
        RETURN jsonb_build_object('settled', hold.state);
    ELSIF hold.expires_at <= clock_timestamp() THEN
        RETURN '{{"settled": "expired"}}';
    ELSIF of_units > hold.units THEN
        RETURN jsonb_build_object('more', hold.units);
    END IF;
    UPDATE ledger_accounts SET held = held - hold.units WHERE id = route.id;
    answer := ledger_post_one(
        of_tenant, of_id, of_reference, of_hash, of_category, of_effective_at, of_correlation, of_job, of_subject,
        of_notes, NULL, route.asset, route.code, 1, route.target, route.stripes, of_units);
    IF answer IS NOT NULL THEN
        UPDATE ledger_accounts SET held = held + hold.units WHERE id = route.id;
        RETURN jsonb_build_object('post', answer);
    END IF;
    UPDATE ledger_holds SET state = 'posted', posted_units = of_units, journal_id = of_id, settled_at = clock_timestamp()
    WHERE id = of_hold;
    RETURN NULL;
END $$;
"""

# Returns NULL if it was let go, 'missing', 'voided' if it had been, or the state in which it can't be.
VOID = f"""
CREATE FUNCTION ledger_void(of_tenant text, of_hold uuid) RETURNS text LANGUAGE plpgsql {SETTINGS} AS $$
DECLARE
    hold ledger_holds;
BEGIN
    SELECT * INTO hold FROM ledger_holds h WHERE h.id = of_hold AND h.tenant = of_tenant;
    IF NOT FOUND THEN
        RETURN 'missing';
    END IF;
    PERFORM FROM ledger_accounts a WHERE a.id = hold.account_id FOR NO KEY UPDATE;
    SELECT * INTO hold FROM ledger_holds h WHERE h.id = of_hold;
    IF hold.state <> 'pending' THEN
        RETURN hold.state;
    ELSIF hold.expires_at <= clock_timestamp() THEN
        RETURN 'expired';
    END IF;
    UPDATE ledger_holds SET state = 'voided', settled_at = clock_timestamp() WHERE id = of_hold;
    UPDATE ledger_accounts SET held = held - hold.units WHERE id = hold.account_id;
    RETURN NULL;
END $$;
"""

# The account's row is locked by whoever calls this.
LET_GO = """
CREATE OR REPLACE FUNCTION ledger_let_go(of_account bigint) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE
    moment constant timestamptz := clock_timestamp();
    freed numeric;
BEGIN
    WITH due AS (
        -- The array is made in the index's order, because a plan that is made while the table is empty finds another
        -- index as good, and then reads what is pending anywhere.
        UPDATE ledger_holds SET state = 'expired', settled_at = moment
        WHERE id = ANY (ARRAY(
            SELECT h.id FROM ledger_holds h
            WHERE h.account_id = of_account AND h.state = 'pending' AND h.expires_at <= moment ORDER BY h.expires_at
        )) RETURNING units
    )
    SELECT coalesce(sum(units), 0) INTO freed FROM due;
    IF freed > 0 THEN
        UPDATE ledger_accounts SET held = held - freed WHERE id = of_account;
    END IF;
    RETURN freed;
END $$;
"""
LET_GO_BEFORE = """
CREATE OR REPLACE FUNCTION ledger_let_go(of_account bigint) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    RETURN 0;
END $$;
"""

# Accounts that somebody is working on are left for the next time: a post that needs their money lets it go itself.
EXPIRE = f"""
CREATE FUNCTION ledger_expire(of_limit int) RETURNS int LANGUAGE plpgsql {SETTINGS} AS $$
DECLARE
    moment constant timestamptz := clock_timestamp();
    due uuid[];
    locked bigint[];
    gone int;
BEGIN
    SELECT array_agg(d.id), array_agg(d.account_id) INTO due, locked
    FROM (SELECT h.id, h.account_id FROM ledger_holds h WHERE h.state = 'pending' AND h.expires_at <= moment
          ORDER BY h.expires_at LIMIT of_limit) d;
    SELECT array_agg(a.id) INTO locked
    FROM (SELECT id FROM ledger_accounts WHERE id = ANY (locked)
          ORDER BY tenant, code, asset FOR NO KEY UPDATE SKIP LOCKED) a;
    WITH expired AS (
        UPDATE ledger_holds SET state = 'expired', settled_at = moment
        WHERE id = ANY (due) AND account_id = ANY (locked) AND state = 'pending' RETURNING account_id, units
    ), freed AS (
        UPDATE ledger_accounts a SET held = a.held - f.units
        FROM (SELECT account_id, sum(units) AS units FROM expired GROUP BY account_id) f
        WHERE a.id = f.account_id
    )
    SELECT count(*) INTO gone FROM expired;
    RETURN gone;
END $$;
"""

# What a person does to an account, in all of its rows, and the note of it. `wanted`: for limit the bounds to set
# ("floor", "ceiling", as text or null), for annotate the keys to set, null to remove one.
# Returns {"missing": true}, {"refused": ...}, {"id": of the note}, or NULL where it was so already.
CONTROL = f"""
CREATE FUNCTION ledger_control(
    of_tenant text, of_code text, of_asset text, of_change text, wanted jsonb, of_reason text, of_actor text
) RETURNS jsonb LANGUAGE plpgsql {SETTINGS} AS $$
DECLARE
    account ledger_accounts;
    total numeric;
    shown numeric;
    reserved numeric;
    was jsonb;
    made jsonb;
    note bigint;
BEGIN
    PERFORM FROM ledger_accounts a WHERE a.tenant = of_tenant AND a.code = of_code AND a.asset = of_asset
    ORDER BY a.stripe FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN '{{"missing": true}}';
    END IF;
    SELECT * INTO account FROM ledger_accounts a
    WHERE a.tenant = of_tenant AND a.code = of_code AND a.asset = of_asset AND a.stripe = 0;
    reserved := account.held - ledger_let_go(account.id);
    SELECT sum(a.balance) INTO total FROM ledger_accounts a
    WHERE a.tenant = of_tenant AND a.code = of_code AND a.asset = of_asset;
    shown := CASE account.normal_side WHEN 'credit' THEN total ELSE -total END;
    was := jsonb_build_object('state', account.state);
    CASE of_change
        WHEN 'freeze', 'unfreeze' THEN
            IF account.state = 'closed' THEN
                RETURN jsonb_build_object('refused', 'closed');
            END IF;
            made := jsonb_build_object('state', CASE of_change WHEN 'freeze' THEN 'frozen' ELSE 'open' END);
        WHEN 'close' THEN
            IF account.state <> 'closed' AND (total <> 0 OR reserved <> 0) THEN
                RETURN jsonb_build_object('refused', 'not_empty', 'balance', shown, 'held', reserved);
            END IF;
            made := jsonb_build_object('state', 'closed');
        WHEN 'reopen' THEN
            -- To what it was: who closes a frozen account and opens it again has not lifted the freeze.
            made := CASE account.state WHEN 'closed' THEN (
                SELECT c.before FROM ledger_account_changes c
                WHERE c.tenant = of_tenant AND c.code = of_code AND c.asset = of_asset AND c.change = 'close'
                ORDER BY c.id DESC LIMIT 1) ELSE was END;
        WHEN 'limit' THEN
            IF account.stripes > 1 THEN
                RETURN jsonb_build_object('refused', 'striped');
            END IF;
            was := jsonb_build_object('floor', account.floor::text, 'ceiling', account.ceiling::text);
            made := was || wanted;
            IF (made ->> 'floor')::numeric > (made ->> 'ceiling')::numeric THEN
                RETURN jsonb_build_object('refused', 'crossed');
            ELSIF (made ->> 'floor')::numeric > shown - reserved THEN
                RETURN jsonb_build_object('refused', 'floor', 'bound', made ->> 'floor', 'balance', shown, 'held', reserved);
            ELSIF (made ->> 'ceiling')::numeric < shown THEN
                RETURN jsonb_build_object('refused', 'ceiling', 'bound', made ->> 'ceiling', 'balance', shown, 'held', reserved);
            END IF;
        WHEN 'annotate' THEN
            was := account.metadata;
            made := (was || wanted) - ARRAY(SELECT key FROM jsonb_each(wanted) WHERE value = 'null');
    END CASE;
    IF jsonb_typeof(made) IS DISTINCT FROM 'object' THEN
        RAISE EXCEPTION 'what is wanted of % is no object', of_code USING ERRCODE = 'invalid_parameter_value';
    ELSIF made = was THEN
        RETURN NULL;
    END IF;
    UPDATE ledger_accounts a SET
        state = CASE WHEN of_change IN ('limit', 'annotate') THEN a.state ELSE made ->> 'state' END,
        floor = CASE of_change WHEN 'limit' THEN (made ->> 'floor')::numeric ELSE a.floor END,
        ceiling = CASE of_change WHEN 'limit' THEN (made ->> 'ceiling')::numeric ELSE a.ceiling END,
        metadata = CASE of_change WHEN 'annotate' THEN made ELSE a.metadata END
    WHERE a.tenant = of_tenant AND a.code = of_code AND a.asset = of_asset;
    INSERT INTO ledger_account_changes (tenant, code, asset, change, before, after, reason, actor, at)
    VALUES (of_tenant, of_code, of_asset, of_change, was, made, of_reason, of_actor, clock_timestamp())
    RETURNING id INTO note;
    RETURN jsonb_build_object('id', note);
END $$;
"""

ENTRANCES = ("ledger_place", "ledger_capture", "ledger_void", "ledger_expire", "ledger_control")
TABLES = ("ledger_holds", "ledger_account_changes")


def upgrade() -> None:
    create_holds()
    create_changes()
    for made in (KEPT, FIT_NOW, LET_GO, PLACE, CAPTURE, VOID, EXPIRE, CONTROL):
        op.execute(made)
    for table in TABLES:
        op.execute(f"REVOKE ALL ON {table} FROM {APP_ROLE}")
        op.execute(f"GRANT SELECT ON {table} TO {APP_ROLE}")
    # Also what is replaced, which loses its settings.
    op.execute(close((*ENTRANCES, "ledger_let_go")))


def create_holds() -> None:
    op.create_table(
        "ledger_holds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(), nullable=False),
        sa.Column("account_id", sa.BigInteger(), nullable=False),
        sa.Column("destination", sa.Text(collation="C"), nullable=False),
        sa.Column("units", UNITS, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("posted_units", UNITS, nullable=True),
        sa.Column("expires_at", TIME, nullable=True),
        sa.Column("journal_id", sa.Uuid(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("correlation_id", sa.Text(), nullable=True),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("metadata", pg.JSONB(), server_default=sa.text("'{}'::jsonb"), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("settled_at", TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_holds")),
        sa.UniqueConstraint("tenant", "reference", name=op.f("uq_ledger_holds_tenant_reference")),
        sa.ForeignKeyConstraint(["account_id"], ["ledger_accounts.id"], name=op.f("fk_ledger_holds_account_id")),
        sa.ForeignKeyConstraint(["journal_id"], ["ledger_journals.id"], name=op.f("fk_ledger_holds_journal_id")),
        sa.CheckConstraint("units > 0", name=op.f("ck_ledger_holds_units")),
        sa.CheckConstraint("state IN ('pending', 'posted', 'voided', 'expired')", name=op.f("ck_ledger_holds_state")),
        sa.CheckConstraint(
            "(state = 'pending') = (settled_at IS NULL) AND (state = 'posted') = (journal_id IS NOT NULL)"
            " AND (state = 'posted') = (posted_units IS NOT NULL) AND posted_units BETWEEN 1 AND units"
            " AND (state <> 'expired' OR expires_at <= settled_at)",
            name=op.f("ck_ledger_holds_settled"),
        ),
    )
    op.create_index("ix_ledger_holds_tenant_id", "ledger_holds", ["tenant", "id"])
    op.create_index("ix_ledger_holds_account_id_id", "ledger_holds", ["account_id", "id"])
    for name, columns, where in (
        ("ix_ledger_holds_tenant_subject", ["tenant", "subject", "id"], "subject IS NOT NULL"),
        ("ix_ledger_holds_pending", ["account_id", "expires_at"], "state = 'pending'"),
        ("ix_ledger_holds_tenant_pending", ["tenant", "id"], "state = 'pending'"),
        ("ix_ledger_holds_due", ["expires_at"], "state = 'pending' AND expires_at IS NOT NULL"),
    ):
        op.create_index(name, "ledger_holds", columns, postgresql_where=sa.text(where))


def create_changes() -> None:
    op.create_table(
        "ledger_account_changes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(collation="C"), nullable=False),
        sa.Column("asset", sa.Text(), nullable=False),
        sa.Column("change", sa.Text(), nullable=False),
        sa.Column("before", pg.JSONB(), nullable=False),
        sa.Column("after", pg.JSONB(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_account_changes")),
    )
    op.create_index(
        op.f("ix_ledger_account_changes_tenant_code_asset_id"),
        "ledger_account_changes",
        ["tenant", "code", "asset", "id"],
    )


def downgrade() -> None:
    """Only without holds, for development: the schema before knows no held money."""
    op.execute("""
        DO $$ BEGIN
            IF EXISTS (SELECT FROM ledger_holds) THEN
                RAISE EXCEPTION 'the books have holds: they can''t go back to an older schema';
            END IF;
        END $$
    """)
    for function in ENTRANCES:
        op.execute(f"DROP FUNCTION {function}")
    for table in TABLES:
        op.drop_table(table)
    for function in ("ledger_hold_is_settled_once", "ledger_is_kept"):
        op.execute(f"DROP FUNCTION {function}")
    op.execute(LET_GO_BEFORE)
    op.execute(FIT_BEFORE)
