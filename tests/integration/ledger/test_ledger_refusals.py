"""What can't be booked is refused with its own error, and nothing is written, by whichever call it comes."""

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from core.errors import InvalidRequestError, TallyrailError
from core.money import UNITS_MAX
from ledger import accounts
from ledger.balances import balance
from ledger.batches import book_all
from ledger.errors import (
    AccountClosedError,
    AccountFrozenError,
    CeilingExceededError,
    InsufficientFundsError,
    ReferenceReusedError,
)
from ledger.models import LedgerAsset
from ledger.posting import Journal, Posting, post
from ledger.posting import book as book_one
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, book, move

FROZEN, CLOSED, FULL = "user:frozen:available", "user:closed:available", "user:full:available"
SCALES = {scale: f"test:scale-{scale}" for scale in (0, 2, 6, 8, 9, 18)}


def in_a_transaction(journal: Journal) -> None:
    with transaction() as session:
        post(session, journal)


def in_a_batch(journal: Journal) -> None:
    [outcome] = book_all([journal])
    assert outcome.reference == journal.reference
    assert outcome.posted is None
    assert outcome.error is not None
    raise outcome.error


def among_others(journal: Journal) -> None:
    """The others of the batch are undone by their mirrors, so that the count of what is left is the same."""
    there = b.journal(journal.tenant, f"{journal.reference}:there", move(CUSTODY, BOB, 5))
    outcomes = book_all([there, journal])
    assert outcomes[0].posted is not None
    assert outcomes[0].posted.created
    assert outcomes[1].error is not None
    raise outcomes[1].error


CALLS: tuple[Callable[[Journal], object], ...] = (book_one, in_a_transaction, in_a_batch)
REFUSED: tuple[tuple[str, list[Posting], type[TallyrailError], str], ...] = (
    ("no units", [move(CUSTODY, ALICE, 0)], InvalidRequestError, "units"),
    ("units below zero", [move(CUSTODY, ALICE, -1)], InvalidRequestError, "units"),
    ("39 digits", [move(CUSTODY, ALICE, UNITS_MAX + 1)], InvalidRequestError, "units"),
    (
        "a balance of 39 digits",
        [move(CUSTODY, ALICE, UNITS_MAX), move(CUSTODY, ALICE, 1)],
        InvalidRequestError,
        "units",
    ),
    ("to itself", [move(ALICE, ALICE, 1)], InvalidRequestError, "destination"),
    ("an unknown account", [move(CUSTODY, "pirate:1:chest", 1)], InvalidRequestError, "account"),
    ("an unknown asset", [move(CUSTODY, ALICE, 1, "iso4217:XXX")], InvalidRequestError, "asset"),
    ("funds of another asset", [move(ALICE, BOB, 1, b.USDT)], InsufficientFundsError, "units"),
    ("more than there is", [move(ALICE, BOB, 101)], InsufficientFundsError, "units"),
    ("more than there is, second", [move(ALICE, BOB, 60), move(ALICE, BOB, 41)], InsufficientFundsError, "units"),
    ("before it has come", [move(ALICE, BOB, 150), move(CUSTODY, ALICE, 100)], InsufficientFundsError, "units"),
    ("from a frozen account", [move(FROZEN, BOB, 1)], AccountFrozenError, "account"),
    ("from a frozen account, second", [move(CUSTODY, ALICE, 1), move(FROZEN, BOB, 1)], AccountFrozenError, "account"),
    ("from a closed account", [move(CLOSED, BOB, 1)], AccountClosedError, "account"),
    ("to a closed account", [move(CUSTODY, CLOSED, 1)], AccountClosedError, "account"),
    ("above a ceiling", [move(CUSTODY, FULL, 11)], CeilingExceededError, "units"),
)


