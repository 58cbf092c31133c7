"""What a person does to an account: freezes, closes, bounds and annotates it, and what that stops."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from core.errors import InvalidRequestError, NotFoundError
from core.money import UNITS_MAX
from ledger import accounts
from ledger.accounts import Change
from ledger.batches import book_all
from ledger.errors import (
    AccountClosedError,
    AccountFrozenError,
    AccountNotEmptyError,
    BatchRefusedError,
    CeilingExceededError,
    InsufficientFundsError,
    LimitCrossedError,
)
from ledger.posting import Posting, post, reverse
from tests.integration.ledger import books as b
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, EUR, FEES, USDT, book
from tests.integration.ledger.test_ledger_concurrency import at_once

CAROL, DEBT = "user:carol:available", "user:alice:owed"
Work = Callable[..., Change | None]


@pytest.fixture
def funded(books: str) -> str:
    """Alice and Bob have 100 each; Carol's account is open and empty. Gives the tenant."""
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100), b.move(CUSTODY, BOB, 100), b.move(CUSTODY, CAROL, 1))
    book(books, "spend:1", b.move(CAROL, CUSTODY, 1))
    return books


def control(tenant: str, work: Work, code: str = ALICE, asset: str = ETH, **more: Any) -> Change | None:
    """In a transaction of its own."""
    with transaction() as session:
        return work(session, tenant=tenant, code=code, asset=asset, reason="ticket 7", actor="ada", **more)


def states(session: Session, tenant: str, code: str = ALICE) -> list[str]:
    """Of each row of the account, by stripe."""
    query = (
        "SELECT state FROM ledger_accounts WHERE tenant = :tenant AND code = :code AND asset = :asset ORDER BY stripe"
    )
    return list(session.scalars(text(query), {"tenant": tenant, "code": code, "asset": ETH}))


# --- what a state stops, in every position and by every way of posting ------------------------------------------------

POSITIONS: dict[str, tuple[list[Posting], ...]] = {
    # (as the source, as the destination)
    "alone": ([b.move(ALICE, BOB, 1)], [b.move(BOB, ALICE, 1)]),
    "first of two": (
        [b.move(ALICE, FEES, 1), b.move(BOB, FEES, 1)],
        [b.move(BOB, ALICE, 1), b.move(BOB, FEES, 1)],
    ),
    "second of two": (
        [b.move(BOB, FEES, 1), b.move(ALICE, FEES, 1)],
        [b.move(BOB, FEES, 1), b.move(BOB, ALICE, 1)],
    ),
    "through it": ([b.move(BOB, ALICE, 1), b.move(ALICE, FEES, 1)], [b.move(BOB, FEES, 1), b.move(FEES, ALICE, 1)]),
}


def refuses(tenant: str, content: list[Posting], error: type[Exception], session: Session) -> None:
    """Posted alone, in a batch and in a batch as a whole: refused with its own error, and nothing written."""
    before = h.written(session)
    session.rollback()
    with transaction() as own, pytest.raises(error, match=ALICE):
        post(own, b.journal(tenant, "refused", *content))
    assert h.written(session) == before
    session.rollback()
    [outcome] = book_all([b.journal(tenant, "refused", *content)])
    assert isinstance(outcome.error, error)
    both = [b.journal(tenant, "refused", *content), b.journal(tenant, "other", b.move(BOB, CUSTODY, 1))]
    with pytest.raises(BatchRefusedError) as whole:
        book_all(both, whole=True)
    assert [type(why) for _, why in whole.value.refused] == [error]
    assert h.written(session) == before
    session.rollback()
    made = book_all(both)
    assert isinstance(made[0].error, error) and made[1].posted is not None
    book(tenant, "other:back", b.move(CUSTODY, BOB, 1))
    others = "SELECT count(*) FROM ledger_journals WHERE tenant = :tenant AND reference = 'refused'"
    assert session.scalar(text(others), {"tenant": tenant}) == 0
    session.rollback()


