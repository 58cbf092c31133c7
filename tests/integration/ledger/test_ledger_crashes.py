"""Whatever dies in the middle, money is neither lost nor doubled: the same request again gives the one answer."""

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from core.db import transaction
from core.errors import ConflictError
from ledger import holds
from ledger.batches import book_all, post_all
from ledger.errors import HoldSettledError, InsufficientFundsError
from ledger.holds import NewHold
from ledger.posting import Journal, Posted, Posting, post, reverse
from ledger.posting import book as book_one
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, book
from tests.integration.ledger.crashes import Killer, crash, until_answered

CODES = [ALICE, BOB, "user:carol:available", "user:dan:available", FEES, CUSTODY]
CLIENTS = 6


def in_a_transaction(work: Callable[[Session], object]) -> None:
    with transaction() as session:
        work(session)


def test_a_post_that_dies_at_any_statement_is_booked_once_in_the_end(
    books: str, session: Session, superuser_url: str, subtests: pytest.Subtests
) -> None:
    fresh = iter(range(1_000))

    def one(name: str) -> list[Journal]:
        return [b.journal(books, name, b.move(CUSTODY, f"user:{name}:available", 5))]

    def long(name: str) -> list[Journal]:
        return [b.journal(books, name, *[b.move(CUSTODY, f"user:{name}-{n}:available", 5) for n in range(3)])]

    def many(name: str) -> list[Journal]:
        return [b.journal(books, f"{name}:{n}", b.move(CUSTODY, f"user:{name}-{n}:available", 5)) for n in range(4)]

    for kind, make in (("one", one), ("long", long), ("many", many)):
        for before in (True, False):
            for at in range(8):
                name = f"{kind}{next(fresh)}"
                journals = make(name)

                def work(own: Session, journals: list[Journal] = journals) -> None:
                    if len(journals) == 1:
                        post(own, journals[0])
                    else:
                        post_all(own, journals)

                with subtests.test(kind, at=at, before=before):
                    with crash(superuser_url, at=at, before=before) as seen:
                        try:
                            in_a_transaction(work)
                            died = False
                        except DBAPIError:
                            died = True
                    assert died == (len(seen) > at)
                    until_answered(lambda work=work: in_a_transaction(work))  # type: ignore[misc]
                    moved = {
                        code: raw for (code, _), (raw, _) in b.raw_balances(session, books).items() if name in code
                    }
                    session.rollback()
                    assert set(moved.values()) == {5}
                    assert len(moved) == sum(len(journal.postings) for journal in journals)
    b.assert_sound()


