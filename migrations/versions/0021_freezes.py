"""Who wants an account frozen: it is frozen as long as somebody does, and whoever goes leaves the others in it.

Revision ID: 0021
Revises: 0020
"""

import importlib

from alembic import op

from core.db import APP_ROLE
from migrations.functions import close

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

# A row is there as long as its holder wants the account frozen. That there was one, the changes of accounts say.
TABLE = f"""
CREATE TABLE ledger_freezes (
    tenant text NOT NULL,
    code text COLLATE "C" NOT NULL,
    asset text NOT NULL,
    holder text COLLATE "C" NOT NULL,
    change_id bigint NOT NULL,
    CONSTRAINT pk_ledger_freezes PRIMARY KEY (tenant, code, asset, holder),
    CONSTRAINT fk_ledger_freezes_change_id FOREIGN KEY (change_id) REFERENCES ledger_account_changes (id)
);
REVOKE ALL ON ledger_freezes FROM {APP_ROLE};
GRANT SELECT ON ledger_freezes TO {APP_ROLE};
"""

# What a change notes of an account: the state, and who wants it frozen where somebody does.
STANDING = """
CREATE FUNCTION ledger_standing(of_state text, of_holders text[]) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('state', of_state) || CASE of_holders WHEN '{}' THEN '{}' ELSE jsonb_build_object(
        'holders', ARRAY(SELECT h FROM unnest(of_holders) h ORDER BY h COLLATE "C")) END
$$;
"""

SETTINGS = "SECURITY DEFINER\nSET plan_cache_mode = force_generic_plan SET enable_seqscan = off"

# The function of migration 0006, which now knows who asks. `wanted` of freeze and lift: {"holder": ...}. Without one it
# is a person, who is told that an account is closed; for others it will be frozen when it is opened again.
CONTROL = f"""
CREATE OR REPLACE FUNCTION ledger_control(
    of_tenant text, of_code text, of_asset text, of_change text, wanted jsonb, of_reason text, of_actor text
) RETURNS jsonb LANGUAGE plpgsql {SETTINGS} AS $$
DECLARE
    account ledger_accounts;
    total numeric;
    shown numeric;
    reserved numeric;
    asker constant text := coalesce(wanted ->> 'holder', 'person:' || of_actor);
    holders text[];
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
    SELECT coalesce(array_agg(f.holder), '{{}}') INTO holders FROM ledger_freezes f
    WHERE f.tenant = of_tenant AND f.code = of_code AND f.asset = of_asset;
    was := ledger_standing(account.state, holders);
    CASE of_change
        WHEN 'freeze', 'lift', 'unfreeze' THEN
            IF account.state = 'closed' AND NOT wanted ? 'holder' THEN
                RETURN jsonb_build_object('refused', 'closed');
            END IF;
            holders := CASE of_change
                WHEN 'freeze' THEN array_remove(holders, asker) || asker
                WHEN 'lift' THEN array_remove(holders, asker)
                ELSE '{{}}' END;
            made := ledger_standing(
                CASE WHEN account.state = 'closed' THEN 'closed' WHEN holders = '{{}}' THEN 'open' ELSE 'frozen' END,
                holders);
        WHEN 'close' THEN
            IF account.state <> 'closed' AND (total <> 0 OR reserved <> 0) THEN
                RETURN jsonb_build_object('refused', 'not_empty', 'balance', shown, 'held', reserved);
            END IF;
            made := ledger_standing('closed', holders);
        WHEN 'reopen' THEN
            -- Who closes a frozen account and opens it again has not lifted the freeze.
            made := CASE WHEN account.state <> 'closed' THEN was
                         ELSE ledger_standing(CASE holders WHEN '{{}}' THEN 'open' ELSE 'frozen' END, holders) END;
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
    DELETE FROM ledger_freezes f
    WHERE f.tenant = of_tenant AND f.code = of_code AND f.asset = of_asset AND f.holder <> ALL (holders);
    INSERT INTO ledger_freezes (tenant, code, asset, holder, change_id)
    SELECT of_tenant, of_code, of_asset, h, note FROM unnest(holders) h ON CONFLICT DO NOTHING;
    RETURN jsonb_build_object('id', note);
END $$;
"""

