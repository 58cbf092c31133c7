"""What a node takes in one go: batches, ranges, thousands of addresses. It is found out, and nothing is lost by it."""

from collections.abc import Callable
from typing import Any

import pytest

from chains.errors import RefusedError
from chains.evm import scanning
from chains.fit import GROW_AFTER
from core.errors import TransientError
from local.devchain import DevChain
from tests.support.evm import MakeReader, Reply, Token, changing, fake_node, proxy, reply

pytest_plugins = ["tests.support.evm_fixtures"]

REFUSALS: dict[str, Callable[[], Reply]] = {
    "an error for all": lambda: reply(
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "batch too large"}}
    ),
    "HTTP 400": lambda: reply({"error": {"code": -32600, "message": "no"}}, status=400),
    "HTTP 400 in words of its own": lambda: reply({"message": "too many calls in a batch"}, status=400),
    "HTTP 413 with a page": lambda: (413, {"Content-Type": "text/html"}, b"<html>Request Entity Too Large</html>"),
}


def at_most(calls: int, refusal: Callable[[], Reply]) -> Callable[[Any, Any], Any]:
    return lambda body, answers: answers if len(body) <= calls else refusal()


@pytest.fixture
def paid(dev_chain: DevChain, token: Token) -> tuple[list[str], list[str], int, int]:
    """Payees, what paid them, and the blocks in which."""
    payees = [dev_chain.new_account() for _ in range(3)]
    first = dev_chain.height + 1
    with dev_chain.no_mining():
        ids = []
        for number in range(8):
            ids.append(dev_chain.send_token(token.address, payees[number % 3], number + 1))
            ids.append(dev_chain.send(payees[number % 3], number + 1))
            if number % 3 == 2:
                dev_chain.mine()
        last = dev_chain.mine(12)
    return payees, ids, first, last


