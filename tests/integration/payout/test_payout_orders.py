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

from core import clock
from core.db import transaction
from core.errors import InvalidRequestError
from core.ids import new_id
from domain.payout import approving, editing, proceeding, settings, stopping
from domain.payout.editing import Edit
from domain.payout.models import Payout
from domain.payout.states import UNSENT, PayoutState
from ledger import balances
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.payout.counter import EUR, SHOP, Book, events, fund, hold_state, read, said, waiting

__all__ = ["vault_keys"]
PEOPLE = st.sampled_from(["person:ada", "person:bob", "person:eve", "person:Ada"])
FUNDS = 5_000


class Office(RuleBasedStateMachine):
    """Some payouts of one account, and several people who decide about them from what they saw at some time."""

    payouts: Bundle[UUID] = Bundle("payouts")
    sights: Bundle[tuple[UUID, bytes]] = Bundle("sights")

    @initialize()
    def open(self) -> None:
        self.account = f"user:{new_id()}:available"
        fund(FUNDS, self.account)
        self.book = Book(self.account)
        self.known: list[UUID] = []

    def _try(self, step: Callable[[], object]) -> None:
        """Refused or not: the invariants say whether that was right."""
        try:
            step()
        except InvalidRequestError:
            return

    @rule(target=payouts, maker=PEOPLE, needed=st.integers(0, 2), units=st.integers(1, 3_000))
    def ask(self, maker: str, needed: int, units: int) -> UUID | MultipleResults[UUID]:
        try:
            made = waiting(needed=needed, units=units, maker=maker, account=self.account)
        except InvalidRequestError:
            return multiple()
        self.known.append(made)
        return made

    @rule(target=sights, payout=payouts)
    def look(self, payout: UUID) -> tuple[UUID, bytes]:
        return payout, read(payout).content_hash

    @rule(payout=payouts, who=PEOPLE)
    def look_and_approve(self, payout: UUID, who: str) -> None:
        self.approve((payout, read(payout).content_hash), who)

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
    def enough_others_approved_what_it_says_now(self) -> None:
        for payout in self.known:
            found = read(payout)
            if found.current is not PayoutState.APPROVED:
                continue
            told = events(payout)
            hands = {found.maker.casefold(), *(who for event, _, who in told if event == "edit")}
            yes = {who for revision, who, what in said(payout) if revision == found.revision and what == "approve"}
            assert len(yes) >= found.approvals_needed, (found.revision, said(payout))
            assert not yes & hands
            assert all(who == who.casefold() for who in yes)  # one spelling, so that nobody is two

    @invariant()
    def money_is_bound_while_it_may_leave(self) -> None:
        bound = 0
        for payout in self.known:
            found = read(payout)
            assert (hold_state(payout) == "pending") == (found.current in UNSENT), found.state
            bound += found.held_units if found.current in UNSENT else 0
            assert (found.counted_on is not None) <= (found.current in UNSENT)
        with transaction() as session:
            [account] = [each for each in balances.account(session, SHOP, self.account) if each.asset == EUR]
        assert (account.held, account.balance) == (bound, FUNDS)


@pytest.fixture
def office(vault_keys: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PAYOUT_APPROVALS", "[[500, 1], [1500, 2]]")
    monkeypatch.setenv("PAYOUT_LIMIT_CURRENCY", EUR)
    settings.payout.cache_clear()
    yield
    settings.payout.cache_clear()


@pytest.mark.usefixtures("office", "database_url")
def test_whatever_people_do_in_any_order() -> None:
    run_state_machine_as_test(
        Office,
        settings=hypothesis_settings(
            max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
