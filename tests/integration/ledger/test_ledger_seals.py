"""The hash chain: its documented form, and that nothing is sealed before it is settled, or missed."""

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db
from core.ids import new_id
from core.money import UNITS_MAX
from ledger import seals
from ledger.batches import book_all
from ledger.invariants import verify
from ledger.posting import post, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, USDT
from tests.integration.ledger.sealing import chain, seal_now


def form_of(journal: Any, entries: list[Any]) -> str:
    """The documented form (docs/ledger-audit.md), made without PostgreSQL's JSON."""

    def string(value: str | None) -> str:
        if value is None:
            return "null"
        # As JSON asks, and no more: quotes, backslashes and control characters are escaped, all else stands as it is.
        return json.dumps(value, ensure_ascii=False)

    def micros(at: datetime) -> str:
        return str((at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1))

    def value(of: Any) -> str:
        match of:
            case dict():
                keys = sorted(of, key=lambda key: (len(key.encode()), key.encode()))
                return "{" + ", ".join(f"{string(key)}: {value(of[key])}" for key in keys) + "}"
            case list():
                return "[" + ", ".join(map(value, of)) + "]"
            case str():
                return string(of)
            case _:
                return json.dumps(of)

    lines = [
        "["
        + ", ".join(
            [
                str(e.position),
                str(e.account_id),
                string(e.code),
                string(e.asset),
                string(str(e.units)),
                string(str(e.balance)),
                str(e.version),
            ]
        )
        + "]"
        for e in entries
    ]
    j = journal
    return (
        "["
        + ", ".join(
            [
                "1",
                str(j.number),
                string(str(j.id)),
                string(j.tenant),
                string(j.reference),
                string(bytes(j.content_hash).hex()),
                string(j.category),
                micros(j.effective_at),
                micros(j.booked_at),
                string(j.correlation_id),
                string(j.job_id and str(j.job_id)),
                string(j.subject),
                value(j.metadata),
                string(j.reverses and str(j.reverses)),
                "[" + ", ".join(lines) + "]",
            ]
        )
        + "]"
    )


def test_whoever_reads_the_documentation_computes_the_same_chain(books: str, session: Session) -> None:
    many = [b.move(CUSTODY, ALICE, UNITS_MAX), b.move(ALICE, BOB, 1), b.move(CUSTODY, BOB, 7, USDT)]
    first = b.book(books, "plain", b.move("suspense:x", "house:fees", 5))
    b.book(
        books,
        'ré"f\\ 漢字 😀',
        *many,
        subject="deposit:1",
        correlation_id="c-\x7f/é",
        job_id=new_id(),
        effective_at=datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        metadata={
            "zz": None,
            "a": [1, -2, True, {"ü": "tab\t nul-like \x01 \u2028 ü 😀 </script>"}],
            "€": "",
            "": [],
            "ab": {"big": 10**40},
        },
    )
    reverse(session, tenant=books, reference="undo", journal_id=first.id, metadata={"why": "test"})
    session.commit()
    b.book(
        books,
        "far",
        b.move("custody:eip155:56", BOB, 2),
        effective_at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    )
    b.book(books, "second of its shard", b.move("custody:eip155:56", BOB, 3))
    assert seal_now() == 5
    links: dict[int, bytes] = {
        shard: hashlib.sha256(f"tallyrail ledger shard {shard}".encode()).digest() for shard in range(4)
    }
    stored = {row.number: bytes(row.hash) for row in session.execute(text("SELECT number, hash FROM ledger_links"))}
    journals = session.execute(text("SELECT * FROM ledger_journals ORDER BY number")).all()
    for journal in journals:
        entries = session.execute(
            text("""SELECT e.*, a.code, a.asset FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
                    WHERE journal_number = :number ORDER BY position"""),
            {"number": journal.number},
        ).all()
        leaf = hashlib.sha256(form_of(journal, list(entries)).encode()).digest()
        shard = journal.number % 4
        links[shard] = hashlib.sha256(links[shard] + leaf).digest()
        assert links[shard] == stored.pop(journal.number), journal.reference
    assert stored == {}
    assert {head.shard: head.hash for head in seals.heads(session)} == {
        shard: link.hex() for shard, link in links.items()
    }


def test_sealing_again_seals_only_what_is_new(sealed: str, session: Session) -> None:
    assert seal_now() == 0
    before = seals.heads(session)
    assert [head.shard for head in before] == [0, 1, 2, 3]
    assert sum(head.journals for head in before) == 12
    session.commit()
    b.book(sealed, "one more", b.move(CUSTODY, ALICE, 1))
    assert seals.unsealed(session).journals == 1
    assert seals.unsealed(session).oldest > timedelta(0)
    assert seal_now() == 1
    assert seals.unsealed(session) == seals.Unsealed(0, timedelta(0))
    after = seals.heads(session)
    assert [head for head in after if head in before] != before
    assert sum(head.journals for head in after) == 13
    assert seals.check_heads(session, before) == []
    assert seals.check_heads(session, after) == []
    assert verify(session) == []


