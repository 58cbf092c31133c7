"""Many clients and the same holds, on real connections: each is settled once, and no money is lost."""

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.errors import HoldSettledError, InsufficientFundsError, ReferenceReusedError
from tests.integration.ledger import books as b
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, FEES, book
from tests.integration.ledger.test_ledger_concurrency import CLIENTS, at_once

BOUND = "user:alice:pending"  # without a floor


class Race:
    """Clients who post, sweep, and capture or void the same holds, and what each of them was told."""

    CODES = (ALICE, BOB, "user:carol:available")

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.routes: dict[UUID, tuple[str, str]] = {}
        self.captured: list[tuple[UUID, int]] = []
        self.voided: list[UUID] = []
        self.moved: list[tuple[str, str, int]] = []

    def place(self, count: int) -> None:
        """Both ways between the same accounts, so that locks taken in the order of holds would meet head on. Some
        deadlines pass while the clients race."""
        chance = random.Random(7)
        for code in self.CODES:
            book(self.tenant, f"fund:{code}", b.move(CUSTODY, code, 10_000))
        for number in range(count):
            source = chance.choice(self.CODES)
            target = chance.choice([code for code in (*self.CODES, FEES) if code != source])
            soon = datetime.now(UTC) + timedelta(milliseconds=chance.randint(50, 900))
            deadline = soon if number % 3 == 0 else None
            placed = h.place(self.tenant, f"hold:{number}", 50, source=source, destination=target, expires_at=deadline)
            self.routes[placed.id] = (source, target)

    def run(self, client: int) -> None:
        own = random.Random(client)
        for number, hold_id in enumerate(own.sample(list(self.routes), len(self.routes))):
            source, target = own.sample(self.CODES, 2)
            book(self.tenant, f"post:{client}:{number}", b.move(source, target, 1), b.move(target, FEES, 1))
            self.moved.append((source, FEES, 1))
            h.expire(5)
            try:
                if own.random() < 0.6:
                    units = own.randint(1, 50)
                    h.capture(self.tenant, hold_id, f"capture:{client}:{hold_id}", units)
                    self.captured.append((hold_id, units))
                elif h.void(self.tenant, hold_id):
                    self.voided.append(hold_id)
            except HoldSettledError:
                continue

    def balances(self) -> Counter[str]:
        totals = Counter(dict.fromkeys(self.CODES, 10_000))
        captures = ((*self.routes[hold_id], units) for hold_id, units in self.captured)
        for source, target, units in [*self.moved, *captures]:
            totals[source] -= units
            totals[target] += units
        return totals


def test_racing_clients_settle_each_hold_once_and_never_deadlock(books: str, session: Session) -> None:
    race = Race(books)
    race.place(60)
    at_once(race.run)
    session.connection().exec_driver_sql("SELECT pg_sleep(1)")
    session.rollback()
    h.expire(1_000)
    settled, captures = Counter([*dict(race.captured), *race.voided]), dict(race.captured)
    assert len(captures) == len(race.captured)
    rows = session.execute(text("SELECT id, state, posted_units FROM ledger_holds")).all()
    assert {row.id for row in rows} == set(race.routes)
    assert {row.state for row in rows} == {"posted", "voided", "expired"}
    for row in rows:
        assert settled[row.id] == (0 if row.state == "expired" else 1)
        assert row.posted_units == captures.get(row.id)
    totals = race.balances()
    for code in (*race.CODES, FEES):
        assert h.account(session, books, code) == (totals[code], 0)
    b.assert_sound()


def test_one_hold_in_the_hands_of_many_is_settled_by_one(books: str, session: Session) -> None:
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 1_000))
    for attempt in range(10):
        hold_id = h.place(books, f"hold:{attempt}", 10).id

        def work(client: int, hold_id: UUID = hold_id) -> str:
            try:
                if client % 2:
                    return "voided" if h.void(books, hold_id) else "repeat"
                return "posted" if h.capture(books, hold_id, f"capture:{client}:{hold_id}").created else "repeat"
            except HoldSettledError:
                return "refused"

        results = Counter(at_once(work))
        state = h.hold(books, hold_id).state
        assert results["posted"] + results["voided"] == results[state] == 1
        assert results["repeat"] == (0 if state == "posted" else CLIENTS // 2 - 1)
    assert h.account(session, books)[1] == 0
    b.assert_sound()


def test_the_same_capture_at_once_is_booked_once(books: str, session: Session) -> None:
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    hold_id = h.place(books, "hold:1", 40).id
    made = at_once(lambda _: h.capture(books, hold_id, "capture:1", 15))
    assert sum(posted.created for posted in made) == 1
    assert len({posted.id for posted in made}) == 1
    assert (h.account(session, books), h.account(session, books, BOB)) == ((85, 0), (15, 0))


def test_the_same_hold_placed_at_once_binds_once(books: str, session: Session) -> None:
    for number in range(10):
        # From an account that doesn't exist yet in the first round, and does in the others.
        made = at_once(lambda _: h.place(books, f"hold:{number}", 7, source=BOUND))  # noqa: B023  # ends in this round
        assert sum(placed.created for placed in made) == 1
        assert len({placed.id for placed in made}) == 1
    assert h.account(session, books, BOUND) == (0, 70)


def test_the_same_reference_for_holds_of_two_accounts_at_once_binds_one(books: str, session: Session) -> None:
    def work(client: int) -> Any:
        try:
            return h.place(books, "hold:1", 7, source=f"user:{client}:pending").id
        except ReferenceReusedError:
            return None

    made = [hold_id for hold_id in at_once(work) if hold_id is not None]
    assert len(made) == 1
    assert session.execute(text("SELECT sum(held) FROM ledger_accounts")).scalar_one() == 7


def test_the_last_coin_is_held_once(books: str, session: Session) -> None:
    for number in range(15):
        code = f"user:{number}:available"
        book(books, f"deposit:{number}", b.move(CUSTODY, code, 10))

        def work(client: int, code: str = code) -> int:
            try:
                if client % 4:
                    h.place(books, f"hold:{code}:{client}", 10, source=code)
                else:
                    book(books, f"pay:{code}:{client}", b.move(code, BOB, 10))
            except InsufficientFundsError:
                return 0
            return 1

        assert sum(at_once(work)) == 1
        balance, held = h.account(session, books, code)
        session.rollback()
        assert balance - held == 0
    b.assert_sound()
