"""Random interleavings of everything that can happen to players, against a model in a few lines of Python."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from sqlalchemy import text

from core.db import transaction
from core.hot.script import Script
from core.ids import new_id
from domain.bet import comparing, service
from domain.bet.decisions import RESERVE, Answer, Verdict
from domain.bet.players import Player, player
from ledger.invariants import verify
from tests.integration.bet.house import ASSET, House

V = Verdict
USERS = st.sampled_from(["ann", "bob"])
UNITS = st.integers(1, 150)


@dataclass
class Person:
    available: int = 1_000
    free: int = 0
    locked: int = 0
    bets: dict[UUID, tuple[int, int | None, str]] = field(default_factory=dict)
    """stake, payout, state"""
    answers: dict[UUID, list[tuple[str, int, Answer]]] = field(default_factory=dict)
    """What was asked of a bet and answered for the first time."""
    moves: dict[UUID, tuple[int | None, bool, Answer]] = field(default_factory=dict)


class Bets(RuleBasedStateMachine):
    number = 0

    def __init__(self) -> None:
        super().__init__()
        Bets.number += 1  # a tenant of its own in the one database
        self.house = House(tenant=f"casino-{Bets.number}")
        self.model = {"ann": Person(), "bob": Person()}

    @initialize()
    def begin(self) -> None:
        for user in self.model:
            self.house.deposit(self.who(user), 1_000)

    def who(self, user: str) -> Player:
        return player(self.house.tenant, user, ASSET)

    @rule(user=USERS, units=UNITS)
    def load(self, user: str, units: int) -> None:
        person, move = self.model[user], new_id()
        if person.available < units:
            return
        found = self.house.load(self.who(user), units, move)
        person.available -= units
        person.free += units
        assert (found.verdict, found.units, found.free) == (V.MOVED, units, person.free)
        person.moves[move] = (units, True, found)

    @rule(user=USERS, units=st.one_of(st.none(), UNITS))
    def unload(self, user: str, units: int | None) -> None:
        person, move = self.model[user], new_id()
        if not person.moves:
            return
        found = self.house.unload(self.who(user), units, move)
        wanted = person.free if units is None else units
        if not 0 < wanted <= person.free:
            assert (found.verdict, found.free) == (V.LOW, person.free)
            return
        person.available += wanted
        person.free -= wanted
        assert (found.verdict, found.units, found.free) == (V.MOVED, wanted, person.free)
        person.moves[move] = (units, False, found)

    @rule(user=USERS, stake=UNITS)
    def reserve(self, user: str, stake: int) -> None:
        person, name = self.model[user], new_id()
        found = self.house.reserve(self.who(user), stake, name)
        if stake > person.free:
            assert (found.verdict, found.free) == (V.LOW, person.free)
            return
        person.free -= stake
        person.locked += stake
        assert (found.verdict, found.free, found.locked) == (V.RESERVED, person.free, person.locked)
        person.bets[name] = (stake, None, "reserved")
        person.answers[name] = [("reserve", stake, found)]

    @rule(user=USERS, data=st.data(), payout=st.one_of(st.none(), st.integers(0, 300)))
    def end(self, user: str, data: st.DataObject, payout: int | None) -> None:
        person = self.model[user]
        names = [name for name, (_, _, state) in person.bets.items() if state == "reserved"]
        if not names:
            return
        name = data.draw(st.sampled_from(names))
        stake = person.bets[name][0]
        units = stake if payout is None else payout
        found = self.finish(user, name, payout)
        person.locked -= stake
        person.free += units
        verdict = V.VOIDED if payout is None else V.SETTLED
        assert (found.verdict, found.units, found.free) == (verdict, units, person.free)
        person.bets[name] = (stake, payout, "voided" if payout is None else "settled")
        person.answers[name].append(("void", 0, found) if payout is None else ("settle", payout, found))

    def finish(self, user: str, name: UUID, payout: int | None) -> Answer:
        who = self.who(user)
        return self.house.void(who, name) if payout is None else self.house.settle(who, name, payout)

    @rule(user=USERS, data=st.data())
    def replay(self, user: str, data: st.DataObject) -> None:
        person = self.model[user]
        if not person.bets:
            return
        name = data.draw(st.sampled_from(list(person.bets)))
        stake, payout, state = person.bets[name]
        for what, units, first in person.answers[name]:
            again = (
                self.house.reserve(self.who(user), units, name)
                if what == "reserve"
                else self.finish(user, name, None if what == "void" else units)
            )
            assert again == first
        assert self.house.reserve(self.who(user), stake + 1, name).verdict is V.CONFLICT
        if state != "reserved":
            other = self.finish(user, name, 0 if payout is None else payout + 1)
            assert other == Answer(V.CONFLICT, state=state)

    @precondition(lambda self: any(person.moves for person in self.model.values()))
    @rule(user=USERS, data=st.data())
    def move_again(self, user: str, data: st.DataObject) -> None:
        person = self.model[user]
        if not person.moves:
            return
        move = data.draw(st.sampled_from(list(person.moves)))
        units, is_load, first = person.moves[move]
        again = self.house.move_again(self.who(user), move, units, is_load=is_load)
        assert again in (None, first)

    @rule()
    def drain(self) -> None:
        self.house.table.drain(again=True)
        self.agree()

    @rule()
    def turn(self) -> None:
        self.house.turn()

    @rule()
    def compare(self) -> None:
        assert comparing.compare().differing == 0

    def agree(self) -> None:
        """After a drain the books say what the model says."""
        assert self.house.table.refused == []
        for user, person in self.model.items():
            assert self.house.books(self.who(user)) == (person.available, person.free, person.locked)
            with transaction() as session:
                rows = service.bets_of(session, self.who(user), limit=1_000)
                found = {row.id: (row.stake, row.payout, str(row.state)) for row in rows}
            assert found == person.bets

    @invariant()
    def nothing_is_below_zero_and_nothing_is_lost(self) -> None:
        for user, person in self.model.items():
            here = self.house.here(self.who(user))
            if here is None:
                continue
            assert (here.free, here.locked) == (person.free, person.locked)
            assert here.free >= 0 and here.locked == sum(here.bets.values())

    def teardown(self) -> None:
        self.house.turn()
        self.agree()
        paid = sum(person.available + person.free + person.locked - 1_000 for person in self.model.values())
        assert self.house.won() == -paid
        with transaction() as session:
            assert verify(session) == []
            assert session.execute(text("SELECT count(*) FROM breaks")).scalar_one() == 0
            numbers = session.scalars(text("SELECT settled_number FROM bets WHERE state = 'settled'")).all()
            assert len(set(numbers)) == len(numbers)


@pytest.mark.usefixtures("house")
def test_whatever_happens_each_bet_counts_once() -> None:
    run_state_machine_as_test(
        Bets,
        settings=settings(
            max_examples=12, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.fixture
def arithmetic(redis_url: str) -> Any:
    body = RESERVE.body.split("-- Keys: player")[0]
    program = Script("amounts", body, 1, 0).body + (
        "local out = {}\n"
        "for at = 1, #ARGV, 2 do\n"
        "  local a, b = ARGV[at], ARGV[at + 1]\n"
        "  if less(a, b) then a, b = b, a end\n"
        "  out[#out + 1] = {add(a, b), sub(a, b), less(ARGV[at], ARGV[at + 1]) and 1 or 0}\n"
        "end\n"
        "return out\n"
    )
    store = Redis.from_url(redis_url, decode_responses=True)
    yield lambda numbers: store.eval(f"local now_ms = 0\n{program}", 1, "tr:{h0}:1:x", *map(str, numbers))
    store.close()


def test_amounts_of_the_scripts_are_those_of_python(arithmetic: Any) -> None:
    edges = [0, 1, 9, 10, 10**13 - 1, 10**13, 10**15 - 1, 10**15, 2**53, 10**26 - 1, 10**26, 10**38 - 1]
    edges += [10**n + d for n in (14, 15, 16, 25, 26, 27, 37) for d in (-1, 0, 1)]
    pairs = [(a, b) for a in edges for b in edges]
    found = []
    for first in range(0, len(pairs), 500):
        found += arithmetic([number for pair in pairs[first : first + 500] for number in pair])
    assert found == [[str(a + b), str(abs(a - b)), int(a < b)] for a, b in pairs]
