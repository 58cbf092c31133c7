"""Balances as of a time, by both clocks, against a sum over all entries; and what reading costs."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

from core import db
from core.errors import InvalidRequestError
from ledger import balances
from ledger.asof import Clock, balance_at
from ledger.batches import post_all
from ledger.chart import Kind, rule
from ledger.statement import statement
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


@pytest.fixture
def clients(books: str) -> Iterator[list[Connection]]:
    with three_clients() as made:
        yield made


def _times_of(session: Session, tenant: str, code: str, asset: str) -> list[tuple[datetime, datetime, int]]:
    """(booked, effective, units on the normal side) of each of the account's entries, from the tables alone."""
    sign = rule(code).normal_side.sign
    rows = session.execute(
        text("""
            SELECT e.booked_at, j.effective_at, e.units
            FROM ledger_entries e JOIN ledger_accounts a ON a.id = e.account_id
            JOIN ledger_journals j ON j.number = e.journal_number
            WHERE a.tenant = :tenant AND a.code = :code AND a.asset = :asset"""),
        {"tenant": tenant, "code": code, "asset": asset},
    )
    return [(row.booked_at, row.effective_at, sign * int(row.units)) for row in rows]


moves = st.tuples(
    st.sampled_from([(CUSTODY, ALICE), (CUSTODY, FEES), (FEES, CUSTODY), (FEES, ALICE)]),
    st.integers(1, 10**20),
    st.sampled_from([ETH, USDT]),
    st.integers(0, 2),  # which client posts it
    # None: when it is booked; an integer: so many microseconds from then; "equal": as another was booked
    st.one_of(st.none(), st.just("equal"), st.integers(-40_000, 40_000)),
)


@quick
@given(content=st.lists(moves, min_size=1, max_size=14), chance=st.randoms(use_true_random=False))
def test_a_balance_at_any_time_is_the_sum_of_what_was_booked_or_had_happened_by_then(
    clients: list[Connection], content: list[Any], chance: random.Random
) -> None:
    tenant = b.new_tenant()
    latest = datetime.now(UTC)
    for number, ((source, destination), units, asset, client, effective) in enumerate(content):
        at = None
        if effective == "equal":
            at = latest
        elif effective is not None:
            at = datetime.now(UTC) + effective * TICK
        made = b.journal(tenant, f"j:{number}", b.move(source, destination, units, asset), effective_at=at)
        latest = posted_by(clients[client], made).booked_at
    with db.transaction() as session:
        for code in (CUSTODY, ALICE, FEES):
            entries = _times_of(session, tenant, code, ETH)
            known = [time for booked, effective, _ in entries for time in (booked, effective)]
            wanted = {time + step for time in known for step in (-TICK, timedelta(), TICK)}
            for at in chance.sample(sorted(wanted), min(len(wanted), 12)):
                booked = sum(units for booked, _, units in entries if booked <= at)
                happened = sum(units for _, effective, units in entries if effective <= at)
                assert balance_at(session, tenant, code, ETH, at) == booked
                assert balance_at(session, tenant, code, ETH, at, clock=Clock.EFFECTIVE) == happened


def test_a_balance_as_of_a_time_needs_a_time_zone_and_is_zero_for_what_nobody_knows(
    books: str, session: Session
) -> None:
    at = datetime.now(UTC)
    for clock in Clock:
        assert balance_at(session, books, ALICE, ETH, at, clock=clock) == 0
        with pytest.raises(InvalidRequestError, match="time zone"):
            balance_at(session, books, ALICE, ETH, at.replace(tzinfo=None), clock=clock)


def test_what_is_booked_late_moves_the_effective_clock_and_never_the_booked_one(books: str, session: Session) -> None:
    book(books, "a:1", b.move(CUSTODY, ALICE, 10))
    session.commit()
    evening = session.scalar(text("SELECT clock_timestamp()"))
    assert evening is not None
    book(books, "late", b.move(CUSTODY, ALICE, 5), effective_at=evening - timedelta(hours=1))
    book(books, "early", b.move(ALICE, FEES, 2), effective_at=evening + timedelta(hours=1))
    both = [balance_at(session, books, ALICE, ETH, evening, clock=clock) for clock in Clock]
    assert both == [10, 15]
    now = [balance_at(session, books, ALICE, ETH, datetime.now(UTC), clock=clock) for clock in Clock]
    assert now == [13, 15]
    later = evening + timedelta(hours=1)
    assert balance_at(session, books, ALICE, ETH, later, clock=Clock.EFFECTIVE) == 13
    assert balance_at(session, books, ALICE, ETH, later - TICK, clock=Clock.EFFECTIVE) == 15
    hour_before = evening - timedelta(hours=1)
    assert balance_at(session, books, CUSTODY, ETH, hour_before, clock=Clock.EFFECTIVE) == 5
    assert balance_at(session, books, CUSTODY, ETH, hour_before - TICK, clock=Clock.EFFECTIVE) == 0


def test_a_repeat_that_booked_nothing_hides_no_entry(books: str, session: Session) -> None:
    for number in range(3):
        book(books, f"a:{number}", b.move(CUSTODY, ALICE, 10))
    assert not book(books, "a:1", b.move(CUSTODY, ALICE, 10)).created
    times = sorted(booked for booked, _, _ in _times_of(session, books, ALICE, ETH))
    for code in (ALICE, CUSTODY):
        assert [balance_at(session, books, code, ETH, at) for at in times] == [10, 20, 30]
        assert [balance_at(session, books, code, ETH, at - TICK) for at in times] == [0, 10, 20]


