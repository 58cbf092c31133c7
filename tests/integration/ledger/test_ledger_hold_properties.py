"""Holds in any order against a plain Python model: balances, what is held, and what becomes of each."""

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from ledger.errors import HoldExceededError, HoldSettledError, InsufficientFundsError
from ledger.posting import Posting
from tests.integration.ledger import books as b
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, FEES, book
from tests.integration.ledger.test_ledger_properties import quick

BOUND = "user:alice:pending"  # without a floor
FLOORED = (ALICE, BOB)
OWNERS = (ALICE, BOB, BOUND)


@dataclass
class Held:
    id: UUID
    reference: str
    source: str
    destination: str
    units: int
    state: str = "pending"
    late: bool = False
    posted: tuple[str, int] | None = None
    """Reference and units of the capture."""


class Model:
    """What the books must say: balances, and holds that bind them."""

    def __init__(self) -> None:
        self.balances: Counter[str] = Counter()
        self.holds: list[Held] = []

    def held(self, code: str) -> int:
        return sum(one.units for one in self.holds if one.source == code and one.state == "pending")

    def frees(self, code: str, units: int) -> list[Held] | None:
        """The holds that are let go so that these units can leave, or None if they can't."""
        late = [one for one in self.holds if one.source == code and one.state == "pending" and one.late]
        available = self.balances[code] - self.held(code)
        if code not in FLOORED or available >= units:
            return []
        return late if available + sum(one.units for one in late) >= units else None

    def accepts(self, postings: list[Posting]) -> bool:
        """Book the postings, whole or not at all."""
        before = self.balances.copy()
        gone: list[Held] = []
        for posting in postings:
            freed = self.frees(posting.source, posting.units)
            if freed is None:
                self.balances = before
                for one in gone:
                    one.state = "pending"
                return False
            for one in freed:
                one.state = "expired"
            gone += freed
            self.balances[posting.source] -= posting.units
            self.balances[posting.destination] += posting.units
        return True


pairs = st.tuples(st.sampled_from((*OWNERS, CUSTODY, FEES)), st.sampled_from((*OWNERS, CUSTODY, FEES))).filter(
    lambda pair: pair[0] != pair[1]
)
units = st.integers(1, 60)
postings = st.lists(
    st.builds(lambda pair, amount: b.move(pair[0], pair[1], amount), pairs, units), min_size=1, max_size=4
)


