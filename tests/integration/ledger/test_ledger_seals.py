"""The hash chain: what is sealed can't be changed unseen, and nothing is sealed before it is settled."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core import db
from core.ids import new_id
from core.money import UNITS_MAX
from ledger import seals
from ledger.batches import book_all
from ledger.invariants import FIRST, LAST, verify
from ledger.posting import post, reverse
from ledger.violations import Violation
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, USDT

SUPERUSER = {"options": "-c session_replication_role=replica"}


def seal_now() -> int:
    """Settle and seal everything. Returns how many journals were sealed."""
    upto = seals.settle()
    assert upto is not None
    sealed, whole = seals.seal(upto)
    assert whole
    return sealed


def chain(session: Session, after: int = FIRST, upto: int = LAST) -> list[Violation]:
    return [*seals.check_chain(session, after, upto), *seals.check_ends(session)]


@pytest.fixture
def sealed(books: str) -> str:
    """Twelve journals, three in each shard, in two seals."""
    for sealing in range(2):
        for place in range(6):
            b.book(books, f"deposit:{sealing}:{place}", b.move(CUSTODY, ALICE, 100 + place))
        assert seal_now() == 6
    return books


@pytest.fixture
def superuser(superuser_url: str) -> Iterator[Session]:
    """What it changes is not checked by any trigger or foreign key."""
    engine = create_engine(
        superuser_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool, connect_args=SUPERUSER
    )
    with Session(engine) as made:
        yield made


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


def number_of(reference: str) -> str:
    return f"(SELECT number FROM ledger_journals WHERE reference = '{reference}')"


@dataclass(frozen=True)
class Attack:
    """What a superuser does to sealed books, and the journal (by its place, from 0) that the chain must name."""

    what: str
    done: tuple[str, ...]
    rule: str
    place: int
    message: str
    count: int = 1


FIRST_, FIFTH, NINTH = (number_of(f"deposit:{name}") for name in ("0:0", "0:4", "1:2"))
UNBROKEN, OTHER = "chain is unbroken", "what is booked is not what was sealed"


def on_journal(change: str) -> Attack:
    done = f"UPDATE ledger_journals SET {change} WHERE number = {FIFTH}"
    return Attack(f"journal: {change}", (done,), UNBROKEN, 4, OTHER)


def on_entry(change: str) -> Attack:
    done = f"UPDATE ledger_entries SET {change} WHERE journal_number = {FIFTH} AND position = 1"
    return Attack(f"entry: {change}", (done,), UNBROKEN, 4, OTHER)


def on_seal(change: str, place: int, rule: str, message: str, count: int = 1) -> Attack:
    return Attack(f"seal: {change}", (change,), rule, place, message, count)


def removed(number: str, *tables: str) -> tuple[str, ...]:
    columns = {"ledger_entries": "journal_number"}
    return tuple(f"DELETE FROM {table} WHERE {columns.get(table, 'number')} = {number}" for table in tables)


BOOKED = ("ledger_entries", "ledger_journals")
ATTACKS = (
    on_journal("tenant = 'x'"),
    on_journal("reference = 'x'"),
    on_journal("content_hash = '\\xff'"),
    on_journal("category = 'x'"),
    on_journal("id = gen_random_uuid()"),
    on_journal("effective_at = effective_at + interval '1 microsecond'"),
    on_journal("booked_at = booked_at - interval '1 microsecond'"),
    on_journal("correlation_id = ''"),
    on_journal("job_id = gen_random_uuid()"),
    on_journal("subject = 'null'"),
    on_journal("metadata = 'null'"),
    on_journal("reverses = gen_random_uuid()"),
    on_entry("units = units + 1"),
    on_entry("balance = 0"),
    on_entry("version = 99"),
    on_entry("account_id = 0"),
    on_entry("position = 3"),
    Attack(
        "an entry deleted",
        (f"DELETE FROM ledger_entries WHERE journal_number = {FIFTH} AND position = 0",),
        UNBROKEN, 4, OTHER,
    ),
    Attack(
        "an account renamed: every journal that names it",
        (f"UPDATE ledger_accounts SET code = 'user:eve:available' WHERE code = '{ALICE}'",),
        UNBROKEN, 0, OTHER, count=12,
    ),
    Attack("a journal deleted", removed(FIFTH, *BOOKED), UNBROKEN, 4, "it was sealed, and is gone"),
    Attack(
        "a link changed",
        (f"UPDATE ledger_links SET hash = sha256(hash) WHERE number = {FIFTH}",),
        UNBROKEN, 4, OTHER, count=2,
    ),
    Attack(
        "a link deleted", removed(FIFTH, "ledger_links"),
        UNBROKEN, 4, "it stands before the last seal of its shard, and has no link", count=2,
    ),
    Attack("a journal and its link deleted", removed(FIFTH, "ledger_links", *BOOKED), UNBROKEN, 8, OTHER),
    Attack(
        "the first journal of a shard and its link deleted", removed(FIRST_, "ledger_links", *BOOKED),
        UNBROKEN, 4, OTHER,
    ),
    Attack(
        "two journals change places",
        (
            "ALTER TABLE ledger_journals ALTER COLUMN number SET GENERATED BY DEFAULT",
            f"UPDATE ledger_journals SET number = -number WHERE number IN ({FIFTH}, {NINTH})",
            """UPDATE ledger_journals SET number = (SELECT -sum(number) FROM ledger_journals WHERE number < 0) + number
               WHERE number < 0""",
        ),
        UNBROKEN, 4, OTHER, count=2,
    ),
    on_seal(
        "UPDATE ledger_seals SET head = sha256(head) WHERE shard = :shard AND ordinal = 1",
        4, "seals are whole", "its head is not the link of number",
    ),
    on_seal(
        "UPDATE ledger_seals SET journals = journals + 1 WHERE shard = :shard AND ordinal = 1",
        4, "seals are whole", "it says ", count=2,
    ),
    on_seal(
        "UPDATE ledger_seals SET first_number = first_number + 1 WHERE shard = :shard AND ordinal = 1",
        4, "seals are whole", "journals from number",
    ),
    on_seal(
        "DELETE FROM ledger_seals WHERE shard = :shard AND ordinal = 1",
        8, "seals are whole", "there is no seal before it",
    ),
    on_seal(
        "DELETE FROM ledger_seals WHERE shard = :shard AND ordinal = 2",
        8, "seals cover the chain", "it stands behind the last seal of its shard",
    ),
)  # fmt: skip


def test_every_change_of_sealed_books_is_seen_at_its_first_row(
    sealed: str, superuser: Session, subtests: pytest.Subtests
) -> None:
    before = superuser.execute(text("SELECT number, id FROM ledger_journals ORDER BY number")).all()
    numbers = [row.number for row in before]
    assert numbers == list(range(numbers[0], numbers[0] + 12))  # so that place 4 and place 8 follow place 0 in a shard
    for attack in ATTACKS:
        with subtests.test(attack.what):
            for statement in attack.done:
                changed = superuser.execute(text(statement), {"shard": numbers[4] % 4} if ":shard" in statement else {})
                assert changed.rowcount != 0  # type: ignore[attr-defined]  # has a count
            found = {violation.rule: violation for violation in chain(superuser)}
            wrong = found[attack.rule]
            assert attack.message in wrong.message, wrong
            assert wrong.count == attack.count, wrong
            assert _names(wrong, superuser, numbers[attack.place]), wrong
            assert attack.rule in {violation.rule for violation in verify(superuser)}
        superuser.rollback()
    assert verify(superuser) == []


def _names(wrong: Violation, superuser: Session, number: int) -> bool:
    """Whether the row that the violation names is this number's: its journal, its seal or its link."""
    journal: UUID | None = superuser.scalar(text("SELECT id FROM ledger_journals WHERE number = :n"), {"n": number})
    seal = superuser.scalar(
        text("SELECT shard || '.' || ordinal FROM ledger_seals WHERE :n BETWEEN first_number AND last_number"
             " AND shard = :n % 4"), {"n": number}
    )  # fmt: skip
    names = {
        f"journal {journal} of shard {number % 4}"
        if journal
        else f"journal with number {number} of shard {number % 4}",
        f"seal {seal}",
        f"link {number} of shard {number % 4}",
    }
    return wrong.row in names


