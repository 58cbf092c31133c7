"""Posting in the database: one function for one journal and for thousands, the only way into the books.

Revision ID: 0005
Revises: 0004
"""

from alembic import op

from migrations.functions import close

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# The whole of posting, in the order in which it must happen:
#   1. lock the accounts, in order, in one statement, and only if all of them exist;
#   2. of a batch, see which references are booked already;
#   3. run the postings over the balances, in order: a journal that an account refuses is taken back, the others go on;
#   4. write journals, balances and entries.
# Journals come as parallel arrays (`references` ...), postings as parallel arrays that name their journal and their two
# accounts by place, accounts as (code, asset) in the order of their codes and assets ("C"), which is that of the locks.
# What no journal has may be NULL in place of the array.
#
# Returns NULL if everything was booked, and otherwise a JSON array with an object for each journal that was not:
#   {"journal": place, "id", "hash"}                        booked before; the caller compares the hashes
#   {"journal": place, "reversed_by": id}                   another journal reverses the same one
#   {"journal": place, "refused": "floor" | "ceiling" | "frozen" | "closed" | "digits",
#    "account": place, "available": units}
# or {"missing": [account places]}, with nothing done: open them and come back.
# `whole`: if one is refused, none is written; the answer then names only what was refused.
# A batch raises serialization_failure if a reference was taken while it ran: roll back and come back. References are
# claimed sorted: two batches may share some and no account, where accounts are striped.
#
# The caller is not trusted: whoever may call this can't unbalance the books by what he passes. Places that are no
# account's end in a NULL, which no column takes; an account that is named twice, in two entries of one version.
#
# A striped account gives this session the same row each time: neighbours get neighbouring process ids, and so
# different rows. Nothing depends on which row it is.
#
# Each row is one look into an index, in the order in which it is written here (LATERAL with LIMIT), by a plan that is
# made once a session, whatever the planner believes about the size of a table.
#
# The clock is read under the locks, and never behind an account's last entry: booked_at doesn't fall along versions,
# even when the machine's clock is set back.
POST = """
CREATE FUNCTION ledger_post(
    of_tenant text, ids uuid[], refs text[], hashes bytea[], categories text[],
    effective timestamptz[], correlations text[], jobs uuid[], subjects text[], notes jsonb[], mirrored uuid[],
    codes text[], assets text[],
    journal_of int[], sources int[], destinations int[], amounts numeric[]
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    limitless constant numeric := 99999999999999999999999999999999999999;
    accounts constant int := cardinality(codes);
    journals constant int := cardinality(ids);
    postings constant int := cardinality(amounts);
    account record;
    -- accounts, by place; balances are raw, and so are the bounds: no less than lows, no more than highs
    account_ids bigint[] := array_fill(0::bigint, ARRAY[accounts]);
    balances numeric[] := array_fill(0::numeric, ARRAY[accounts]);
    versions bigint[] := account_ids;
    lows numeric[] := balances;
    highs numeric[] := balances;
    states text[];              -- of those that are not open
    blocked boolean := false;   -- one of them is frozen or closed
    helds boolean := false;     -- holds bind money of one of them
    booked timestamptz := '-infinity';
    -- journals, by place
    numbers bigint[];           -- NULL: not to be booked
    known jsonb[];
    accepted int := 0;
    -- entries, as they will be written
    entries int := 0;
    entry_accounts bigint[];
    entry_units numeric[];
    entry_balances numeric[];
    entry_versions bigint[];
    entry_numbers bigint[];
    entry_positions int[];
    -- the posting at hand
    posting int := 1;
    first int;
    here int := 0;
    number bigint;
    s int;
    d int;
    units numeric;
    after_s numeric;
    after_d numeric;
    problem jsonb;
    answer jsonb := NULL;
    written int;
    told text;
BEGIN
    IF (journals > 0 AND cardinality(refs) = journals AND cardinality(journal_of) = postings) IS NOT TRUE THEN
        RAISE EXCEPTION 'arrays of one thing differ in length' USING ERRCODE = 'invalid_parameter_value';
    END IF;

    FOR account IN
        WITH wanted AS MATERIALIZED (
            SELECT k.place, CASE WHEN z.stripes = 1 THEN z.id ELSE (
                SELECT id FROM ledger_accounts
                WHERE tenant = of_tenant AND code = k.code AND asset = k.asset
                  AND stripe = pg_backend_pid() % z.stripes) END AS id
            FROM unnest(codes, assets) WITH ORDINALITY AS k (code, asset, place)
            CROSS JOIN LATERAL (
                SELECT id, stripes FROM ledger_accounts
                WHERE tenant = of_tenant AND code = k.code AND asset = k.asset AND stripe = 0
                LIMIT 1
            ) z
        )
        SELECT w.place, a.id, a.balance, a.version, a.state, a.held, a.booked_at,
               CASE a.normal_side WHEN 'credit' THEN a.floor + a.held ELSE -a.ceiling END AS low,
               CASE a.normal_side WHEN 'credit' THEN a.ceiling ELSE -a.floor - a.held END AS high
        FROM (SELECT * FROM wanted WHERE (SELECT count(*) FROM wanted) = accounts ORDER BY place) w
        CROSS JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = w.id LIMIT 1 FOR NO KEY UPDATE) a
    LOOP
        account_ids[account.place] := account.id;
        balances[account.place] := account.balance;
        versions[account.place] := account.version;
        lows[account.place] := coalesce(account.low, -limitless);
        highs[account.place] := coalesce(account.high, limitless);
        IF account.state <> 'open' THEN
            blocked := true;
            states[account.place] := account.state;
        END IF;
        helds := helds OR account.held > 0;
        booked := greatest(booked, account.booked_at);
    END LOOP;

    IF NOT FOUND THEN
        IF journals = 1 THEN
            answer := ledger_booked(of_tenant, refs, mirrored);
            IF answer IS NOT NULL THEN
                RETURN answer;
            END IF;
        END IF;
        RETURN (
            SELECT jsonb_build_object('missing', coalesce(jsonb_agg(k.place), '[]'))
            FROM unnest(codes, assets) WITH ORDINALITY AS k (code, asset, place)
            -- Not NOT EXISTS: that is planned as a join with all accounts of the tenant.
            WHERE (SELECT id FROM ledger_accounts
                   WHERE tenant = of_tenant AND code = k.code AND asset = k.asset AND stripe = 0 LIMIT 1) IS NULL);
    END IF;

    IF journals > 1 THEN
        SELECT array_agg(k.one) INTO known
        FROM (SELECT NULL::jsonb AS one FROM generate_series(1, journals)) k;
        answer := ledger_booked(of_tenant, refs, mirrored);
        FOR problem IN SELECT jsonb_array_elements(answer) LOOP
            known[(problem ->> 'journal')::int] := problem;
        END LOOP;
    END IF;

    WHILE posting <= postings LOOP
        here := here + 1;
        IF journal_of[posting] IS DISTINCT FROM here THEN
            RAISE EXCEPTION 'postings are not those of journal 1, then 2, and so on' USING ERRCODE = 'invalid_parameter_value';
        END IF;
        first := posting;
        problem := NULL;
        IF journals > 1 AND known[here] IS NOT NULL THEN
            WHILE posting <= postings AND journal_of[posting] = here LOOP
                posting := posting + 1;
            END LOOP;
            numbers[here] := NULL;
            CONTINUE;
        END IF;
        number := nextval('ledger_journals_number_seq');
        WHILE posting <= postings AND journal_of[posting] = here LOOP
            s := sources[posting];
            d := destinations[posting];
            units := amounts[posting];
            after_s := balances[s] - units;
            after_d := balances[d] + units;
            IF blocked OR after_s < lows[s] OR after_d > highs[d] OR units <= 0 OR units <> trunc(units) OR s = d THEN
                IF units <= 0 OR units <> trunc(units) OR s = d THEN
                    RAISE EXCEPTION 'a posting moves a positive whole number of units from one account to another'
                    USING ERRCODE = 'invalid_parameter_value';
                END IF;
                problem := ledger_refusal(account_ids[s], account_ids[d], s, d, states[s], states[d],
                                          mirrored[here] IS NOT NULL, balances[s], balances[d], units, lows[s], highs[d],
                                          helds);
                -- What was let go stays so, also if it was not enough.
                lows[s] := coalesce((problem ->> 'low')::numeric, lows[s]);
                EXIT WHEN problem ? 'refused';
                problem := NULL;
            END IF;
            balances[s] := after_s;
            balances[d] := after_d;
            versions[s] := versions[s] + 1;
            versions[d] := versions[d] + 1;
            entries := entries + 2;
            entry_accounts[entries - 1] := account_ids[s];
            entry_accounts[entries] := account_ids[d];
            entry_units[entries - 1] := -units;
            entry_units[entries] := units;
            entry_balances[entries - 1] := after_s;
            entry_balances[entries] := after_d;
            entry_versions[entries - 1] := versions[s];
            entry_versions[entries] := versions[d];
            entry_numbers[entries - 1] := number;
            entry_numbers[entries] := number;
            entry_positions[entries - 1] := 2 * (posting - first);
            entry_positions[entries] := 2 * (posting - first) + 1;
            posting := posting + 1;
        END LOOP;
        IF problem IS NULL THEN
            numbers[here] := number;
            accepted := accepted + 1;
            CONTINUE;
        END IF;
        -- take back what this journal did, and go on behind it
        numbers[here] := NULL;
        FOR undone IN REVERSE posting - 1 .. first LOOP
            s := sources[undone];
            d := destinations[undone];
            balances[s] := balances[s] + amounts[undone];
            balances[d] := balances[d] - amounts[undone];
            versions[s] := versions[s] - 1;
            versions[d] := versions[d] - 1;
            entries := entries - 2;
        END LOOP;
        IF journals = 1 THEN
            -- A repeat is no refusal, whatever has become of the accounts.
            RETURN coalesce(ledger_booked(of_tenant, refs, mirrored),
                            jsonb_build_array(problem || jsonb_build_object('journal', here)));
        END IF;
        answer := coalesce(answer, '[]') || (problem || jsonb_build_object('journal', here));
        WHILE posting <= postings AND journal_of[posting] = here LOOP
            posting := posting + 1;
        END LOOP;
    END LOOP;

    IF here <> journals THEN
        RAISE EXCEPTION 'a journal has no postings' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    booked := greatest(booked, clock_timestamp());
    IF accepted = 0 THEN
        RETURN answer;
    END IF;

    -- Naming the index spares each journal a look into the three other unique ones.
    IF array_remove(mirrored, NULL) = '{}' IS NOT FALSE THEN
        INSERT INTO ledger_journals (id, number, tenant, reference, content_hash, category, effective_at, booked_at,
                                     correlation_id, job_id, subject, metadata, reverses)
        OVERRIDING SYSTEM VALUE
        SELECT j.id, j.number, of_tenant, j.reference, j.content_hash, j.category, coalesce(j.effective_at, booked), booked,
               j.correlation_id, j.job_id, j.subject, coalesce(j.metadata, '{}'), j.reverses
        FROM unnest(ids, numbers, refs, hashes, categories, effective, correlations, jobs, subjects, notes, mirrored)
             AS j (id, number, reference, content_hash, category, effective_at, correlation_id, job_id, subject, metadata, reverses)
        WHERE j.number IS NOT NULL
        ORDER BY j.reference COLLATE "C"
        ON CONFLICT (tenant, reference) DO NOTHING;
    ELSE
        INSERT INTO ledger_journals (id, number, tenant, reference, content_hash, category, effective_at, booked_at,
                                     correlation_id, job_id, subject, metadata, reverses)
        OVERRIDING SYSTEM VALUE
        SELECT j.id, j.number, of_tenant, j.reference, j.content_hash, j.category, coalesce(j.effective_at, booked), booked,
               j.correlation_id, j.job_id, j.subject, coalesce(j.metadata, '{}'), j.reverses
        FROM unnest(ids, numbers, refs, hashes, categories, effective, correlations, jobs, subjects, notes, mirrored)
             AS j (id, number, reference, content_hash, category, effective_at, correlation_id, job_id, subject, metadata, reverses)
        WHERE j.number IS NOT NULL
        ORDER BY j.reference COLLATE "C"
        ON CONFLICT DO NOTHING;
    END IF;
    GET DIAGNOSTICS written = ROW_COUNT;
    IF written < accepted THEN
        IF journals = 1 THEN
            answer := ledger_booked(of_tenant, refs, mirrored);
            IF answer IS NULL THEN
                RAISE EXCEPTION 'journal % has been booked under another reference', ids[1] USING ERRCODE = 'unique_violation';
            END IF;
            RETURN answer;
        END IF;
        RAISE EXCEPTION 'a reference of the batch was booked while it ran' USING ERRCODE = 'serialization_failure';
    END IF;

    UPDATE ledger_accounts a SET balance = m.balance, version = m.version, booked_at = booked
    FROM unnest(account_ids, balances, versions) AS m (id, balance, version)
    WHERE a.id = m.id AND a.version <> m.version;

    -- Whoever calls this may have set it.
    told := set_config('tallyrail.entries', '', true);
    INSERT INTO ledger_entries (journal_number, position, account_id, version, units, balance, booked_at)
    SELECT e.journal_number, e.position, e.account_id, e.version, e.units, e.balance, booked
    FROM unnest(entry_numbers[1:entries], entry_positions[1:entries], entry_accounts[1:entries], entry_versions[1:entries],
                entry_units[1:entries], entry_balances[1:entries])
         AS e (journal_number, position, account_id, version, units, balance);
    IF mirrored IS NOT NULL THEN
        PERFORM ledger_must_mirror(m.reverses, m.number) FROM unnest(mirrored, numbers) AS m (reverses, number)
        WHERE m.reverses IS NOT NULL AND m.number IS NOT NULL;
    END IF;
    RETURN answer;
END $$;
"""