@pytest.mark.parametrize("position", POSITIONS)
def test_nothing_leaves_a_frozen_account_and_what_arrives_is_booked(
    funded: str, session: Session, position: str
) -> None:
    control(funded, accounts.freeze)
    leaving, arriving = POSITIONS[position]
    refuses(funded, leaving, AccountFrozenError, session)
    assert h.account(session, funded) == (100, 0)
    session.rollback()
    book(funded, "arrives", *arriving)
    [outcome] = book_all([b.journal(funded, "arrives too", *arriving)])
    assert outcome.posted is not None
    assert h.account(session, funded) == (102, 0)
    control(funded, accounts.unfreeze)
    book(funded, "leaves", *leaving)
    b.assert_sound()


@pytest.mark.parametrize("position", POSITIONS)
def test_nothing_moves_in_a_closed_account(funded: str, session: Session, position: str) -> None:
    book(funded, "empty", b.move(ALICE, CUSTODY, 100))
    control(funded, accounts.close)
    for content in POSITIONS[position]:
        refuses(funded, content, AccountClosedError, session)
        assert h.account(session, funded) == (0, 0)
        session.rollback()
    control(funded, accounts.reopen)
    book(funded, "arrives", *POSITIONS[position][1])
    b.assert_sound()


@pytest.mark.parametrize("position", POSITIONS)
def test_nothing_passes_a_ceiling(funded: str, session: Session, position: str) -> None:
    control(funded, accounts.limit, ceiling=100)
    if position != "through it":
        leaving, arriving = POSITIONS[position]
        book(funded, "leaves", *leaving)
        book(funded, "back", b.move(FEES, ALICE, 1))
    else:
        arriving = [b.move(FEES, ALICE, 1), b.move(ALICE, FEES, 1)]  # in order: it would be above for a moment
    refuses(funded, arriving, CeilingExceededError, session)
    assert h.account(session, funded) == (100, 0)
    control(funded, accounts.limit, ceiling=101)
    book(funded, "arrives", *arriving)
    b.assert_sound()


def test_a_frozen_accounts_journals_can_be_reversed(funded: str, session: Session) -> None:
    one = book(funded, "deposit:2", b.move(CUSTODY, ALICE, 7))
    two = book(funded, "deposit:3", b.move(CUSTODY, ALICE, 5), b.move(CUSTODY, BOB, 5))
    control(funded, accounts.freeze)
    for posted in (one, two):
        with transaction() as own:
            reverse(own, tenant=funded, reference=f"undo:{posted.id}", journal_id=posted.id)
    assert h.account(session, funded) == (100, 0)
    control(funded, accounts.unfreeze)
    book(funded, "empty", b.move(ALICE, CUSTODY, 100))
    control(funded, accounts.close)
    emptied = book(funded, "empty", b.move(ALICE, CUSTODY, 100))  # the first journal
    with transaction() as own, pytest.raises(AccountClosedError, match=ALICE):  # closed is closed, for a reversal too
        reverse(own, tenant=funded, reference="undo:empty", journal_id=emptied.id)
    b.assert_sound()


def test_a_repeat_is_no_refusal_whatever_has_become_of_the_account(funded: str) -> None:
    posted = book(funded, "pay:1", b.move(ALICE, BOB, 1))
    control(funded, accounts.freeze)
    again = book(funded, "pay:1", b.move(ALICE, BOB, 1))
    assert (again.id, again.created) == (posted.id, False)


def test_one_asset_of_a_code_is_frozen_and_the_others_are_not(funded: str) -> None:
    book(funded, "deposit:2", b.move(CUSTODY, ALICE, 5, USDT))
    control(funded, accounts.freeze)
    book(funded, "pay:1", b.move(ALICE, BOB, 5, USDT))
    with pytest.raises(AccountFrozenError):
        book(funded, "pay:2", b.move(ALICE, BOB, 5))


# --- freezing and closing ---------------------------------------------------------------------------------------------


def test_freezing_opens_an_account_before_its_first_money(books: str, session: Session) -> None:
    change = control(books, accounts.freeze)
    assert change is not None and change.after == {"state": "frozen", "holders": ["person:ada"]}
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    with pytest.raises(AccountFrozenError):
        book(books, "pay:1", b.move(ALICE, BOB, 1))
    for work in (accounts.unfreeze, accounts.close, accounts.reopen):
        with pytest.raises(NotFoundError, match="has no account user:eve:available"):
            control(books, work, "user:eve:available")
    assert states(session, books, "user:eve:available") == []


