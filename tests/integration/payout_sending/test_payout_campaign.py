"""Anything goes wrong, in any order: at most one payout of each at the providers, and the books say where the money is.

Providers keep to what their `abilities` promise (a key makes none twice within its window, what is there is found
before `absent_after`), and to nothing else: they answer late, not at all or with refusals, lose webhooks, take back
what was paid. Time passes in between. In the end they are well, and everything is looked at.
"""

from datetime import timedelta
from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from sqlalchemy import text

from core.db import transaction
from domain.payout.states import PayoutState
from providers.payout.base import Refusal, Remittance, RemittanceState, Standing
from tests.integration.payout_sending.desk import FEE, OWED, RICH, SUSPENSE, TRANSIT, UNITS, USER, Desk
from tests.integration.payout_sending.scripted import ScriptedProvider

S = PayoutState
R = RemittanceState
LIVE = (R.PENDING, R.PAID)
ANSWERS: list[Standing | Refusal | None] = [
    Standing.ACCEPTED, Standing.UNKNOWN, Standing.UNKNOWN, None, None, Standing.NOT_SENT,
    Refusal.DESTINATION, Refusal.FUNDS, Refusal.LIMIT, Refusal.PROVIDER, Refusal.REQUEST,
]  # fmt: skip
"""None: unknown, and nothing was made."""
LATER = [timedelta(seconds=3), timedelta(minutes=2), timedelta(minutes=20), timedelta(hours=2), timedelta(hours=25)]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.sampled_from(["acme", "bravo"]), st.sampled_from(ANSWERS)),
        st.tuples(st.just("submit")),
        st.tuples(st.just("dies")),
        st.tuples(st.just("poll"), st.sampled_from(LATER)),
        st.tuples(st.just("webhook"), st.integers(0, 3)),
        st.tuples(st.just("pay"), st.integers(0, 3)),
        st.tuples(st.just("fail"), st.integers(0, 3), st.sampled_from([*Refusal])),
        st.tuples(st.just("give_back"), st.integers(0, 3)),
        st.tuples(st.just("away"), st.sampled_from(["acme", "bravo"]), st.booleans()),
        st.tuples(st.just("late"), st.sampled_from(["acme", "bravo"])),
    ),
    min_size=4,
    max_size=16,
)
WINDOWS = st.sampled_from(
    [
        (timedelta(hours=24), None),
        (timedelta(0), timedelta(hours=1)),
        (None, timedelta(hours=1)),
        (timedelta(hours=1), timedelta(hours=3)),
        (timedelta(0), None),
    ]
)
"""(key_window, absent_after)."""
LATENESS = timedelta(minutes=59)


class Died(BaseException):
    """As kill -9 in a call."""