# The same for the journal that most are: one posting, which nothing stands in the way of. Two updates take the locks, in
# the same order, check the bounds and give the new balances at once. Whatever is not so simple (an account is missing,
# bounded, frozen, or the reference is taken) is undone and left to ledger_post, which knows why. Its entries are a pair
# that cancels because of how the statement is written; the trigger that would look at them again takes a quarter of the
# time of a post, so it is told (migration 0004).
ONE = """
CREATE FUNCTION ledger_post_one(
    of_tenant text, of_id uuid, of_reference text, of_hash bytea, of_category text, of_effective_at timestamptz,
    of_correlation text, of_job uuid, of_subject text, of_notes jsonb, of_mirrored uuid,
    of_asset text, source text, source_stripes int, destination text, destination_stripes int, of_units numeric
) RETURNS jsonb LANGUAGE plpgsql SECURITY DEFINER
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    limitless constant numeric := 99999999999999999999999999999999999999;
    source_first constant boolean := source < destination COLLATE "C";
    first_code constant text := CASE WHEN source_first THEN source ELSE destination END;
    first_stripe constant int := pg_backend_pid() % CASE WHEN source_first THEN source_stripes ELSE destination_stripes END;
    first_units constant numeric := CASE WHEN source_first THEN -of_units ELSE of_units END;
    second_code constant text := CASE WHEN source_first THEN destination ELSE source END;
    second_stripe constant int := pg_backend_pid() % CASE WHEN source_first THEN destination_stripes ELSE source_stripes END;
    one_id bigint;
    one_balance numeric;
    one_version bigint;
    one_at timestamptz;
    two_id bigint;
    two_balance numeric;
    two_version bigint;
    journal bigint;
    booked timestamptz;
    told text;
BEGIN
    IF (of_units > 0 AND of_units = trunc(of_units) AND source <> destination) IS NOT TRUE THEN
        RAISE EXCEPTION 'a posting moves a positive whole number of units from one account to another'
        USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE ledger_accounts a SET balance = balance + first_units, version = version + 1, booked_at = greatest(a.booked_at, clock_timestamp())
    WHERE tenant = of_tenant AND code = first_code AND asset = of_asset AND stripe = first_stripe AND state = 'open'
      AND balance + first_units BETWEEN -limitless AND limitless
      AND (first_units > 0 OR floor IS NULL OR normal_side = 'debit' OR balance + first_units - held >= floor)
      AND (first_units < 0 OR floor IS NULL OR normal_side = 'credit' OR -balance - first_units - held >= floor)
      AND ceiling IS NULL AND of_mirrored IS NULL
      -- No account is opened while one is locked.
      AND EXISTS (SELECT FROM ledger_accounts WHERE tenant = of_tenant AND code = second_code AND asset = of_asset
                                                AND stripe = second_stripe)
    RETURNING id, balance, version, a.booked_at INTO one_id, one_balance, one_version, one_at;
    IF FOUND THEN
        UPDATE ledger_accounts a SET balance = balance - first_units, version = version + 1, booked_at = greatest(a.booked_at, one_at)
        WHERE tenant = of_tenant AND code = second_code AND asset = of_asset AND stripe = second_stripe AND state = 'open'
          AND balance - first_units BETWEEN -limitless AND limitless
          AND (first_units < 0 OR floor IS NULL OR normal_side = 'debit' OR balance - first_units - held >= floor)
          AND (first_units > 0 OR floor IS NULL OR normal_side = 'credit' OR -balance + first_units - held >= floor)
          AND ceiling IS NULL
        RETURNING id, balance, version, a.booked_at INTO two_id, two_balance, two_version, booked;
        IF FOUND THEN
            IF booked > one_at THEN  -- the second was waited for
                UPDATE ledger_accounts SET booked_at = booked WHERE id = one_id;
            END IF;
            INSERT INTO ledger_journals (id, tenant, reference, content_hash, category, effective_at, booked_at,
                                         correlation_id, job_id, subject, metadata, reverses)
            VALUES (of_id, of_tenant, of_reference, of_hash, of_category, coalesce(of_effective_at, booked), booked,
                    of_correlation, of_job, of_subject, coalesce(of_notes, '{}'), NULL)
            ON CONFLICT (tenant, reference) DO NOTHING RETURNING number INTO journal;
            IF FOUND THEN
                told := set_config('tallyrail.entries', 'one pair', true);
                INSERT INTO ledger_entries (journal_number, position, account_id, version, units, balance, booked_at)
                VALUES (journal, CASE WHEN source_first THEN 0 ELSE 1 END, one_id, one_version, first_units, one_balance, booked),
                       (journal, CASE WHEN source_first THEN 1 ELSE 0 END, two_id, two_version, -first_units, two_balance, booked);
                told := set_config('tallyrail.entries', '', true);
                RETURN NULL;
            END IF;
            UPDATE ledger_accounts SET balance = balance + first_units, version = version - 1 WHERE id = two_id;
        END IF;
        UPDATE ledger_accounts SET balance = balance - first_units, version = version - 1 WHERE id = one_id;
    END IF;
    RETURN ledger_post(
        of_tenant, ARRAY[of_id], ARRAY[of_reference], ARRAY[of_hash], ARRAY[of_category], ARRAY[of_effective_at],
        ARRAY[of_correlation], ARRAY[of_job], ARRAY[of_subject], ARRAY[of_notes], ARRAY[of_mirrored],
        ARRAY[first_code, second_code], ARRAY[of_asset, of_asset], ARRAY[1],
        ARRAY[CASE WHEN source_first THEN 1 ELSE 2 END], ARRAY[CASE WHEN source_first THEN 2 ELSE 1 END], ARRAY[of_units]);
END $$;
"""

