"""What each operation does to a hold in each of its states: the table of docs/ledger-holds.md, proven."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError
from ledger.errors import HoldExceededError, HoldSettledError, InsufficientFundsError, ReferenceReusedError
from tests.integration.ledger import books as b
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, book


def make_pending(tenant: str, url: str) -> UUID:
    return h.place(tenant, "hold:1", 40, expires_at=h.LATER).id


def make_late(tenant: str, url: str) -> UUID:
    """Pending, past its deadline, and nobody has come by."""
    made = make_pending(tenant, url)
    h.pass_deadline(url, made)
    return made


def make_posted(tenant: str, url: str) -> UUID:
    made = make_pending(tenant, url)
    h.capture(tenant, made, "capture:1")
    return made


def make_voided(tenant: str, url: str) -> UUID:
    made = make_pending(tenant, url)
    assert h.void(tenant, made)
    return made


def make_expired(tenant: str, url: str) -> UUID:
    made = make_late(tenant, url)
    assert h.expire() == 1
    return made


STATES = {
    "pending": make_pending,
    "late": make_late,
    "posted": make_posted,
    "voided": make_voided,
    "expired": make_expired,
}


def capture(*references: str, units: int | None = None) -> Callable[[str, UUID], str]:
    """Capture under each of the references, in a row. Says what the last one gave."""

    def work(tenant: str, hold_id: UUID) -> str:
        made = [h.capture(tenant, hold_id, reference, units) for reference in references]
        assert len({posted.id for posted in made}) == 1
        return "created" if made[-1].created else "repeat"

    return work


def void(times: int) -> Callable[[str, UUID], str]:
    def work(tenant: str, hold_id: UUID) -> str:
        return ["repeat", "let go"][[h.void(tenant, hold_id) for _ in range(times)][-1]]

    return work


OPERATIONS: dict[str, Callable[[str, UUID], str]] = {
    "capture whole": capture("capture:new"),
    "capture part": capture("capture:new", units=15),
    "capture more": capture("capture:new", units=41),
    "capture nothing": capture("capture:new", units=0),
    "capture less than nothing": capture("capture:new", units=-5),
    "capture again the same": capture("capture:1", "capture:1"),
    "capture again other units": capture("capture:1", units=15),
    "capture again elsewhere": capture("capture:1", "capture:2"),
    "void": void(1),
    "void twice": void(2),
    "expire": lambda tenant, hold_id: f"{h.expire()} expired",
}


@dataclass(frozen=True)
class After:
    """Of Alice, who had 100 and 40 of them held. `leaves` is what she can spend, the late hold's money included."""

    result: str
    state: str
    balance: int
    held: int
    leaves: int


