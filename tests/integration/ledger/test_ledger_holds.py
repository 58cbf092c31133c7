"""Money that is bound before it moves: what can be done with a hold in each of its states."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy.orm import Session

from core import db
from core.db import APP_ROLE
from core.errors import InvalidRequestError, NotFoundError
from core.ids import new_id
from core.money import UNITS_MAX
from ledger import accounts, balances, holds
from ledger.batches import book_all
from ledger.errors import (
    AccountClosedError,
    AccountFrozenError,
    CeilingExceededError,
    InsufficientFundsError,
    ReferenceReusedError,
)
from ledger.holds import HoldState, Placed
from ledger.posting import Posted, reverse
from local.postgres import Postgres
from tests.integration.ledger import books as b
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, EUR, FEES, book

PENDING_MONEY = "user:alice:pending"  # an account without a floor


@pytest.fixture
def funded(books: str) -> str:
    """Alice has 100. Gives the tenant."""
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    return books


# --- placing ----------------------------------------------------------------------------------------------------------


def test_a_hold_keeps_what_was_asked_for(funded: str, session: Session) -> None:
    job = new_id()
    placed = h.place(
        funded,
        "payout:1",
        expires_at=h.LATER,
        subject="payout:1",
        correlation_id="c-1",
        job_id=job,
        metadata={"shop": 7},
    )
    found = holds.hold(session, funded, placed.id)
    assert placed == Placed(found.id, created=True)
    assert (found.tenant, found.reference, found.source, found.destination) == (funded, "payout:1", ALICE, BOB)
    assert (found.asset, found.units, found.state, found.posted_units) == (ETH, 40, HoldState.PENDING, None)
    assert (found.expires_at, found.subject, found.correlation_id) == (h.LATER, "payout:1", "c-1")
    assert (found.job_id, found.metadata, found.journal_id, found.settled_at) == (job, {"shop": 7}, None, None)


def test_placing_the_same_again_gives_the_first_whatever_has_become_of_it(
    funded: str, superuser_url: str, session: Session
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1)
    placed = h.place(funded, "hold:1", expires_at=soon)
    assert h.place(funded, "hold:1", expires_at=soon, metadata={"other": 1}) == Placed(placed.id, created=False)
    session.connection().exec_driver_sql("SELECT pg_sleep(1.1)")
    session.rollback()
    assert h.place(funded, "hold:1", expires_at=soon) == Placed(placed.id, created=False)
    assert h.account(session, funded) == (100, 40)
    assert h.expire() == 1
    h.place(b.new_tenant(), "hold:1", source=PENDING_MONEY)  # another tenant's is another hold
    book(funded, "spend", b.move(ALICE, CUSTODY, 100))
    with db.transaction() as own:
        accounts.close(own, tenant=funded, code=ALICE, asset=ETH, reason="gone", actor="ada")
    assert h.place(funded, "hold:1", expires_at=soon) == Placed(placed.id, created=False)


@pytest.mark.parametrize(
    "change",
    [
        {"units": 41},
        {"source": "user:carol:available"},
        {"destination": FEES},
        {"asset": EUR},
        {"expires_at": h.LATER},
        {"subject": "x"},
    ],
    ids=str,
)
def test_one_reference_is_one_hold(funded: str, session: Session, change: dict[str, object]) -> None:
    placed = h.place(funded, "hold:1")
    before = h.written(session)
    session.rollback()
    with pytest.raises(ReferenceReusedError, match=f"booked with other content as hold {placed.id}"):
        h.place(funded, "hold:1", **{"units": 40} | change)  # type: ignore[arg-type]
    assert h.written(session) == before


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"units": 101}, InsufficientFundsError, "has 100 units of .* available, and 101 were asked for"),
        ({"source": "user:carol:available"}, InsufficientFundsError, "user:carol:available has 0 units"),
        ({"units": 0}, InvalidRequestError, "above zero"),
        ({"units": -1}, InvalidRequestError, "above zero"),
        ({"units": UNITS_MAX + 1}, InvalidRequestError, "38 digits"),
        ({"destination": ALICE}, InvalidRequestError, "source and destination are both"),
        ({"destination": "moon:1"}, InvalidRequestError, "no place for 'moon:1'"),
        ({"source": "moon:1"}, InvalidRequestError, "no place for 'moon:1'"),
        ({"asset": "iso4217:XTS"}, InvalidRequestError, "'iso4217:XTS' is unknown"),
        ({"source": CUSTODY, "destination": ALICE}, InvalidRequestError, "kept in several rows and can't be held"),
        ({"source": FEES}, InvalidRequestError, "kept in several rows and can't be held"),
        ({"source": "user:alice:owed"}, InvalidRequestError, "normal side is debit"),
        ({"expires_at": datetime(2100, 1, 1)}, InvalidRequestError, "time zone"),  # noqa: DTZ001
        ({"expires_at": datetime(2001, 1, 1, tzinfo=UTC)}, InvalidRequestError, "has passed already"),
        ({"reference": ""}, InvalidRequestError, "printable characters"),
        ({"tenant": ""}, InvalidRequestError, "tenant"),
    ],
    ids=str,
)
def test_what_can_not_be_held_is_refused_and_nothing_is_written(
    funded: str, session: Session, change: dict[str, object], error: type[Exception], words: str
) -> None:
    before = h.written(session)
    session.rollback()
    given: dict[str, object] = {"tenant": funded, "reference": "hold:1", "units": 40} | change
    with db.transaction() as own, pytest.raises(error, match=words):
        holds.place(own, h.new_hold(**given))  # type: ignore[arg-type]  # and the transaction goes on and commits
    assert h.written(session) == before


def test_holds_bind_what_they_hold_and_no_more(funded: str, session: Session) -> None:
    h.place(funded, "hold:1", 40)
    h.place(funded, "hold:2", 50)
    with pytest.raises(InsufficientFundsError) as refused:
        h.place(funded, "hold:3", 11)
    assert refused.value.available == 10
    with pytest.raises(InsufficientFundsError) as refused:
        book(funded, "pay:1", b.move(ALICE, BOB, 11))
    assert refused.value.available == 10
    book(funded, "pay:2", b.move(ALICE, BOB, 10))
    book(funded, "deposit:2", b.move(CUSTODY, ALICE, 5))
    assert h.account(session, funded) == (95, 90)


def test_an_account_without_a_floor_may_hold_what_it_has_not(books: str, session: Session) -> None:
    first = h.place(books, "hold:1", UNITS_MAX - 1, source=PENDING_MONEY).id
    with pytest.raises(InvalidRequestError, match="38 digits"):
        h.place(books, "hold:2", 2, source=PENDING_MONEY)
    assert h.account(session, books, PENDING_MONEY) == (0, UNITS_MAX - 1)
    session.rollback()
    book(books, "pay:1", b.move(PENDING_MONEY, BOB, 3))  # a hold of it binds nothing
    h.capture(books, first, "capture:1", UNITS_MAX - 4)
    assert h.account(session, books, PENDING_MONEY) == (1 - UNITS_MAX, 0)


def test_amounts_of_38_digits_are_held_and_captured(books: str, session: Session) -> None:
    book(books, "deposit:1", b.move(CUSTODY, ALICE, UNITS_MAX))
    hold_id = h.place(books, "hold:1", UNITS_MAX).id
    h.capture(books, hold_id, "capture:1", UNITS_MAX - 1)
    assert (h.account(session, books), h.account(session, books, BOB)) == ((1, 0), (UNITS_MAX - 1, 0))


# --- capturing --------------------------------------------------------------------------------------------------------


def test_a_capture_is_a_journal_that_names_its_hold(funded: str, session: Session) -> None:
    hold_id = h.place(funded, "hold:1", subject="payout:1", correlation_id="c-1", destination=FEES).id
    happened, job = datetime(2026, 1, 31, tzinfo=UTC), new_id()
    posted = h.capture(
        funded, hold_id, "capture:1", 15, category="payout.paid", effective_at=happened, job_id=job, metadata={"a": 1}
    )
    found, record = holds.hold(session, funded, hold_id), balances.journal(session, funded, journal_id=posted.id)
    assert record is not None
    assert (found.state, found.posted_units, found.journal_id) == ("posted", 15, posted.id)
    assert found.settled_at is not None and found.settled_at >= record.booked_at
    assert (record.reference, record.category, record.subject) == ("capture:1", "payout.paid", "payout:1")
    assert (record.correlation_id, record.job_id, record.effective_at) == ("c-1", job, happened)
    assert record.metadata == {"hold_id": str(hold_id), "a": 1}
    assert [(entry.code, entry.units) for entry in record.entries] == [(ALICE, -15), (FEES, 15)]
    assert h.account(session, funded) == (85, 0)
    b.assert_sound()


def test_a_reference_that_books_something_else_captures_nothing(funded: str, session: Session) -> None:
    first, second = (h.place(funded, f"hold:{n}", 40).id for n in (1, 2))
    h.capture(funded, first, "capture:1")
    before = h.written(session)
    session.rollback()
    for reference in ("deposit:1", "capture:1"):  # of other content, and of the very same content
        with pytest.raises(ReferenceReusedError):
            h.capture(funded, second, reference)
        assert h.written(session) == before
        session.rollback()
    assert h.account(session, funded) == (60, 40)


def test_holds_are_their_tenants_only(funded: str, session: Session) -> None:
    hold_id, stranger = h.place(funded, "hold:1").id, b.new_tenant()
    for tenant, wanted in ((stranger, hold_id), (funded, new_id())):
        for work in (h.hold, h.void, lambda tenant, wanted: h.capture(tenant, wanted, "capture:1")):
            with pytest.raises(NotFoundError, match=f"there is no hold {wanted}"):
                work(tenant, wanted)
    assert holds.holds(session, stranger).rows == ()


def test_what_stands_in_the_way_of_a_capture_leaves_the_hold_pending(funded: str, session: Session) -> None:
    book(funded, "deposit:2", b.move(CUSTODY, BOB, 90))
    hold_id = h.place(funded, "hold:1", 40).id

    def control(work: Callable[..., object], code: str, **more: object) -> None:
        with db.transaction() as own:
            work(own, tenant=funded, code=code, asset=ETH, reason="test", actor="ada", **more)

    def refused(error: type[Exception], code: str) -> None:
        before = h.written(session)
        session.rollback()
        with db.transaction() as own, pytest.raises(error, match=code):
            holds.capture(own, tenant=funded, hold_id=hold_id, reference="capture:1")
        assert h.written(session) == before
        session.rollback()

    control(accounts.freeze, ALICE)
    refused(AccountFrozenError, ALICE)
    with pytest.raises(AccountFrozenError):
        h.place(funded, "hold:2", 1)
    control(accounts.unfreeze, ALICE)
    control(accounts.limit, BOB, ceiling=129)
    refused(CeilingExceededError, BOB)
    control(accounts.limit, BOB, ceiling=130)
    control(accounts.freeze, BOB)  # what arrives is booked
    book(funded, "empty", b.move("user:carol:pending", CUSTODY, 1))
    third = h.place(funded, "hold:3", 1, destination="user:dora:available").id
    control(accounts.close, "user:dora:available")
    with pytest.raises(AccountClosedError, match="dora"):
        h.capture(funded, third, "capture:3")
    with pytest.raises(AccountClosedError, match="dora"):
        h.place(funded, "hold:4", 1, destination="user:dora:available")
    control(accounts.freeze, ALICE)
    assert h.void(funded, third)  # letting go takes nothing out
    control(accounts.unfreeze, ALICE)
    assert h.capture(funded, hold_id, "capture:1").created
    assert (h.account(session, funded), h.account(session, funded, BOB)) == ((60, 0), (130, 0))
    b.assert_sound()


def test_a_capture_can_be_reversed_and_stays_captured(funded: str, session: Session) -> None:
    hold_id = h.place(funded, "hold:1", 40).id
    posted = h.capture(funded, hold_id, "capture:1")
    with db.transaction() as own:
        reverse(own, tenant=funded, reference="undo", journal_id=posted.id)
    assert h.account(session, funded) == (100, 0)
    assert h.capture(funded, hold_id, "capture:1") == Posted(posted.id, created=False)


# --- deadlines --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["one posting", "a journal of several", "a batch", "a hold"])
def test_money_of_a_hold_past_its_deadline_is_there_before_the_sweep(
    funded: str, superuser_url: str, session: Session, way: str
) -> None:
    late = [h.place(funded, f"hold:{n}", 30, expires_at=h.LATER).id for n in (1, 2)]
    stays = h.place(funded, "hold:3", 10).id
    h.pass_deadline(superuser_url, *late)
    if way == "one posting":
        book(funded, "pay:1", b.move(ALICE, BOB, 90))
    elif way == "a journal of several":
        book(funded, "pay:1", b.move(ALICE, BOB, 30), b.move(ALICE, FEES, 60))
    elif way == "a batch":
        made = book_all([b.journal(funded, f"pay:{n}", b.move(ALICE, BOB, 18)) for n in range(6)])
        assert [outcome.error is None for outcome in made] == [True] * 5 + [False]
    else:
        h.place(funded, "hold:4", 90)
    assert h.account(session, funded) == ((100, 100) if way == "a hold" else (10, 10))
    assert [holds.hold(session, funded, one).state for one in (*late, stays)] == ["expired", "expired", "pending"]
    b.assert_sound()


def test_what_a_refused_journal_of_a_batch_let_go_is_there_for_the_next(
    funded: str, superuser_url: str, session: Session
) -> None:
    h.pass_deadline(superuser_url, h.place(funded, "hold:1", 60, expires_at=h.LATER).id)
    wanted = [(ALICE, 300), (ALICE, 80)]
    made = book_all([b.journal(funded, f"pay:{n}", b.move(code, BOB, n)) for code, n in wanted])
    assert isinstance(made[0].error, InsufficientFundsError) and made[0].error.available == 100
    assert made[1].posted is not None
    assert h.account(session, funded) == (20, 0)


@pytest.mark.parametrize("batch", [False, True])
def test_holds_that_end_widen_no_ceiling(funded: str, superuser_url: str, session: Session, batch: bool) -> None:
    book(funded, "deposit:2", b.move(CUSTODY, BOB, 90))
    hold_id = h.place(funded, "hold:1", 50, source=BOB, destination=ALICE, expires_at=h.LATER).id
    with db.transaction() as own:
        accounts.limit(own, tenant=funded, code=BOB, asset=ETH, ceiling=100, reason="card", actor="ada")
    h.pass_deadline(superuser_url, hold_id)  # the limit would have let it go
    journals = [b.journal(funded, f"pay:{n}", b.move(ALICE, BOB, n)) for n in (11, 20)]
    outcomes = book_all(journals if batch else journals[:1])
    assert [type(outcome.error) for outcome in outcomes] == [CeilingExceededError] * len(outcomes)
    assert h.account(session, funded, BOB)[0] == 90
    b.assert_sound()


def test_the_sweep_takes_the_oldest_first_and_no_more_than_its_limit(
    funded: str, superuser_url: str, session: Session
) -> None:
    made = [h.place(funded, f"hold:{n}", 10, expires_at=h.LATER).id for n in range(4)]
    for age, hold_id in enumerate(made[:3]):
        h.pass_deadline(superuser_url, hold_id, ago=timedelta(minutes=1 + age))
    assert [h.expire(2), h.expire(2), h.expire(2)] == [2, 1, 0]
    assert [holds.hold(session, funded, one).state for one in made] == ["expired"] * 3 + ["pending"]
    found = [holds.hold(session, funded, one).settled_at for one in made[:3]]
    assert found[1] == found[2] and found[0] is not None and found[1] is not None and found[0] > found[1]
    assert h.account(session, funded) == (100, 10)


def test_the_sweep_leaves_accounts_that_somebody_works_on(funded: str, superuser_url: str, session: Session) -> None:
    book(funded, "deposit:2", b.move(CUSTODY, BOB, 90))
    busy = h.place(funded, "hold:1", 10, expires_at=h.LATER).id
    idle = h.place(funded, "hold:2", 10, source=BOB, destination=ALICE, expires_at=h.LATER).id
    h.pass_deadline(superuser_url, busy, idle)
    with db.transaction() as own:
        balances.balance(own, funded, ALICE, ETH, for_update=True)
        assert h.expire() == 1
        assert [h.hold(funded, one).state for one in (busy, idle)] == ["pending", "expired"]
    assert h.expire() == 1
    assert (h.account(session, funded), h.account(session, funded, BOB)) == ((100, 0), (90, 0))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_holds_are_listed_newest_first_by_account_state_and_subject(funded: str, session: Session) -> None:
    made = [h.place(funded, f"hold:{n}", 10, subject=f"payout:{n % 2}").id for n in range(5)]
    other = h.place(funded, "other", 3, source=PENDING_MONEY).id
    h.void(funded, made[1])
    assert [row.id for row in holds.holds(session, funded).rows] == [other, *made[::-1]]
    assert [row.id for row in holds.holds(session, funded, account=ALICE).rows] == made[::-1]
    assert [row.id for row in holds.holds(session, funded, account=PENDING_MONEY).rows] == [other]
    assert holds.holds(session, funded, account=BOB).rows == ()
    assert [row.id for row in holds.holds(session, funded, state=HoldState.VOIDED).rows] == [made[1]]
    odd = holds.holds(session, funded, subject="payout:1", state=HoldState.PENDING)
    assert [row.id for row in odd.rows] == [made[3]]


def test_pages_of_holds_stay_put_while_new_ones_are_placed(funded: str, session: Session) -> None:
    made = [h.place(funded, f"hold:{n}", 10).id for n in range(5)][::-1]
    first = holds.holds(session, funded, limit=2)
    h.place(funded, "later", 10)
    second = holds.holds(session, funded, limit=2, cursor=first.cursor)
    third = holds.holds(session, funded, limit=2, cursor=second.cursor)
    assert [row.id for page in (first, second, third) for row in page.rows] == made
    assert third.cursor is None
    for cursor in ("made-up", "e30", "MQ"):
        with pytest.raises(InvalidRequestError, match="cursor"):
            holds.holds(session, funded, cursor=cursor)
    with pytest.raises(InvalidRequestError, match="a page has"):
        holds.holds(session, funded, limit=0)


# --- what the database refuses by itself ------------------------------------------------------------------------------


def test_only_the_functions_write_holds(
    funded: str, postgres: Postgres, database_url: str, subtests: pytest.Subtests
) -> None:
    posted, pending = (h.place(funded, f"hold:{n}", 10).id for n in (1, 2))
    h.capture(funded, posted, "capture:1")
    changes = (
        ("DELETE FROM ledger_holds", "kept for ever"),
        ("TRUNCATE ledger_holds", "kept for ever"),
        (f"UPDATE ledger_holds SET posted_units = 9 WHERE id = '{posted}'", "a settled hold never changes"),
        (f"UPDATE ledger_holds SET units = 1 WHERE id = '{pending}'", "what was placed never changes"),
        (f"UPDATE ledger_holds SET expires_at = now() WHERE id = '{pending}'", "what was placed never changes"),
        (f"UPDATE ledger_holds SET state = 'posted' WHERE id = '{pending}'", "ck_ledger_holds_settled"),
        (f"UPDATE ledger_holds SET state = 'gone', settled_at = now() WHERE id = '{pending}'", "ck_ledger_holds_state"),
        ("UPDATE ledger_account_changes SET reason = ''", "kept for ever"),
        ("DELETE FROM ledger_account_changes", "kept for ever"),
        ("TRUNCATE ledger_account_changes CASCADE", "kept for ever"),
    )
    database = database_url.rsplit("/", 1)[1]
    for user, options in (("tallyrail_owner", ""), ("postgres", ""), ("tallyrail_login", f"-c role={APP_ROLE}")):
        with psycopg.connect(postgres.url_of(user, database), options=options) as connection:
            for change, words in changes:
                match = "permission denied" if options else words
                with subtests.test(change, user=user), pytest.raises(psycopg.Error, match=match):
                    connection.execute(change)
                connection.rollback()
            if options:
                for function in ("ledger_let_go(1)", "ledger_booked(NULL, NULL, NULL)"):
                    with subtests.test(function), pytest.raises(psycopg.Error, match="permission denied"):
                        connection.execute(f"SELECT {function}")
                    connection.rollback()


@pytest.mark.parametrize(("code", "rule"), [(CUSTODY, "held"), ("user:alice:owed", "held"), (ALICE, "bounds")])
def test_no_account_holds_what_it_can_not(funded: str, superuser_url: str, code: str, rule: str) -> None:
    book(funded, "debt:1", b.move("user:alice:owed", ALICE, 5))
    with (
        psycopg.connect(superuser_url) as connection,
        pytest.raises(psycopg.errors.CheckViolation, match=f"its {rule} is impossible"),
    ):
        connection.execute("UPDATE ledger_accounts SET held = 1000 WHERE code = %s", (code,))