# Which of these references are booked already, and which of these journals are reversed already. NULL: none.
BOOKED = """
CREATE FUNCTION ledger_booked(of_tenant text, refs text[], mirrored uuid[]) RETURNS jsonb LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    found jsonb;
BEGIN
    SELECT jsonb_agg(jsonb_build_object('journal', k.place, 'id', j.id, 'hash', encode(j.content_hash, 'hex')))
    INTO found
    FROM unnest(refs) WITH ORDINALITY AS k (reference, place)
    CROSS JOIN LATERAL (
        SELECT id, content_hash FROM ledger_journals WHERE tenant = of_tenant AND reference = k.reference LIMIT 1
    ) j;
    IF mirrored IS NOT NULL THEN
        SELECT coalesce(found, '[]') || coalesce(jsonb_agg(jsonb_build_object('journal', k.place, 'reversed_by', j.id)), '[]')
        INTO found
        FROM unnest(refs, mirrored) WITH ORDINALITY AS k (reference, reverses, place)
        CROSS JOIN LATERAL (
            SELECT id FROM ledger_journals
            WHERE reverses = k.reverses AND reverses IS NOT NULL AND reference <> k.reference LIMIT 1
        ) j;
        found := nullif(found, '[]');
    END IF;
    RETURN found;
END $$;
"""