NO_UNITS = "InvalidRequestError: units must be above zero"
POSTED = "HoldSettledError: is posted already"
VOIDED = "HoldSettledError: is voided already"
LATE = "HoldSettledError: is expired already: its deadline was "
TABLE = {
    ("pending", "capture whole"): After("created", "posted", 60, 0, 60),
    ("pending", "capture part"): After("created", "posted", 85, 0, 85),
    ("pending", "capture more"): After(
        "HoldExceededError: holds 40 units, and 41 were to be captured", "pending", 100, 40, 60
    ),
    ("pending", "capture nothing"): After(NO_UNITS, "pending", 100, 40, 60),
    ("pending", "capture less than nothing"): After(NO_UNITS, "pending", 100, 40, 60),
    ("pending", "capture again the same"): After("repeat", "posted", 60, 0, 60),
    ("pending", "capture again other units"): After("created", "posted", 85, 0, 85),
    ("pending", "capture again elsewhere"): After(POSTED, "posted", 60, 0, 60),
    ("pending", "void"): After("let go", "voided", 100, 0, 100),
    ("pending", "void twice"): After("repeat", "voided", 100, 0, 100),
    ("pending", "expire"): After("0 expired", "pending", 100, 40, 60),
    ("late", "capture whole"): After(LATE, "pending", 100, 40, 100),
    ("late", "capture part"): After(LATE, "pending", 100, 40, 100),
    ("late", "capture more"): After(LATE, "pending", 100, 40, 100),
    ("late", "capture nothing"): After(NO_UNITS, "pending", 100, 40, 100),
    ("late", "capture less than nothing"): After(NO_UNITS, "pending", 100, 40, 100),
    ("late", "capture again the same"): After(LATE, "pending", 100, 40, 100),
    ("late", "capture again other units"): After(LATE, "pending", 100, 40, 100),
    ("late", "capture again elsewhere"): After(LATE, "pending", 100, 40, 100),
    ("late", "void"): After(LATE, "pending", 100, 40, 100),
    ("late", "void twice"): After(LATE, "pending", 100, 40, 100),
    ("late", "expire"): After("1 expired", "expired", 100, 0, 100),
    ("posted", "capture whole"): After(POSTED, "posted", 60, 0, 60),
    ("posted", "capture part"): After(POSTED, "posted", 60, 0, 60),
    ("posted", "capture more"): After(POSTED, "posted", 60, 0, 60),
    ("posted", "capture nothing"): After(NO_UNITS, "posted", 60, 0, 60),
    ("posted", "capture less than nothing"): After(NO_UNITS, "posted", 60, 0, 60),
    ("posted", "capture again the same"): After("repeat", "posted", 60, 0, 60),
    ("posted", "capture again other units"): After("ReferenceReusedError: other content", "posted", 60, 0, 60),
    ("posted", "capture again elsewhere"): After(POSTED, "posted", 60, 0, 60),
    ("posted", "void"): After(POSTED, "posted", 60, 0, 60),
    ("posted", "void twice"): After(POSTED, "posted", 60, 0, 60),
    ("posted", "expire"): After("0 expired", "posted", 60, 0, 60),
    ("voided", "capture whole"): After(VOIDED, "voided", 100, 0, 100),
    ("voided", "capture part"): After(VOIDED, "voided", 100, 0, 100),
    ("voided", "capture more"): After(VOIDED, "voided", 100, 0, 100),
    ("voided", "capture nothing"): After(NO_UNITS, "voided", 100, 0, 100),
    ("voided", "capture less than nothing"): After(NO_UNITS, "voided", 100, 0, 100),
    ("voided", "capture again the same"): After(VOIDED, "voided", 100, 0, 100),
    ("voided", "capture again other units"): After(VOIDED, "voided", 100, 0, 100),
    ("voided", "capture again elsewhere"): After(VOIDED, "voided", 100, 0, 100),
    ("voided", "void"): After("repeat", "voided", 100, 0, 100),
    ("voided", "void twice"): After("repeat", "voided", 100, 0, 100),
    ("voided", "expire"): After("0 expired", "voided", 100, 0, 100),
    ("expired", "capture whole"): After(LATE, "expired", 100, 0, 100),
    ("expired", "capture part"): After(LATE, "expired", 100, 0, 100),
    ("expired", "capture more"): After(LATE, "expired", 100, 0, 100),
    ("expired", "capture nothing"): After(NO_UNITS, "expired", 100, 0, 100),
    ("expired", "capture less than nothing"): After(NO_UNITS, "expired", 100, 0, 100),
    ("expired", "capture again the same"): After(LATE, "expired", 100, 0, 100),
    ("expired", "capture again other units"): After(LATE, "expired", 100, 0, 100),
    ("expired", "capture again elsewhere"): After(LATE, "expired", 100, 0, 100),
    ("expired", "void"): After(LATE, "expired", 100, 0, 100),
    ("expired", "void twice"): After(LATE, "expired", 100, 0, 100),
    ("expired", "expire"): After("0 expired", "expired", 100, 0, 100),
}


def test_the_table_has_every_pair() -> None:
    assert set(TABLE) == {(state, operation) for state in STATES for operation in OPERATIONS}


def test_each_operation_in_each_state(
    books: str, superuser_url: str, session: Session, subtests: pytest.Subtests
) -> None:
    for (state, operation), after in TABLE.items():
        with subtests.test(f"{state}: {operation}"):
            tenant = b.new_tenant()
            book(tenant, "deposit:1", b.move(CUSTODY, ALICE, 100))
            hold_id = STATES[state](tenant, superuser_url)
            before, result = h.written(session), ""
            session.rollback()
            try:
                result = OPERATIONS[operation](tenant, hold_id)
            except (HoldSettledError, HoldExceededError, InvalidRequestError, ReferenceReusedError) as error:
                result = f"{type(error).__name__}: {error}"
            name, _, words = after.result.partition(": ")
            assert result.startswith(name) and words in result
            found = h.hold(tenant, hold_id)
            balance, held = h.account(session, tenant)
            assert (found.state, balance, held) == (after.state, after.balance, after.held)
            if found.state == state or (state == "late" and found.state == "pending"):
                assert h.written(session) == before, "something was written"
            session.rollback()
            assert h.account(session, tenant, BOB)[0] == 100 - balance == (found.posted_units or 0)
            with pytest.raises(InsufficientFundsError) as refused:
                book(tenant, "too much", b.move(ALICE, CUSTODY, 1_000))
            assert refused.value.available == after.leaves
            book(tenant, "all", b.move(ALICE, CUSTODY, after.leaves))
            h.expire()  # whatever the next state does not expect
    b.assert_sound()


def test_an_expired_hold_says_when_it_expired(books: str, superuser_url: str) -> None:
    book(books, "deposit:1", b.move(CUSTODY, ALICE, 100))
    hold_id = make_late(books, superuser_url)
    deadline = h.hold(books, hold_id).expires_at
    for _ in range(2):
        with pytest.raises(HoldSettledError) as refused:
            h.capture(books, hold_id, "capture:1")
        assert (refused.value.state, refused.value.deadline) == ("expired", deadline)
        h.expire()
