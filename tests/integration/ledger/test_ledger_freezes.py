"""Several who want one account frozen: it is as long as any of them does, whoever comes and goes, and at once."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from core.errors import InvalidRequestError
from ledger import accounts, balances, freezes
from ledger.accounts import Change
from ledger.errors import AccountClosedError, AccountFrozenError
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, USDT, book
from tests.integration.ledger.test_ledger_concurrency import CLIENTS, at_once
from tests.integration.ledger.test_ledger_properties import quick

DEPOSIT, PAYMENT, PAYOUT = "deposit:1", "fiat_payment:2", "payout:3"
CLOSED = "closed"


def account(tenant: str, code: str = ALICE, asset: str = ETH) -> dict[str, str]:
    return {"tenant": tenant, "code": code, "asset": asset}


def put(tenant: str, holder: str, **more: str) -> Change | None:
    with transaction() as session:
        return freezes.place(
            session, **account(tenant, **more), holder=holder, reason=f"{holder} is owed", actor="worker"
        )


def lift(tenant: str, holder: str, **more: str) -> Change | None:
    with transaction() as session:
        return freezes.lift(
            session, **account(tenant, **more), holder=holder, reason=f"{holder} is paid", actor="worker"
        )


def person(tenant: str, change: str, who: str = "ada") -> Change | None:
    work: Callable[..., Change | None] = getattr(accounts, change)
    with transaction() as session:
        return work(session, **account(tenant), reason="a letter", actor=who)


def stands(tenant: str, code: str = ALICE) -> tuple[str, list[str]]:
    """The state of the account in ETH, and who holds it frozen, the longest first."""
    with transaction() as session:
        [found] = [one for one in balances.account(session, tenant, code) if one.asset == ETH]
        held = [freeze.holder for freeze in freezes.of_account(session, tenant, code) if freeze.asset == ETH]
        assert sorted(held) == list(found.frozen_by)
        return found.state, held


def history(tenant: str) -> list[tuple[str, str, list[str]]]:
    """Oldest first: what was done, and how the account stood then."""
    with transaction() as session:
        rows = accounts.changes(session, tenant, ALICE, asset=ETH).rows[::-1]
    return [(row.change, row.after["state"], row.after.get("holders", [])) for row in rows]


def test_an_account_is_open_again_when_the_last_who_held_it_goes(books: str) -> None:
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 10), b.move(CUSTODY, ALICE, 10, USDT))
    assert put(books, DEPOSIT) is not None
    assert put(books, DEPOSIT) is None
    assert put(books, PAYMENT) is not None
    assert lift(books, PAYOUT) is None
    assert stands(books) == ("frozen", [DEPOSIT, PAYMENT])
    assert lift(books, DEPOSIT) is not None
    assert lift(books, DEPOSIT) is None
    with pytest.raises(AccountFrozenError):
        book(books, "pay:1", b.move(ALICE, BOB, 1))
    book(books, "pay:2", b.move(ALICE, BOB, 1, USDT))  # another asset
    last = lift(books, PAYMENT)
    assert last is not None
    assert (last.before, last.after) == ({"state": "frozen", "holders": [PAYMENT]}, {"state": "open"})
    book(books, "pay:1", b.move(ALICE, BOB, 1))
    assert history(books) == [
        ("freeze", "frozen", [DEPOSIT]),
        ("freeze", "frozen", [DEPOSIT, PAYMENT]),
        ("lift", "frozen", [PAYMENT]),
        ("lift", "open", []),
    ]
    b.assert_sound()


def test_what_a_person_froze_over_ours_stays_and_leaves_its_trace(books: str) -> None:
    put(books, DEPOSIT)
    assert person(books, "freeze") is not None
    assert person(books, "freeze") is None
    assert person(books, "freeze", "grace") is not None
    lift(books, DEPOSIT)
    assert stands(books) == ("frozen", ["person:ada", "person:grace"])


def test_a_person_lifts_everybodys_and_it_is_said_whose_that_was(books: str) -> None:
    put(books, DEPOSIT)
    put(books, PAYMENT)
    person(books, "freeze")
    made = person(books, "unfreeze", "grace")
    assert made is not None
    assert made.before == {"state": "frozen", "holders": [DEPOSIT, PAYMENT, "person:ada"]}
    assert (made.after, made.actor, stands(books)) == ({"state": "open"}, "grace", ("open", []))
    assert lift(books, DEPOSIT) is None
    assert put(books, PAYMENT) is not None  # a new cause
    assert stands(books) == ("frozen", [PAYMENT])


def test_a_closed_account_is_frozen_when_it_is_opened_as_it_is_wanted_then(books: str) -> None:
    put(books, DEPOSIT)
    person(books, "close")
    assert put(books, PAYMENT) is not None
    assert lift(books, DEPOSIT) is not None
    for change in ("freeze", "unfreeze"):
        with pytest.raises(AccountClosedError):
            person(books, change)
    assert stands(books) == (CLOSED, [PAYMENT])
    b.assert_sound()
    person(books, "reopen")
    assert stands(books) == ("frozen", [PAYMENT])
    person(books, "close")
    lift(books, PAYMENT)
    person(books, "reopen")
    assert stands(books) == ("open", [])


def test_freezing_opens_an_account_and_lifting_does_not(books: str, session: Session) -> None:
    assert lift(books, DEPOSIT) is None
    assert balances.account(session, books, ALICE) == ()
    session.rollback()
    put(books, DEPOSIT)
    put(books, DEPOSIT, code=CUSTODY)  # all of its rows
    assert (stands(books), stands(books, CUSTODY)) == (("frozen", [DEPOSIT]), ("frozen", [DEPOSIT]))
    assert freezes.holders(session, "deposit:") == {DEPOSIT}
    assert freezes.holders(session, "payout:") == frozenset()
    b.assert_sound()


@pytest.mark.parametrize("holder", ["", " ", "person:ada"])
def test_nothing_that_is_no_subject_freezes_or_lifts(books: str, holder: str) -> None:
    person(books, "freeze")
    for work in (put, lift):
        with pytest.raises(InvalidRequestError, match="freeze is a subject's"):
            work(books, holder)
    assert stands(books) == ("frozen", ["person:ada"])


# --- at once ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "then"),
    [
        (lift, put, ("frozen", [PAYMENT])),  # the last goes while another comes
        (put, lift, ("frozen", [PAYMENT])),
        (lift, lift, ("open", [])),
    ],
)
def test_who_comes_while_another_goes_waits_for_it(books: str, first: Any, second: Any, then: Any) -> None:
    """Two real sessions: the second asks while the first has not committed."""
    put(books, DEPOSIT)
    if (first, second) == (lift, lift):
        put(books, PAYMENT)
    one, other = (DEPOSIT, PAYMENT) if first is lift else (PAYMENT, DEPOSIT)
    words = {"reason": "because", "actor": "worker"}
    with ThreadPoolExecutor(1) as pool:
        with transaction() as session:
            work = freezes.lift if first is lift else freezes.place
            assert work(session, **account(books), holder=one, **words) is not None
            waiting: Future[Change | None] = pool.submit(second, books, other)
            _until_somebody_waits(session)
            assert not waiting.done()
        assert waiting.result(10) is not None
    assert stands(books) == then
    b.assert_sound()


def _until_somebody_waits(session: Session) -> None:
    waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))")
    for _ in range(500):
        if session.scalar(waits):
            return
        threading.Event().wait(0.01)
    raise AssertionError("nobody waits for the account")


def test_holders_that_race_lose_no_freeze(books: str) -> None:
    """Each ends as it is told; of those who put theirs last, all are there, and of the others none."""

    def work(client: int) -> None:
        chance = random.Random(client)
        for _ in range(8):
            (put if chance.random() < 0.5 else lift)(books, f"deposit:{client}")
        (put if client % 3 == 0 else lift)(books, f"deposit:{client}")

    at_once(work)
    state, held = stands(books)
    assert (state, sorted(held)) == ("frozen", [f"deposit:{client}" for client in range(0, CLIENTS, 3)])
    b.assert_sound()
    at_once(lambda client: lift(books, f"deposit:{client}"))
    assert stands(books) == ("open", [])
    b.assert_sound()


# --- in any order -----------------------------------------------------------------------------------------------------

holders = st.sampled_from([DEPOSIT, PAYMENT, PAYOUT])
people = st.sampled_from(["ada", "grace"])
deeds = st.one_of(
    st.tuples(st.sampled_from(["put", "lift"]), holders),
    st.tuples(st.sampled_from(["freeze", "unfreeze", "close", "reopen"]), people),
)


@settings(quick, max_examples=15)
@given(asked=st.lists(st.tuples(deeds, st.booleans()), max_size=12))
def test_frozen_if_and_only_if_somebody_wants_it(books: str, asked: list[tuple[tuple[str, str], bool]]) -> None:
    """Also what is rolled back. The changes tell the same, step by step."""
    tenant, wanted, closed = b.new_tenant(), set[str](), False
    person(tenant, "freeze", "opener")
    person(tenant, "unfreeze", "opener")
    told: list[tuple[str, str, list[str]]] = history(tenant)
    for (deed, who), kept in asked:
        then, shut = set(wanted), closed
        match deed:
            case "put":
                then.add(who)
            case "lift":
                then.discard(who)
            case "freeze":
                then.add(f"person:{who}")
            case "unfreeze":
                then.clear()
            case _:
                shut = deed == "close"
        refused = closed and deed in ("freeze", "unfreeze")
        changes = (then, shut) != (wanted, closed) and not refused
        with transaction() as session:
            attempt = session.begin_nested()
            try:
                made = _do(session, tenant, deed, who)
            except AccountClosedError:
                assert refused
                continue
            assert (made is not None, refused) == (changes, False)
            if not kept:
                attempt.rollback()
        if kept and changes:
            wanted, closed = then, shut
            state = CLOSED if closed else "frozen" if wanted else "open"
            change = "freeze" if deed == "put" else deed
            told.append((change, state, sorted(wanted)))
        state, held = stands(tenant)
        assert (state, set(held)) == (CLOSED if closed else "frozen" if wanted else "open", wanted)
    assert history(tenant) == told
    b.assert_sound()


def _do(session: Session, tenant: str, deed: str, who: str) -> Change | None:
    words = {**account(tenant), "reason": "because"}
    if deed in ("put", "lift"):
        work = freezes.place if deed == "put" else freezes.lift
        return work(session, **words, holder=who, actor="worker")
    change: Callable[..., Change | None] = getattr(accounts, deed)
    return change(session, **words, actor=who)