def test_the_trial_balance_as_of_a_time_is_even_and_has_the_accounts_of_then(
    books: str, clients: list[Connection]
) -> None:
    times = []
    for number, client in enumerate(clients):
        made = b.journal(books, f"a:{number}", b.move(CUSTODY, f"user:{number}:available", 10))
        times.append(posted_by(client, made).booked_at)
    book(books, "b:1", b.move(CUSTODY, BOB, 7, USDT))
    with db.transaction() as session:
        for number, at in enumerate(times, 1):
            (line,) = balances.trial_balance(session, books, at=at)
            assert (line.asset, line.accounts, line.debits, line.difference) == (ETH, number + 1, 10 * number, 0)
            assert line.kinds == {Kind.ASSET: 10 * number, Kind.LIABILITY: 10 * number}
        assert balances.trial_balance(session, books, at=datetime(2020, 1, 1, tzinfo=UTC)) == ()
        now = datetime.now(UTC)
        assert balances.trial_balance(session, books, at=now) == balances.trial_balance(session, books)
        assert balances.trial_balance(session, at=now) == balances.trial_balance(session)


class Looks:
    """Rows that PostgreSQL has looked at in this transaction: through an index, and by reading a table from its start.

    https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-STATS-VIEWS
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.before = self._read()

    def _read(self) -> tuple[int, int]:
        row = self.session.execute(
            text("""
                SELECT coalesce(sum(idx_tup_fetch), 0), coalesce(sum(seq_tup_read), 0) FROM pg_stat_xact_user_tables
                WHERE relname IN ('ledger_entries', 'ledger_journals')""")
        ).one()
        return int(row[0]), int(row[1])

    def taken(self) -> int:
        """Since the last call. No table may have been read from its start."""
        (fetched, read), (fetched_before, read_before) = self._read(), self.before
        self.before = self._read()
        assert read == read_before
        return fetched - fetched_before


def _fill(clients: list[Connection], tenant: str, first: int, journals: int) -> None:
    """Two postings a journal, from several stripes of custody; one in fifty happened a minute before it is booked."""
    minute_ago = datetime.now(UTC) - timedelta(minutes=1)
    made = [
        b.journal(
            tenant,
            f"j:{number}",
            b.move(CUSTODY, ALICE, 2),
            b.move(ALICE, FEES, 1),
            effective_at=minute_ago if number % 50 == 0 else None,
        )
        for number in range(first, first + journals)
    ]
    for place in range(0, len(made), 100):
        with Session(clients[place // 100 % len(clients)]) as session:
            assert all(outcome.error is None for outcome in post_all(session, made[place : place + 100]))
            session.commit()


def _costs(tenant: str) -> dict[str, int]:
    with Session(db.engine()) as session:
        middle = session.scalar(
            text("""
                SELECT e.booked_at FROM ledger_accounts a JOIN ledger_entries e ON e.account_id = a.id
                WHERE a.tenant = :tenant AND a.code = :code AND e.version = a.version / 2"""),
            {"tenant": tenant, "code": ALICE},
        )
        assert middle is not None
        long_ago = middle - timedelta(days=1)
        looks, costs = Looks(session), {}
        for code in (ALICE, CUSTODY):
            balance_at(session, tenant, code, ETH, middle)
            costs[f"{code} booked"] = looks.taken()
            balance_at(session, tenant, code, ETH, long_ago, clock=Clock.EFFECTIVE)
            costs[f"{code} effective"] = looks.taken()
            page = statement(session, tenant, code, ETH, until=middle, limit=20)
            assert page.entries > len(page.lines) == 20
            costs[f"{code} statement"] = looks.taken()
            statement(session, tenant, code, ETH, cursor=page.cursor, limit=20)
            costs[f"{code} statement, further"] = looks.taken()
            newest = balances.entries(session, tenant, code, limit=20)
            costs[f"{code} entries"] = looks.taken()
            balances.entries(session, tenant, code, limit=20, cursor=newest.cursor)
            costs[f"{code} entries, further"] = looks.taken()
            balances.journal(session, tenant, reference="j:7")
            costs[f"{code} journal"] = looks.taken()
        recently = middle - timedelta(seconds=30)
        balance_at(session, tenant, ALICE, ETH, recently, clock=Clock.EFFECTIVE)
        costs["between its times"] = looks.taken()
    return costs


def test_reading_takes_a_few_looks_however_many_entries_there_are(
    books: str, clients: list[Connection], superuser_url: str
) -> None:
    _fill(clients, books, 0, 1_000)
    few = _costs(books)
    _fill(clients, books, 1_000, 9_000)
    many = _costs(books)
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("ANALYZE")
    for known in (many, _costs(books)):  # whether PostgreSQL has counted its tables or not
        # One in fifty journals stands between its times, and is looked at with its entries.
        assert known.pop("between its times") <= 10_000 / 50 * 5 + 40
        for what, looks in known.items():
            # Ten times the entries: halving takes four looks more in each stripe, a bad guess four more again,
            # a page none. Here guesses are bad: hundreds of entries are booked in one moment and none in between.
            assert looks <= few[what] + 10 * len(clients), (what, looks, few[what])
            assert looks <= 200, (what, looks)
