"""Prices of several sources, the rates made of them, and locked quotes.

Revision ID: 0019
Revises: 0018
"""

from alembic import op

from core.db import APP_ROLE
from migrations.functions import close

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

# Rates told by a person become overrides, with an end; until now they held for a quarter of an hour.
OVERRIDES = """
ALTER TABLE asset_rates
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN cleared_at timestamptz,
    ADD COLUMN cleared_by text,
    ADD COLUMN cleared_because text;
UPDATE asset_rates SET expires_at = observed_at + interval '15 minutes';
ALTER TABLE asset_rates
    ADD CONSTRAINT ck_asset_rates_expiry CHECK (expires_at > observed_at),
    ADD CONSTRAINT ck_asset_rates_cleared CHECK (
        (cleared_at IS NULL) = (cleared_by IS NULL) AND (cleared_at IS NULL) = (cleared_because IS NULL)
        AND (cleared_at IS NULL OR expires_at IS NOT NULL)
    );
CREATE INDEX ix_asset_rates_overrides ON asset_rates (asset, currency, expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX ix_asset_rates_old ON asset_rates (observed_at) WHERE expires_at IS NULL;
"""
# A rate that money was judged by is evidence. Of an override only its end may be written, and only once.
GUARDS = f"""
CREATE FUNCTION rates_keep_cleared() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.cleared_at IS NOT NULL THEN
        RAISE EXCEPTION 'the override % was cleared before', OLD.id;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_cleared BEFORE UPDATE ON asset_rates FOR EACH ROW EXECUTE FUNCTION rates_keep_cleared();
GRANT UPDATE (cleared_at, cleared_by, cleared_because) ON asset_rates TO {APP_ROLE};
-- What sources told is told again every half minute: it goes after a while, but never within a week.
CREATE FUNCTION rates_remove_old(before timestamptz, at_most integer) RETURNS bigint
LANGUAGE sql SECURITY DEFINER AS $$
    WITH old AS (
        SELECT id FROM asset_rates
        WHERE expires_at IS NULL AND observed_at < least(before, now() - interval '7 days')
        ORDER BY observed_at LIMIT at_most
    ), gone AS (DELETE FROM asset_rates USING old WHERE asset_rates.id = old.id RETURNING 1)
    SELECT count(*) FROM gone
$$;
"""
PRICES = """
CREATE TABLE asset_prices (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text NOT NULL,
    currency text NOT NULL,
    source text NOT NULL,
    numerator numeric(80, 0) NOT NULL,
    denominator numeric(80, 0) NOT NULL,
    observed_at timestamptz NOT NULL,
    asked_at timestamptz NOT NULL,
    dropped text,
    CONSTRAINT ck_asset_prices_price CHECK (numerator > 0 AND denominator > 0),
    CONSTRAINT ck_asset_prices_dropped CHECK (dropped IN ('stale', 'outlier'))
);
CREATE INDEX ix_asset_prices_pair ON asset_prices (asset, currency, asked_at);
CREATE INDEX ix_asset_prices_asked_at ON asset_prices (asked_at);
CREATE TABLE rate_pairs (
    asset text NOT NULL,
    currency text NOT NULL,
    usable boolean NOT NULL,
    reason text,
    since timestamptz NOT NULL,
    changes bigint NOT NULL,
    asked_at timestamptz NOT NULL,
    numerator numeric(80, 0),
    denominator numeric(80, 0),
    observed_at timestamptz,
    sources integer NOT NULL,
    spread_bps integer,
    jump_numerator numeric(80, 0),
    jump_denominator numeric(80, 0),
    jump_rounds integer NOT NULL,
    PRIMARY KEY (asset, currency),
    CONSTRAINT ck_rate_pairs_reason CHECK (usable = (reason IS NULL))
);
CREATE TABLE rate_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asset text NOT NULL,
    currency text NOT NULL,
    usable boolean NOT NULL,
    reason text,
    at timestamptz NOT NULL,
    CONSTRAINT ck_rate_changes_reason CHECK (usable = (reason IS NULL))
);
CREATE INDEX ix_rate_changes_pair ON rate_changes (asset, currency, at, id);
"""
QUOTES = """
CREATE TABLE quotes (
    id uuid PRIMARY KEY,
    tenant text NOT NULL,
    from_asset text NOT NULL,
    to_asset text NOT NULL,
    fixed text NOT NULL,
    units_in numeric(38, 0) NOT NULL,
    units_out numeric(38, 0) NOT NULL,
    spread_units numeric(38, 0) NOT NULL,
    remainder numeric(38, 0) NOT NULL,
    rate_numerator numeric(80, 0) NOT NULL,
    rate_denominator numeric(80, 0) NOT NULL,
    rate_source text NOT NULL,
    rate_at timestamptz NOT NULL,
    spread_bps integer NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    used_by text,
    CONSTRAINT ck_quotes_assets CHECK (from_asset <> to_asset),
    CONSTRAINT ck_quotes_fixed CHECK (fixed IN ('in', 'out')),
    CONSTRAINT ck_quotes_units CHECK (units_in > 0 AND units_out > 0 AND spread_units >= 0 AND spread_units < units_in),
    CONSTRAINT ck_quotes_rate CHECK (rate_numerator > 0 AND rate_denominator > 0),
    CONSTRAINT ck_quotes_spread_bps CHECK (spread_bps BETWEEN 0 AND 9999),
    CONSTRAINT ck_quotes_expiry CHECK (expires_at > created_at),
    CONSTRAINT ck_quotes_used CHECK ((used_at IS NULL) = (used_by IS NULL))
);
CREATE INDEX ix_quotes_unused ON quotes (expires_at) WHERE used_at IS NULL;
CREATE FUNCTION quotes_keep_used() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a quote that was used is kept as it is' USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER keep_used BEFORE UPDATE OR DELETE ON quotes
    FOR EACH ROW WHEN (OLD.used_at IS NOT NULL) EXECUTE FUNCTION quotes_keep_used();
"""


