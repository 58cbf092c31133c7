"""Nodes that fail, lie or babble: a TransientError each time, and never a word of the URL, which holds a key."""

import socket
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import structlog.testing

from chains.evm.reader import EvmReader
from core.errors import TransientError
from local.devchain import DevChain
from tests.support.evm import MakeReader, Reply, changing, fake_node, proxy, reply

pytest_plugins = ["tests.support.evm_fixtures"]

NEVER = "0x" + "ab" * 32
KEY = "SECRETKEY123"

READS: dict[str, Callable[[EvmReader], Any]] = {
    "head": lambda reader: reader.head(),
    "blocks": lambda reader: reader.blocks([1, 0]),
    "chain_txs": lambda reader: reader.chain_txs([NEVER]),
    "spent": lambda reader: reader.spent([f"0x{'11' * 20}/0"]),
    "scan": lambda reader: reader.scan(0, 1, ["0x" + "11" * 20]),
}


def each(body: Any, answer: dict[str, Any]) -> Reply:
    return reply([{"jsonrpc": "2.0", "id": call["id"]} | answer for call in body])


GARBAGE: dict[str, Callable[[Any], Reply]] = {
    "500": lambda _: (500, {}, b"oops"),
    "502 page": lambda _: (502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"),
    "401": lambda _: (401, {}, b'{"message": "bad key SECRETKEY123"}'),
    "redirect": lambda _: (302, {"Location": "http://127.0.0.1:1/SECRETKEY123"}, b""),
    "page with status 200": lambda _: (200, {}, b"<html>Maintenance</html>"),
    "empty": lambda _: (200, {}, b""),
    "not UTF-8": lambda _: (200, {}, b"\xff\xfe["),
    "null": lambda _: reply(None),
    "a number": lambda _: reply(7),
    "a string": lambda _: reply("SECRETKEY123"),
    "an empty batch": lambda _: reply([]),
    "a batch of nonsense": lambda body: reply([7] * len(body)),
    "a batch of nulls": lambda body: reply([None] * len(body)),
    "error for all": lambda _: reply(
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "no batches"}}
    ),
    "error for each": lambda body: each(body, {"error": {"code": -32000, "message": f"project {KEY} is over limit"}}),
    "error as text": lambda body: each(body, {"error": f"bad {KEY}"}),
    "rate limit as error": lambda body: each(body, {"error": {"code": -32005, "message": "rate limit exceeded"}}),
    "a pit of brackets": lambda _: (200, {}, b"[" * 100_000),
    "neither result nor error": lambda body: each(body, {}),
    "no ids": lambda body: reply([{"jsonrpc": "2.0", "result": "0x7a69"} for _ in body]),
    "other ids": lambda body: reply([{"jsonrpc": "2.0", "id": call["id"] + 1, "result": "0x7a69"} for call in body]),
    "text ids": lambda body: reply([{"jsonrpc": "2.0", "id": str(call["id"]), "result": "0x7a69"} for call in body]),
    "results of the wrong type": lambda body: each(body, {"result": [[]]}),
    "a number as a number": lambda body: each(body, {"result": 31337}),
    "an empty object": lambda body: each(body, {"result": {}}),
}


def verified(garbage: Callable[[Any], Reply]) -> Callable[[Any], Reply]:
    """Right about its chain, and garbage after that."""

    def answer(body: Any) -> Reply:
        return each(body, {"result": "0x7a69"}) if body[0]["method"] == "eth_chainId" else garbage(body)

    return answer


def need_transient(read: Callable[[], Any]) -> TransientError:
    with pytest.raises(TransientError) as caught:
        read()
    whole = "".join(traceback.format_exception(caught.value))
    context = caught.value.__context__
    assert KEY not in whole
    assert context is None or KEY not in str(context)
    assert "127.0.0.1" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_transient(make_evm_reader: MakeReader, garbage: str, method: str) -> None:
    with fake_node(verified(GARBAGE[garbage])) as node:
        need_transient(lambda: READS[method](make_evm_reader(node.url)))