@dataclass
class Client:
    """What one client was told, to be found in the books afterwards."""

    number: int
    tenant: str
    chance: random.Random
    moved: Counter[str] = field(default_factory=Counter)
    accepted: dict[str, UUID] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def run(self, operations: int) -> None:
        for number in range(operations):
            step = self.chance.choice((self.books, self.books, self.books_a_batch, self.reverses, self.holds))
            step(f"{self.number}:{number}")

    def moves(self, most: int) -> list[Posting]:
        pairs = [self.chance.sample(CODES, 2) for _ in range(self.chance.randint(1, most))]
        return [b.move(source, destination, self.chance.randint(1, 80)) for source, destination in pairs]

    def note(self, journal: Journal, posted: Posted) -> None:
        self.accepted[journal.reference] = posted.id
        for move in journal.postings:
            self.moved[move.source] -= move.units
            self.moved[move.destination] += move.units

    def books(self, name: str) -> None:
        journal = b.journal(self.tenant, name, *self.moves(3))
        try:
            self.note(journal, until_answered(lambda: book_one(journal)))
        except InsufficientFundsError:
            self.refused.add(name)

    def books_a_batch(self, name: str) -> None:
        journals = [b.journal(self.tenant, f"{name}:{n}", *self.moves(2)) for n in range(self.chance.randint(2, 30))]
        for journal, outcome in zip(journals, until_answered(lambda: book_all(journals)), strict=True):
            if outcome.posted is not None:
                self.note(journal, outcome.posted)
            else:
                assert isinstance(outcome.error, InsufficientFundsError)
                self.refused.add(journal.reference)

    def reverses(self, name: str) -> None:
        journal = b.journal(self.tenant, name, *self.moves(2))
        mirror = b.journal(
            self.tenant, f"undo:{name}", *[b.move(m.destination, m.source, m.units) for m in reversed(journal.postings)]
        )

        def undo(journal_id: UUID) -> Posted:
            with transaction() as session:
                return reverse(session, tenant=self.tenant, reference=mirror.reference, journal_id=journal_id)

        try:
            posted = until_answered(lambda: book_one(journal))
            self.note(journal, posted)
        except InsufficientFundsError:
            self.refused.add(name)
            return
        try:
            self.note(mirror, until_answered(lambda: undo(posted.id)))
        except InsufficientFundsError:
            self.refused.add(mirror.reference)

    def holds(self, name: str) -> None:
        source, destination = self.chance.choice(CODES[:4]), self.chance.choice((CUSTODY, FEES))
        units = self.chance.randint(1, 60)
        new = NewHold(
            tenant=self.tenant, reference=name, source=source, destination=destination, asset=ETH, units=units
        )

        def place() -> UUID:
            with transaction() as session:
                return holds.place(session, new).id

        def capture(hold_id: UUID, reference: str, part: int) -> Posted:
            with transaction() as session:
                return holds.capture(session, tenant=self.tenant, hold_id=hold_id, reference=reference, units=part)

        def void(hold_id: UUID) -> bool:
            with transaction() as session:
                return holds.void(session, tenant=self.tenant, hold_id=hold_id)

        try:
            hold_id = until_answered(place)
        except InsufficientFundsError:
            return
        part = self.chance.choice((0, units, self.chance.randint(1, units)))
        if not part:
            until_answered(lambda: void(hold_id))
        else:
            posted = until_answered(lambda: capture(hold_id, f"capture:{name}", part))
            self.note(b.journal(self.tenant, f"capture:{name}", b.move(source, destination, part)), posted)
        with pytest.raises(HoldSettledError):
            until_answered(lambda: capture(hold_id, f"again:{name}", part or units))


def campaign(tenant: str, superuser_url: str, *, operations: int, seed: int) -> None:
    """Clients on real connections, which somebody keeps killing; then the books against what the clients were told."""
    funded: Counter[str] = Counter()
    for code in CODES[:-1]:
        book(tenant, f"fund:{code}", b.move(CUSTODY, code, 300))
        funded[code] += 300
        funded[CUSTODY] -= 300
    clients = [Client(number, tenant, random.Random(f"{seed}:{number}")) for number in range(CLIENTS)]
    with Killer(superuser_url, seed, every=0.01) as killer, ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(client.run, operations) for client in clients]:
            done.result()
    assert killer.killed > operations / 4
    for client in clients:
        for code, units in client.moved.items():
            funded[code] += units

    def read() -> tuple[dict[str, int], dict[str, UUID]]:  # a connection of the pool may have died at the very end
        with transaction() as own:
            balances = {code: raw for (code, _), (raw, _) in b.raw_balances(own, tenant).items()}
            return balances, b.references(own, tenant)

    found, booked = until_answered(read)
    assert found == dict(funded)
    told = {reference: posted for client in clients for reference, posted in client.accepted.items()}
    assert {reference: booked[reference] for reference in booked if not reference.startswith("fund:")} == told
    assert all(client.accepted for client in clients) and any(client.refused for client in clients)
    until_answered(b.assert_sound)


def test_clients_whose_connections_die_lose_nothing_and_double_nothing(books: str, superuser_url: str) -> None:
    campaign(books, superuser_url, operations=25, seed=7)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(20))
def test_many_more_of_them(books: str, superuser_url: str, seed: int) -> None:
    campaign(books, superuser_url, operations=150, seed=seed)


def test_a_refusal_is_an_answer_like_any_other(books: str) -> None:
    with pytest.raises(ConflictError):
        until_answered(lambda: book(books, "pay:1", b.move(ALICE, BOB, 1)))
