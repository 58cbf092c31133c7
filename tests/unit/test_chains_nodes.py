"""The pool of nodes: who is asked, and who is left alone for how long."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from chains.endpoint import Endpoint
from chains.errors import LimitedError, MalformedError, RefusedError
from chains.nodes import LOOK_EVERY_S
from chains.pace import PATIENCE_S
from chains.standing import FAILURES_MAX, PAUSE_MAX_S, PAUSE_S, WINDOW, WRONG_CHAIN_S
from config.assets import Node
from core.errors import PermanentError, TransientError
from tests.support.nodes import World

LONGEST = 1.25
"""By which a pause may be longer for jitter."""


@pytest.fixture
def world() -> World:
    return World()


class TestWhoIsAsked:
    def test_without_endpoints_there_is_no_pool(self) -> None:
        with pytest.raises(PermanentError, match="no RPC_URLS for eip155:1"):
            World(names=())

    def test_the_first_by_configuration_as_long_as_nothing_is_known(self, world: World) -> None:
        assert [world.first() for _ in range(3)] == ["a", "a", "a"]
        assert world.verified == ["a"]

    def test_the_next_one_when_it_fails(self, world: World) -> None:
        world.fail("a", "b")
        assert world.first() == "c"
        assert world.asked == ["a", "b", "c"]

    def test_the_last_failure_is_raised_when_all_fail(self, world: World) -> None:
        world.fail("a", "b", "c")
        with pytest.raises(TransientError, match="c can't be reached"):
            world.first()

    def test_nonsense_is_a_failure_that_names_the_endpoint(self, world: World) -> None:
        world.fail("a", "b", "c", error=MalformedError("7 is not a hash"))
        with pytest.raises(TransientError, match="c answered with nonsense: 7 is not a hash"):
            world.first()

    def test_our_own_mistakes_are_raised_at_once_and_are_nobodys_failure(self, world: World) -> None:
        world.fail("a", error=ZeroDivisionError())
        for _ in range(5):
            with pytest.raises(ZeroDivisionError):
                world.first()
        assert world.asked == ["a"] * 5 and world.health("a").failures == 0

    def test_several_endpoints_of_one_host_are_numbered(self) -> None:
        world = World(names=("a", "b", "a"))
        assert [health.label for health in world.nodes.health()] == ["a#1", "b", "a#2"]


class TestEach:
    def test_all_are_told_whatever_becomes_of_one(self, world: World) -> None:
        world.fail("b")
        assert world.each() == ["a", "c"] and world.asked == ["a", "b", "c"]
        assert world.health("b").failures == 1

    def test_none_that_is_left_alone(self, world: World) -> None:
        world.fail("b")
        world.wrong.add("c")
        for _ in range(FAILURES_MAX):
            assert world.each() == ["a"]
        world.asked.clear()
        assert world.each() == ["a"] and world.asked == ["a"]

    def test_the_last_failure_is_raised_if_none_answers(self, world: World) -> None:
        world.fail("a", "b", "c")
        with pytest.raises(TransientError, match="c can't be reached"):
            world.each()
        assert world.asked == ["a", "b", "c"]


class TestLatency:
    def test_the_fastest_is_asked_once_all_are_known(self, world: World) -> None:
        world.takes = {"a": 0.4, "b": 0.1, "c": 0.2}
        world.look()
        assert world.first() == "b"
        world.fail("b")
        assert world.first() == "c"

    def test_the_configuration_decides_among_those_about_as_fast(self, world: World) -> None:
        world.takes = {"a": 0.120, "b": 0.1, "c": 0.11}
        world.look()
        assert world.first() == "a"

    def test_the_order_does_not_swing_around_a_threshold(self, world: World) -> None:
        world.takes = {"a": 0.1, "b": 0.1, "c": 0.9}
        world.look()
        seen = []
        for latency in [0.13, 0.14] * 20:  # a bit slower than the fastest, but not by much
            world.takes["a"] = latency
            world.time += LOOK_EVERY_S
            world.look()
            seen.append(world.first())
        assert set(seen) == {"a"}
        for _ in range(20):
            world.takes["a"] = 0.2
            world.time += LOOK_EVERY_S
            world.look()
        assert world.first() == "b"
        seen = []
        for latency in [0.13, 0.145] * 20:  # not quick enough to come back
            world.takes["a"] = latency
            world.time += LOOK_EVERY_S
            world.look()
            seen.append(world.first())
        assert set(seen) == {"b"}
        for _ in range(20):
            world.takes["a"] = 0.1
            world.time += LOOK_EVERY_S
            world.look()
        assert world.first() == "a"

    def test_the_others_are_looked_at_now_and_then_one_at_a_time(self, world: World) -> None:
        assert world.head() and world.asked == ["a", "b"]
        assert world.head() and world.asked[2:] == ["a", "c"]
        assert world.head() and world.asked[4:] == ["a"]
        world.time += LOOK_EVERY_S
        assert world.head() and world.asked[5:] == ["a", "b"]

    def test_a_look_that_fails_harms_nobody(self, world: World) -> None:
        world.fail("b")
        assert world.head() == 100
        assert world.health("b").failures == 1


@dataclass
class Turns:
    """The rate of an endpoint: how long a request would have to wait, and how long each was ready to."""

    wait: float = 0.0
    patience: list[float] = field(default_factory=list)

    def take_ahead(self, *, patience: float) -> None:
        self.patience.append(patience)
        if self.wait > patience:
            raise LimitedError("no more of us", retry_after=timedelta(seconds=self.wait))

    def give_up(self) -> None:
        pass


class TestRates:
    """`b` lags, `a` is the only other one, and has a rate."""

    SOON, LATER = PATIENCE_S / 2, PATIENCE_S * 5

    @pytest.fixture
    def turns(self) -> dict[str, Turns]:
        return {"a": Turns(), "b": Turns()}

    @pytest.fixture
    def world(self, turns: dict[str, Turns]) -> World:
        world = World(names=("a", "b"), height={"b": 90})
        world.look()
        for endpoint in world.endpoints:
            endpoint.pace = turns[endpoint.host]  # type: ignore[assignment]
        assert world.trouble() == {"a": None, "b": "lags"}
        world.asked.clear()
        return world

    def test_a_turn_that_comes_soon_is_waited_for_rather_than_asking_one_in_trouble(
        self, world: World, turns: dict[str, Turns]
    ) -> None:
        turns["a"].wait = self.SOON
        assert world.first() == "a" and world.asked == ["a"]
        assert turns["a"].patience == [PATIENCE_S] and turns["b"].patience == []

    def test_nobody_waits_long_while_one_in_trouble_answers(self, world: World, turns: dict[str, Turns]) -> None:
        turns["a"].wait = self.LATER
        assert world.first() == "b" and world.asked == ["b"]
        assert turns["a"].patience == []

    def test_one_in_trouble_is_asked_when_the_turn_did_not_come(self, world: World, turns: dict[str, Turns]) -> None:
        turns["a"].wait = self.SOON
        world.fail("a", error=LimitedError("others were quicker", retry_after=timedelta(seconds=1)))
        assert world.first() == "b"

    def test_what_is_used_up_is_tried_at_last_in_the_same_order(self, world: World, turns: dict[str, Turns]) -> None:
        turns["a"].wait = turns["b"].wait = self.LATER
        with pytest.raises(LimitedError) as caught:
            world.first()
        assert world.asked == [] and caught.value.retry_after == timedelta(seconds=self.LATER)
        assert turns["a"].patience == turns["b"].patience == [PATIENCE_S]
        turns["b"].wait = 0.0
        world.fail("b")
        turns["a"].take_ahead = lambda *, patience: None  # type: ignore[method-assign]  # its turn has come
        assert world.first() == "a" and world.asked == ["b", "a"]

    def test_nobody_waits_while_another_sound_one_may_be_asked_at_once(
        self, world: World, turns: dict[str, Turns]
    ) -> None:
        world.height.clear()
        world.time += LOOK_EVERY_S
        world.look()
        assert world.trouble() == {"a": None, "b": None}
        for turn in turns.values():
            turn.patience.clear()
        world.asked.clear()
        turns["a"].wait = self.SOON
        assert world.first() == "b" and turns["a"].patience == []
        turns["a"].wait = 0.0
        world.fail("a", error=LimitedError("it was used up after all", retry_after=timedelta(seconds=1)))
        assert world.first() == "b" and turns["a"].patience == [0.0]

    def test_one_that_waits_its_turn_comes_before_a_trial(self, world: World, turns: dict[str, Turns]) -> None:
        world.height.clear()
        world.fail("b")
        for _ in range(FAILURES_MAX):
            world.time += LOOK_EVERY_S
            world.head()
        assert world.health("b").open_until is not None
        world.time += PAUSE_S * LONGEST
        world.asked.clear()
        turns["a"].wait = self.SOON
        assert world.first() == "a" and world.asked == ["a"]


class TestBreaker:
    def test_it_opens_after_some_failures_in_a_row(self, world: World) -> None:
        world.fail("a")
        for _ in range(FAILURES_MAX + 4):
            assert world.first() == "b"
        assert world.asked.count("a") == FAILURES_MAX
        health = world.health("a")
        assert health.open_until is not None and world.now() < health.open_until
        assert health.failing_since == world.now() and health.last_error == "a can't be reached"
        assert (health.calls, health.failures) == (FAILURES_MAX, FAILURES_MAX)

    def test_it_opens_when_half_of_the_calls_fail(self, world: World) -> None:
        for number in range(WINDOW):
            world.mend()
            if number % 2:
                world.fail("a")
            world.first()
        world.mend()
        assert world.first() == "b"

    def test_a_success_between_keeps_it_closed(self, world: World) -> None:
        for number in range(60):
            world.mend()
            if number % 3 == 2:
                world.fail("a")
            world.first()
        assert world.health("a").open_until is None

    def test_what_an_endpoint_refuses_goes_to_the_next_and_opens_nothing(self, world: World) -> None:
        world.fail("a", error=RefusedError("a refused eth_getLogs"))
        for _ in range(30):
            assert world.first() == "b"
        assert world.asked.count("a") == 30
        health = world.health("a")
        assert (health.failures, health.failing_since, health.open_until) == (0, None, None)
        assert health.last_error == "a refused eth_getLogs"

    def test_after_the_pause_one_trial_decides(self, world: World) -> None:
        world.fail("a")
        for _ in range(FAILURES_MAX):
            world.first()
        world.time += PAUSE_S * LONGEST
        world.mend()
        assert world.first() == "b"  # nobody has to wait for a trial as long as there is another endpoint
        world.head()
        assert world.asked[-1] == "a"
        assert world.health("a").open_until is None and world.health("a").failing_since is None
        assert world.first() == "a"

    def test_each_further_pause_is_longer(self, world: World) -> None:
        world.look()
        world.fail("a")
        for _ in range(FAILURES_MAX):
            world.first()
        pauses = []
        for _ in range(10):
            until = world.health("a").open_until
            assert until is not None
            pauses.append((until - world.now()).total_seconds())
            world.time += pauses[-1] + 0.001
            world.look()
        for number, pause in enumerate(pauses):
            assert 0.7 <= pause / min(PAUSE_S * 2**number, PAUSE_MAX_S) <= LONGEST + 0.01

    def test_only_one_thread_makes_the_trial(self) -> None:
        world = World(names=("a",))
        world.fail("a")
        for _ in range(FAILURES_MAX):
            with pytest.raises(TransientError):
                world.first()
        world.mend()
        world.time += PAUSE_S * LONGEST
        entered, go = threading.Event(), threading.Event()

        def slow(endpoint: Endpoint) -> str:
            entered.set()
            assert go.wait(10)
            return "done"

        with ThreadPoolExecutor(1) as threads:
            trial = threads.submit(world.nodes.first, slow)
            assert entered.wait(10)
            with pytest.raises(TransientError, match="being tried"):
                world.first()
            go.set()
            assert trial.result(10) == "done"
        assert world.first() == "a"

    def test_with_all_open_the_one_that_opened_first_is_the_last_resort(self) -> None:
        world = World(names=("a", "b"))
        world.fail("a", "b")
        for _ in range(FAILURES_MAX):
            with pytest.raises(TransientError):
                world.first()
            world.time += 0.1
        world.asked.clear()
        with pytest.raises(TransientError, match="a can't be reached"):
            world.first()
        assert world.asked == ["a"]
        world.mend()
        assert world.first() in ("a", "b")

    def test_a_wish_to_be_left_alone_is_honoured_at_once(self, world: World) -> None:
        world.fail("a", error=TransientError("a limits our rate", retry_after=timedelta(seconds=60)))
        assert [world.first() for _ in range(5)] == ["b"] * 5
        assert world.asked.count("a") == 1
        world.time += 59
        world.look()
        assert world.asked.count("a") == 1
        world.mend()
        world.time += 60 * 0.1 + 1
        world.look()
        assert world.first() == "a"

    def test_when_all_want_to_be_left_alone_we_say_for_how_long(self) -> None:
        world = World(names=("a", "b"))
        world.fail("a", error=TransientError("a limits our rate", retry_after=timedelta(seconds=600)))
        world.fail("b", error=TransientError("b limits our rate", retry_after=timedelta(seconds=60)))
        with pytest.raises(TransientError) as caught:
            world.first()
        assert caught.value.retry_after == timedelta(seconds=60)
        world.time += 20
        with pytest.raises(TransientError, match="b limits our rate") as caught:
            world.first()
        assert world.asked == ["a", "b"]
        assert caught.value.retry_after is not None
        assert 40 <= caught.value.retry_after.total_seconds() <= 46

    def test_one_wish_does_not_keep_us_from_an_endpoint_that_merely_failed(self) -> None:
        world = World(names=("a", "b"))
        world.fail("a")
        world.fail("b", error=TransientError("b limits our rate", retry_after=timedelta(seconds=3_600)))
        with pytest.raises(TransientError, match="a can't be reached") as caught:
            world.first()
        assert caught.value.retry_after is None
        for _ in range(5):
            with pytest.raises(TransientError, match="a can't be reached"):
                world.first()
        assert world.asked.count("b") == 1

    def test_a_limit_of_our_own_is_no_failure(self, world: World) -> None:
        world.fail("a", error=LimitedError("25 per second", retry_after=timedelta(seconds=1)))
        for _ in range(10):
            assert world.first() == "b"
        assert world.health("a").failures == 0 and world.health("a").open_until is None

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_whatever_happens_somebody_is_asked_or_a_time_is_named(self, data: st.DataObject) -> None:
        """And an endpoint that works is never left out for longer than its longest pause."""
        world = World(names=("a", "b"))
        kinds: list[Callable[[str], Exception | None]] = [
            lambda _: None,
            lambda name: TransientError(f"{name} failed"),
            lambda name: RefusedError(f"{name} refused"),
            lambda name: MalformedError(f"{name} babbled"),
            lambda name: TransientError(f"{name} waits", retry_after=timedelta(seconds=30)),
        ]
        for _ in range(data.draw(st.integers(1, 40))):
            world.mend()
            for name in world.names:
                if (error := data.draw(st.sampled_from(kinds))(name)) is not None:
                    world.fail(name, error=error)
            before, named = len(world.asked), None
            try:
                data.draw(st.sampled_from([world.first, world.head]))()
            except TransientError as error:
                named = error.retry_after
            assert len(world.asked) > before or named is not None
            world.time += data.draw(st.sampled_from([0.0, 1.0, 7.0, 400.0]))
        world.mend()
        world.time += PAUSE_MAX_S * LONGEST
        world.look()
        assert world.first() in world.names
        assert all(health.open_until is None for health in world.nodes.health())


class TestWrongChain:
    def test_it_is_asked_nothing_but_which_it_is_and_that_only_every_few_minutes(self, world: World) -> None:
        world.wrong = {"a"}
        for _ in range(10):
            assert world.first() == "b"
        assert world.verified == ["a", "b"] and "a" not in world.asked
        assert world.trouble() == {"a": "wrong_chain", "b": None, "c": None}
        world.time += WRONG_CHAIN_S
        world.wrong = set()
        world.look()
        assert world.verified.count("a") == 2 and world.trouble()["a"] is None
        assert world.first() == "a"

    def test_one_that_comes_back_is_asked_again_which_it_is(self) -> None:
        world = World(names=("a",))
        assert world.first() == "a"
        world.fail("a")
        for _ in range(FAILURES_MAX):
            with pytest.raises(TransientError):
                world.first()
        world.mend()
        world.wrong = {"a"}
        world.time += PAUSE_S * LONGEST
        with pytest.raises(TransientError, match="a is a node of eip155:5"):
            world.first()

    def test_it_stays_so_while_it_can_not_be_asked(self, world: World) -> None:
        world.wrong = {"a"}
        world.first()
        world.time += WRONG_CHAIN_S
        world.look()
        assert world.trouble()["a"] == "wrong_chain" and "a" not in world.asked

    def test_nothing_else_is_no_last_resort(self) -> None:
        world = World(names=("a",))
        world.wrong = {"a"}
        for _ in range(3):
            with pytest.raises(TransientError, match="a is a node of eip155:5"):
                world.first()
        assert world.asked == [] and world.verified == ["a"]


class TestAProof:
    @pytest.fixture
    def said(self) -> dict[str, bool | None]:
        return {"a": True, "b": True, "c": True}

    def proven(self, world: World, said: dict[str, bool | None]) -> bool:
        return world.nodes.proven(lambda endpoint: said[world._ask(endpoint)])

    def test_two_hosts_show_it(self, world: World, said: dict[str, bool | None]) -> None:
        assert self.proven(world, said) and world.asked == ["a", "b"]

    def test_one_that_can_not_tell_or_does_not_answer_is_no_witness(
        self, world: World, said: dict[str, bool | None]
    ) -> None:
        said["a"] = None
        assert self.proven(world, said) and world.asked == ["a", "b", "c"]
        world.fail("b")
        assert not self.proven(world, said)
        world.fail("a", "c")
        with pytest.raises(TransientError):
            self.proven(world, said)

    def test_one_that_shows_the_contrary_ends_it(self, world: World, said: dict[str, bool | None]) -> None:
        said["a"] = False
        assert not self.proven(world, said) and world.asked == ["a"]

    def test_two_that_contradict_each_other_are_told(self, world: World, said: dict[str, bool | None]) -> None:
        said["b"] = False
        with structlog.testing.capture_logs() as logs:
            assert not self.proven(world, said)
        assert world.asked == ["a", "b"]
        assert [(line["log_level"], line["endpoints"]) for line in logs] == [("error", "a and b")]

    def test_one_host_is_one_witness_and_enough_where_there_is_no_other(self) -> None:
        world = World(names=("a", "a", "b"))
        world.fail("b")
        assert not world.nodes.proven(lambda endpoint: bool(world._ask(endpoint)))
        assert World(names=("a", "a")).nodes.proven(lambda _: True)


def test_threads_share_a_pool(world: World) -> None:
    world.fail("b", error=RefusedError("b refused"))

    def work(number: int) -> str:
        return world.first() if number % 3 else str(world.head())

    with ThreadPoolExecutor(8) as threads:
        assert len(list(threads.map(work, range(400)))) == 400
    assert sum(health.calls for health in world.nodes.health()) == len(world.asked)


@pytest.mark.parametrize("rate", ["25", "fast", "25/fortnight", ""])
def test_a_rate_that_is_none_is_said_when_the_reader_is_made(rate: str) -> None:
    if not rate:
        assert Endpoint(Node(url="http://a/", rate=rate)).pace is None
        return
    with pytest.raises(PermanentError, match=f"the rate '{rate}' of a is not written like 25/second"):
        Endpoint(Node(url="http://a/SECRETKEY123", rate=rate))
