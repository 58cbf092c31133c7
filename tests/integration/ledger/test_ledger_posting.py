"""One journal at a time: what posting promises."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from core import db
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from core.ids import new_id
from core.money import UNITS_MAX
from ledger.balances import balance, entries, journal
from ledger.errors import AlreadyReversedError, InsufficientFundsError, ReferenceReusedError
from ledger.posting import post, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, book, counts, move


def test_a_deposit_shows_as_a_plus_on_both_sides(books: str, session: Session) -> None:
    book(books, "deposit:1", move(CUSTODY, ALICE, 1_000))
    assert balance(session, books, CUSTODY, ETH) == 1_000  # an asset: debit-normal
    assert balance(session, books, ALICE, ETH) == 1_000  # a liability: credit-normal
    assert b.raw_balances(session, books) == {(CUSTODY, ETH): (-1_000, 1), (ALICE, ETH): (1_000, 1)}
    b.assert_sound()


def test_posting_twice_books_once_and_gives_the_first_journal(books: str, session: Session) -> None:
    first = book(books, "deposit:1", move(CUSTODY, ALICE, 1_000), metadata={"seen": 1}, correlation_id="a")
    again = book(books, "deposit:1", move(CUSTODY, ALICE, 1_000), metadata={"seen": 2}, correlation_id="b")
    assert (first.created, again.created) == (True, False)
    assert first.id == again.id
    assert balance(session, books, ALICE, ETH) == 1_000
    found = journal(session, books, journal_id=first.id)
    assert found is not None
    assert found.metadata == {"seen": 1}  # notes beside the content stay as the first post wrote them


def test_the_same_reference_is_free_in_another_tenant(books: str) -> None:
    assert book(books, "deposit:1", move(CUSTODY, ALICE, 1)).created
    assert book(b.new_tenant(), "deposit:1", move(CUSTODY, ALICE, 2)).created
    b.assert_sound()


def test_a_reference_with_other_content_is_refused(books: str, session: Session, subtests: pytest.Subtests) -> None:
    same = move(CUSTODY, ALICE, 10)
    first = book(books, "deposit:1", same, subject="deposit:1")
    before = counts(session)
    session.rollback()
    for postings, other in (
        ([move(CUSTODY, ALICE, 11)], {}),
        ([move(CUSTODY, BOB, 10)], {}),
        ([move(CUSTODY, ALICE, 10, USDT)], {}),
        ([move(ALICE, CUSTODY, 10)], {}),
        ([same, move(ALICE, FEES, 1)], {}),
        ([same], {"category": "other"}),
        ([same], {"subject": "deposit:2"}),
        ([same], {"effective_at": datetime(2026, 1, 1, tzinfo=UTC)}),
    ):
        with (
            subtests.test(postings=postings, other=other),
            pytest.raises(ReferenceReusedError, match=str(first.id)) as caught,
        ):
            book(books, "deposit:1", *postings, **{"subject": "deposit:1", **other})
        assert isinstance(caught.value, InvariantError)
    assert counts(session) == before


def test_a_floor_refuses_and_the_callers_transaction_goes_on(books: str, session: Session) -> None:
    book(books, "deposit:1", move(CUSTODY, ALICE, 10))
    before = counts(session)
    with pytest.raises(InsufficientFundsError, match="has 10 units") as caught:
        post(session, b.journal(books, "pay:1", move(ALICE, BOB, 11)))
    assert isinstance(caught.value, ConflictError)
    assert (caught.value.available, caught.value.needed, caught.value.account) == (10, 11, ALICE)
    assert counts(session) == before
    assert post(session, b.journal(books, "pay:1", move(ALICE, BOB, 10))).created  # the reference is still free
    session.commit()
    assert balance(session, books, BOB, ETH) == 10
    b.assert_sound()


def test_a_refused_posting_leaves_no_account_behind(books: str, session: Session) -> None:
    book(books, "deposit:1", move(CUSTODY, ALICE, 10))
    for source in (ALICE, "user:nobody:available"):
        with pytest.raises(InsufficientFundsError):
            book(books, "pay:1", move(source, "user:new:available", 11))
    assert set(b.raw_balances(session, books)) == {(CUSTODY, ETH), (ALICE, ETH)}
    assert session.execute(text("SELECT count(*) FROM ledger_accounts WHERE stripe = 0")).scalar_one() == 2


def test_floors_are_checked_posting_by_posting_in_order(books: str) -> None:
    through = (move(CUSTODY, ALICE, 5), move(ALICE, BOB, 5))
    with pytest.raises(InsufficientFundsError):
        book(books, "pass:1", *reversed(through))
    assert book(books, "pass:1", *through).created
    b.assert_sound()


def test_what_is_owed_cant_be_paid_back_twice(books: str) -> None:
    book(books, "undo:1", move("user:alice:owed", CUSTODY, 5))
    book(books, "deposit:1", move(CUSTODY, ALICE, 9))
    book(books, "repay:1", move(ALICE, "user:alice:owed", 5))
    with pytest.raises(InsufficientFundsError):
        book(books, "repay:2", move(ALICE, "user:alice:owed", 1))
    b.assert_sound()


def test_what_no_journal_may_be_is_refused_with_nothing_written(
    books: str, session: Session, subtests: pytest.Subtests
) -> None:
    for postings, field in (
        ([], "postings"),
        ([move(CUSTODY, ALICE, 0)], "units"),
        ([move(CUSTODY, ALICE, -5)], "units"),
        ([move(CUSTODY, ALICE, True)], "units"),
        ([move(CUSTODY, ALICE, 1.0)], "units"),  # type: ignore[arg-type]
        ([move(CUSTODY, ALICE, UNITS_MAX + 1)], "units"),
        ([move(ALICE, ALICE, 5)], "destination"),
        ([move(CUSTODY, ALICE, 5, "iso4217:XXX")], "asset"),
        ([move(CUSTODY, ALICE, 5, "eth\x00")], "asset"),
        ([move(CUSTODY, "player:1:available", 5)], "account"),
        ([move(CUSTODY, "user:a b:available", 5)], "account"),
        ([move(CUSTODY, ALICE, 5), move(CUSTODY, ALICE, 0)], "units"),
        ([move(CUSTODY, ALICE, UNITS_MAX), move(CUSTODY, BOB, 1)], "units"),
    ):
        with subtests.test(postings=postings):
            with pytest.raises(InvalidRequestError) as caught:
                post(session, b.journal(books, "bad:1", *postings))
            assert caught.value.field == field
    session.commit()
    assert counts(session) == (0, 0)
    assert b.raw_balances(session, books) == {}


def test_amounts_of_38_digits_are_exact(books: str, session: Session) -> None:
    book(books, "huge:1", move(CUSTODY, ALICE, UNITS_MAX))
    book(books, "huge:2", move(ALICE, BOB, UNITS_MAX - 1))
    assert balance(session, books, ALICE, ETH) == 1
    assert balance(session, books, BOB, ETH) == UNITS_MAX - 1
    with pytest.raises(InvalidRequestError, match="38 digits"):
        book(books, "huge:3", move(CUSTODY, BOB, 2))
    b.assert_sound()


def test_one_journal_moves_several_assets_and_an_account_more_than_once(books: str, session: Session) -> None:
    book(
        books,
        "mixed:1",
        move(CUSTODY, ALICE, 100),
        move(CUSTODY, ALICE, 50, USDT),
        move(ALICE, FEES, 3),
        move(ALICE, BOB, 20),
    )
    assert balance(session, books, ALICE, ETH) == 77
    assert balance(session, books, ALICE, USDT) == 50
    rows = entries(session, books, ALICE, asset=ETH).rows
    assert [(row.units, row.balance, row.version) for row in rows] == [(-20, 77, 3), (-3, 97, 2), (100, 100, 1)]
    b.assert_sound()


def test_one_statement_posts_a_journal_and_few_more_open_its_accounts(books: str) -> None:
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        statements.append(statement)

    def posted(reference: str, moves: int) -> int:
        statements.clear()
        with transaction() as own:
            post(own, b.journal(books, reference, *[move(CUSTODY, f"user:{n}:available", 1) for n in range(moves)]))
        return len(statements)

    event.listen(db.engine(), "before_cursor_execute", note)
    try:
        assert posted("first:20", 20) == 6  # with a savepoint, so that a refusal leaves no account
        assert posted("second:20", 20) == 1
        assert posted("second:20", 20) == 1
        assert posted("first:1", 1) == 1
        assert posted("first:1", 1) == 1
    finally:
        event.remove(db.engine(), "before_cursor_execute", note)
    b.assert_sound()


def test_several_posts_and_a_rollback_share_the_callers_transaction(books: str, session: Session) -> None:
    post(session, b.journal(books, "a:1", move(CUSTODY, ALICE, 10)))
    post(session, b.journal(books, "a:2", move(ALICE, BOB, 4)))
    assert not post(session, b.journal(books, "a:1", move(CUSTODY, ALICE, 10))).created
    assert balance(session, books, ALICE, ETH, for_update=True) == 6
    session.rollback()
    assert balance(session, books, ALICE, ETH) == 0
    assert book(books, "a:1", move(CUSTODY, ALICE, 3)).created  # rolled back, so the reference was never used
    b.assert_sound()


def test_booked_at_never_runs_backwards_and_effective_at_defaults_to_it(books: str, session: Session) -> None:
    earlier = datetime.now(UTC) - timedelta(days=3)
    first = book(books, "a:1", move(CUSTODY, ALICE, 10), effective_at=earlier)
    second = book(books, "a:2", move(CUSTODY, ALICE, 10))
    one, two = (journal(session, books, journal_id=posted.id) for posted in (first, second))
    assert one is not None and two is not None
    assert one.effective_at == earlier
    assert two.effective_at == two.booked_at > one.booked_at


def test_a_reversal_names_its_journal_and_undoes_it(books: str, session: Session) -> None:
    first = book(books, "pass:1", move(CUSTODY, ALICE, 5), move(ALICE, BOB, 5), subject="deposit:7")
    job = new_id()
    undone = reverse(session, tenant=books, reference="pass:1:undo", journal_id=first.id, job_id=job)
    session.commit()
    assert undone.created
    assert [balance(session, books, code, ETH) for code in (CUSTODY, ALICE, BOB)] == [0, 0, 0]
    found = journal(session, books, reference="pass:1:undo")
    original = journal(session, books, reference="pass:1")
    assert found is not None and original is not None
    assert (found.reverses, found.subject, found.job_id) == (first.id, "deposit:7", job)
    assert original.reversed_by == undone.id
    b.assert_sound()


def test_a_journal_is_reversed_at_most_once(books: str, session: Session) -> None:
    first = book(books, "deposit:1", move(CUSTODY, ALICE, 5))
    undone = reverse(session, tenant=books, reference="undo:1", journal_id=first.id)
    again = reverse(session, tenant=books, reference="undo:1", journal_id=first.id)
    assert (again.created, again.id) == (False, undone.id)
    session.commit()
    book(books, "deposit:2", move(CUSTODY, ALICE, 5))
    before = counts(session)
    with pytest.raises(AlreadyReversedError, match=str(undone.id)):
        reverse(session, tenant=books, reference="undo:other", journal_id=first.id)
    assert counts(session) == before
    b.assert_sound()


def test_a_reversal_needs_the_money_to_be_there(books: str, session: Session) -> None:
    first = book(books, "deposit:1", move(CUSTODY, ALICE, 5))
    book(books, "pay:1", move(ALICE, BOB, 1))
    with pytest.raises(InsufficientFundsError):
        reverse(session, tenant=books, reference="undo:1", journal_id=first.id)
    session.commit()
    b.assert_sound()


def test_a_journal_of_another_tenant_is_not_there_to_reverse(books: str, session: Session) -> None:
    first = book(books, "deposit:1", move(CUSTODY, ALICE, 5))
    for tenant, journal_id in ((b.new_tenant(), first.id), (books, UUID(int=1))):
        with pytest.raises(NotFoundError):
            reverse(session, tenant=tenant, reference="undo:1", journal_id=journal_id)