class TestBatches:
    @pytest.mark.parametrize("calls", [1, 3, 30])
    @pytest.mark.parametrize("refusal", REFUSALS)
    def test_a_node_that_takes_smaller_ones_is_asked_in_smaller_ones(
        self,
        dev_chain: DevChain,
        make_evm_reader: MakeReader,
        paid: tuple[list[str], list[str], int, int],
        refusal: str,
        calls: int,
    ) -> None:
        payees, ids, first, last = paid
        with proxy(dev_chain.url, at_most(calls, REFUSALS[refusal])) as node:
            reader = make_evm_reader(node.url)
            undisturbed = make_evm_reader().chain_txs(ids)
            assert reader.chain_txs(ids) == undisturbed
            refused = sum(len(body) > calls for body in node.bodies)
            assert 1 <= refused <= 6 + len(node.bodies) // GROW_AFTER
            node.bodies.clear()
            assert reader.chain_txs(ids) == undisturbed
            # It is remembered, and a little more is tried only now and then.
            assert sum(len(body) > calls for body in node.bodies) <= 1 + len(node.bodies) // GROW_AFTER
            assert reader.scan(first, last, payees) == make_evm_reader().scan(first, last, payees)
            assert reader.head() == make_evm_reader().head()

    def test_the_configuration_can_say_it(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: tuple[list[str], list[str], int, int]
    ) -> None:
        payees, ids, first, last = paid
        with proxy(dev_chain.url) as node:
            reader = make_evm_reader(node.url, calls_max=7)
            assert reader.chain_txs(ids) == make_evm_reader().chain_txs(ids)
            assert reader.scan(first, last, payees) == make_evm_reader().scan(first, last, payees)
            assert max(len(body) for body in node.bodies) == 7

    def test_a_call_that_is_refused_by_its_nature_makes_no_batch_smaller(
        self, dev_chain: DevChain, make_evm_reader: MakeReader
    ) -> None:
        chain_tx = dev_chain.send(dev_chain.new_account(), 5)

        def no_receipts(body: Any, answers: Any) -> Any:
            if any(call["method"] == "eth_getTransactionReceipt" for call in body):
                return REFUSALS["HTTP 400"]()
            return answers

        with proxy(dev_chain.url, no_receipts) as node:
            reader = make_evm_reader(node.url)
            with pytest.raises(RefusedError):
                reader.chain_txs([chain_tx] * 30)
            node.bodies.clear()
            reader.blocks(range(min(10, dev_chain.height)))
            assert len(node.bodies) == 1

    def test_what_is_refused_in_company_is_asked_again_alone(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: tuple[list[str], list[str], int, int]
    ) -> None:
        """geth ends a batch whose answer has become too long: each call after that has an error of its own."""
        _, ids, _, _ = paid

        def too_long(body: Any, answers: Any) -> Any:
            error = {"code": -32003, "message": "response too large"}
            return [*answers[:5], *({"id": a["id"], "error": error} for a in answers[5:])]

        with proxy(dev_chain.url, too_long) as node:
            assert make_evm_reader(node.url).chain_txs(ids) == make_evm_reader().chain_txs(ids)

    def test_a_gateways_error_is_no_refusal(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        dev_chain.mine(12)
        answer = reply({"error": {"message": "upstream is away"}}, status=502)
        with proxy(dev_chain.url, lambda body, answers: answers if len(body) == 1 else answer) as node:
            with pytest.raises(TransientError) as caught:
                make_evm_reader(node.url).blocks(range(10))
            assert not isinstance(caught.value, RefusedError) and len(node.bodies) == 2

    @pytest.mark.parametrize("status", [401, 402, 403])
    def test_a_key_that_is_used_up_is_no_refusal(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, status: int
    ) -> None:
        answer = reply({"jsonrpc": "2.0", "id": 0, "error": {"code": -32002, "message": "rejected"}}, status=status)
        with fake_node(lambda _: answer) as used_up, proxy(dev_chain.url) as sound:
            reader = make_evm_reader(used_up.url, sound.url)
            for _ in range(6):
                assert reader.blocks([0, 1])
            assert len(used_up.bodies) == 3 and reader.nodes()[0].open_until is not None


class TestRanges:
    def test_the_range_that_worked_is_remembered(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        last = dev_chain.mine(40)

        def limit(body: Any, answers: Any) -> Any:
            for call in body:
                if call["method"] == "eth_getLogs":
                    asked = call["params"][0]
                    if int(asked["toBlock"], 16) - int(asked["fromBlock"], 16) >= 6:
                        return REFUSALS["an error for all"]()
            return answers

        def requests(node: Any) -> int:
            return sum(any(call["method"] == "eth_getLogs" for call in body) for body in node.bodies)

        with proxy(dev_chain.url, limit) as node:
            reader, payee = make_evm_reader(node.url), dev_chain.new_account()
            reader.scan(last - 39, last, [payee])
            before = requests(node)
            reader.scan(last - 39, last, [payee])
            assert requests(node) - before <= 40 // 5 + 1 < before

    def test_a_node_without_batches_is_asked_for_each_block_by_its_hash(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: tuple[list[str], list[str], int, int]
    ) -> None:
        """Or its logs could come from a machine that lacks the block, and nothing would vouch for them."""
        payees, _, first, last = paid
        with proxy(dev_chain.url, at_most(1, REFUSALS["HTTP 400"])) as node:
            reader = make_evm_reader(node.url)
            assert reader.scan(first, last, payees) == make_evm_reader().scan(first, last, payees)
            alone = [body[0] for body in node.bodies if len(body) == 1 and body[0]["method"] == "eth_getLogs"]
            assert len(alone) == last - first + 1 and all("blockHash" in call["params"][0] for call in alone)


class TestThousandsOfAddresses:
    @pytest.fixture
    def crowd(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        monkeypatch.setattr(scanning, "BULK_FROM", 50)
        return ["0x" + f"{number:040x}" for number in range(10**9, 10**9 + 60)]

    def test_every_transfer_of_the_known_tokens_is_fetched_and_looked_through(
        self,
        dev_chain: DevChain,
        make_evm_reader: MakeReader,
        token: Token,
        paid: tuple[list[str], list[str], int, int],
        crowd: list[str],
    ) -> None:
        payees, _, first, last = paid
        with proxy(dev_chain.url) as node:
            found = make_evm_reader(node.url).scan(first, last, [*payees, *crowd])
            (asked,) = [call["params"][0] for body in node.bodies for call in body if call["method"] == "eth_getLogs"]
        assert found == make_evm_reader().scan(first, last, payees)
        assert asked["address"] == [token.address.lower()] and len(asked["topics"]) == 1

    def test_unknown_tokens_stay_unseen_there(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, crowd: list[str]
    ) -> None:
        fake, payee = dev_chain.deploy("TestToken", "Tether USD", "USDT", 6, 10**18), dev_chain.new_account()
        dev_chain.send_token(fake, payee, 5)
        here = dev_chain.height
        assert [t.asset for t in make_evm_reader().scan(here, here, [payee]).transfers] == [None]
        assert make_evm_reader().scan(here, here, [payee, *crowd]).transfers == ()

    def test_a_log_of_another_contract_is_nonsense_there(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, crowd: list[str]
    ) -> None:
        fake, payee = dev_chain.deploy("TestToken", "Tether USD", "USDT", 6, 10**18), dev_chain.new_account()
        dev_chain.send_token(fake, payee, 5)
        here = dev_chain.height
        logs = dev_chain.rpc("eth_getLogs", {"fromBlock": hex(here), "toBlock": hex(here)})
        foreign = changing("eth_getLogs", lambda _: logs)
        with proxy(dev_chain.url, foreign) as node, pytest.raises(TransientError, match="not asked for"):
            make_evm_reader(node.url).scan(here, here, [payee, *crowd])

    def test_a_node_that_refuses_so_many_logs_is_asked_for_fewer_blocks(
        self,
        dev_chain: DevChain,
        make_evm_reader: MakeReader,
        paid: tuple[list[str], list[str], int, int],
        crowd: list[str],
    ) -> None:
        payees, _, first, last = paid

        def limit(body: Any, answers: Any) -> Any:
            logs = {call["id"] for call in body if call["method"] == "eth_getLogs"}
            error = {"code": -32005, "message": "query returned more than 4 results"}
            return [{"id": a["id"], "error": error} if a["id"] in logs and len(a["result"]) > 4 else a for a in answers]

        with proxy(dev_chain.url, limit) as node:
            found = make_evm_reader(node.url).scan(first, last, [*payees, *crowd])
        assert found == make_evm_reader().scan(first, last, payees)
