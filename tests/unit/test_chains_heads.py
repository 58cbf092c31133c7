"""The pool of nodes: how far each is, and whether two tell the same."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from chains import agreement
from chains.agreement import Told
from chains.base import ChainTx, NodeHealth, Reach, Transfer, TxStatus
from chains.endpoint import Endpoint
from chains.errors import DisagreementError
from chains.nodes import LOOK_EVERY_S
from core.errors import TransientError
from tests.support.nodes import EPOCH, World


@pytest.fixture
def world() -> World:
    return World()


class TestHeads:
    def test_one_that_is_behind_lags_and_is_asked_last(self, world: World) -> None:
        world.height = {"a": 94}
        world.look()
        assert world.trouble() == {"a": "lags", "b": None, "c": None}
        assert world.first() == "b"
        world.fail("b", "c")
        assert world.first() == "a"  # last, and yet not never

    def test_one_that_is_as_far_behind_as_it_may_be_does_not(self, world: World) -> None:
        world.height = {"a": 95}
        world.look()
        assert world.trouble()["a"] is None and world.first() == "a"

    def test_it_is_asked_again_when_it_has_caught_up(self, world: World) -> None:
        world.height = {"a": 50}
        world.look()
        assert world.first() == "b"
        world.height = {}
        world.time += LOOK_EVERY_S
        world.look()
        assert world.trouble()["a"] is None and world.first() == "a"

    def test_an_old_sight_is_no_lag(self, world: World) -> None:
        world.look()
        world.time += 29
        world.height = {"a": int(world.time // 10)}
        world.head()
        assert world.trouble() == {"a": None, "b": None, "c": None}
        world.height = {}
        world.time += 3_000
        world.fail("b", "c")
        world.look()
        assert world.trouble() == {"a": None, "b": None, "c": None}

    def test_one_that_boasts_makes_nobody_lag(self, world: World) -> None:
        world.height = {"c": 1_000_000}
        world.look()
        assert world.trouble() == {"a": None, "b": None, "c": None}

    def test_one_whose_newest_block_is_old_stands_still(self, world: World) -> None:
        world.look()
        stuck = int(world.time // 10)
        for name in world.names:
            world.height[name] = stuck
        world.time += 20 * 10 + 10  # 20 block times, at least a minute
        world.look()
        assert set(world.trouble().values()) == {"stalled"}
        assert world.first() == "a"
        del world.height["c"]
        world.time += LOOK_EVERY_S
        world.look()
        assert world.trouble() == {"a": "stalled", "b": "stalled", "c": None}
        assert world.first() == "c"

    def test_where_the_age_is_not_to_be_looked_at_nothing_stands_still(self) -> None:
        world = World(fields={"head_age_max_s": 0})
        world.height = dict.fromkeys(world.names, 1)
        world.look()
        assert set(world.trouble().values()) == {None}

    def test_health_tells_what_was_seen(self, world: World) -> None:
        world.takes = {"a": 0.25}
        assert world.health("a") == NodeHealth("a", None, None, None, 0, 0, None, None, None, None)
        world.head()
        health = world.health("a")
        assert (health.head_number, health.head_time) == (100, EPOCH + timedelta(seconds=1_000))
        assert health.latency_ms == pytest.approx(250)
        assert (health.calls, health.failures) == (1, 0)
        assert "SECRETKEY123" not in str(world.nodes.health())


TX = "0xaa"


def told(newest: int, block: str | None = "0xb5", *, number: int = 5, units: int = 7, **fields: Any) -> Told:
    """One node's word on TX; `block` None: it has it in none."""
    if block is None:
        return Told(newest, None, {TX: ChainTx(TX, fields.get("status", TxStatus.MISSING))})
    transfer = Transfer("c", TX, 0, "asset", None, "s", "r", units, number, block, fields.get("time"))
    return Told(
        newest,
        None,
        {TX: ChainTx(TX, TxStatus.SUCCEEDED, block_number=number, block_hash=block, transfers=(transfer,))},
    )


