"""People edit, cancel, freeze, thaw and pay by hand: what each leaves of the money, the approvals and the limits."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from core import clock
from core.db import transaction
from core.errors import ConflictError, InvalidRequestError, NotFoundError, TransientError
from domain.payout import approving, books, by_hand, editing, history, proceeding, queries, screening, stopping
from domain.payout import settings as payout_settings
from domain.payout.by_hand import Evidence
from domain.payout.editing import Edit
from domain.payout.errors import LimitExceededError, PayoutRefusedError
from domain.payout.models import PayoutListing, PayoutProviderRow
from domain.payout.states import PAYOUT, PayoutState
from ledger import accounts, balances
from ledger.errors import AccountFrozenError, InsufficientFundsError
from ledger.holds import HoldState
from providers.payout.base import Kind
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.payout.counter import (
    ADA,
    APP,
    BOB,
    EUR,
    EVE,
    SHOP,
    USER,
    Book,
    Entry,
    Par,
    asked_for,
    at_once,
    events,
    fund,
    held,
    hold_state,
    read,
    said,
    seen,
    waiting,
)

__all__ = ["vault_keys"]
pytestmark = pytest.mark.usefixtures("funded")


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def funded(database_url: str, vault_keys: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PAYOUT_FEES", '{"iso4217:EUR": [10, 0]}')
    payout_settings.payout.cache_clear()
    fund(100_000)
    yield
    payout_settings.payout.cache_clear()


def edit(payout: UUID, change: Edit, book: Book, *, editor: str = EVE, hash_: bytes | None = None) -> None:
    with transaction() as session:
        editing.edit(
            session,
            payout,
            change,
            book.ports(),
            editor=editor,
            seen_hash=seen(payout) if hash_ is None else hash_,
            reason="typo",
        )


def approve(payout: UUID, who: str, hash_: bytes | None = None) -> None:
    with transaction() as session:
        approving.approve(session, payout, approver=who, seen_hash=hash_ or seen(payout))


def used() -> dict[str, tuple[int, int]]:
    with transaction() as session:
        rows = session.execute(text("SELECT scope, sum(value_cents), sum(count) FROM payout_usage GROUP BY scope"))
        return {row[0]: (int(row[1]), int(row[2])) for row in rows}


# --- editing ---------------------------------------------------------------------------------------------------------


def test_an_edit_is_another_revision_with_another_hold_that_nobody_has_approved(book: Book) -> None:
    payout = waiting(needed=2)
    before = read(payout)
    approve(payout, ADA)
    edit(payout, Edit(units=500, narration="prize"), book)
    after = read(payout)
    assert (after.state, after.revision, after.units, after.narration) == ("awaiting_approval", 2, 500, "prize")
    assert after.content_hash != before.content_hash and after.hold_id != before.hold_id
    assert held() == (510, 99_490)
    assert used() == dict.fromkeys(("account", "tenant", "destination"), (500, 1))
    with pytest.raises(ConflictError, match="has changed"):
        approve(payout, BOB, before.content_hash)
    for who in (EVE, "person:EVE", APP):
        with pytest.raises(ConflictError, match="another person decides"):
            approve(payout, who)
    approve(payout, ADA)  # what she said of the first revision doesn't count for the second
    assert read(payout).state == "approved"
    edit(payout, Edit(units=700), book)
    edit(payout, Edit(units=600), book, editor=BOB)
    assert used()["account"] == (600, 1) and held() == (610, 99_390)
    with pytest.raises(ConflictError, match="another person decides"):
        approve(payout, EVE)  # she edited an earlier revision of it


def test_what_was_said_of_one_revision_does_not_count_for_the_next(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAYOUT_APPROVALS", "[[1, 2]]")
    payout_settings.payout.cache_clear()
    payout = waiting(needed=2)
    approve(payout, ADA)
    edit(payout, Edit(units=900), book)
    approve(payout, BOB)
    assert read(payout).state == "awaiting_approval" and asked_for(payout) == []
    with transaction() as session:
        stopping.freeze(session, payout, actor=ADA, reason="looks odd")
        stopping.thaw(session, payout, actor=ADA, reason="asked them")
        proceeding.proceed(session, payout, book.ports())
    approve(payout, ADA)
    assert read(payout).state == "awaiting_approval"
    approve(payout, BOB)
    assert read(payout).state == "approved"
    assert [revision for revision, _, _ in said(payout)] == [1, 2, 3, 3]


def test_an_edit_tells_what_it_changed_and_nothing_of_the_destination(book: Book) -> None:
    payout = waiting()
    other = UUID(int=7)
    book.entries[other] = Entry(other, fingerprint="b" * 64, masked="DE****9999", verified_at=clock.now())
    edit(payout, Edit(beneficiary_id=other), book)
    found = read(payout)
    assert (found.beneficiary_id, found.destination_fingerprint, found.destination_masked) == (
        other,
        "b" * 64,
        "DE****9999",
    )
    assert b"DE89" not in found.destination_sealed and found.destination_sealed != b"sealed"
    with transaction() as session:
        [told] = [each for each in queries.history(session, payout) if each.event == "edit"]
    assert told.detail["changed"]["destination"] == ["DE****3000", "DE****9999"]
    assert "DE89370400440532013000" not in str(told.detail)
    assert set(told.detail["changed"]) == {"beneficiary_id", "destination"}


def test_an_edited_payout_waits_for_its_new_destination(book: Book) -> None:
    payout, other = waiting(), UUID(int=7)
    book.entries[other] = Entry(other, state="pending")
    edit(payout, Edit(beneficiary_id=other), book)
    assert read(payout).state == "held" and asked_for(payout) == ["payout.proceed"]
    assert hold_state(payout) is HoldState.PENDING


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (Edit(units=99_991), InsufficientFundsError),  # with the fee one more than there is
        (Edit(units=60_000), LimitExceededError),
        (Edit(units=0), InvalidRequestError),
        (Edit(narration="naïve"), InvalidRequestError),
        (Edit(units=1_000, narration="winnings"), InvalidRequestError),  # as it is
        (Edit(), InvalidRequestError),
        (Edit(beneficiary_id=UUID(int=1)), InvalidRequestError),  # in another's book
        (Edit(beneficiary_id=UUID(int=2)), ConflictError),  # refused
        (Edit(beneficiary_id=UUID(int=3)), InvalidRequestError),  # takes no euros
        (Edit(beneficiary_id=UUID(int=4)), PayoutRefusedError),  # on the deny list
    ],
)
def test_an_edit_that_is_refused_leaves_all_as_it_was(book: Book, change: Edit, error: type[Exception]) -> None:
    one, two, three, four = (UUID(int=n) for n in (1, 2, 3, 4))
    book.entries = {
        one: Entry(one, account="user:7:available"),
        two: Entry(two, state="refused", failure="no_such_account"),
        three: Entry(three, kind=Kind.UPI),
        four: Entry(four, fingerprint="d" * 64),
    }
    with transaction() as session:
        session.add(
            PayoutListing(
                id=one, tenant=None, list="deny", scope="destination", key="d" * 64, actor=ADA, reason="fraud",
                created_at=clock.now(),
            )
        )  # fmt: skip
    payout = waiting(needed=2)
    approve(payout, ADA)
    before, told = read(payout), events(payout)
    with pytest.raises(error):
        edit(payout, change, book)
    after = read(payout)
    names = [column.key for column in type(after).__mapper__.column_attrs]
    assert {name: getattr(after, name) for name in names} == {name: getattr(before, name) for name in names}
    assert events(payout) == told and hold_state(payout) is HoldState.PENDING and held() == (1_010, 98_990)
    approve(payout, BOB)  # what was approved still is
    assert read(payout).state == "approved"


def test_what_can_not_be_edited(book: Book) -> None:
    payout = waiting()
    with pytest.raises(ConflictError, match="has changed"):
        edit(payout, Edit(units=5), book, hash_=b"x")
    by_quote = waiting(payout_asset="iso4217:USD", quote_id=UUID(int=9), payout_units=1_100)
    with pytest.raises(InvalidRequestError, match="quote"):
        edit(by_quote, Edit(units=5), book)
    with transaction() as session:
        stopping.freeze(session, payout, actor=ADA, reason="looks odd")
    with pytest.raises(ConflictError, match="is frozen"):
        edit(payout, Edit(units=5), book)
    sent = waiting(needed=0)
    wanted = waiting(provider_wanted="acme")
    with transaction() as session:
        session.add(
            PayoutProviderRow(
                name="acme", currencies={"iso4217:EUR": {"min": "1", "max": "1000"}}, kinds=["iban"], balances={},
                failures=0, seen_at=clock.now(),
            )
        )  # fmt: skip
    with pytest.raises(InvalidRequestError, match="acme does not send this amount"):
        edit(wanted, Edit(units=1_001), book)
    assert (read(wanted).units, read(wanted).revision) == (1_000, 1)
    with transaction() as session:
        found = queries.lock(session, sent)
        assert found is not None
        found.begun_journal_id = UUID(int=1)
    with pytest.raises(ConflictError, match="was sent before"):
        edit(sent, Edit(units=5), book)


def test_edited_or_approved_but_never_approved_unseen(book: Book) -> None:
    for n in range(8):
        payout = waiting(units=1_000 + n)
        hash_ = seen(payout)
        answers = at_once(
            partial(approving.approve, payout_id=payout, approver=ADA, seen_hash=hash_),
            partial(
                editing.edit,
                payout_id=payout,
                change=Edit(units=500 + n),
                ports=book.ports(),
                editor=EVE,
                seen_hash=hash_,
                reason="typo",
            ),
        )
        assert not isinstance(answers[1], Exception)
        found = read(payout)
        assert (found.state, found.revision, found.units) == ("awaiting_approval", 2, 500 + n)
        assert all(revision == 1 for revision, _, _ in said(payout))
        with transaction() as session:
            stopping.cancel(session, payout, actor=APP, reason="done")
    assert held() == (0, 100_000) and used()["account"] == (0, 0)


# --- cancel, freeze, thaw --------------------------------------------------------------------------------------------


def test_a_frozen_payout_keeps_its_money_and_thaws_into_another_revision() -> None:
    payout = waiting(needed=2)
    approve(payout, ADA)
    hash_ = seen(payout)
    for _ in range(2):
        with transaction() as session:
            stopping.freeze(session, payout, actor=BOB, reason="looks odd", tenant=SHOP)
    assert read(payout).state == "frozen" and hold_state(payout) is HoldState.PENDING
    with pytest.raises(ConflictError, match="is frozen"):
        approve(payout, BOB, hash_)
    with transaction() as session:
        stopping.thaw(session, payout, actor=BOB, reason="asked them")
    found = read(payout)
    assert (found.state, found.revision) == ("held", 2) and found.content_hash != hash_
    assert asked_for(payout) == ["payout.proceed"] and held() == (1_010, 98_990)
    assert [event for event, _, _ in events(payout)[-2:]] == ["freeze", "thaw"]
    with transaction() as session, pytest.raises(ConflictError, match="not frozen"):
        stopping.thaw(session, payout, actor=BOB, reason="again")


def test_a_person_who_freezes_what_the_screening_froze_keeps_it_frozen(book: Book) -> None:
    payout = waiting()
    with transaction() as session:
        found = queries.lock(session, payout)
        assert found is not None
        history.move(session, found, "freeze", now=clock.now(), actor=history.ACTOR, by=screening.SCREENING)
    for _ in range(2):
        with transaction() as session:
            stopping.freeze(session, payout, actor=ADA, reason="looks odd")
    with transaction() as session:
        proceeding.proceed(session, payout, book.ports())  # the deposits are final
    assert read(payout).state == "frozen"
    assert [(event, who) for event, _, who in events(payout)[-2:]] == [("freeze", history.ACTOR), ("freeze", ADA)]


def test_one_that_was_sent_before_is_thawed_screened_and_gives_back_what_is_in_transit(book: Book) -> None:
    payout = waiting(needed=0)
    with transaction() as session:
        found = queries.lock(session, payout)
        assert found is not None
        books.begin(session, found)  # and the provider has refused it since
        stopping.freeze(session, payout, actor=ADA, reason="looks odd")
        stopping.thaw(session, payout, actor=ADA, reason="asked them")
    assert held() == (0, 98_990) and balance("transit:payouts") == 1_010
    with transaction() as session:
        proceeding.proceed(session, payout, book.ports())
    assert read(payout).state == "awaiting_approval"
    with transaction() as session:
        approving.reject(session, payout, approver=BOB, seen_hash=seen(payout), reason="not again")
    assert held() == (0, 100_000) and balance("transit:payouts") == 0


def test_a_frozen_payout_can_be_rejected_or_cancelled() -> None:
    first, second = waiting(), waiting()
    for payout in (first, second):
        with transaction() as session:
            stopping.freeze(session, payout, actor=BOB, reason="looks odd")
    with transaction() as session:
        approving.reject(session, first, approver=BOB, seen_hash=seen(first), reason="fraud")
        stopping.cancel(session, second, actor=APP, reason="the user left")
        stopping.cancel(session, second, actor=APP, reason="the user left")
    assert (read(first).state, read(second).state) == ("rejected", "cancelled")
    assert held() == (0, 100_000)
    for step in (stopping.freeze, stopping.thaw):
        with transaction() as session, pytest.raises(ConflictError):
            step(session, first, actor=ADA, reason="too late")
    with transaction() as session, pytest.raises(NotFoundError):
        stopping.cancel(session, second, actor=APP, reason="not mine", tenant="casino")


def test_cancelled_or_begun_but_never_both() -> None:
    def begin(session: Any, payout: UUID) -> None:
        """What sending does first: the row locked, looked at again, and the intent committed."""
        found = queries.lock(session, payout)
        assert found is not None
        if not PAYOUT.can(found.current, "submit"):
            raise ConflictError("too late to begin")
        history.move(session, found, "submit", now=clock.now(), actor=history.ACTOR)

    ends = set()
    for _ in range(10):
        payout = waiting(needed=0)
        answers = at_once(
            partial(begin, payout=payout),
            partial(stopping.cancel, payout_id=payout, actor=APP, reason="the user changed his mind"),
        )
        assert [isinstance(answer, ConflictError) for answer in answers].count(True) == 1
        state = read(payout).state
        assert hold_state(payout) is (HoldState.PENDING if state == "submitting" else None)
        assert isinstance(answers[1], ConflictError) == (state == "submitting")
        ends.add(state)
    assert ends <= {"submitting", "cancelled"} and ends


def test_a_provider_is_stopped_and_started_with_its_reason() -> None:
    with transaction() as session:
        session.add(
            PayoutProviderRow(name="acme", currencies={}, kinds=[], seen_at=clock.now(), failures=0, balances={})
        )
    with transaction() as session, pytest.raises(NotFoundError, match="no worker has ever had"):
        stopping.stop_provider(session, "amce", actor=ADA, reason="they are down")
    with transaction() as session:
        stopping.stop_provider(session, "acme", actor=ADA, reason="they are down")
        found = stopping.stop_provider(session, "acme", actor=BOB, reason="me too")
        assert (found.stopped_by, found.stopped_reason) == (ADA, "they are down")
        assert found.stopped_at is not None
        found = stopping.start_provider(session, "acme", actor=BOB, reason="they are back")
        assert (found.stopped_by, found.stopped_at, found.stopped_reason) == (None, None, None)


# --- paid by hand ----------------------------------------------------------------------------------------------------


def evidence(reference: str = "FT26-0001", **given: Any) -> Evidence:
    return replace(Evidence(reference=reference, paid_on=clock.now().date(), note="paid at the counter"), **given)


def record(payout: UUID, who: str = ADA, hash_: bytes | None = None, **given: Any) -> None:
    with transaction() as session:
        by_hand.record(session, payout, evidence(**given), actor=who, seen_hash=hash_ or seen(payout))


def confirm(payout: UUID, who: str = BOB) -> None:
    with transaction() as session:
        by_hand.confirm(session, payout, actor=who, reason="seen on the statement")


def balance(code: str, asset: str = EUR) -> int:
    with transaction() as session:
        return balances.balance(session, SHOP, code, asset)


def test_two_people_pay_by_hand_and_the_books_say_so_once() -> None:
    payout = waiting(needed=0)
    for _ in range(2):
        with transaction() as session:
            by_hand.take(session, payout, actor=ADA, reason="no provider reaches them")
    record(payout)
    record(payout)
    with pytest.raises(ConflictError, match="another person confirms"):
        confirm(payout, "person:ADA")
    assert read(payout).state == "approved" and held() == (1_010, 98_990)
    confirm(payout)
    confirm(payout)
    found = read(payout)
    assert found.state == "paid" and found.evidence is not None and found.next_look_at is None
    assert (found.evidence["recorded_by"], found.evidence["confirmed_by"]) == (ADA, BOB)
    assert held() == (0, 98_990)
    assert balance("custody:bank:EUR") == 100_000 - 1_000
    assert balance("house:fees") == 10 and balance("transit:payouts") == 0
    assert [event for event, _, _ in events(payout)].count("pay_by_hand") == 1
    with pytest.raises(ConflictError, match="is paid"):
        confirm(payout, EVE)


def test_what_is_recorded_as_paid_goes_nowhere_else(book: Book) -> None:
    payout = waiting(needed=0, by_hand=True)
    record(payout)
    with transaction() as session:
        for step in (stopping.cancel, stopping.freeze):
            with pytest.raises(ConflictError, match="withdraw the record"):
                step(session, payout, actor=ADA, reason="stop")
    with pytest.raises(ConflictError, match="withdraw the record"):
        edit(payout, Edit(units=5), book)
    with pytest.raises(ConflictError, match="has recorded already"):
        record(payout, BOB)
    with transaction() as session:
        by_hand.withdraw(session, payout, actor=BOB, reason="the bank sent it back")
    with pytest.raises(ConflictError, match="nobody has recorded"):
        confirm(payout)
    with transaction() as session:
        with pytest.raises(ConflictError, match="only a person stops it"):
            stopping.cancel(session, payout, actor=APP, reason="the user left")
        stopping.cancel(session, payout, actor=ADA, reason="the user left, and nobody has paid")
    assert held() == (0, 100_000)


def test_evidence_shows_one_payout_that_was_seen_as_it_is() -> None:
    first, second = waiting(needed=0, by_hand=True), waiting(needed=0, by_hand=True)
    record(first)
    with pytest.raises(ConflictError, match=f"shows that the payout {first} was paid"):
        record(second)
    with pytest.raises(ConflictError, match="has changed"):
        record(second, hash_=b"x", reference="FT26-0002")
    today = clock.now().date()
    for given in (
        {"reference": ""},
        {"reference": "a\nb"},
        {"reference": " a"},
        {"paid_on": today + timedelta(days=1)},
        {"paid_on": today - timedelta(days=2)},
        {"note": " "},
        {"file_sha256": "ABC"},
    ):
        with pytest.raises(InvalidRequestError):
            record(second, **{"reference": "FT26-0002"} | given)
    with pytest.raises(InvalidRequestError, match="only people"):
        record(second, APP, reference="FT26-0002")
    automatic = waiting(needed=0)
    with pytest.raises(ConflictError, match="by a provider"):
        record(automatic, reference="FT26-0003")
    assert read(second).evidence is None and read(automatic).evidence is None


def test_a_frozen_account_keeps_the_confirmation_waiting_and_the_record() -> None:
    payout = waiting(needed=0, by_hand=True)
    record(payout)
    with transaction() as session:
        accounts.freeze(session, tenant=SHOP, code=USER, asset=EUR, reason="court order", actor=ADA)
    with pytest.raises(AccountFrozenError):
        confirm(payout)
    assert read(payout).current is PayoutState.APPROVED and balance("custody:bank:EUR") == 100_000
    with transaction() as session:
        accounts.unfreeze(session, tenant=SHOP, code=USER, asset=EUR, reason="lifted", actor=ADA)
    confirm(payout)
    assert read(payout).state == "paid"


def test_two_who_confirm_at_once_pay_once() -> None:
    payout = waiting(needed=0, by_hand=True)
    record(payout)
    steps = [partial(by_hand.confirm, payout_id=payout, actor=who, reason="seen") for who in (BOB, EVE)]
    answers = at_once(*steps)
    assert [isinstance(answer, ConflictError) for answer in answers].count(True) == 1
    assert balance("custody:bank:EUR") == 99_000 and held() == (0, 98_990)


def test_no_usable_rate_is_no_error_of_the_edit(book: Book) -> None:
    def no_rate(*_: object) -> Par:
        raise TransientError("no rate")

    payout = waiting(needed=0)
    with transaction() as session:
        editing.edit(
            session,
            payout,
            Edit(units=900),
            replace(book.ports(), rate=no_rate),
            editor=APP,
            seen_hash=seen(payout),
            reason="less",
        )
    found = read(payout)
    assert (found.state, found.value_cents) == ("awaiting_approval", None)
