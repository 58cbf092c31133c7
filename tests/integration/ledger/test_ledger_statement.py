"""Statements: what was before, what happened, what was after; for accounts of one row and of many."""

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from core import db
from core.errors import InvalidRequestError
from ledger import balances
from ledger.chart import Side, rule
from ledger.posting import post
from ledger.statement import Statement, statement
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, book
from tests.integration.ledger.stripes import posted_by, three_clients

TICK = timedelta(microseconds=1)
quick = settings(
    deadline=None,
    database=None,
    max_examples=20,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
Move = tuple[tuple[str, str], int, str]
Row = tuple[int, int, datetime, int]
"""Of one entry: journal's number, position, booked_at, units on the normal side."""


@pytest.fixture
def clients(books: str) -> Iterator[list[Connection]]:
    with three_clients() as made:
        yield made


def rows_of(session: Session, tenant: str, code: str) -> list[Row]:
    """The account's entries in ETH from the tables alone, in the order of a statement."""
    rows = session.execute(
        text("""
            SELECT e.journal_number, e.position, e.booked_at, e.units
            FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
            WHERE a.tenant = :tenant AND a.code = :code AND a.asset = :asset
            ORDER BY e.journal_number, e.position"""),
        {"tenant": tenant, "code": code, "asset": ETH},
    )
    sign = rule(code).normal_side.sign
    return [(row[0], row[1], row[2], sign * int(row[3])) for row in rows]


def pages(
    session: Session, tenant: str, code: str, *, since: datetime | None, until: datetime | None, limit: int
) -> list[Statement]:
    made = [statement(session, tenant, code, ETH, since=since, until=until, limit=limit)]
    while made[-1].cursor is not None:
        made.append(statement(session, tenant, code, ETH, cursor=made[-1].cursor, limit=limit))
    return made


moves = st.tuples(
    st.sampled_from([(CUSTODY, ALICE), (CUSTODY, FEES), (FEES, CUSTODY), (FEES, ALICE)]),
    st.integers(1, 10**20),
    st.sampled_from([ETH, ETH, USDT]),
)
contents = st.lists(st.tuples(st.integers(0, 2), st.lists(moves, min_size=1, max_size=3)), min_size=1, max_size=10)


@quick
@given(content=contents, data=st.data(), limit=st.integers(1, 6))
def test_a_statement_is_what_the_entries_of_its_period_add_up_to(
    clients: list[Connection], content: list[tuple[int, list[Move]]], data: st.DataObject, limit: int
) -> None:
    tenant = b.new_tenant()
    for number, (client, wanted) in enumerate(content):
        postings = [b.move(source, destination, units, asset) for (source, destination), units, asset in wanted]
        posted_by(clients[client], b.journal(tenant, f"j:{number}", *postings))
    with db.transaction() as session:
        for code in (CUSTODY, ALICE, FEES):
            rows = rows_of(session, tenant, code)
            edges = [row[2] + step for row in rows for step in (-TICK, 0 * TICK, TICK)]
            times = st.one_of(st.none(), st.sampled_from(edges)) if edges else st.none()
            since, until = data.draw(times), data.draw(times)
            if since is not None and until is not None and since > until:
                since, until = until, since
            made = pages(session, tenant, code, since=since, until=until, limit=limit)
            before = [row for row in rows if since is not None and row[2] < since]
            within = [row for row in rows if row not in before and (until is None or row[2] < until)]
            opening = sum(row[3] for row in before)
            closing = opening + sum(row[3] for row in within)
            assert {(page.opening, page.closing, page.entries) for page in made} == {(opening, closing, len(within))}
            lines = [line for page in made for line in page.lines]
            assert [(line.number, line.position, line.booked_at, line.units) for line in lines] == within
            running = [opening + sum(row[3] for row in within[: place + 1]) for place in range(len(within))]
            assert [line.balance for line in lines] == running
            assert [len(page.lines) for page in made[:-1]] == [limit] * (len(made) - 1)
            # What a person signs: the totals of the last page are the period's.
            sign = rule(code).normal_side.sign
            assert made[-1].debits == -sum(min(sign * row[3], 0) for row in within)
            assert made[-1].credits == sum(max(sign * row[3], 0) for row in within)
            # Newest first, the same entries show the same balances.
            newest = [entry for entry in balances.entries(session, tenant, code, asset=ETH).rows if entry in lines]
            if since is None and until is None:
                assert newest == lines[::-1]
            for line in lines[:3]:
                record = balances.journal(session, tenant, journal_id=line.journal_id)
                assert record is not None
                assert record.entries[line.position] == line


def test_an_account_of_nobody_has_an_empty_statement_and_an_unknown_code_none(books: str, session: Session) -> None:
    made = statement(session, books, CUSTODY, ETH, since=datetime(2026, 1, 1, tzinfo=UTC))
    assert (made.opening, made.closing, made.entries, made.lines, made.cursor) == (0, 0, 0, (), None)
    assert (made.debits, made.credits, made.normal_side) == (0, 0, Side.DEBIT)
    with pytest.raises(InvalidRequestError, match="no place"):
        statement(session, books, "nonsense", ETH)


def test_a_period_that_cannot_be_is_refused(books: str, session: Session) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(InvalidRequestError, match="ends before it begins"):
        statement(session, books, ALICE, ETH, since=at, until=at - TICK)
    naive = at.replace(tzinfo=None)
    for since, until in ((naive, None), (None, naive)):
        with pytest.raises(InvalidRequestError, match="time zone"):
            statement(session, books, ALICE, ETH, since=since, until=until)
    for limit in (0, 1_001):
        with pytest.raises(InvalidRequestError, match="1 to 1000"):
            statement(session, books, ALICE, ETH, limit=limit)
    assert statement(session, books, ALICE, ETH, since=at, until=at).entries == 0


def test_the_moment_between_two_statements_is_in_the_later_one(books: str, session: Session) -> None:
    for number in range(3):
        book(books, f"a:{number}", b.move(CUSTODY, ALICE, number + 1))
    middle = rows_of(session, books, ALICE)[1][2]
    first = statement(session, books, ALICE, ETH, until=middle)
    second = statement(session, books, ALICE, ETH, since=middle)
    assert [line.units for line in first.lines] == [1]
    assert [line.units for line in second.lines] == [2, 3]
    assert first.closing == second.opening == 1
    assert (second.since, second.until, second.closing) == (middle, None, 6)


def test_what_is_booked_while_pages_are_turned_changes_none_of_them(books: str, clients: list[Connection]) -> None:
    for number in range(6):
        posted_by(clients[number % 3], b.journal(books, f"a:{number}", b.move(CUSTODY, ALICE, 10)))
    with db.transaction() as session:
        first = statement(session, books, CUSTODY, ETH, limit=2)
    for client in clients:
        posted_by(client, b.journal(books, f"later:{id(client)}", b.move(CUSTODY, ALICE, 1)))
    with db.transaction() as session:
        second = statement(session, books, CUSTODY, ETH, limit=2, cursor=first.cursor)
        third = statement(session, books, CUSTODY, ETH, limit=2, cursor=second.cursor)
        assert statement(session, books, CUSTODY, ETH).closing == 63
    assert [line.balance for page in (first, second, third) for line in page.lines] == [10, 20, 30, 40, 50, 60]
    assert {(page.opening, page.closing, page.entries) for page in (first, second, third)} == {(0, 60, 6)}
    assert [page.debits for page in (first, second, third)] == [20, 40, 60]
    assert third.cursor is None


def test_a_journal_that_commits_late_waits_for_the_next_listing_and_is_then_in_its_place(
    books: str, clients: list[Connection]
) -> None:
    late, other, _ = clients
    for number, client in enumerate(clients):
        posted_by(client, b.journal(books, f"open:{number}", b.move(CUSTODY, f"user:{number}:available", 100)))
    with Session(late) as slow:
        post(slow, b.journal(books, "late", b.move(CUSTODY, "user:0:available", 5)))  # holds its number, uncommitted
        posted_by(other, b.journal(books, "after", b.move(CUSTODY, "user:1:available", 7)))
        with db.transaction() as session:
            newest = balances.entries(session, books, CUSTODY, limit=2)
            oldest = statement(session, books, CUSTODY, ETH, limit=2)
        slow.commit()
    with db.transaction() as session:
        rest = balances.entries(session, books, CUSTODY, limit=2, cursor=newest.cursor)
        assert [(row.reference, row.balance) for page in (newest, rest) for row in page.rows] == [
            ("after", 307),
            ("open:2", 300),
            ("open:1", 200),
            ("open:0", 100),
        ]
        further = statement(session, books, CUSTODY, ETH, limit=2, cursor=oldest.cursor)
        assert [(line.reference, line.balance) for line in further.lines] == [("open:2", 300), ("after", 307)]
        assert further.closing == 307
        again = statement(session, books, CUSTODY, ETH, limit=10)
        assert [(line.reference, line.balance) for line in again.lines[-2:]] == [("late", 305), ("after", 312)]


def test_a_made_up_cursor_or_that_of_another_account_is_refused(
    books: str, session: Session, subtests: pytest.Subtests
) -> None:
    for number in range(3):
        book(books, f"a:{number}", b.move(CUSTODY, ALICE, 1), b.move(CUSTODY, BOB, 1))
    session.commit()
    mine = statement(session, books, ALICE, ETH, limit=1).cursor
    assert mine is not None
    content = json.loads(base64.urlsafe_b64decode(mine + "=="))
    key = content[2][0][0]
    wrong: dict[str, Any] = {
        "another account's": statement(session, books, BOB, ETH, limit=1).cursor,
        "that of a listing": balances.entries(session, books, ALICE, limit=1).cursor,
        "no JSON": "x",
        "brackets": base64.urlsafe_b64encode(b"[" * 50_000).decode(),
        "more than there is": [None, None, [[key, 0]], [[key, 1]], [[key, 9]], 0, 1],
        "backwards": [None, None, [[key, 2]], [[key, 1]], [[key, 3]], 0, 1],
        "no time": ["yesterday", None, [[key, 0]], [[key, 1]], [[key, 3]], 0, 1],
        "rows": [None, None, 1, 2, 3, 0, 1],
        "units": [None, None, [[key, 0]], [[key, 1]], [[key, 3]], "0", 1],
    }
    for what, cursor in wrong.items():
        made = cursor if isinstance(cursor, str) else base64.urlsafe_b64encode(json.dumps(cursor).encode()).decode()
        with subtests.test(what), pytest.raises(InvalidRequestError, match="cursor"):
            statement(session, books, ALICE, ETH, cursor=made)
