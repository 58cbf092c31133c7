"""Seals: the hash chain beside the books, and what the audits found.

Posting does nothing for it. A scheduled job calls ledger_seal, which links the journals that were booked since, shard by
shard (ADR 12).

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql as pg

from core.db import APP_ROLE
from migrations.functions import close

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = sa.DateTime(timezone=True)

# Links the shard's journals behind its last seal and not behind `upto`, `most` at a time; returns how many. The caller
# knows that every transaction which could still book a number up to `upto` has ended. Sealers of one shard wait for each
# other, those of different shards don't.
#
# The form of a journal that is hashed is written down byte by byte in docs/ledger-audit.md. It never changes: what
# verifies it (ledger/seals.py) has its own copy of this expression.
SEAL = """
CREATE FUNCTION ledger_seal(of_shard int, upto bigint, most int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    last record;
    link bytea;
    leaf record;
    sealed int := 0;
    numbers bigint[];
    hashes bytea[];
BEGIN
    IF of_shard NOT BETWEEN 0 AND 3 THEN
        RAISE EXCEPTION 'there is no shard %', of_shard USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ledger_seals'), of_shard);
    SELECT ordinal, last_number, journals, head INTO last
    FROM ledger_seals WHERE shard = of_shard ORDER BY ordinal DESC LIMIT 1;
    link := coalesce(last.head, sha256(convert_to('tallyrail ledger shard ' || of_shard, 'UTF8')));
    FOR leaf IN
        SELECT j.number, sha256(convert_to(json_build_array(
            1, j.number, j.id, j.tenant, j.reference, encode(j.content_hash, 'hex'), j.category,
            (extract(epoch FROM j.effective_at) * 1000000)::bigint, (extract(epoch FROM j.booked_at) * 1000000)::bigint,
            j.correlation_id, j.job_id, j.subject, j.metadata, j.reverses,
            (SELECT json_agg(json_build_array(e.position, e.account_id, a.code, a.asset, e.units::text, e.balance::text,
                                              e.version) ORDER BY e.position)
             FROM ledger_entries e LEFT JOIN ledger_accounts a ON a.id = e.account_id
             WHERE e.journal_number = j.number)
        )::text, 'UTF8')) AS hash
        FROM ledger_journals j
        WHERE j.number > coalesce(last.last_number, 0) AND j.number <= upto AND j.number % 4 = of_shard
        ORDER BY j.number LIMIT most
    LOOP
        link := sha256(link || leaf.hash);
        sealed := sealed + 1;
        numbers[sealed] := leaf.number;
        hashes[sealed] := link;
    END LOOP;
    IF sealed > 0 THEN
        INSERT INTO ledger_links (number, hash) SELECT * FROM unnest(numbers, hashes);
        INSERT INTO ledger_seals (shard, ordinal, first_number, last_number, journals, head, sealed_at)
        VALUES (of_shard, coalesce(last.ordinal, 0) + 1, numbers[1], numbers[sealed], coalesce(last.journals, 0) + sealed,
                link, clock_timestamp());
    END IF;
    RETURN sealed;
END $$;
"""

APPEND_ONLY = """
CREATE FUNCTION ledger_chain_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % would break the chain', TG_TABLE_NAME, TG_OP
    USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER ledger_links_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_links
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_chain_is_append_only();
CREATE TRIGGER ledger_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger_seals
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_chain_is_append_only();
"""

# What an audit is of never changes; how far it came and what it found does, until it ends. Old ones are removed.
GRANTS = f"""
REVOKE ALL ON ledger_links, ledger_seals, ledger_audits FROM {APP_ROLE};
GRANT SELECT ON ledger_links, ledger_seals TO {APP_ROLE};
GRANT SELECT, INSERT, DELETE, UPDATE (reached_at, finished_at, violations) ON ledger_audits TO {APP_ROLE};
"""


def upgrade() -> None:
    op.create_table(
        "ledger_links",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_ledger_links")),
    )
    op.create_table(
        "ledger_seals",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("ordinal", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("journals", sa.BigInteger(), nullable=False),
        sa.Column("head", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", TIME, nullable=False),
        sa.PrimaryKeyConstraint("shard", "ordinal", name=op.f("pk_ledger_seals")),
        sa.UniqueConstraint("shard", "last_number", name=op.f("uq_ledger_seals_shard_last_number")),
    )
    op.create_table(
        "ledger_audits",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("after_number", sa.BigInteger(), nullable=False),
        sa.Column("upto_number", sa.BigInteger(), nullable=False),
        sa.Column("started_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("reached_at", TIME, server_default=sa.func.now(), nullable=False),
        sa.Column("finished_at", TIME, nullable=True),
        sa.Column("violations", pg.JSONB(), server_default=sa.text("'[]'::jsonb"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_audits")),
        sa.CheckConstraint("kind IN ('incremental', 'full')", name=op.f("ck_ledger_audits_kind")),
    )
    op.create_index(op.f("ix_ledger_audits_kind_id"), "ledger_audits", ["kind", "id"])
    op.create_index(
        "ix_ledger_audits_wrong", "ledger_audits", ["id"], postgresql_where=sa.text("violations <> '[]'::jsonb")
    )
    for made in (SEAL, APPEND_ONLY, GRANTS):
        op.execute(made)
    op.execute(close(("ledger_seal",)))


def downgrade() -> None:
    op.execute("DROP FUNCTION ledger_seal")
    for table in ("ledger_audits", "ledger_seals", "ledger_links"):
        op.drop_table(table)
    op.execute("DROP FUNCTION ledger_chain_is_append_only")
