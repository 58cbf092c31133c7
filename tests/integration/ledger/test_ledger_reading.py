"""Balances, accounts, entries, journals, the trial balance, and the assets behind them."""

from datetime import UTC, datetime

import pytest
from sqlalchemy.orm import Session

from config import assets
from core.db import transaction
from core.errors import InvalidRequestError, InvariantError
from ledger import balances
from ledger.assets import sync_assets
from ledger.chart import Kind, Side
from ledger.models import LedgerAsset
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, book


def test_what_was_never_posted_to_has_nothing(books: str, session: Session) -> None:
    assert balances.balance(session, books, ALICE, ETH) == 0
    assert balances.balance(session, books, ALICE, ETH, for_update=True) == 0
    assert balances.account(session, books, ALICE) == ()
    assert balances.accounts(session, books).rows == ()
    assert balances.entries(session, books, ALICE) == balances.Page((), None)
    assert balances.journal(session, books, reference="none") is None
    assert balances.journals_about(session, books, "none") == balances.Page((), None)
    assert balances.trial_balance(session, books) == ()


def test_an_account_shows_its_normal_side(books: str, session: Session) -> None:
    book(books, "a:1", b.move(CUSTODY, ALICE, 10), b.move(CUSTODY, ALICE, 4, USDT))
    (custody, _) = reversed(balances.account(session, books, CUSTODY))
    assert custody == balances.Account(
        tenant=books,
        code=CUSTODY,
        asset=ETH,
        kind=Kind.ASSET,
        normal_side=Side.DEBIT,
        floor=None,
        ceiling=None,
        balance=10,
        held=0,
        version=1,
        state="open",
        metadata={},
        created_at=custody.created_at,
    )
    assert [(account.asset, account.balance) for account in balances.account(session, books, ALICE)] == [
        (USDT, 4),
        (ETH, 10),
    ]
    entry = balances.entries(session, books, CUSTODY, asset=ETH).rows[0]
    assert (entry.units, entry.balance, entry.reference) == (10, 10, "a:1")


def test_accounts_are_listed_by_prefix_in_pages(books: str, session: Session) -> None:
    codes = [f"user:{number:02}:available" for number in range(12)]
    book(books, "a:1", *[b.move(CUSTODY, code, 1) for code in codes], b.move(CUSTODY, "user:1:available", 1))
    book(b.new_tenant(), "a:1", b.move(CUSTODY, "user:99:available", 1))
    seen: list[str] = []
    cursor = None
    while True:
        page = balances.accounts(session, books, "user:0", cursor=cursor, limit=4)
        seen += [account.code for account in page.rows]
        if page.cursor is None:
            break
        cursor = page.cursor
    assert seen == codes[:10]
    assert [row.code for row in balances.accounts(session, books, "user:1:").rows] == ["user:1:available"]
    assert len(balances.accounts(session, books).rows) == 14


def test_entries_come_newest_first_and_pages_stay_put_while_money_moves(books: str, session: Session) -> None:
    for number in range(10):
        book(books, f"a:{number}", b.move(CUSTODY, ALICE, number + 1, USDT if number % 3 == 0 else ETH))
    session.commit()
    first = balances.entries(session, books, ALICE, limit=4)
    session.commit()
    book(books, "later:1", b.move(CUSTODY, ALICE, 50), b.move(CUSTODY, ALICE, 50, b.EUR))
    second = balances.entries(session, books, ALICE, limit=4, cursor=first.cursor)
    third = balances.entries(session, books, ALICE, limit=4, cursor=second.cursor)
    assert [row.units for page in (first, second, third) for row in page.rows] == list(range(10, 0, -1))
    assert third.cursor is None
    assert [row.balance for row in balances.entries(session, books, ALICE, asset=USDT).rows] == [22, 12, 5, 1]
    assert len(balances.entries(session, books, ALICE).rows) == 12


def test_made_up_cursors_and_page_sizes_are_refused(books: str, session: Session, subtests: pytest.Subtests) -> None:
    for listing in (balances.entries, balances.accounts):
        for cursor in ("x", "!!!", "bnVsbA", "WzFd", "W1sxLDJdLFsiYSIsMV1d", "é"):
            with subtests.test(cursor), pytest.raises(InvalidRequestError, match="cursor"):
                listing(session, books, ALICE, cursor=cursor)
        for limit in (0, -1, 1_001):
            with subtests.test(limit=limit), pytest.raises(InvalidRequestError, match="1 to 1000"):
                listing(session, books, ALICE, limit=limit)


def test_a_cursor_of_another_account_shows_nothing_of_it(books: str, session: Session) -> None:
    for number in range(3):
        book(books, f"a:{number}", b.move(CUSTODY, ALICE, 1))
    other = balances.entries(session, books, CUSTODY, limit=1)
    assert balances.entries(session, books, ALICE, cursor=other.cursor).rows == ()


def test_a_journal_is_found_by_id_reference_and_subject(books: str, session: Session) -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    posted = book(
        books,
        "deposit:1",
        b.move(CUSTODY, ALICE, 10),
        b.move(ALICE, FEES, 1),
        subject="deposit:x",
        correlation_id="c-1",
        effective_at=at,
        metadata={"tx": "0x1"},
    )
    second = book(books, "deposit:2", b.move(CUSTODY, ALICE, 1), subject="deposit:x")
    found = balances.journal(session, books, reference="deposit:1")
    assert found is not None
    assert found == balances.journal(session, books, journal_id=posted.id)
    assert (found.effective_at, found.correlation_id, found.metadata) == (at, "c-1", {"tx": "0x1"})
    assert [(entry.code, entry.units, entry.balance) for entry in found.entries] == [
        (CUSTODY, 10, 10),
        (ALICE, 10, 10),
        (ALICE, -1, 9),
        (FEES, 1, 1),
    ]
    assert [journal.id for journal in balances.journals_about(session, books, "deposit:x").rows] == [
        posted.id,
        second.id,
    ]
    assert balances.journal(session, b.new_tenant(), journal_id=posted.id) is None


def test_the_trial_balance_is_even_for_each_asset(books: str, session: Session) -> None:
    other = b.new_tenant()
    book(books, "a:1", b.move(CUSTODY, ALICE, 10), b.move(ALICE, FEES, 2), b.move(ALICE, BOB, 3))
    book(books, "a:2", b.move(CUSTODY, ALICE, 7, USDT))
    book(other, "a:1", b.move(CUSTODY, ALICE, 100))
    usdt, eth = balances.trial_balance(session, books)
    assert (eth.asset, eth.scale, eth.accounts, eth.debits, eth.credits, eth.difference) == (ETH, 18, 4, 10, 10, 0)
    assert eth.kinds == {Kind.ASSET: 10, Kind.LIABILITY: 8, Kind.INCOME: 2}
    assert (usdt.asset, usdt.debits, usdt.scale) == (USDT, 7, 6)
    assert [line.debits for line in balances.trial_balance(session)] == [7, 110]


def test_assets_are_synced_once_and_their_scale_is_for_ever(database_url: str) -> None:
    known = assets.registry().assets
    with transaction() as session:
        assert sync_assets(session) == len(known)
    with transaction() as session:
        assert sync_assets(session) == 0


def test_a_changed_scale_stops_the_start(database_url: str) -> None:
    with transaction() as session:
        session.add(LedgerAsset(id=ETH, scale=17))
    with pytest.raises(InvariantError, match="scale 17, but the registry says 18"), transaction() as session:
        sync_assets(session)