@pytest.mark.parametrize("garbage", GARBAGE)
def test_a_node_that_can_not_tell_its_chain_is_not_asked_further(make_evm_reader: MakeReader, garbage: str) -> None:
    with fake_node(GARBAGE[garbage]) as node:
        need_transient(lambda: make_evm_reader(node.url).head())
        assert set(node.methods) == {"eth_chainId"}


@pytest.mark.parametrize("method", READS)
def test_a_batch_answered_in_part_is_no_answer(dev_chain: DevChain, make_evm_reader: MakeReader, method: str) -> None:
    dev_chain.mine(2)

    def cut(body: Any, answers: Any) -> Any:
        return answers if body[0]["method"] == "eth_chainId" else answers[:-1]

    def doubled(body: Any, answers: Any) -> Any:
        return (
            answers if body[0]["method"] == "eth_chainId" else [*answers[:-1], answers[0], answers[0]][-len(answers) :]
        )

    for change in (cut, doubled):
        with proxy(dev_chain.url, change) as node:
            if change is doubled and method == "spent":
                continue  # one call: doubled is whole
            need_transient(lambda: READS[method](make_evm_reader(node.url)))


def test_a_redirect_is_not_followed(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    with proxy(dev_chain.url) as elsewhere, fake_node(lambda _: (307, {"Location": elsewhere.url}, b"")) as node:
        need_transient(lambda: make_evm_reader(node.url).head())
    assert elsewhere.bodies == []


def test_answers_in_another_order_are_put_in_order(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    dev_chain.mine(3)
    with proxy(dev_chain.url, lambda _body, answers: answers[::-1]) as node:
        found = make_evm_reader(node.url).blocks([0, 1, 2])
    assert {number: block.number for number, block in found.items()} == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("method", ["eth_getTransactionByHash", "eth_getTransactionReceipt"])
def test_the_answer_about_another_transaction_is_not_believed(
    dev_chain: DevChain, make_evm_reader: MakeReader, method: str
) -> None:
    one, two = (dev_chain.send(dev_chain.new_account(), 1) for _ in range(2))
    other = dev_chain.rpc(method, two)
    with proxy(dev_chain.url, changing(method, lambda _: other)) as node:
        need_transient(lambda: make_evm_reader(node.url).chain_txs([one]))


def test_another_block_than_was_asked_for_is_not_believed(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    block = dev_chain.rpc("eth_getBlockByNumber", "0x1", False)
    with proxy(dev_chain.url, changing("eth_getBlockByNumber", lambda _: block)) as node:
        need_transient(lambda: make_evm_reader(node.url).blocks([0]))
        need_transient(lambda: make_evm_reader(node.url).scan(0, 0, []))


@pytest.mark.parametrize(
    ("header", "expected"),
    [("7", timedelta(seconds=7)), ("Wed, 21 Oct 2026 07:28:00 GMT", None), ("9" * 30, timedelta(hours=1))],
)
def test_a_rate_limit_says_when_to_come_back(
    make_evm_reader: MakeReader, header: str, expected: timedelta | None
) -> None:
    with fake_node(lambda _: (429, {"Retry-After": header}, b"slow down")) as node:
        assert need_transient(lambda: make_evm_reader(node.url).head()).retry_after == expected


def test_threads_share_a_reader(dev_chain: DevChain, reader: EvmReader) -> None:
    dev_chain.mine(20)

    def read(first: int) -> bool:
        return list(reader.blocks(range(first, first + 5))) == list(range(first, first + 5))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(read, [n % 15 for n in range(200)]))


def test_a_rate_limit_is_not_taken_for_a_range_too_big(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    last = dev_chain.mine(8)

    def limit(body: Any, answers: Any) -> Any:
        error = {"code": 429, "message": "Your app has exceeded its compute units per second capacity"}
        logs = {call["id"] for call in body if call["method"] == "eth_getLogs"}
        return [{"id": a["id"], "error": error} if a["id"] in logs else a for a in answers]

    with proxy(dev_chain.url, limit) as node:
        need_transient(lambda: make_evm_reader(node.url).scan(last - 7, last, ["0x" + "11" * 20]))
        assert node.methods.count("eth_getLogs") == 1


def test_a_slow_node_is_not_waited_for(make_evm_reader: MakeReader) -> None:
    def slow(_: Any) -> Reply:
        time.sleep(1)
        return reply([])

    with fake_node(slow) as node:
        started = time.monotonic()
        error = need_transient(lambda: make_evm_reader(node.url, read_timeout=0.1).head())
        assert time.monotonic() - started < 0.8
    assert "in time" in str(error)


def test_a_node_that_is_not_there(make_evm_reader: MakeReader) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}/v3/{KEY}"
        assert "can't be reached" in str(need_transient(lambda: make_evm_reader(url).head()))


def test_a_node_of_another_chain_is_not_believed(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    with proxy(dev_chain.url) as node:
        reader = make_evm_reader(node.url, id="eip155:1")
        for read in READS.values():
            error = need_transient(lambda: read(reader))  # noqa: B023
            assert "is a node of eip155:31337, not of eip155:1" in str(error)
        assert set(node.methods) == {"eth_chainId"}


def test_the_next_endpoint_is_asked_when_one_fails(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    chain_tx = dev_chain.send(dev_chain.new_account(), 5)

    def foreign(body: Any) -> Reply:
        return each(body, {"result": "0x1"})

    with fake_node(GARBAGE["502 page"]) as broken, fake_node(foreign) as other, proxy(dev_chain.url) as good:
        reader = make_evm_reader(broken.url, other.url, good.url)
        with structlog.testing.capture_logs() as logs:
            assert reader.chain_txs([chain_tx])[chain_tx].block_number == dev_chain.height
        assert [entry["log_level"] for entry in logs] == ["warning", "warning"]
        assert KEY not in str(logs)
    error = need_transient(lambda: make_evm_reader(broken.url, other.url).head())
    assert "can't be reached" in str(error)


class TestFinalized:
    def test_the_tag_is_read_beside_the_head(self, dev_chain: DevChain, reader: EvmReader) -> None:
        height = dev_chain.mine(5)
        head = reader.head()
        assert head.latest.number == height
        assert head.finalized == height - 2

    def test_a_node_without_the_tag_finalizes_nothing(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        def unsupported(body: Any, answers: Any) -> Any:
            tags = {call["id"] for call in body if call["params"] == ["finalized", False]}
            error = {"code": -32602, "message": "invalid block tag"}
            return [{"id": a["id"], "error": error} if a["id"] in tags else a for a in answers]

        def null(body: Any, answers: Any) -> Any:
            tags = {call["id"] for call in body if call["params"] == ["finalized", False]}
            return [a | {"result": None} if a["id"] in tags else a for a in answers]

        for change in (unsupported, null):
            with proxy(dev_chain.url, change) as node:
                head = make_evm_reader(node.url).head()
            assert head.finalized is None and head.latest.number == dev_chain.height

    def test_a_finalized_block_above_the_head_is_nonsense(
        self, dev_chain: DevChain, make_evm_reader: MakeReader
    ) -> None:
        def ahead(body: Any, answers: Any) -> Any:
            tags = {call["id"] for call in body if call["params"] == ["finalized", False]}
            return [a | {"result": a["result"] | {"number": "0xfffff"}} if a["id"] in tags else a for a in answers]

        with proxy(dev_chain.url, ahead) as node:
            need_transient(lambda: make_evm_reader(node.url).head())


def test_proof_of_authority_headers_are_read(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    dev_chain.mine(2)
    long = changing("eth_getBlockByNumber", lambda block: block | {"extraData": "0x" + "ee" * 500})
    with proxy(dev_chain.url, long) as node:
        reader = make_evm_reader(node.url, poa=True)
        assert reader.head().latest.number == dev_chain.height
        assert len(reader.scan(0, 1, []).blocks) == 2
