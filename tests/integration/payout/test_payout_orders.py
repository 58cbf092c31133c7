"""Whatever people do, in any order: nothing is approved by too few, and money is bound exactly while it may leave."""

from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import select
from sqlalchemy.orm import Session

from core import clock
from core.db import transaction
from core.errors import InvalidRequestError
from core.ids import new_id
from domain.payout import approving, editing, proceeding, queries, settings, stopping
from domain.payout.editing import Edit
from domain.payout.models import Payout
from domain.payout.states import UNSENT, PayoutState
from ledger import balances, holds
from ledger.holds import HoldState
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.payout.counter import EUR, SHOP, Book, fund, read, waiting

__all__ = ["vault_keys"]
PEOPLE = st.sampled_from(["person:ada", "person:bob", "person:eve", "person:Ada"])
FUNDS, PENDING = 5_000, HoldState.PENDING


class Office(RuleBasedStateMachine):
    """Some payouts of one account, and several people who decide about them from what they saw at some time."""

    payouts: Bundle[UUID] = Bundle("payouts")
    sights: Bundle[tuple[UUID, bytes]] = Bundle("sights")

    @initialize()
    def open(self) -> None:
        self.account = f"user:{new_id()}:available"
        fund(FUNDS, self.account)
        self.book = Book(self.account)

    def _try(self, step: Callable[[], object]) -> None:
        """Refused or not: the invariants say whether that was right."""
        try:
            step()
        except InvalidRequestError:
            return

    @rule(target=payouts, maker=PEOPLE, needed=st.integers(0, 2), units=st.integers(1, 3_000))
    def ask(self, maker: str, needed: int, units: int) -> UUID | MultipleResults[UUID]:
        try:
            return waiting(needed=needed, units=units, maker=maker, account=self.account)
        except InvalidRequestError:
            return multiple()

    @rule(target=sights, payout=payouts)
    def look(self, payout: UUID) -> tuple[UUID, bytes]:
        return payout, read(payout).content_hash

    @rule(payout=payouts, who=PEOPLE)
    def look_and_approve(self, payout: UUID, who: str) -> None:
        self.approve((payout, read(payout).content_hash), who)

    @rule(payout=payouts, people=st.lists(PEOPLE, min_size=1, max_size=3, unique=True))
    def some_look_and_approve(self, payout: UUID, people: list[str]) -> None:
        for who in people:
            self.look_and_approve(payout, who)

    @rule(sight=sights, who=PEOPLE)
    def approve(self, sight: tuple[UUID, bytes], who: str) -> None:
        with transaction() as session:
            self._try(lambda: approving.approve(session, sight[0], approver=who, seen_hash=sight[1]))

    @rule(sight=consumes(sights), who=PEOPLE)
    def reject(self, sight: tuple[UUID, bytes], who: str) -> None:
        with transaction() as session:
            self._try(lambda: approving.reject(session, sight[0], approver=who, seen_hash=sight[1], reason="no"))

    @rule(payout=payouts, who=PEOPLE, units=st.integers(1, 6_000))
    def edit(self, payout: UUID, who: str, units: int) -> None:
        def step() -> None:
            with transaction() as session:
                seen = read(payout).content_hash
                change, ports = Edit(units=units), self.book.ports()
                editing.edit(session, payout, change, ports, editor=who, seen_hash=seen, reason="typo")

        self._try(step)

    @rule(payout=payouts, who=PEOPLE, step=st.sampled_from([stopping.freeze, stopping.freeze, stopping.thaw]))
    def stop(self, payout: UUID, who: str, step: Callable[..., Payout]) -> None:
        with transaction() as session:
            self._try(lambda: step(session, payout, actor=who, reason="odd"))

    @rule(payout=payouts, who=PEOPLE)
    def thaw_and_proceed(self, payout: UUID, who: str) -> None:
        self.stop(payout, who, stopping.thaw)
        with transaction() as session:
            proceeding.proceed(session, payout, self.book.ports())

    @rule(payout=consumes(payouts), who=PEOPLE)
    def cancel(self, payout: UUID, who: str) -> None:
        with transaction() as session:
            self._try(lambda: stopping.cancel(session, payout, actor=who, reason="no"))

    @rule()
    def expire(self) -> None:
        """An hour passes in no time: what waits for approval is over."""
        with transaction() as session:
            session.query(Payout).filter(
                Payout.account == self.account, Payout.state == "awaiting_approval", Payout.revision > 2
            ).update({"approve_until": clock.now()})
        approving.expire_approvals()

    @invariant()
    def all_is_as_it_must_be(self) -> None:
        with transaction() as session:
            found = session.scalars(select(Payout).where(Payout.account == self.account)).all()
            for payout in found:
                if payout.current is PayoutState.APPROVED:
                    _enough_others_approved_what_it_says_now(session, payout)
            pending = {each.id for each in holds.holds(session, SHOP, account=self.account, state=PENDING).rows}
            [account] = [each for each in balances.account(session, SHOP, self.account) if each.asset == EUR]
        unsent = [payout for payout in found if payout.current in UNSENT]
        assert pending == {payout.hold_id for payout in unsent}
        assert (account.held, account.balance) == (sum(payout.held_units for payout in unsent), FUNDS)
        assert all(payout.counted_on is None for payout in found if payout not in unsent)


def _enough_others_approved_what_it_says_now(session: Session, payout: Payout) -> None:
    said = queries.approvals(session, payout.id, revision=payout.revision)
    yes = {each.approver for each in said if each.decision == "approve"}
    edits = {each.actor for each in queries.history(session, payout.id) if each.event == "edit"}
    assert len(yes) >= payout.approvals_needed, (payout.revision, yes)
    assert not yes & {payout.maker.casefold(), *edits}
    assert all(who == who.casefold() for who in yes)  # one spelling, so that nobody is two


@pytest.fixture
def office(vault_keys: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PAYOUT_APPROVALS", "[[500, 2]]")
    monkeypatch.setenv("PAYOUT_LIMIT_CURRENCY", EUR)
    settings.payout.cache_clear()
    yield
    settings.payout.cache_clear()


@pytest.mark.usefixtures("office", "database_url")
def test_whatever_people_do_in_any_order() -> None:
    run_state_machine_as_test(
        Office,
        settings=hypothesis_settings(
            max_examples=12, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