def test_all_rows_of_an_account_change_together(funded: str, session: Session) -> None:
    control(funded, accounts.freeze, CUSTODY)
    assert states(session, funded, CUSTODY) == ["frozen"] * 16
    session.rollback()

    def work(client: int) -> None:  # each from another process of the server, and so another row
        with pytest.raises(AccountFrozenError, match=CUSTODY):
            book(funded, f"racing:{client}", b.move(CUSTODY, ALICE, 1))
        book(funded, f"back:{client}", b.move(ALICE, CUSTODY, 1))

    at_once(work)
    control(funded, accounts.unfreeze, CUSTODY)
    assert states(session, funded, CUSTODY) == ["open"] * 16
    b.assert_sound()


def test_an_account_of_many_rows_is_empty_when_they_sum_to_nothing(books: str, session: Session) -> None:
    at_once(lambda client: book(books, f"deposit:{client}", b.move("suspense:deposits", ALICE, 10)))
    with pytest.raises(AccountNotEmptyError, match="balance of -80 units"):
        control(books, accounts.close, "suspense:deposits")
    book(books, "back", b.move(ALICE, "suspense:deposits", 80))
    rows = "SELECT count(*) FROM ledger_accounts WHERE code = 'suspense:deposits' AND balance <> 0"
    assert session.scalar(text(rows)) > 1, "the clients met in one row"
    session.rollback()
    assert control(books, accounts.close, "suspense:deposits")
    with pytest.raises(AccountClosedError):
        book(books, "deposit:9", b.move("suspense:deposits", ALICE, 10))
    b.assert_sound()
    control(books, accounts.reopen, "suspense:deposits")
    book(books, "deposit:9", b.move("suspense:deposits", ALICE, 10))
    b.assert_sound()


def test_only_an_empty_account_is_closed(funded: str, superuser_url: str, session: Session) -> None:
    before = h.written(session)
    session.rollback()
    with pytest.raises(AccountNotEmptyError, match=r"a balance of 100 units of .* and 0 held"):
        control(funded, accounts.close)
    assert h.written(session) == before
    session.rollback()
    held = h.place(funded, "hold:1", 5, source="user:carol:pending", expires_at=h.LATER).id
    with pytest.raises(AccountNotEmptyError, match=r"a balance of 0 units of .* and 5 held"):
        control(funded, accounts.close, "user:carol:pending")
    h.pass_deadline(superuser_url, held)
    assert control(funded, accounts.close, "user:carol:pending")
    assert h.hold(funded, held).state == "expired"


def test_each_change_in_each_state(funded: str, session: Session) -> None:
    """(state, change) -> the state after it, "same" for a repeat that is not noted, or the refusal."""
    table: dict[tuple[str, Work], str] = {
        ("open", accounts.freeze): "frozen",
        ("open", accounts.unfreeze): "same",
        ("open", accounts.close): "closed",
        ("open", accounts.reopen): "same",
        ("frozen", accounts.freeze): "same",
        ("frozen", accounts.unfreeze): "open",
        ("frozen", accounts.close): "closed",
        ("frozen", accounts.reopen): "same",
        ("closed", accounts.freeze): "refused",
        ("closed", accounts.unfreeze): "refused",
        ("closed", accounts.close): "same",
        ("closed", accounts.reopen): "open",
    }
    into: dict[str, list[Work]] = {"open": [], "frozen": [accounts.freeze], "closed": [accounts.close]}
    for number, ((state, work), expected) in enumerate(table.items()):
        code = f"user:{number}:available"
        control(funded, accounts.annotate, code, metadata={"n": number})
        for step in into[state]:
            control(funded, step, code)
        noted = len(list_changes(session, funded, code))
        if expected == "refused":
            with pytest.raises(AccountClosedError):
                control(funded, work, code)
        else:
            change = control(funded, work, code)
            assert (change is None) == (expected == "same")
            noted += change is not None
        after = state if expected in ("same", "refused") else expected
        assert states(session, funded, code) == [after]
        assert len(list_changes(session, funded, code)) == noted
        session.rollback()