class Story:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.payout: UUID = desk.approved()

    def run(self, step: tuple[object, ...]) -> None:  # noqa: C901 - one line a step
        match step:
            case ("answer", str(name), answer):
                self._answer(self.desk.providers[name], answer)
            case ("submit",):
                self.desk.submit(self.payout)
            case ("dies",):
                self._dies()
            case ("poll", timedelta() as passed):
                self.desk.clock.passed += passed
                self.desk.poll()
            case ("webhook", int(place)):
                attempts = self.desk.attempts(self.payout)
                if attempts:
                    self.desk.look(self.payout, attempts[place % len(attempts)].id)
            case ("pay", int(place)):
                self._tell(place, R.PAID, (R.PENDING,), None)
            case ("fail", int(place), Refusal() as refusal):
                self._tell(place, R.FAILED, (R.PENDING, R.PAID), refusal)
            case ("give_back", int(place)):
                self._tell(place, R.RETURNED, (R.PENDING, R.PAID), Refusal.DESTINATION)
            case ("away", str(name), bool(is_away)):
                self.desk.providers[name].away = is_away
            case ("late", str(name)):
                self.desk.providers[name].late = LATENESS
        self.at_most_one()

    def _answer(self, provider: ScriptedProvider, answer: object) -> None:
        provider.makes_unknown = answer is not None
        provider.answers = [Standing.UNKNOWN if answer is None else answer]  # type: ignore[list-item]

    def _dies(self) -> None:
        def die(_: object) -> None:
            raise Died

        for provider in self.desk.providers.values():
            provider.before_answer = die
        try:
            self.desk.submit(self.payout)
        except Died:
            pass
        finally:
            for provider in self.desk.providers.values():
                provider.before_answer = None

    def _tell(self, place: int, state: R, of: tuple[R, ...], refusal: Refusal | None) -> None:
        made = [told for told in self.made() if told.state in of]
        if made:
            told = made[place % len(made)]
            name = told.provider_ref.partition("_")[0]
            self.desk.providers[name].tell(told.reference, state, refusal)

    def made(self) -> list[Remittance]:
        ours = {each.reference for each in self.desk.attempts(self.payout)}
        return [
            told
            for provider in self.desk.providers.values()
            for told in provider.made.values()
            if told.reference in ours
        ]

    def at_most_one(self) -> None:
        assert max((max(each.accepted.values(), default=0) for each in self.desk.providers.values()), default=0) <= 1
        assert sum(told.state in LIVE for told in self.made()) <= 1

    def end(self) -> None:
        """All is well again, and everything is looked at."""
        for provider in self.desk.providers.values():
            provider.away, provider.answers, provider.late = False, [], timedelta(0)
        self.desk.submit(self.payout)
        for passed in (timedelta(minutes=11), *LATER, *LATER, timedelta(days=1), timedelta(days=3)):
            self.desk.clock.passed += passed
            self.desk.poll()
            for told in self.made():
                if told.state is R.PENDING:
                    self._tell(0, R.PAID, (R.PENDING,), None)
            self.at_most_one()


def check(desk: Desk, story: Story, before: int) -> None:
    state = desk.state(story.payout)
    live = [told for told in story.made() if told.state is R.PAID]
    spent = before - desk.balance(USER)
    if live:
        assert (state, spent) == (S.PAID, UNITS + FEE), desk.events(story.payout)
    else:
        assert state in (S.FAILED, S.RETURNED, S.UNKNOWN, S.FROZEN), desk.events(story.payout)
        assert spent == (0 if state in (S.FAILED, S.RETURNED) else UNITS + FEE)
    held = UNITS + FEE if state in (S.UNKNOWN, S.FROZEN) else 0
    assert desk.balance(TRANSIT) == held
    assert desk.balance(SUSPENSE) == desk.balance(OWED) == 0
    paid = -desk.balance("custody:provider:acme") - desk.balance("custody:provider:bravo")
    assert (paid, desk.balance("house:fees")) == ((UNITS, FEE) if live else (0, 0))
    # hold + fee + payout + return: whatever left its owner is at a provider, ours, or under way.
    assert spent == paid + desk.balance("house:fees") + held


def play(patch: pytest.MonkeyPatch, examples: int, *, phases: tuple[Phase, ...]) -> int:
    played = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )
    @given(STEPS, WINDOWS)
    def story(steps: list[tuple[object, ...]], windows: tuple[timedelta | None, timedelta | None]) -> None:
        nonlocal played
        played += 1
        key_window, absent_after = windows
        providers = [
            ScriptedProvider(name, key_window=key_window, absent_after=absent_after) for name in ("acme", "bravo")
        ]
        with transaction() as session:  # nothing is left of the story before
            session.execute(text("UPDATE payouts SET next_look_at = NULL"))
            session.execute(text("DELETE FROM payout_providers"))
        desk = Desk.of(patch, *providers, tenant=f"shop-{played}")
        one = Story(desk)
        before = RICH
        for step in steps:
            one.run(step)
        one.end()
        check(desk, one, before)
        if played % 50 == 0:
            desk.check_books()

    story()
    Desk.of(patch).check_books()
    return played


def test_whatever_goes_wrong_it_is_paid_at_most_once(books: pytest.MonkeyPatch) -> None:
    assert play(books, 12, phases=(Phase.generate,)) >= 12


@pytest.mark.faults
@pytest.mark.timeout(1_800)
def test_whatever_goes_wrong_at_length(books: pytest.MonkeyPatch) -> None:
    played = play(books, 500, phases=(Phase.generate, Phase.shrink))
    print(f"{played} stories, {played} passed")
