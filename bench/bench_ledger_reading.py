"""`make bench-ledger_reading`: what reading costs when the books have grown from 50,000 entries to 5 million.

One customer and one striped house account are in every journal, so each account grows with the books; half of the
journals say that they happened three seconds before they were booked. Microseconds a call, medians over random times,
through the public functions; baseline: the same on the small books. Rows are put in by the owner in bulk, as `post`
would have left them, and proved by `verify` while they are few.

- ledger.read.balance_booked, .balance_effective: a balance as of a random time, of the customer.
- ledger.read.balance_striped: the same of the house account, in its 16 rows, by the booked clock.
- ledger.read.statement, .statement_striped: the first page of 50 lines of a period from a random time on.
- ledger.read.entries: a page of the customer's newest entries.
"""

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from sqlalchemy.orm import Session

from bench import servers
from bench.figures import figure
from core import db
from ledger.asof import Clock, balance_at
from ledger.invariants import verify
from ledger.journals import entries
from ledger.posting import Journal, Posting, book
from ledger.statement import statement

TENANT, ASSET, CUSTOMER, HOUSE = "bench", "iso4217:EUR", "user:1:available", "house:fees"
SMALL, LARGE = 50_000, 5_000_000
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=1)
CALLS = 300

_FILL = f"""
    CREATE TEMP TABLE n AS
    SELECT n AS number, '{FIRST.isoformat()}'::timestamptz + n * interval '1 second' AS at,
           h.id AS house, (n - 1) / 16 + 1 AS turn
    FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
    JOIN ledger_accounts h ON h.code = '{HOUSE}' AND h.stripe = mod(n - 1, 16);
    INSERT INTO ledger_journals (id, number, tenant, reference, content_hash, category, effective_at, booked_at)
    OVERRIDING SYSTEM VALUE
    SELECT lpad(to_hex(number), 32, '0')::uuid, number, '{TENANT}', 'n:' || number, '', 'bench',
           CASE WHEN mod(number, 2) = 0 THEN at ELSE at - interval '3 seconds' END, at FROM n;
    INSERT INTO ledger_entries (journal_number, position, account_id, version, units, balance, booked_at)
    SELECT number, 0, house, turn, -1, -turn, at FROM n
    UNION ALL
    SELECT number, 1, c.id, number, 1, number, at FROM n, (SELECT id FROM ledger_accounts WHERE code = '{CUSTOMER}') c;
    UPDATE ledger_accounts a SET version = e.version, balance = e.balance, booked_at = e.booked_at
    FROM (SELECT DISTINCT ON (account_id) * FROM ledger_entries ORDER BY account_id, version DESC) e
    WHERE e.account_id = a.id;
    DROP TABLE n;
"""


def grow(url: str, have: int, want: int) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        for table in ("journals", "entries"):
            owner.execute(f"ALTER TABLE ledger_{table} DISABLE TRIGGER USER")
        for first in range(have // 2, want // 2, 500_000):
            last = min(first + 500_000, want // 2)
            for line in _FILL.split(";\n"):
                if line.strip():
                    owner.execute(line, {"first": first + 1, "last": last} if "first" in line else None)
        for table in ("journals", "entries"):
            owner.execute(f"ALTER TABLE ledger_{table} ENABLE TRIGGER USER")
        owner.execute("VACUUM ANALYZE")


def prepare(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("INSERT INTO ledger_assets (id, scale) VALUES (%s, 2)", [ASSET])
    move = Posting(source=HOUSE, destination=CUSTOMER, asset=ASSET, units=1)
    book(Journal(tenant=TENANT, reference="open", category="bench", postings=[move]))
    with psycopg.connect(url, autocommit=True) as owner:  # the accounts stay, as the rows that are put in begin at 1
        owner.execute("ALTER TABLE ledger_entries DISABLE TRIGGER USER")
        owner.execute("ALTER TABLE ledger_journals DISABLE TRIGGER USER")
        owner.execute("DELETE FROM ledger_entries")
        owner.execute("DELETE FROM ledger_journals")
        owner.execute("UPDATE ledger_accounts SET balance = 0, version = 0, booked_at = NULL")


def measure(entries_there: int) -> dict[str, float]:
    chance = random.Random(7)
    number = entries_there // 2

    def moment() -> datetime:
        return FIRST + STEP * chance.randint(1, number) + timedelta(milliseconds=chance.randint(0, 999))

    def read(work: Callable[[Session], Any]) -> float:
        taken = []
        for _ in range(CALLS):
            with db.transaction() as session:
                session.connection()
                started = time.perf_counter()
                work(session)
                taken.append((time.perf_counter() - started) * 1e6)
        return statistics.median(taken)

    return {
        "balance_booked": read(lambda s: balance_at(s, TENANT, CUSTOMER, ASSET, moment())),
        "balance_effective": read(lambda s: balance_at(s, TENANT, CUSTOMER, ASSET, moment(), clock=Clock.EFFECTIVE)),
        "balance_striped": read(lambda s: balance_at(s, TENANT, HOUSE, ASSET, moment())),
        "statement": read(lambda s: statement(s, TENANT, CUSTOMER, ASSET, since=moment(), until=None, limit=50)),
        "statement_striped": read(lambda s: statement(s, TENANT, HOUSE, ASSET, since=moment(), until=None, limit=50)),
        "entries": read(lambda s: entries(s, TENANT, CUSTOMER, asset=ASSET, limit=50)),
    }


def main() -> None:
    with servers.servers() as environment:
        url = environment["DATABASE_OWNER_URL"]
        prepare(url)
        grow(url, 0, SMALL)
        with db.transaction() as session:
            assert (found := verify(session)) == [], found
        small = measure(SMALL)
        grow(url, SMALL, LARGE)
        for name, taken in measure(LARGE).items():
            figure(f"ledger.read.{name}", ours=taken, baseline=small[name], goal="<= 2.0", met=taken <= 2 * small[name])


if __name__ == "__main__":
    main()