@pytest.fixture
def funded(books: str) -> str:
    with transaction() as session:
        for code in (ALICE, FROZEN):
            post(session, b.journal(books, f"fund:{code}", move(CUSTODY, code, 100)))
        post(session, b.journal(books, "fund:full", move(CUSTODY, FULL, 10)))
        accounts.freeze(session, tenant=books, asset=ETH, code=FROZEN, reason="a test", actor="test")
        post(session, b.journal(books, "in", move(CUSTODY, CLOSED, 1)))
        post(session, b.journal(books, "out", move(CLOSED, CUSTODY, 1)))
        accounts.close(session, tenant=books, asset=ETH, code=CLOSED, reason="a test", actor="test")
        accounts.limit(session, tenant=books, asset=ETH, code=FULL, ceiling=20, reason="a test", actor="test")
    return books


def state(session: Session) -> list[tuple[object, ...]]:
    """Everything that a refused journal could have touched."""
    rows = session.execute(
        text("""
            SELECT code, asset, stripe, balance::text, version, held::text,
                   (SELECT count(*) FROM ledger_journals), (SELECT count(*) FROM ledger_entries)
            FROM ledger_accounts ORDER BY id""")
    )
    made = [tuple(row) for row in rows]
    session.rollback()
    return made


def test_each_is_refused_with_its_own_error_and_nothing_written(
    funded: str, session: Session, subtests: pytest.Subtests
) -> None:
    before = state(session)
    for name, postings, error, field in REFUSED:
        for call in CALLS:
            with subtests.test(name, call=call.__name__):
                with pytest.raises(InvalidRequestError) as caught:
                    call(b.journal(funded, "refused", *postings))
                assert type(caught.value) is error
                assert caught.value.field == field
                assert state(session) == before
    b.assert_sound()


def test_in_a_batch_the_others_are_booked_as_if_it_had_not_been_there(
    funded: str, session: Session, subtests: pytest.Subtests
) -> None:
    for number, (name, postings, error, _) in enumerate(REFUSED):
        with subtests.test(name):
            with pytest.raises(error):
                among_others(b.journal(funded, f"refused:{number}", *postings))
            assert balance(session, funded, BOB, ETH) == 5 * (number + 1)
            session.rollback()
    assert not session.scalar(
        text("SELECT count(*) FROM ledger_journals WHERE reference LIKE 'refused:%' AND reference NOT LIKE '%there'")
    )
    b.assert_sound()


def test_a_reference_with_other_content_is_refused_in_a_batch_and_in_a_frozen_account(
    funded: str, session: Session
) -> None:
    before = state(session)
    for call in CALLS:
        with pytest.raises(ReferenceReusedError):
            call(b.journal(funded, f"fund:{FROZEN}", move(FROZEN, BOB, 100)))
    assert not book(funded, f"fund:{FROZEN}", move(CUSTODY, FROZEN, 100)).created  # a repeat is none
    assert state(session) == before


def test_amounts_of_38_digits_are_exact_at_every_scale_by_every_call(books: str, session: Session) -> None:
    with transaction() as own:
        own.add_all([LedgerAsset(id=asset, scale=scale) for scale, asset in SCALES.items()])
    odd = 31415926535897932384626433832795028841
    for asset in SCALES.values():
        book(books, f"one:{asset}", move(CUSTODY, ALICE, UNITS_MAX, asset))
        book(books, f"two:{asset}", move(ALICE, BOB, odd, asset), move(ALICE, BOB, 1, asset))
        outcomes = book_all(
            [
                b.journal(books, f"three:{asset}", move(ALICE, BOB, 1, asset)),
                b.journal(books, f"four:{asset}", move(ALICE, CUSTODY, UNITS_MAX - odd - 2, asset)),
                b.journal(books, f"five:{asset}", move(ALICE, BOB, 1, asset)),
            ]
        )
        assert [outcome.posted is not None for outcome in outcomes] == [True, True, False]
        assert [balance(session, books, code, asset) for code in (CUSTODY, ALICE, BOB)] == [odd + 2, 0, odd + 2]
    b.assert_sound()