def test_a_journal_put_in_under_an_old_number_is_seen(books: str, superuser: Session) -> None:
    with Session(db.engine()) as refused:  # a rollback leaves a gap in the numbers
        post(refused, b.journal(books, "rolled back", b.move(CUSTODY, ALICE, 1)))
        gap = refused.scalar(text("SELECT max(number) FROM ledger_journals"))
        refused.rollback()
    assert gap is not None
    for place in range(8):
        b.book(books, f"d:{place}", b.move(CUSTODY, ALICE, 1))
    seal_now()
    forged = new_id()
    superuser.execute(
        text("""
            INSERT INTO ledger_journals (id, number, tenant, reference, content_hash, category, effective_at, booked_at)
            OVERRIDING SYSTEM VALUE SELECT :id, :gap, tenant, 'forged', content_hash, category, effective_at, booked_at
            FROM ledger_journals LIMIT 1"""),
        {"id": forged, "gap": gap},
    )
    [wrong] = chain(superuser)
    assert wrong.row == f"journal {forged} of shard {gap % 4}"
    assert wrong.message == "it stands before the last seal of its shard, and has no link"


REWRITE = """
DO $$
BEGIN
    DELETE FROM ledger_links;
    DELETE FROM ledger_seals;
    FOR shard IN 0..3 LOOP
        PERFORM ledger_seal(shard, (SELECT max(number) FROM ledger_journals), 100000);
    END LOOP;
END $$
"""