def upgrade() -> None:
    op.execute(OVERRIDES)
    op.execute(GUARDS)
    op.execute(close(["rates_keep_cleared", "rates_remove_old"]))
    op.execute(PRICES)
    # What was quoted is what both sides agreed to: only its use may be written.
    op.execute(QUOTES)
    op.execute(close(["quotes_keep_used"]))
    op.execute(f"REVOKE UPDATE, TRUNCATE ON quotes FROM {APP_ROLE}")
    op.execute(f"GRANT UPDATE (used_at, used_by) ON quotes TO {APP_ROLE}")
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON rate_changes FROM {APP_ROLE}")


def downgrade() -> None:
    for table in ("quotes", "rate_changes", "rate_pairs", "asset_prices"):
        op.execute(f"DROP TABLE {table}")
    op.execute("DROP FUNCTION quotes_keep_used()")
    op.execute("DROP TRIGGER keep_cleared ON asset_rates")
    op.execute("DROP FUNCTION rates_keep_cleared()")
    op.execute("DROP FUNCTION rates_remove_old(timestamptz, integer)")
    op.execute(f"REVOKE UPDATE (cleared_at, cleared_by, cleared_because) ON asset_rates FROM {APP_ROLE}")
    for index in ("overrides", "old"):
        op.execute(f"DROP INDEX ix_asset_rates_{index}")
    # Without an end a rate of a source would be taken for a person's.
    op.execute("DELETE FROM asset_rates WHERE expires_at IS NULL OR cleared_at IS NOT NULL")
    op.execute(
        "ALTER TABLE asset_rates DROP COLUMN expires_at, DROP COLUMN cleared_at, DROP COLUMN cleared_by,"
        " DROP COLUMN cleared_because"
    )
