"""Balances, accounts, entries, journals, the trial balance, and the assets behind them."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from config import assets
from core.db import transaction
from core.errors import InvalidRequestError, InvariantError
from ledger import accounts, balances
from ledger.assets import sync_assets
from ledger.chart import Kind, Side
from ledger.holds import NewHold, place
from ledger.models import LedgerAsset
from ledger.posting import post, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, book
from tests.integration.ledger.stripes import posted_by, three_clients


@pytest.fixture
def clients(books: str) -> Iterator[list[Connection]]:
    with three_clients() as made:
        yield made


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
        frozen_by=(),
        metadata={},
        created_at=custody.created_at,
    )
    assert [(account.asset, account.balance) for account in balances.account(session, books, ALICE)] == [
        (USDT, 4),
        (ETH, 10),
    ]
    entry = balances.entries(session, books, CUSTODY, asset=ETH).rows[0]
    assert (entry.units, entry.balance, entry.reference) == (10, 10, "a:1")


def test_an_account_of_many_rows_reads_like_any_other(books: str, clients: list[Connection]) -> None:
    for number, client in enumerate(clients):
        content = [b.move(CUSTODY, ALICE, 10 + number), b.move(CUSTODY, FEES, 1), b.move(CUSTODY, FEES, 5, USDT)]
        posted_by(client, b.journal(books, f"a:{number}", *content))
    with transaction() as session:
        stripes = session.scalar(
            text("SELECT count(*) FROM ledger_accounts WHERE tenant = :tenant AND code = :code AND balance <> 0"),
            {"tenant": books, "code": CUSTODY},
        )
        assert stripes == 2 * len(clients)
        assert balances.balance(session, books, CUSTODY, ETH) == 36
        assert balances.balance(session, books, CUSTODY, ETH, for_update=True) == 36
        (_, custody) = balances.account(session, books, CUSTODY)
        assert (custody.asset, custody.balance, custody.version, custody.available) == (ETH, 36, 6, None)
        listed = balances.accounts(session, books, limit=3)
        rest = balances.accounts(session, books, cursor=listed.cursor)
        assert [(row.code, row.asset, row.balance) for row in (*listed.rows, *rest.rows)] == [
            (CUSTODY, USDT, 15),
            (CUSTODY, ETH, 36),
            (FEES, USDT, 15),
            (FEES, ETH, 3),
            (ALICE, ETH, 33),
        ]
        seen: list[balances.Entry] = []
        cursor = None
        while True:
            page = balances.entries(session, books, CUSTODY, cursor=cursor, limit=2)
            seen += page.rows
            if page.cursor is None:
                break
            cursor = page.cursor
        assert [(row.reference, row.asset, row.units, row.balance) for row in seen] == [
            ("a:2", USDT, 5, 15),
            ("a:2", ETH, 1, 36),
            ("a:2", ETH, 12, 35),
            ("a:1", USDT, 5, 10),
            ("a:1", ETH, 1, 23),
            ("a:1", ETH, 11, 22),
            ("a:0", USDT, 5, 5),
            ("a:0", ETH, 1, 11),
            ("a:0", ETH, 10, 10),
        ]
        assert len({row.stripe for row in seen}) == len(clients)
        middle = balances.journal(session, books, reference="a:1")
        assert middle is not None
        assert [(entry.code, entry.balance) for entry in middle.entries] == [
            (CUSTODY, 22),
            (ALICE, 21),
            (CUSTODY, 23),
            (FEES, 2),
            (CUSTODY, 10),
            (FEES, 10),
        ]


def test_what_can_still_leave_is_what_no_hold_has_and_no_floor_keeps(books: str, session: Session) -> None:
    book(books, "a:1", b.move(CUSTODY, ALICE, 100))
    keeper = {"tenant": books, "code": ALICE, "asset": ETH, "reason": "test", "actor": "ada"}
    place(session, NewHold(tenant=books, reference="h", source=ALICE, destination=FEES, asset=ETH, units=30))
    accounts.limit(session, **keeper, floor=-5, ceiling=500)
    accounts.annotate(session, **keeper, metadata={"risk": "low"})
    accounts.freeze(session, **keeper)
    (alice,) = balances.account(session, books, ALICE)
    assert (alice.balance, alice.held, alice.floor, alice.ceiling, alice.available) == (100, 30, -5, 500, 75)
    assert (alice.state, alice.metadata) == ("frozen", {"risk": "low"})
    assert alice == balances.accounts(session, books, ALICE).rows[0]


def test_a_balance_that_was_locked_stays_until_the_lock_is_gone(books: str, clients: list[Connection]) -> None:
    book(books, "a:1", b.move(CUSTODY, ALICE, 100))
    for code in (ALICE, CUSTODY):
        with transaction() as session:
            assert balances.balance(session, books, code, ETH, for_update=True) == 100
            for client in clients:
                with Session(client) as other:
                    other.execute(text("SET LOCAL lock_timeout = '20ms'"))
                    with pytest.raises(OperationalError, match="lock timeout"):
                        post(other, b.journal(books, "a:2", b.move(CUSTODY, ALICE, 1)))


def test_totals_under_a_prefix_are_by_asset_and_kind(books: str, session: Session) -> None:
    for number in range(3):
        book(books, f"a:{number}", b.move(CUSTODY, f"user:{number}:available", 10), b.move(CUSTODY, FEES, 1))
    book(books, "b:1", b.move("user:1:owed", "user:2:available", 4), b.move(CUSTODY, "user:2:available", 9, USDT))
    place(
        session,
        NewHold(tenant=books, reference="h", source="user:0:available", destination=FEES, asset=ETH, units=3),
    )
    book(b.new_tenant(), "a:1", b.move(CUSTODY, "user:9:available", 1_000))
    total = balances.Total
    assert balances.total(session, books, "user:") == (
        total(USDT, 6, Kind.LIABILITY, accounts=1, balance=9, held=0),
        total(ETH, 18, Kind.ASSET, accounts=1, balance=4, held=0),
        total(ETH, 18, Kind.LIABILITY, accounts=3, balance=34, held=3),
    )
    assert balances.total(session, books, "custody:") == (
        total(USDT, 6, Kind.ASSET, accounts=1, balance=9, held=0),
        total(ETH, 18, Kind.ASSET, accounts=1, balance=33, held=0),
    )
    assert balances.total(session, books, "user:1:") == (
        total(ETH, 18, Kind.ASSET, accounts=1, balance=4, held=0),
        total(ETH, 18, Kind.LIABILITY, accounts=1, balance=10, held=0),
    )
    assert len(balances.total(session, books)) == 2 + 3
    assert balances.total(session, books, "nobody:") == ()


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


def test_journals_about_a_subject_come_in_pages_oldest_first(books: str, session: Session) -> None:
    for number in range(5):
        book(books, f"d:{number}", b.move(CUSTODY, ALICE, 1), subject="deposit:x")
        book(books, f"o:{number}", b.move(CUSTODY, ALICE, 1), subject="deposit:y")
    seen: list[str] = []
    cursor = None
    while True:
        page = balances.journals_about(session, books, "deposit:x", cursor=cursor, limit=2)
        seen += [record.reference for record in page.rows]
        if page.cursor is None:
            break
        cursor = page.cursor
        book(books, f"later:{len(seen)}", b.move(CUSTODY, ALICE, 1), subject="deposit:y")
    assert seen == [f"d:{number}" for number in range(5)]
    for bad in ("x", "W10", "WyJhIl0", "Wy0xXQ"):
        with pytest.raises(InvalidRequestError, match="cursor"):
            balances.journals_about(session, books, "deposit:x", cursor=bad)


def test_a_journal_says_what_it_reverses_and_what_reversed_it(books: str, session: Session) -> None:
    first = book(books, "a:1", b.move(CUSTODY, ALICE, 10), subject="deposit:x")
    undone = reverse(session, tenant=books, reference="a:1:undo", journal_id=first.id)
    before, after = balances.journals_about(session, books, "deposit:x").rows
    assert (before.id, before.reversed_by, before.reverses) == (first.id, undone.id, None)
    assert (after.id, after.reversed_by, after.reverses) == (undone.id, None, first.id)
    assert before.number < after.number
    assert [(entry.number, entry.position, entry.units, entry.balance) for entry in after.entries] == [
        (after.number, 0, -10, 0),
        (after.number, 1, -10, 0),
    ]


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