class TestAgreed:
    def agreed(self, world: World, answers: dict[str, Told | Exception]) -> Told:
        def read(endpoint: Endpoint) -> Told:
            world.asked.append(endpoint.host)
            answer = answers[endpoint.host]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return world.nodes.agreed(read, same=agreement.same, behind=agreement.behind)

    def test_two_that_tell_the_same(self, world: World) -> None:
        answers: dict[str, Told | Exception] = {"a": told(9), "b": told(6, time=EPOCH), "c": told(9, "0xother")}
        assert self.agreed(world, answers) == told(9)
        assert world.asked == ["a", "b"]

    @pytest.mark.parametrize(
        "other", [told(9, "0xother"), told(9, units=8), told(9, number=6), told(5, None), told(9, None)]
    )
    def test_two_that_differ_stop_everything_and_are_marked(self, world: World, other: Told) -> None:
        for answers in ({"a": told(9), "b": other, "c": told(9)}, {"a": other, "b": told(9), "c": told(9)}):
            with pytest.raises(DisagreementError, match="a and b disagree about eip155:1"):
                self.agreed(World(), dict(answers))
        with pytest.raises(DisagreementError):
            self.agreed(world, {"a": told(9), "b": other})
        assert world.trouble() == {"a": "disagrees", "b": "disagrees", "c": None}
        assert self.agreed(world, {"a": told(9), "c": told(9)}) == told(9)
        assert world.trouble() == {"a": None, "b": "disagrees", "c": None}
        assert world.first() == "a"

    def test_one_that_tells_a_transfer_twice_differs(self, world: World) -> None:
        once = told(9)
        twice = replace(once.chain_txs[TX], transfers=once.chain_txs[TX].transfers * 2)
        with pytest.raises(DisagreementError):
            self.agreed(world, {"a": once, "b": Told(9, None, {TX: twice})})

    @pytest.mark.parametrize(
        ("finals", "both"), [((8, 6), 6), ((6, 8), 6), ((None, 8), None), ((8, None), None), ((None, None), None)]
    )
    def test_how_far_they_are_is_the_lower_word_of_the_two(
        self, world: World, finals: tuple[int | None, int | None], both: int | None
    ) -> None:
        for newest in ((1_000, 9), (9, 1_000)):
            given = {
                host: replace(told(number), finalized=final)
                for host, number, final in zip("ab", newest, finals, strict=True)
            }
            found = agreement.agreed(world.nodes, lambda endpoint, given=given: given[endpoint.host])  # type: ignore[misc]
            assert found == {TX: replace(told(9).chain_txs[TX], reach=Reach(9, both))}

    def test_the_mark_goes_when_they_agree_again(self) -> None:
        world = World(names=("a", "b"))
        with pytest.raises(DisagreementError):
            self.agreed(world, {"a": told(9), "b": told(9, "0xother")})
        assert self.agreed(world, {"a": told(9), "b": told(9)}) == told(9)
        assert set(world.trouble().values()) == {None}

    def test_one_that_lacks_the_block_is_no_witness(self, world: World) -> None:
        answers: dict[str, Told | Exception] = {"a": told(9), "b": told(4, None), "c": told(9)}
        assert self.agreed(world, answers) == told(9)
        assert world.asked == ["a", "b", "c"]
        assert self.agreed(World(), {"a": told(4, None), "b": told(9), "c": told(9)}) == told(9)
        with pytest.raises(TransientError, match="b is behind a") as caught:
            self.agreed(World(names=("a", "b")), {"a": told(9), "b": told(4, None)})
        assert not isinstance(caught.value, DisagreementError)

    def test_what_is_in_no_block_is_alike_wherever_it_waits(self, world: World) -> None:
        waiting = told(9, None, status=TxStatus.MEMPOOL)
        assert self.agreed(world, {"a": waiting, "b": told(9, None)}) == waiting

    def test_a_third_one_is_asked_when_the_second_fails(self, world: World) -> None:
        assert self.agreed(world, {"a": told(9), "b": TransientError("b is down"), "c": told(9)}) == told(9)
        with pytest.raises(TransientError, match="b is down"):
            self.agreed(World(names=("a", "b")), {"a": told(9), "b": TransientError("b is down")})

    def test_two_endpoints_of_one_host_are_one_witness(self) -> None:
        world = World(names=("a", "a"))
        with pytest.raises(TransientError, match="no second endpoint of another host"):
            self.agreed(world, {"a": told(9)})
        world = World(names=("a", "a", "b"))
        assert self.agreed(world, {"a": told(9), "b": told(9)}) == told(9)
        assert world.asked == ["a", "b"]

    def test_an_answer_can_be_compared_as_it_is(self, world: World) -> None:
        assert world.nodes.agreed(lambda _: 7) == 7
        with pytest.raises(DisagreementError):
            world.nodes.agreed(lambda endpoint: endpoint.host)

    def test_an_adapter_may_say_itself_why(self, world: World) -> None:
        def differ(one: str, other: str) -> bool:
            raise DisagreementError(f"{one} is not {other}")

        with pytest.raises(DisagreementError, match="a and b disagree about eip155:1: a is not b"):
            world.nodes.agreed(lambda endpoint: endpoint.host, same=differ)
        assert world.trouble()["a"] == "disagrees"