# That a reversal undoes what it names, and nothing else: it may take money out of frozen accounts.
MIRROR = """
CREATE FUNCTION ledger_must_mirror(original uuid, reversal bigint) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT number FROM ledger_journals WHERE id = original UNION ALL SELECT reversal) j
        JOIN ledger_entries e ON e.journal_number = j.number
        CROSS JOIN LATERAL (SELECT tenant, code, asset FROM ledger_accounts WHERE id = e.account_id LIMIT 1) a
        GROUP BY a.tenant, a.code, a.asset HAVING sum(e.units) <> 0
    ) THEN
        RAISE EXCEPTION 'it does not undo journal %', original USING ERRCODE = 'integrity_constraint_violation';
    END IF;
END $$;
"""

# Why a posting can't be: the first of its reasons. Before funds are said to lack, holds past their deadline let go.
# Only credit-normal accounts have holds, which bind what may leave: so only the source's floor can give way by them.
# Without "refused" in the answer it can be after all: some other account is blocked, or enough was let go. "low" is the
# source's bound then, in either case.
REFUSAL = """
CREATE FUNCTION ledger_refusal(
    source_id bigint, destination_id bigint, s int, d int, state_s text, state_d text, mirrors boolean,
    balance_s numeric, balance_d numeric, units numeric, low numeric, high numeric, helds boolean
) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    limitless constant numeric := 99999999999999999999999999999999999999;
BEGIN
    IF state_s = 'closed' THEN
        RETURN jsonb_build_object('refused', 'closed', 'account', s);
    ELSIF state_d = 'closed' THEN
        RETURN jsonb_build_object('refused', 'closed', 'account', d);
    ELSIF state_s = 'frozen' AND NOT mirrors THEN
        RETURN jsonb_build_object('refused', 'frozen', 'account', s);
    END IF;
    IF helds AND balance_s - units < low AND low > -limitless THEN
        low := low - ledger_let_go(source_id);
    END IF;
    IF balance_s - units < low THEN
        RETURN jsonb_build_object('account', s, 'available', balance_s - low, 'units', units, 'low', low, 'refused', CASE
            WHEN low = -limitless THEN 'digits'
            ELSE (SELECT CASE normal_side WHEN 'credit' THEN 'floor' ELSE 'ceiling' END
                  FROM ledger_accounts WHERE id = source_id) END);
    ELSIF balance_d + units > high THEN
        RETURN jsonb_build_object('account', d, 'available', high - balance_d, 'units', units, 'low', low, 'refused', CASE
            WHEN high = limitless THEN 'digits'
            ELSE (SELECT CASE normal_side WHEN 'credit' THEN 'ceiling' ELSE 'floor' END
                  FROM ledger_accounts WHERE id = destination_id) END);
    END IF;
    RETURN jsonb_build_object('low', low);
END $$;
"""