def test_closing_and_reopening_lifts_no_freeze(funded: str, session: Session) -> None:
    for _ in range(2):
        control(funded, accounts.freeze, CAROL)
        control(funded, accounts.close, CAROL)
        control(funded, accounts.reopen, CAROL)
        assert states(session, funded, CAROL) == ["frozen"]
        session.rollback()
    control(funded, accounts.unfreeze, CAROL)
    control(funded, accounts.close, CAROL)
    control(funded, accounts.reopen, CAROL)
    assert states(session, funded, CAROL) == ["open"]


def test_a_freeze_stands_between_two_posts(funded: str, session: Session) -> None:
    """Posts race a freeze: whatever left, left before it."""

    def work(client: int) -> int:
        if client == 0:
            control(funded, accounts.freeze)
            return 0
        moved = 0
        for number in range(10):
            try:
                book(funded, f"pay:{client}:{number}", b.move(ALICE, BOB, 1))
            except AccountFrozenError:
                break
            moved += 1
        return moved

    moved = sum(at_once(work))
    assert h.account(session, funded) == (100 - moved, 0)
    with pytest.raises(AccountFrozenError):
        book(funded, "pay:late", b.move(ALICE, BOB, 1))
    b.assert_sound()


# --- limits and notes -------------------------------------------------------------------------------------------------


def test_a_floor_below_zero_is_a_credit_line(funded: str, session: Session) -> None:
    control(funded, accounts.limit, floor=-50)
    book(funded, "pay:1", b.move(ALICE, BOB, 120))
    with pytest.raises(InsufficientFundsError) as refused:
        h.place(funded, "hold:1", 31)
    assert refused.value.available == 30
    h.place(funded, "hold:2", 30)
    with pytest.raises(LimitCrossedError, match=r"a floor of -49 units .* its balance is -20, with 30 held"):
        control(funded, accounts.limit, floor=-49)
    control(funded, accounts.limit, floor=None)
    book(funded, "pay:2", b.move(ALICE, BOB, 1_000))
    assert h.account(session, funded) == (-1_020, 30)
    b.assert_sound()


def test_limits_are_on_the_normal_side(funded: str) -> None:
    control(funded, accounts.limit, DEBT, ceiling=30)
    book(funded, "lend:1", b.move(DEBT, ALICE, 30))
    for content in ([b.move(DEBT, ALICE, 1)], [b.move(BOB, FEES, 1), b.move(DEBT, ALICE, 1)]):
        with pytest.raises(CeilingExceededError) as above:
            book(funded, "lend:2", *content)
        assert (above.value.account, above.value.room, above.value.offered) == (DEBT, 0, 1)
    control(funded, accounts.limit, DEBT, floor=10)
    with pytest.raises(InsufficientFundsError) as below:
        book(funded, "repay:1", b.move(ALICE, DEBT, 21))
    assert (below.value.account, below.value.available) == (DEBT, 20)
    book(funded, "repay:2", b.move(ALICE, DEBT, 20))
    b.assert_sound()


@pytest.mark.parametrize(
    ("limits", "error", "words"),
    [
        ({"code": ALICE, "floor": 101}, LimitCrossedError, "a floor of 101 units .* its balance is 100, with 0 held"),
        ({"code": ALICE, "ceiling": 99}, LimitCrossedError, "a ceiling of 99 units .* its balance is 100"),
        ({"code": ALICE, "floor": 50, "ceiling": 49}, InvalidRequestError, "the floor would be above the ceiling"),
        ({"code": ALICE, "ceiling": -1}, InvalidRequestError, "the floor would be above the ceiling"),
        ({"code": CUSTODY, "floor": 0}, InvalidRequestError, "several rows and can't have limits"),
        ({"code": FEES, "ceiling": 1}, InvalidRequestError, "several rows and can't have limits"),
        ({"code": ALICE}, InvalidRequestError, "give a floor or a ceiling"),
        ({"code": ALICE, "floor": UNITS_MAX + 1}, InvalidRequestError, "38 digits"),
        ({"code": ALICE, "floor": True}, InvalidRequestError, "is an integer"),
        ({"code": "user:eve:available", "floor": 1}, LimitCrossedError, "its balance is 0"),
        ({"code": "moon:1", "floor": 1}, InvalidRequestError, "no place for 'moon:1'"),
    ],
    ids=str,
)
def test_limits_that_can_not_be_are_refused_and_nothing_is_written(
    funded: str, session: Session, limits: dict[str, Any], error: type[Exception], words: str
) -> None:
    before = h.written(session)
    session.rollback()
    with transaction() as own, pytest.raises(error, match=words):
        accounts.limit(own, tenant=funded, asset=ETH, reason="test", actor="ada", **limits)
    assert h.written(session) == before


