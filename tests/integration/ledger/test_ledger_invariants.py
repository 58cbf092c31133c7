"""verify() names the first wrong row of each kind of corruption that only a superuser could make."""

from dataclasses import dataclass

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger import accounts, freezes, holds
from ledger.holds import NewHold
from ledger.invariants import check_accounts, check_journals, check_touched, verify
from ledger.posting import reverse
from ledger.violations import Violation, merged
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, EUR, book

CAROL = "user:carol:available"


def entry_of_alice(version: int, what: str = "journal_number || '.' || position") -> str:
    return (
        f"SELECT {what} FROM ledger_entries e JOIN ledger_accounts a ON a.id = account_id"
        f" WHERE code = '{ALICE}' AND e.version = {version}"
    )


def account(code: str) -> str:
    return f"SELECT id FROM ledger_accounts WHERE code = '{code}' ORDER BY id LIMIT 1"


def journal(reference: str, what: str = "id") -> str:
    return f"SELECT {what} FROM ledger_journals WHERE reference = '{reference}'"


SECOND, THIRD = entry_of_alice(2), entry_of_alice(3)
OF_SECOND = f"(journal_number, position) = ({entry_of_alice(2, 'journal_number, position')})"
OF_THIRD = f"(journal_number, position) = ({entry_of_alice(3, 'journal_number, position')})"
PAY_2 = journal("pay:2", "number")


@dataclass(frozen=True)
class Corruption:
    """What a superuser does to break a rule, and the row that verify must name: its kind and a query for its id."""

    rule: str
    kind: str
    row: str
    done: str
    count: int = 1


def on_entry(rule: str, change: str, *, kind: str = "entry", row: str = THIRD) -> Corruption:
    return Corruption(rule, kind, row, f"UPDATE ledger_entries SET {change} WHERE {OF_THIRD}")


def on_account(rule: str, code: str, change: str) -> Corruption:
    return Corruption(rule, "account", account(code), f"UPDATE ledger_accounts SET {change} WHERE code = '{code}'")


CORRUPTIONS = (
    on_entry("journals sum to zero", "units = units + 1", kind="journal", row=journal("pay:2")),
    on_entry("postings cancel", "units = units + 1"),
    on_entry("journals are whole", "position = 7", kind="journal", row=journal("pay:2")),
    on_entry("versions have no gaps", "version = 9"),
    on_entry("running balances", "balance = balance + 1"),
    on_entry("entries are in order", "booked_at = booked_at + interval '1 second'"),
    on_entry("entries are in order", "booked_at = booked_at - interval '1 day'"),
    on_entry("entries fit their account", "account_id = 999999999"),
    Corruption(
        "postings cancel", "entry", f"SELECT ({PAY_2}) || '.0'",
        f"UPDATE ledger_entries SET units = -units WHERE journal_number = ({PAY_2})",
    ),
    Corruption(
        "postings cancel", "entry", f"SELECT ({PAY_2}) || '.0'",
        f"UPDATE ledger_entries SET account_id = ({account('custody:bank:de')}), version = 77"
        f" WHERE journal_number = ({PAY_2}) AND position = 0",
    ),
    Corruption(
        "journals are whole", "journal", journal("pay:2"),
        f"DELETE FROM ledger_entries WHERE journal_number = ({PAY_2})",
    ),
    Corruption(
        "journals are whole", "journal", journal("pay:2"),
        f"DELETE FROM ledger_entries WHERE journal_number = ({PAY_2}) AND position = 1",
    ),
    Corruption(
        "versions have no gaps", "entry", THIRD, f"DELETE FROM ledger_entries WHERE {OF_SECOND}",
    ),
    Corruption(
        "entries fit their account", "entry", f"SELECT ({PAY_2}) || '.0'",
        "UPDATE ledger_journals SET tenant = 'other' WHERE reference = 'pay:2'", count=2,
    ),
    Corruption(
        "entries fit their account", "entry", f"SELECT ({PAY_2}) || '.0'",
        "DELETE FROM ledger_journals WHERE reference = 'pay:2'", count=2,
    ),
    Corruption(
        "reversals mirror", "journal", journal("undo:1"),
        f"UPDATE ledger_journals SET reverses = ({journal('pay:2')}) WHERE reference = 'undo:1'",
    ),
    Corruption(
        "reversals mirror", "journal", journal("undo:1"),
        f"UPDATE ledger_journals SET reverses = '{'0' * 32}' WHERE reference = 'undo:1'",
    ),
    on_account("balances equal the replay", ALICE, "balance = balance + 1"),
    on_account("balances equal the replay", BOB, "version = version + 1"),
    on_account("balances equal the replay", BOB, "booked_at = booked_at - interval '1 day'"),
    on_account("balances are within bounds", BOB, "balance = -1"),
    on_account("balances are within bounds", BOB, "held = 31"),
    on_account("balances are within bounds", BOB, "ceiling = 29"),
    on_account("held equals the pending holds", BOB, "held = 1"),
    on_account("held equals the pending holds", ALICE, "held = 0"),
    Corruption(
        "held equals the pending holds", "account", account(ALICE),
        "UPDATE ledger_holds SET state = 'voided', settled_at = now() WHERE units = 7",
    ),
    Corruption(
        "held equals the pending holds", "account", account(ALICE),
        f"UPDATE ledger_holds SET account_id = ({account(BOB)}) WHERE units = 7", count=2,
    ),
    on_account("states equal the changes", BOB, "state = 'frozen'"),
    on_account("states equal the changes", CAROL, "state = 'open'"),
    on_account("states equal the changes", CAROL, "state = 'closed'"),
    *(
        Corruption(
            "states equal the changes", "account", account(CAROL),
            f"DELETE FROM ledger_freezes WHERE holder LIKE '{holder}'",
        )
        for holder in ("%", "deposit:%", "person:%")
    ),
    Corruption(
        "states equal the changes", "account", account(BOB),
        f"UPDATE ledger_freezes SET code = '{BOB}' WHERE holder = 'deposit:1'", count=2,
    ),
    Corruption(
        "states equal the changes", "account", account(CAROL),
        """DELETE FROM ledger_freezes; UPDATE ledger_accounts SET state = 'open' WHERE state = 'frozen'""",
    ),
    on_account("accounts are possible", BOB, "state = 'closed'"),
    on_account("accounts are possible", BOB, "normal_side = 'debit'"),
    on_account("accounts are possible", BOB, "held = -1"),
    on_account("stripes are complete", BOB, "stripes = 2"),
    Corruption(
        "stripes are complete", "account", account(CUSTODY),
        f"DELETE FROM ledger_accounts WHERE code = '{CUSTODY}' AND stripe = 15",
    ),
    Corruption(
        "stripes are complete", "account", account(CUSTODY),
        f"UPDATE ledger_accounts SET state = 'frozen' WHERE code = '{CUSTODY}' AND stripe = 3",
    ),
    Corruption(
        "trial balance", "tenant", f"SELECT tenant FROM ledger_accounts WHERE code = '{CUSTODY}' LIMIT 1",
        f"UPDATE ledger_accounts SET balance = balance - 1 WHERE code = '{CUSTODY}' AND stripe = 7",
    ),
)  # fmt: skip