# Accounts are opened together with all their stripes, sorted, while nothing is locked.
OPEN = """
CREATE FUNCTION ledger_open(
    of_tenant text, codes text[], assets text[], kinds text[], sides text[], floors numeric[], stripes int[]
) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO ledger_accounts (tenant, code, asset, stripe, stripes, kind, normal_side, floor)
    SELECT of_tenant, k.code, k.asset, n.stripe, k.stripes, k.kind, k.side, k.floor
    FROM unnest(codes, assets, kinds, sides, floors, stripes) AS k (code, asset, kind, side, floor, stripes)
    CROSS JOIN LATERAL generate_series(0, k.stripes - 1) AS n (stripe)
    ORDER BY k.code COLLATE "C", k.asset COLLATE "C", n.stripe
    ON CONFLICT DO NOTHING;
$$;
"""

# So that a balance that was read still holds at the post: the role can't lock rows that it may not change.
LOCK = """
CREATE FUNCTION ledger_lock(of_tenant text, of_code text, of_asset text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER AS $$
BEGIN
    PERFORM FROM ledger_accounts WHERE tenant = of_tenant AND code = of_code AND asset = of_asset
    ORDER BY stripe FOR NO KEY UPDATE;
END $$;
"""

LET_GO = """
CREATE FUNCTION ledger_let_go(of_account bigint) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    RETURN 0;
END $$;
"""

FUNCTIONS = (
    "ledger_post",
    "ledger_post_one",
    "ledger_open",
    "ledger_lock",
    "ledger_booked",
    "ledger_must_mirror",
    "ledger_refusal",
    "ledger_let_go",
)


def upgrade() -> None:
    for made in (LET_GO, BOOKED, MIRROR, REFUSAL, POST, ONE, OPEN, LOCK):
        op.execute(made)
    op.execute(close(FUNCTIONS))


def downgrade() -> None:
    for function in FUNCTIONS:
        op.execute(f"DROP FUNCTION {function}")