class Holds(RuleBasedStateMachine):
    """Places, captures, voids, deadlines that pass, sweeps and posts, in any order."""

    superuser_url = ""

    def __init__(self) -> None:
        super().__init__()
        self.tenant, self.model, self.number = b.new_tenant(), Model(), 0

    def next(self, kind: str) -> str:
        self.number += 1
        return f"{kind}:{self.number}"

    @initialize()
    def funds_the_accounts(self) -> None:
        for code in (*OWNERS, FEES):
            content = [b.move(CUSTODY, code, 100)]
            book(self.tenant, f"fund:{code}", *content)
            assert self.model.accepts(content)

    @rule(content=postings)
    def posts(self, content: list[Posting]) -> None:
        expected = self.model.accepts(content)
        try:
            book(self.tenant, self.next("post"), *content)
        except InsufficientFundsError:
            assert not expected
            return
        assert expected

    @rule(pair=pairs.filter(lambda pair: pair[0] in OWNERS), amount=units)
    def places(self, pair: tuple[str, str], amount: int) -> None:
        (source, destination), reference = pair, self.next("hold")
        freed = self.model.frees(source, amount)
        try:
            made = h.place(self.tenant, reference, amount, source=source, destination=destination, expires_at=h.LATER)
        except InsufficientFundsError:
            assert freed is None
            return
        assert freed is not None and made.created
        for one in freed:
            one.state = "expired"
        self.model.holds.append(Held(made.id, reference, source, destination, amount))

    def pick(self, index: int) -> Held:
        return self.model.holds[index % len(self.model.holds)]

    @precondition(lambda self: self.model.holds)
    @rule(index=st.integers(0, 99))
    def places_again(self, index: int) -> None:
        one = self.pick(index)
        if not one.late:  # a moved deadline is other content
            again = h.place(
                self.tenant,
                one.reference,
                one.units,
                source=one.source,
                destination=one.destination,
                expires_at=h.LATER,
            )
            assert (again.id, again.created) == (one.id, False)

    @precondition(lambda self: self.model.holds)
    @rule(index=st.integers(0, 99), amount=st.one_of(st.none(), units))
    def captures(self, index: int, amount: int | None) -> None:
        one, reference = self.pick(index), self.next("capture")
        asked = one.units if amount is None else amount
        expected = "expired" if one.late and one.state == "pending" else one.state
        if expected == "pending":
            expected = "exceeded" if asked > one.units else "created"
        assert self.result_of(one, reference, amount) == expected
        if expected != "created":
            return
        one.state, one.posted = "posted", (reference, asked)
        self.model.balances[one.source] -= asked
        self.model.balances[one.destination] += asked

    def result_of(self, one: Held, reference: str, amount: int | None) -> str:
        try:
            posted = h.capture(self.tenant, one.id, reference, amount)
        except HoldSettledError as error:
            return error.state
        except HoldExceededError:
            return "exceeded"
        return "created" if posted.created else "repeat"

    @precondition(lambda self: any(one.posted for one in self.model.holds))
    @rule(index=st.integers(0, 99))
    def captures_again(self, index: int) -> None:
        posted = [one for one in self.model.holds if one.posted]
        one = posted[index % len(posted)]
        assert one.posted is not None
        assert not h.capture(self.tenant, one.id, *one.posted).created

    @precondition(lambda self: self.model.holds)
    @rule(index=st.integers(0, 99))
    def voids(self, index: int) -> None:
        one = self.pick(index)
        try:
            first = h.void(self.tenant, one.id)
        except HoldSettledError:
            assert one.state in ("posted", "expired") or (one.state == "pending" and one.late)
            return
        assert one.state in ("pending", "voided") and (one.state == "voided" or not one.late)
        assert first == (one.state == "pending")
        one.state = "voided"

    @precondition(lambda self: any(one.state == "pending" for one in self.model.holds))
    @rule(index=st.integers(0, 99))
    def a_deadline_passes(self, index: int) -> None:
        pending = [one for one in self.model.holds if one.state == "pending"]
        one = pending[index % len(pending)]
        h.pass_deadline(self.superuser_url, one.id)
        one.late = True

    @rule()
    def sweeps(self) -> None:
        due = [one for one in self.model.holds if one.state == "pending" and one.late]
        assert h.expire(1_000) == len(due)
        for one in due:
            one.state = "expired"

    @invariant()
    def agrees_with_the_model(self) -> None:
        with transaction() as session:
            found = {code: h.account(session, self.tenant, code)[0] for code in (*OWNERS, CUSTODY, FEES)}
            bound = {code: h.account(session, self.tenant, code)[1] for code in OWNERS}
            assert found == {code: self.model.balances[code] for code in found}
            assert sum(found.values()) == 0
            assert bound == {code: self.model.held(code) for code in OWNERS} == pending(session, self.tenant)
            assert all(found[code] - bound[code] >= 0 for code in FLOORED)
            states = session.execute(
                text("SELECT id, state, posted_units FROM ledger_holds WHERE tenant = :tenant"),
                {"tenant": self.tenant},
            ).all()
        assert {row.id: (row.state, row.posted_units) for row in states} == {
            one.id: (one.state, one.posted[1] if one.posted else None) for one in self.model.holds
        }

    def teardown(self) -> None:
        h.expire(1_000)  # the sweep is of all tenants
        b.assert_sound()


def pending(session: Session, tenant: str) -> dict[str, int]:
    """What the holds themselves say is held."""
    rows = session.execute(
        text("""
            SELECT a.code, sum(h.units) AS units
            FROM ledger_holds h JOIN ledger_accounts a ON a.id = h.account_id
            WHERE h.tenant = :tenant AND h.state = 'pending' GROUP BY a.code"""),
        {"tenant": tenant},
    )
    return dict.fromkeys(OWNERS, 0) | {row.code: int(row.units) for row in rows}


def test_any_order_of_holds_and_posts_agrees_with_the_model(books: str, superuser_url: str) -> None:
    class Here(Holds):
        pass

    Here.superuser_url = superuser_url
    run_state_machine_as_test(Here, settings=settings(quick, max_examples=12, stateful_step_count=25))
