"""`make bench-seals`: what the hash chain and the audits cost, and that posting does not pay for them.

On the embedded PostgreSQL with its usual durability. Journals are transfers of two entries with a subject and metadata.
Times are microseconds a journal; posting them in batches of 500, measured in the same run, is what they stand beside.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.synchronize import Event

from sqlalchemy import text

from bench.figures import figure
from bench.servers import servers
from core import db
from core.ids import new_id
from ledger import audit, seals
from ledger.assets import sync_assets
from ledger.batches import book_all
from ledger.invariants import LAST, check_journals
from ledger.posting import Journal, Posting, book

JOURNALS, BATCH, ACCOUNTS = 100_000, 500, 10_000
ASSET = "eip155:1/slip44:60"
ROUNDS, SECONDS = 20, 1.5


def journal(number: int) -> Journal:
    source, destination = number % ACCOUNTS, (number * 7 + 1) % ACCOUNTS
    return Journal(
        tenant="bench",
        reference=f"transfer:{new_id()}",
        category="transfer",
        subject=f"order:{number}",
        metadata={"channel": "app", "note": f"order {number}"},
        postings=[
            Posting(
                source=f"user:{source}:bonus", destination=f"user:{destination}:bonus", asset=ASSET, units=number + 1
            )
        ],
    )


def micros(done: Callable[[], object]) -> float:
    """Microseconds a journal."""
    began = time.perf_counter()
    done()
    return (time.perf_counter() - began) / JOURNALS * 1e6


def post_all() -> None:
    for first in range(0, JOURNALS, BATCH):
        assert all(one.posted for one in book_all([journal(n) for n in range(first, first + BATCH)]))


def bytes_of(*tables: str) -> float:
    """Bytes a journal, indexes included."""
    with db.transaction() as session:
        sizes = [session.scalar(text("SELECT pg_total_relation_size(:table)"), {"table": table}) for table in tables]
    return float(sum(size or 0 for size in sizes)) / JOURNALS


def seal() -> None:
    upto = seals.settle()
    assert upto is not None
    assert seals.seal(upto)[1]


def in_pieces(check: Callable[[int, int], None]) -> Callable[[], None]:
    """In ranges of the size that an audit's pieces have."""

    def done() -> None:
        with db.transaction() as session:
            first = session.scalar(text("SELECT min(number) FROM ledger_journals")) or 0
        for after in range(first - 1, first + JOURNALS, 5_000):
            check(after, after + 5_000)

    return done


def check_chain(after: int, upto: int) -> None:
    with db.transaction() as session:
        assert seals.check_chain(session, after, upto) == []


def check_rules(after: int, upto: int) -> None:
    with db.transaction() as session:
        assert check_journals(session, after, upto) == []


def walk() -> None:
    assert not any(found for _, _, found in audit.walk())


def keep_sealing(ready: Event, wanted: Event, stop: Event) -> None:
    """While it is wanted, seal and audit twice a second, as the jobs do every minute, in a process of its own."""
    seal()
    ready.set()
    while not stop.is_set():
        if not wanted.wait(0.1):
            continue
        seal()
        with db.transaction() as session:
            cursor = audit.begin(session, "incremental")
            if cursor is not None:
                audit.step(session, cursor, budget=timedelta(seconds=3))
        time.sleep(0.5)


def posts_a_second() -> float:
    began = time.perf_counter()
    posted = 0
    while time.perf_counter() - began < SECONDS:
        book(journal(posted))
        posted += 1
    return posted / (time.perf_counter() - began)


def posting_beside_sealing() -> None:
    """Short rounds without and with a sealer, in turns: neighbours see the same of whatever else the machine does."""
    alone, beside = [], []
    context = multiprocessing.get_context("spawn")
    ready, wanted, stop = context.Event(), context.Event(), context.Event()
    sealer = context.Process(target=keep_sealing, args=(ready, wanted, stop))
    sealer.start()
    ready.wait()
    for _ in range(ROUNDS):
        alone.append(posts_a_second())
        wanted.set()
        beside.append(posts_a_second())
        wanted.clear()
        time.sleep(0.7)
    stop.set()
    sealer.join()
    assert sealer.exitcode == 0
    baseline = statistics.median(alone)
    ratio = statistics.median(ours / theirs for ours, theirs in zip(beside, alone, strict=True))
    figure("ledger.post.beside_sealing", ours=ratio * baseline, baseline=baseline, goal=">= 0.9", met=ratio >= 0.9)


def main() -> None:
    with servers():
        with db.transaction() as session:
            sync_assets(session)
        posting = micros(post_all)
        books = bytes_of("ledger_journals", "ledger_entries")
        figure("ledger.seal.us", ours=micros(seal), baseline=posting, goal="told")
        figure("ledger.seal.bytes", ours=bytes_of("ledger_links", "ledger_seals"), baseline=books, goal="told")
        figure("ledger.verify.chain.us", ours=micros(in_pieces(check_chain)), baseline=posting, goal="told")
        figure("ledger.verify.rules.us", ours=micros(in_pieces(check_rules)), baseline=posting, goal="told")
        figure("ledger.verify.all.us", ours=micros(walk), baseline=posting, goal="told")
        with db.transaction() as session:
            whole = micros(lambda: check_journals(session, -1, LAST))
        figure("ledger.verify.rules_at_once.us", ours=whole, baseline=posting, goal="told")
        posting_beside_sealing()


if __name__ == "__main__":
    main()