def test_a_limit_that_is_not_named_stays(funded: str, session: Session) -> None:
    first = control(funded, accounts.limit, ceiling=UNITS_MAX)
    second = control(funded, accounts.limit, floor=None)
    third = control(funded, accounts.limit, ceiling=None, floor=0)
    assert control(funded, accounts.limit, floor=0) is None
    assert [change.after for change in (first, second, third) if change] == [
        {"floor": "0", "ceiling": str(UNITS_MAX)},
        {"floor": None, "ceiling": str(UNITS_MAX)},
        {"floor": "0", "ceiling": None},
    ]
    assert [change.before for change in list_changes(session, funded, ALICE)][-1] == {"floor": "0", "ceiling": None}


def test_metadata_is_set_by_key(funded: str, session: Session) -> None:
    control(funded, accounts.annotate, metadata={"case": "7", "deep": {"none": None}})
    control(funded, accounts.annotate, metadata={"case": None, "owner": "ada"})
    assert control(funded, accounts.annotate, metadata={"owner": "ada"}) is None
    control(funded, accounts.annotate, CUSTODY, metadata={"bank": "x"})
    rows = session.execute(
        text("SELECT code, metadata FROM ledger_accounts WHERE tenant = :tenant AND metadata <> '{}'"),
        {"tenant": funded},
    ).all()
    assert [row.metadata for row in rows if row.code == ALICE] == [{"deep": {"none": None}, "owner": "ada"}]
    assert [row.metadata for row in rows if row.code == CUSTODY] == [{"bank": "x"}] * 16


# --- the record -------------------------------------------------------------------------------------------------------


def list_changes(session: Session, tenant: str, code: str) -> list[Change]:
    return list(accounts.changes(session, tenant, code).rows)


def test_each_change_is_noted_with_who_and_why(funded: str, session: Session) -> None:
    made = control(funded, accounts.freeze)
    assert made is not None
    assert (made.tenant, made.code, made.asset, made.change) == (funded, ALICE, ETH, "freeze")
    assert (made.before, made.after) == ({"state": "open"}, {"state": "frozen", "holders": ["person:ada"]})
    assert (made.reason, made.actor) == ("ticket 7", "ada")
    control(funded, accounts.annotate, asset=EUR, metadata={"a": 1})
    control(funded, accounts.unfreeze)
    assert [change.change for change in list_changes(session, funded, ALICE)] == ["unfreeze", "annotate", "freeze"]
    assert [one.change for one in accounts.changes(session, funded, ALICE, asset=EUR).rows] == ["annotate"]
    first = accounts.changes(session, funded, ALICE, limit=2)
    rest = accounts.changes(session, funded, ALICE, limit=2, cursor=first.cursor)
    assert [one.change for one in (*first.rows, *rest.rows)] == ["unfreeze", "annotate", "freeze"]
    assert rest.cursor is None
    assert accounts.changes(session, b.new_tenant(), ALICE).rows == ()
    for cursor in ("made-up", "MA", "e30"):
        with pytest.raises(InvalidRequestError, match="cursor"):
            accounts.changes(session, funded, ALICE, cursor=cursor)


@pytest.mark.parametrize("blank", ["tenant", "reason", "actor"])
def test_who_and_why_must_be_said(funded: str, blank: str) -> None:
    given: dict[str, str] = {"tenant": funded, "code": ALICE, "asset": ETH, "reason": "r", "actor": "a"} | {blank: " "}
    with transaction() as session, pytest.raises(InvalidRequestError, match=f"needs a {blank}"):
        accounts.freeze(session, **given)


def test_an_unknown_asset_has_no_accounts(funded: str, session: Session) -> None:
    before = h.written(session)
    session.rollback()
    with pytest.raises(InvalidRequestError, match="'iso4217:XTS' is unknown"):
        control(funded, accounts.freeze, asset="iso4217:XTS")
    with pytest.raises(NotFoundError):
        control(funded, accounts.close, asset="iso4217:XTS")
    assert h.written(session) == before