def test_a_chain_written_anew_is_seen_by_heads_that_were_exported(sealed: str, superuser: Session) -> None:
    """Somebody changes a journal and makes the whole chain again. Only what is kept elsewhere tells."""
    exported = seals.heads(superuser)
    numbers = superuser.scalars(text("SELECT number FROM ledger_journals ORDER BY number")).all()
    superuser.execute(text("UPDATE ledger_journals SET subject = 'x' WHERE number = :n"), {"n": numbers[4]})
    superuser.execute(text(REWRITE))
    assert chain(superuser) == []
    wrong = seals.check_heads(superuser, exported)
    assert [violation.rule for violation in wrong] == ["exported heads"]
    shard = numbers[4] % 4
    assert wrong[0].row == f"shard {shard} at number {exported[shard].number}"
    assert "history up to it was changed" in wrong[0].message
    # The others were written anew as well, but say the same; only how they were sealed differs.
    others = [head for head in exported if head.shard != shard]
    assert "it was seal 2 over 3 journals, and is 1 over 3" in seals.check_heads(superuser, others)[0].message


def test_a_chain_that_was_cut_off_is_seen_by_heads_that_were_exported(sealed: str, superuser: Session) -> None:
    """The newest journals vanish with their entries, links and seals, and the accounts are set back to match."""
    exported = seals.heads(superuser)
    cut = "(SELECT number FROM ledger_journals WHERE reference LIKE 'deposit:1:%')"
    for statement in (
        "DELETE FROM ledger_seals WHERE ordinal > 1",
        f"DELETE FROM ledger_links WHERE number IN {cut}",
        f"DELETE FROM ledger_entries WHERE journal_number IN {cut}",
        "DELETE FROM ledger_journals WHERE reference LIKE 'deposit:1:%'",
        """UPDATE ledger_accounts a SET (balance, version) =
           (SELECT coalesce(sum(units), 0), count(*) FROM ledger_entries WHERE account_id = a.id)""",
    ):
        superuser.execute(text(statement))
    superuser.execute(
        text("DELETE FROM ledger_seals s WHERE NOT EXISTS (SELECT FROM ledger_links WHERE number = last_number)")
    )
    assert verify(superuser) == []  # the books alone can't tell
    [wrong] = seals.check_heads(superuser, exported)
    assert wrong.message == "the chain has no such link any more: its end was cut off"
    assert wrong.count == 4
    first = min(exported, key=lambda head: head.number)
    assert wrong.row == f"shard {first.shard} at number {first.number}"


def test_heads_of_elsewhere_are_refused(sealed: str, session: Session) -> None:
    first, *rest = seals.heads(session)
    forged = replace(first, hash="00" * 32)
    [wrong] = seals.check_heads(session, [forged, *rest])
    assert "0" * 64 in wrong.message
    assert wrong.count == 1


def test_nobody_changes_the_chain(sealed: str, session: Session, superuser_url: str) -> None:
    for statement in (
        "INSERT INTO ledger_links (number, hash) VALUES (999999, sha256(''))",
        "UPDATE ledger_links SET hash = sha256('')",
        "DELETE FROM ledger_links",
        "TRUNCATE ledger_links",
        "INSERT INTO ledger_seals SELECT * FROM ledger_seals",
        "UPDATE ledger_seals SET sealed_at = now()",
        "DELETE FROM ledger_seals",
    ):
        with pytest.raises(DBAPIError, match="permission denied"):
            session.execute(text(statement))
        session.rollback()
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as owner:
        for table in ("ledger_links", "ledger_seals"):
            for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
                    owner.execute(statement.encode())
    assert chain(session) == []


def test_there_are_four_shards(books: str, session: Session) -> None:
    for shard in (-1, 4):
        with pytest.raises(DBAPIError, match="there is no shard"):
            session.execute(text("SELECT ledger_seal(:shard, 1, 1)"), {"shard": shard})
        session.rollback()


def test_pieces_of_the_chain_join(sealed: str, session: Session, superuser: Session) -> None:
    numbers = session.scalars(text("SELECT number FROM ledger_journals ORDER BY number")).all()
    for number in numbers:
        assert seals.check_chain(session, number - 1, number) == []
    superuser.execute(text("UPDATE ledger_links SET hash = sha256(hash) WHERE number = :n"), {"n": numbers[4]})
    wrong = [n for n in numbers if seals.check_chain(superuser, n - 1, n)]
    assert wrong == [numbers[4], numbers[8]]
