"""Reading as of a time.

The functions write nothing and run with the rights of whoever calls them. Along an account's versions neither booked_at
nor the journal's number ever falls, so what an account had come to at a moment is found by halving its versions, however
many they are.

Revision ID: 0008
Revises: 0007
"""

from alembic import op

from core.db import APP_ROLE
from migrations.functions import close

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# A first guess by proportion, since most accounts are posted to at a steady rate; from there in steps that double until
# the moment is passed, and then by halves. A guess that is no good costs as many looks again as halving alone.
# The account's row may have been touched without an entry being left (a reference was taken), so its booked_at can only
# say that all of its entries are old enough, not that one is too young.
AT = """
CREATE FUNCTION ledger_version_at(of_account bigint, at timestamptz) RETURNS bigint LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    low bigint := 1;   -- booked by then
    high bigint;       -- not booked by then
    low_at timestamptz;
    high_at timestamptz;
    middle bigint;
    step bigint := 8;
    forward boolean;
    booked timestamptz;
BEGIN
    SELECT a.version, a.booked_at INTO high, high_at FROM ledger_accounts a WHERE a.id = of_account;
    IF coalesce(high, 0) = 0 OR high_at <= at THEN
        RETURN coalesce(high, 0);
    END IF;
    SELECT e.booked_at INTO low_at FROM ledger_entries e WHERE e.account_id = of_account AND e.version = 1;
    IF low_at > at THEN
        RETURN 0;
    END IF;
    middle := low + (high - low) * (extract(epoch FROM at - low_at) / extract(epoch FROM high_at - low_at));
    high := high + 1;
    WHILE high - low > 1 LOOP
        middle := greatest(low + 1, least(high - 1, middle));
        SELECT e.booked_at INTO booked FROM ledger_entries e WHERE e.account_id = of_account AND e.version = middle;
        IF booked <= at THEN
            low := middle;
        ELSE
            high := middle;
        END IF;
        forward := coalesce(forward, booked <= at);
        IF step > 0 AND forward = (booked <= at) THEN  -- not passed yet
            middle := CASE WHEN forward THEN low + step ELSE high - step END;
            step := 2 * step;
        ELSE
            middle := (low + high) / 2;
            step := 0;
        END IF;
    END LOOP;
    RETURN low;
END $$;
"""

UPTO = """
CREATE FUNCTION ledger_version_upto(of_account bigint, of_number bigint) RETURNS bigint LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    low bigint := 0;   -- of a journal up to this one, or 0
    high bigint;       -- of a later journal
    middle bigint;
    found_number bigint;
BEGIN
    SELECT a.version + 1 INTO high FROM ledger_accounts a WHERE a.id = of_account;
    WHILE high - low > 1 LOOP
        middle := (low + high) / 2;
        SELECT e.journal_number INTO found_number
        FROM ledger_entries e WHERE e.account_id = of_account AND e.version = middle;
        IF found_number <= of_number THEN
            low := middle;
        ELSE
            high := middle;
        END IF;
    END LOOP;
    RETURN low;
END $$;
"""

# What the effective balance at a moment has over the booked one, raw: what had happened by then and was booked later,
# less what was booked by then and happened later. The range of a journal's two times holds the moment in both cases,
# and the index holds only journals whose times differ.
SHIFT = """
CREATE FUNCTION ledger_effective_shift(of_accounts bigint[], at timestamptz) RETURNS numeric LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN (
        SELECT coalesce(sum(CASE WHEN d.late THEN e.units ELSE -e.units END), 0)
        FROM (
            SELECT number, effective_at < booked_at AS late FROM ledger_journals
            WHERE effective_at <> booked_at
              AND tstzrange(LEAST(effective_at, booked_at), GREATEST(effective_at, booked_at)) @> at
            OFFSET 0
        ) d
        CROSS JOIN LATERAL (
            SELECT units FROM ledger_entries WHERE journal_number = d.number AND account_id = ANY (of_accounts) OFFSET 0
        ) e
    );
END $$;
"""

FUNCTIONS = ("ledger_version_at", "ledger_version_upto", "ledger_effective_shift")


def upgrade() -> None:
    for made in (AT, UPTO, SHIFT):
        op.execute(made)
    op.execute(close(FUNCTIONS))
    for function in FUNCTIONS:
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {APP_ROLE}")


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
