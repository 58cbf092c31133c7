"""Anything goes wrong on a chain, in any order: each payout is paid at most once, and the books know what it cost.

Nodes and the signer go away, forget, lose answers and refuse; fees rise; blocks are replaced; somebody uses our key;
people cancel; workers die before and after each call. In the end all is well, and everything is followed to its end.
"""

from uuid import UUID

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from core.db import transaction
from domain.onchain import cancelling
from domain.onchain.states import OPEN, TransferState
from domain.payout.states import PayoutState
from tests.integration.onchain.lab import Lab, address

T, S = TransferState, PayoutState
UNITS = 1_000
THAWS = 3
"""So often people let go on what was frozen."""
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("payout"), st.sampled_from(["well", "well", "closed", "reverts"])),
        st.tuples(st.just("send")),
        st.tuples(st.just("round"), st.sampled_from([1, 31, 200])),
        st.tuples(st.just("round"), st.sampled_from([31, 200])),
        st.tuples(st.just("rounds")),
        st.tuples(st.just("mine"), st.integers(1, 4)),
        st.tuples(st.just("mine"), st.sampled_from([1, 7])),
        st.tuples(st.just("reorg"), st.integers(1, 5), st.booleans()),
        st.tuples(st.just("foreign")),
        st.tuples(st.just("fee"), st.sampled_from([1, 10, 15, 40])),
        st.tuples(st.just("node"), st.sampled_from(["away", "forgets", "well", "loses"])),
        st.tuples(st.just("signer"), st.sampled_from(["away", "loses", "refuses", "well"])),
        st.tuples(st.just("cancel"), st.integers(0, 3)),
        st.tuples(st.just("dies"), st.integers(1, 12), st.booleans()),
    ),
    min_size=4,
    max_size=30,
)


class Died(BaseException):
    """As kill -9 in a call."""


class Story:
    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.payouts: list[UUID] = []
        self.asked_by: dict[str, UUID] = {}
        """Reference -> payout."""

    def run(self, step: tuple[object, ...]) -> None:  # noqa: C901, PLR0912 - one line a step
        lab, chain, signer = self.lab, self.lab.chain, self.lab.signer
        match step:
            case ("payout", str(kind)):
                self._pay(kind)
            case ("send",):
                lab.send()
            case ("round", int(seconds)):
                lab.round(seconds=seconds)
            case ("rounds",):
                for _ in range(6):
                    lab.round(seconds=31)
            case ("mine", int(blocks)):
                chain.mine(blocks)
            case ("reorg", int(depth), bool(keeps)):
                chain.reorg(depth, keeps=keeps)
            case ("foreign",):
                chain.foreign()
            case ("fee", int(price)):
                chain.base = price
            case ("node", str(how)):
                chain.away, chain.forgets = how == "away", how == "forgets"
                if how == "loses":
                    chain.lose()
            case ("signer", str(how)):
                signer.away, signer.loses = how == "away", 2 * (how == "loses")
                signer.refuses = "day_max" if how == "refuses" else None
            case ("cancel", int(place)):
                self._cancel(place)
            case ("dies", int(calls), bool(sends)):
                self._dies(calls, sends=sends)
        self.at_most_one()

    def _pay(self, kind: str) -> None:
        to = address()
        if kind != "well":
            getattr(self.lab.chain, kind).add(to)
        self.payouts.append(self.lab.payout(UNITS, to=to))

    def _cancel(self, place: int) -> None:
        open_ = [each for payout in self.payouts for each in self.lab.transfers(payout)]
        open_ = [each for each in open_ if each.current in OPEN - {T.MINED}]
        if open_:
            with transaction() as session:
                cancelling.cancel(session, open_[place % len(open_)].id, actor="person:ann", reason="a test")

    def _dies(self, calls: int, *, sends: bool) -> None:
        left = [calls]

        def die(_: str) -> None:
            left[0] -= 1
            if left[0] == 0:
                raise Died

        self.lab.chain.before = self.lab.signer.before = die
        try:
            self.lab.send() if sends else self.lab.round(seconds=31)
        except Died:
            pass
        finally:
            self.lab.chain.before = self.lab.signer.before = None

    def at_most_one(self) -> None:
        paid = [self.lab.chain.raws[tx]["reference"] for tx in self.lab.chain.paid()]
        if not self.asked_by.keys() >= set(paid):
            self.asked_by = {each: payout for payout in self.payouts for each in self.lab.references(payout)}
        by = [self.asked_by[each] for each in paid]
        assert len(by) == len(set(by))

    def end(self) -> None:
        """All is well again, and people let go on what was frozen."""
        chain, signer = self.lab.chain, self.lab.signer
        chain.away = chain.forgets = signer.away = False
        signer.refuses, signer.loses, chain.base = None, 0, 1
        for turn in range(40):
            for payout in self.payouts:
                if self.lab.desk.state(payout) is S.FROZEN and turn < THAWS:
                    self.lab.desk.thaw(payout)
            self.lab.send()
            self.lab.round(seconds=400)
            self.lab.desk.poll()
            chain.mine(3)
            self.at_most_one()
            if turn % 3 == 2 and all(self._is_over(payout) for payout in self.payouts):
                break

    def _is_over(self, payout: UUID) -> bool:
        """Frozen: nothing was signed."""
        is_done = self.lab.desk.state(payout) in (S.PAID, S.FAILED, S.FROZEN)
        return is_done and all(each.final_at is not None for each in self.lab.transfers(payout))


def play(patch: pytest.MonkeyPatch, examples: int, *, phases: tuple[Phase, ...]) -> tuple[int, int]:
    played = paid = 0

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=examples < 100,
        suppress_health_check=list(HealthCheck),
        phases=phases,
    )
    @given(STEPS)
    def story(steps: list[tuple[object, ...]]) -> None:
        nonlocal played, paid
        played += 1
        one = Story(Lab.of(patch, tenant=f"shop-{played}"))
        for step in [("payout", "well"), *steps]:
            one.run(step)
        one.end()
        one.lab.check(one.payouts, UNITS)
        for payout in one.payouts:
            assert all(each.final_at is not None for each in one.lab.transfers(payout)), one.lab.events(payout)
        assert one.lab.held() == {}
        paid += sum(one.lab.desk.state(payout) is S.PAID for payout in one.payouts)
        if played % 50 == 0:
            one.lab.desk.check_books()

    story()
    Lab.of(patch).desk.check_books()
    return played, paid


def test_whatever_happens_it_is_paid_at_most_once(on_a_chain: pytest.MonkeyPatch) -> None:
    played, paid = play(on_a_chain, 4, phases=(Phase.generate,))
    assert played >= 4 and paid


@pytest.mark.faults
@pytest.mark.timeout(1_800)
def test_whatever_happens_at_length(on_a_chain: pytest.MonkeyPatch) -> None:
    played, paid = play(on_a_chain, 300, phases=(Phase.generate, Phase.shrink))
    print(f"{played} stories, {played} passed, {paid} payouts paid")