@pytest.fixture
def moved(books: str, session: Session) -> str:
    """Sound books with some history."""
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    book(books, "pay:1", b.move(ALICE, BOB, 10))
    book(books, "pay:2", b.move(ALICE, BOB, 20))
    first = book(books, "bank:1", b.move("custody:bank:de", "merchant:m:available", 5, EUR))
    reverse(session, tenant=books, reference="undo:1", journal_id=first.id)
    for units in (7, 3):
        holds.place(
            session,
            NewHold(tenant=books, reference=f"hold:{units}", source=ALICE, destination=BOB, asset=ETH, units=units),
        )
    held = {"tenant": books, "code": CAROL, "asset": ETH, "reason": "a test"}
    accounts.freeze(session, actor="ada", **held)
    freezes.place(session, holder="deposit:1", actor="worker", **held)
    session.commit()
    b.assert_sound()
    return books


def test_verify_names_the_first_wrong_row(moved: str, superuser: Session, subtests: pytest.Subtests) -> None:
    for corruption in CORRUPTIONS:
        wrong = superuser.scalar(text(corruption.row))
        changed = superuser.execute(text(corruption.done)).rowcount  # type: ignore[attr-defined]  # has a count
        with subtests.test(corruption.rule, done=corruption.done):
            assert changed > 0
            found = {violation.rule: violation for violation in verify(superuser)}
            assert corruption.rule in found, found
            assert f"{found[corruption.rule].row} ".startswith(f"{corruption.kind} {wrong} ")
            assert found[corruption.rule].count == corruption.count
        superuser.rollback()
    assert verify(superuser) == []


def test_verify_counts_the_wrong_rows_and_names_the_earliest(moved: str, superuser: Session) -> None:
    superuser.execute(text("UPDATE ledger_entries SET units = units * 2 WHERE position = 0"))
    found = {violation.rule: violation for violation in verify(superuser)}
    first = superuser.scalar(text("SELECT id FROM ledger_journals ORDER BY number LIMIT 1"))
    unbalanced = found["journals sum to zero"]
    assert (unbalanced.row, unbalanced.count) == (f"journal {first}", 5)
    assert str(unbalanced).endswith("sum to -100 (and 4 more)")


def test_books_walked_in_pieces_say_the_same_as_the_whole(moved: str, superuser: Session) -> None:
    numbers = superuser.scalars(text("SELECT number FROM ledger_journals ORDER BY number")).all()
    ids = superuser.scalars(text("SELECT id FROM ledger_accounts ORDER BY id")).all()
    for corruption in CORRUPTIONS:
        superuser.execute(text(corruption.done))
        pieces: list[Violation] = []
        for number in numbers:
            pieces += check_journals(superuser, number - 1, number)
        for account_id in ids:
            pieces += check_accounts(superuser, account_id - 1, account_id)
        whole = {violation.rule: violation for violation in verify(superuser) if violation.rule != "trial balance"}
        found = {violation.rule: violation for violation in merged(pieces)}
        assert found.keys() == whole.keys()
        for rule, violation in whole.items():
            assert found[rule].row == violation.row
        superuser.rollback()


def test_the_accounts_that_a_range_of_journals_touched_are_checked_with_it(moved: str, superuser: Session) -> None:
    number = superuser.scalar(text(PAY_2))
    superuser.execute(text(f"UPDATE ledger_accounts SET balance = balance + 1 WHERE code IN ('{BOB}', '{CUSTODY}')"))
    bob = superuser.scalar(text(account(BOB)))
    [violation] = check_touched(superuser, number - 1, number)
    assert (violation.rule, violation.count) == ("balances equal the replay", 1)
    assert violation.row == f"account {bob} {moved}/{BOB}"
    assert check_touched(superuser, number + 100, number + 200) == []