# What is frozen now, or was when it was closed, is noted once more with who wants it so: the deposits that froze it, if
# the last to freeze it was our process, and otherwise whoever that was, as a person.
CARRIED_OVER = """
WITH frozen AS (
    SELECT a.tenant, a.code, a.asset, a.state, coalesce(last.actor, 'unknown') AS actor
    FROM ledger_accounts a
    LEFT JOIN LATERAL (
        SELECT c.actor FROM ledger_account_changes c
        WHERE c.tenant = a.tenant AND c.code = a.code AND c.asset = a.asset AND c.change = 'freeze'
        ORDER BY c.id DESC LIMIT 1) last ON true
    LEFT JOIN LATERAL (
        SELECT c.before FROM ledger_account_changes c
        WHERE c.tenant = a.tenant AND c.code = a.code AND c.asset = a.asset AND c.change = 'close'
        ORDER BY c.id DESC LIMIT 1) closing ON true
    WHERE a.stripe = 0 AND (a.state = 'frozen' OR a.state = 'closed' AND closing.before ->> 'state' = 'frozen')
), held AS (
    SELECT f.tenant, f.code, f.asset, f.state,
           CASE WHEN owing.deposits IS NULL THEN ARRAY['person:' || f.actor] ELSE owing.deposits END AS holders
    FROM frozen f
    LEFT JOIN LATERAL (
        SELECT array_agg('deposit:' || d.id) AS deposits FROM deposits d
        WHERE f.actor = 'tx_monitor' AND d.tenant = f.tenant AND d.account = f.code AND d.asset = f.asset AND d.freezes
    ) owing ON true
), noted AS (
    INSERT INTO ledger_account_changes (tenant, code, asset, change, before, after, reason, actor, at)
    SELECT tenant, code, asset, 'freeze', jsonb_build_object('state', state), ledger_standing(state, holders),
           'who wants it frozen is kept from now on', 'migration 0021', clock_timestamp()
    FROM held RETURNING id, tenant, code, asset
)
INSERT INTO ledger_freezes (tenant, code, asset, holder, change_id)
SELECT n.tenant, n.code, n.asset, unnest(h.holders), n.id
FROM noted n JOIN held h ON h.tenant = n.tenant AND h.code = n.code AND h.asset = n.asset;
"""


def upgrade() -> None:
    for made in (TABLE, STANDING, CONTROL, CARRIED_OVER):
        op.execute(made)
    op.execute(close(("ledger_standing", "ledger_control")))
    op.execute("DROP INDEX ix_deposits_owed")
    op.execute("ALTER TABLE deposits DROP COLUMN freezes")
    op.execute("CREATE INDEX ix_deposits_owed ON deposits (tenant, account) WHERE units_short > 0")


def downgrade() -> None:
    """States stay as they are. What several wanted frozen is again whose who froze it last."""
    op.execute("DROP INDEX ix_deposits_owed")
    op.execute("ALTER TABLE deposits ADD COLUMN freezes boolean NOT NULL DEFAULT false")
    op.execute("UPDATE deposits d SET freezes = true FROM ledger_freezes f WHERE f.holder = 'deposit:' || d.id")
    op.execute("CREATE INDEX ix_deposits_owed ON deposits (tenant, account) WHERE units_short > 0 OR freezes")
    before = importlib.import_module("migrations.versions.0006_ledger_holds")
    op.execute(before.CONTROL.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
    op.execute(close(("ledger_control",)))
    op.execute("DROP FUNCTION ledger_standing")
    op.execute("DROP TABLE ledger_freezes")