def test_sealing_goes_on_where_its_budget_or_a_chunk_ended(books: str, session: Session) -> None:
    book_all([b.journal(books, f"d:{n}", b.move(CUSTODY, ALICE, 1)) for n in range(4 * seals.CHUNK + 8)])
    upto = seals.settle()
    assert upto is not None
    assert seals.seal(upto, budget=timedelta(seconds=-1)) == (0, False)
    with db.transaction() as own:
        assert own.scalar(text("SELECT ledger_seal(1, :upto, 3)"), {"upto": upto}) == 3
    # One shard is ahead of the others: what is sealed without a gap ends before the first that is not.
    first = session.scalar(text("SELECT min(number) FROM ledger_journals WHERE number % 4 <> 1"))
    assert first is not None
    assert seals.sealed_upto(session) == first - 1
    session.commit()
    assert seals.seal(upto) == (4 * seals.CHUNK + 5, True)
    assert seals.sealed_upto(session) == upto
    assert chain(session) == []


def test_books_without_journals_have_no_heads(books: str, session: Session) -> None:
    assert seal_now() == 0
    assert seals.heads(session) == []
    assert seals.sealed_upto(session) == 0
    assert seals.unsealed(session) == seals.Unsealed(0, timedelta(0))
    assert verify(session) == []


def test_a_journal_that_is_not_committed_yet_is_waited_for(books: str, session: Session) -> None:
    """Also when its transaction began after that of a journal with a higher number, which has ended."""
    b.book(books, "opens the accounts", b.move(CUSTODY, ALICE, 1), b.move("custody:eip155:56", BOB, 1))
    with Session(db.engine()) as early, Session(db.engine()) as late:
        first, second = (each.scalar(text("SELECT pg_current_xact_id()::text")) for each in (early, late))
        assert int(first) < int(second)
        post(late, b.journal(books, "lower number", b.move(CUSTODY, ALICE, 2)))
        post(early, b.journal(books, "higher number", b.move("custody:eip155:56", BOB, 2)))
        early.commit()
        [low_hidden] = late.scalars(text("SELECT number FROM ledger_journals WHERE reference = 'lower number'"))
        [high] = session.scalars(text("SELECT number FROM ledger_journals WHERE reference = 'higher number'"))
        session.commit()
        assert low_hidden < high
        # What a snapshot says of itself would let it through: its xmax only goes by what has ended.
        assert seals.settle(timedelta(seconds=0.1)) is None
        threading.Timer(0.3, late.commit).start()
        assert seals.settle(timedelta(seconds=10)) == high
    assert seals.seal(high) == (3, True)
    assert chain(session) == []


def test_a_reader_holds_nobody_up(books: str, session: Session) -> None:
    b.book(books, "d:1", b.move(CUSTODY, ALICE, 1))
    session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
    assert session.scalar(text("SELECT count(*) FROM ledger_journals")) == 1  # an open snapshot, without an id
    assert seals.settle(timedelta(seconds=5)) is not None


def test_two_sealers_at_once_make_one_chain(books: str, session: Session) -> None:
    book_all([b.journal(books, f"d:{n}", b.move(CUSTODY, ALICE, 1)) for n in range(400)])
    upto = seals.settle()
    assert upto is not None
    done: list[int] = []
    threads = [threading.Thread(target=lambda: done.append(seals.seal(upto)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(done) == 400
    assert len(done) == 3
    assert chain(session) == []


def post_much(tenant: str, seed: int) -> None:
    """Journals alone, and some at a time in transactions that take a while and may be rolled back."""
    chance = random.Random(seed)
    accounts = (f"custody:eip155:{seed}", f"user:u{seed}:available")
    for place in range(120):
        if chance.random() < 0.3:
            b.book(tenant, f"alone:{seed}:{place}", b.move(accounts[0], ALICE, 1))
            continue
        with Session(db.engine()) as own:
            for step in range(chance.randint(1, 3)):
                post(own, b.journal(tenant, f"{seed}:{place}:{step}", b.move(*accounts, 1)))
                time.sleep(chance.random() / 100)
            if chance.random() < 0.7:
                own.commit()


def test_nothing_is_missed_while_many_post_and_some_roll_back(books: str, session: Session) -> None:
    """Sealing all the time, beside posts that commit in another order than they were numbered, or never."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def kept(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  # told by the test
            failures.append(error)

    def seal_much() -> None:
        while not stop.is_set():
            seal_now()

    posters = [threading.Thread(target=kept, args=(partial(post_much, books, seed),)) for seed in range(1, 5)]
    sealer = threading.Thread(target=kept, args=(seal_much,))
    for thread in (*posters, sealer):
        thread.start()
    for thread in posters:
        thread.join()
    stop.set()
    sealer.join()
    assert failures == []
    seal_now()
    assert seals.unsealed(session).journals == 0
    assert chain(session) == []
    journals, links, late = session.execute(
        text("""
            SELECT (SELECT count(*) FROM ledger_journals), (SELECT count(*) FROM ledger_links),
                   (SELECT count(*) FROM (SELECT booked_at < lag(booked_at) OVER (ORDER BY number) AS late
                                          FROM ledger_journals) j WHERE late)""")
    ).one()
    assert journals == links > 200
    assert late > 0  # or the test shows nothing: some were booked in another order than they were numbered
    assert len(session.execute(text("SELECT FROM ledger_seals")).all()) > 10
