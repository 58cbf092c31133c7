"""Many posts at once, on real connections."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy.orm import Session

from core.db import transaction
from ledger.balances import balance
from ledger.errors import AlreadyReversedError, InsufficientFundsError, ReferenceReusedError
from ledger.posting import Posting, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, Model, book

CLIENTS = 8


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Run it in every client at the same moment; an error of any is the test's."""
    barrier = threading.Barrier(CLIENTS)

    def start(client: int) -> Any:
        barrier.wait()
        return work(client)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(start, range(CLIENTS)))


def test_posts_over_the_same_accounts_never_deadlock_and_lose_nothing(books: str, session: Session) -> None:
    codes = [CUSTODY, ALICE, BOB, FEES, "user:carol:available", "suspense:deposits"]
    for code in codes[1:]:
        book(books, f"fund:{code}", b.move(CUSTODY, code, 200))
    booked: list[list[Any]] = [[] for _ in range(CLIENTS)]

    def work(client: int) -> None:
        chance = random.Random(client)
        for number in range(40):
            # Several postings each, over accounts in a random order: the order of locks is the ledger's business.
            pairs = [chance.sample(codes, 2) for _ in range(chance.randint(1, 4))]
            content = [b.move(source, destination, chance.randint(1, 60)) for source, destination in pairs]
            try:
                book(books, f"{client}:{number}", *content)
            except InsufficientFundsError:
                continue
            booked[client].append(content)

    at_once(work)
    totals: Counter[str] = Counter({CUSTODY: -200 * (len(codes) - 1)} | dict.fromkeys(codes[1:], 200))
    for content in (content for client in booked for content in client):
        for move in content:
            totals[move.source] -= move.units
            totals[move.destination] += move.units
    assert {code: raw for (code, _), (raw, _) in b.raw_balances(session, books).items()} == dict(totals)
    assert sum(map(len, booked)) > CLIENTS
    b.assert_sound()


def test_the_same_reference_at_once_is_booked_once(books: str, session: Session) -> None:
    for number in range(10):
        # Accounts that don't exist yet in the first round, and do in the others.
        reference = f"deposit:{number}"
        made = at_once(lambda _: book(books, reference, b.move(CUSTODY, ALICE, 7)))  # noqa: B023  # ends in this round
        assert sum(posted.created for posted in made) == 1
        assert len({posted.id for posted in made}) == 1
    assert balance(session, books, ALICE, ETH) == 70
    b.assert_sound()


def test_the_same_reference_at_once_with_other_content_is_booked_once(books: str, session: Session) -> None:
    def work(client: int) -> str:
        try:
            return "created" if book(books, "deposit:1", b.move(CUSTODY, f"user:{client}:available", 7)).created else ""
        except ReferenceReusedError:
            return "refused"

    assert Counter(at_once(work)) == {"created": 1, "refused": CLIENTS - 1}
    assert len(b.raw_balances(session, books)) == 2
    b.assert_sound()


def test_opening_the_same_accounts_at_once_in_any_order_never_deadlocks(books: str, session: Session) -> None:
    model, rounds = Model(), threading.Barrier(CLIENTS)

    def moves(client: int, batch: int) -> list[Posting]:
        """To most of the batch's accounts, which the other clients open at this moment too, each in its own order."""
        chance = random.Random(f"{client}:{batch}")
        new = [f"user:{batch}-{number}:available" for number in range(80)]
        return [b.move(CUSTODY, code, 1, chance.choice([ETH, USDT])) for code in chance.sample(new, 70)]

    def work(client: int) -> None:
        for batch in range(6):
            rounds.wait(timeout=20)
            book(books, f"{client}:{batch}", *moves(client, batch))

    at_once(work)
    for client in range(CLIENTS):
        for batch in range(6):
            assert model.accepts(moves(client, batch))
    assert b.raw_balances(session, books) == model.accounts
    b.assert_sound()


def test_two_reversals_at_once_undo_once(books: str, session: Session) -> None:
    first = book(books, "deposit:1", b.move(CUSTODY, ALICE, 7))
    book(books, "deposit:2", b.move(CUSTODY, ALICE, 70))

    def work(client: int) -> str:
        try:
            with transaction() as own:
                reverse(own, tenant=books, reference=f"undo:{client}", journal_id=first.id)
        except AlreadyReversedError:
            return "refused"
        return "created"

    assert Counter(at_once(work)) == {"created": 1, "refused": CLIENTS - 1}
    assert balance(session, books, ALICE, ETH) == 70
    b.assert_sound()


def test_the_last_coin_is_spent_once(books: str, session: Session) -> None:
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 10))

    def work(client: int) -> int:
        try:
            book(books, f"pay:{client}", b.move(ALICE, BOB, 10))
        except InsufficientFundsError:
            return 0
        return 1

    assert sum(at_once(work)) == 1
    assert balance(session, books, ALICE, ETH) == 0
    b.assert_sound()
