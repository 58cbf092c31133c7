"""verify() names the first wrong row of each kind of corruption that only a superuser could make."""

from dataclasses import dataclass

import pytest
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.orm import Session

from ledger.invariants import verify
from ledger.posting import reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, EUR, USDT, book


def entry_of_alice(version: int) -> str:
    return f"SELECT e.id FROM ledger_entries e JOIN ledger_accounts a ON a.id = account_id WHERE code = '{ALICE}' AND e.version = {version}"  # noqa: E501


def account(code: str) -> str:
    return f"SELECT id FROM ledger_accounts WHERE code = '{code}'"


def journal(reference: str) -> str:
    return f"SELECT id FROM ledger_journals WHERE reference = '{reference}'"


SECOND, THIRD = entry_of_alice(2), entry_of_alice(3)


@dataclass(frozen=True)
class Corruption:
    """What a superuser does to break a rule, and the row that verify must name: its kind and a query for its id."""

    rule: str
    kind: str
    row: str
    done: tuple[str, ...]


CORRUPTIONS = (
    Corruption(
        "journals sum to zero",
        "journal",
        journal("pay:2"),
        (f"UPDATE ledger_entries SET units = units + 1 WHERE id = ({THIRD})",),
    ),
    Corruption(
        "journals are whole",
        "journal",
        journal("pay:2"),
        (f"DELETE FROM ledger_entries WHERE journal_id = ({journal('pay:2')})",),
    ),
    Corruption(
        "journals are whole",
        "journal",
        journal("pay:2"),
        (f"UPDATE ledger_entries SET position = 7 WHERE id = ({THIRD})",),
    ),
    Corruption(
        "versions have no gaps", "entry", THIRD, (f"UPDATE ledger_entries SET version = 9 WHERE id = ({THIRD})",)
    ),
    Corruption(
        "running balances", "entry", THIRD, (f"UPDATE ledger_entries SET balance = balance + 1 WHERE id = ({THIRD})",)
    ),
    Corruption(
        "balances equal the replay",
        "account",
        account(ALICE),
        (f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code = '{ALICE}'",),
    ),
    Corruption(
        "balances equal the replay",
        "account",
        account(BOB),
        (f"UPDATE ledger_accounts SET version = version + 1 WHERE code = '{BOB}'",),
    ),
    Corruption(
        "floors hold",
        "account",
        account(BOB),
        (
            "ALTER TABLE ledger_accounts DROP CONSTRAINT ck_ledger_accounts_floor",
            f"UPDATE ledger_accounts SET balance = -1 WHERE code = '{BOB}'",
        ),
    ),
    Corruption(
        "entries fit their account",
        "entry",
        SECOND,
        (f"UPDATE ledger_entries SET asset = '{USDT}' WHERE id = ({SECOND})",),
    ),
    Corruption(
        "reversals mirror",
        "journal",
        journal("undo:1"),
        (f"UPDATE ledger_journals SET reverses = ({journal('pay:2')}) WHERE reference = 'undo:1'",),
    ),
    Corruption(
        "trial balance",
        "tenant",
        f"SELECT tenant FROM ledger_accounts WHERE code = '{CUSTODY}'",
        (f"UPDATE ledger_accounts SET balance = balance - 1 WHERE code = '{CUSTODY}'",),
    ),
)


@pytest.fixture
def moved(books: str, session: Session) -> str:
    """Sound books with some history."""
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    book(books, "pay:1", b.move(ALICE, BOB, 10))
    book(books, "pay:2", b.move(ALICE, BOB, 20))
    first = book(books, "bank:1", b.move("custody:bank:de", "merchant:m:available", 5, EUR))
    reverse(session, tenant=books, reference="undo:1", journal_id=first.id)
    session.commit()
    b.assert_sound()
    return books


def test_verify_names_the_first_wrong_row(moved: str, superuser_url: str, subtests: pytest.Subtests) -> None:
    engine = create_engine(superuser_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with Session(engine) as superuser:
        for corruption in CORRUPTIONS:
            superuser.execute(text("SET LOCAL session_replication_role = replica"))
            wrong = superuser.scalar(text(corruption.row))
            for statement in corruption.done:
                superuser.execute(text(statement))
            with subtests.test(corruption.rule, done=corruption.done):
                found = {violation.rule: violation for violation in verify(superuser)}
                assert corruption.rule in found, found
                assert f"{found[corruption.rule].row} ".startswith(f"{corruption.kind} {wrong} ")
                assert found[corruption.rule].count == 1
            superuser.rollback()
        assert verify(superuser) == []


def test_verify_counts_the_wrong_rows_and_names_the_earliest(moved: str, superuser_url: str) -> None:
    engine = create_engine(superuser_url.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    with Session(engine) as superuser:
        superuser.execute(text("SET LOCAL session_replication_role = replica"))
        superuser.execute(text("UPDATE ledger_entries SET units = units * 2 WHERE position = 0"))
        found = {violation.rule: violation for violation in verify(superuser)}
        first = superuser.scalar(text("SELECT journal_id FROM ledger_entries ORDER BY id LIMIT 1"))
    unbalanced = found["journals sum to zero"]
    assert (unbalanced.row, unbalanced.count) == (f"journal {first}", 5)
    assert str(unbalanced).endswith("sum to -100 (and 4 more)")
