"""Several nodes in front of one chain, and one of them in trouble: the same answer from the healthy one, or none."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import structlog.testing

from chains import http as chain_http
from chains.base import Reach, Scan, TxStatus
from chains.errors import DisagreementError
from chains.evm.reader import EvmReader
from config.assets import Asset, Chain, Node
from core.errors import TransientError
from local.devchain import DevChain
from tests.support.evm import CHAIN, COIN, FakeNode, MakeReader, Reply, Token, changing, fake_node, proxy, reply

pytest_plugins = ["tests.support.evm_fixtures"]

HEAD = b"HTTP/1.1 200 OK\r\nX-Filler: "
ONE, OTHER = "127.0.0.1", "localhost"
"""Two hosts, as far as anybody can tell by their names."""


@pytest.fixture
def paid(dev_chain: DevChain, token: Token) -> tuple[str, int, int]:
    """An address that was paid, and the blocks in which."""
    payee = dev_chain.new_account()
    first = dev_chain.height + 1
    dev_chain.send(payee, 5)
    dev_chain.send_token(token.address, payee, 6)
    return payee, first, dev_chain.mine(12)


def after(calls: int, trouble: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """For `proxy`: right for so many requests, then in trouble."""
    left = [calls]

    def change(body: Any, answers: Any) -> Any:
        left[0] -= 1
        return answers if left[0] >= 0 else trouble(body)

    return change


def die(_: Any) -> Reply:
    return 502, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>"


def hang(_: Any) -> Reply:
    time.sleep(1.5)
    return reply([])


TROUBLE: dict[str, Callable[[Any], Any]] = {
    "dies": die,
    "answers with garbage": lambda _: (200, {}, b"\xff\xfe["),
    "says nothing sensible": lambda body: [{"jsonrpc": "2.0", "id": call["id"], "result": {}} for call in body],
    "limits our rate": lambda _: (429, {"Retry-After": "30"}, b"slow down"),
    "times out": hang,
}


class TestAScanInTheMiddleOfWhichANodeFails:
    @pytest.mark.parametrize("calls", [0, 2, 4])
    @pytest.mark.parametrize("trouble", TROUBLE)
    def test_the_next_one_tells_all_of_it(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: tuple[str, int, int], trouble: str, calls: int
    ) -> None:
        payee, first, last = paid
        undisturbed = make_evm_reader().scan(first, last, [payee])
        with proxy(dev_chain.url, after(calls, TROUBLE[trouble])) as sick, proxy(dev_chain.url) as sound:
            reader = make_evm_reader(sick.url, sound.url, read_timeout=0.3)
            for _ in range(3):
                assert reader.scan(first, last, [payee]) == undisturbed
            alone = make_evm_reader(sick.url, read_timeout=0.3)
            with pytest.raises(TransientError):
                alone.scan(first, last, [payee])

    @pytest.mark.parametrize("method", ["eth_getBlockByNumber", "eth_getTransactionReceipt", "eth_getLogs"])
    def test_a_node_that_lies_about_a_block_is_caught(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: tuple[str, int, int], method: str
    ) -> None:
        payee, first, last = paid
        undisturbed = make_evm_reader().scan(first, last, [payee])
        lie = {"hash": "0x" + "cd" * 32, "blockHash": "0x" + "cd" * 32}

        def change(result: Any) -> Any:
            if isinstance(result, list):
                return [each | lie for each in result]
            # Only one of the blocks: all of them would be another chain, which one node alone can always make up.
            return result | lie if method != "eth_getBlockByNumber" or result["number"] == hex(first + 3) else result

        with proxy(dev_chain.url, changing(method, change)) as liar, proxy(dev_chain.url) as sound:
            assert make_evm_reader(liar.url, sound.url).scan(first, last, [payee]) == undisturbed
            with pytest.raises(TransientError, match="changed under the scan"):
                make_evm_reader(liar.url).scan(first, last, [payee])

    @pytest.mark.parametrize(
        "head", [b"", HEAD, HEAD + b"Content-Length: 1000\r\n\r\n"], ids=["all", "headers", "body"]
    )
    def test_an_answer_that_drips_is_not_waited_for(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, monkeypatch: pytest.MonkeyPatch, head: bytes
    ) -> None:
        monkeypatch.setattr(chain_http, "ANSWER_TIMEOUT_S", 0.5)
        with dripping(head, HEAD[len(head) :] + b" " * 1_000) as drip:
            reader = make_evm_reader(drip, dev_chain.url, read_timeout=0.2)
            started = time.monotonic()
            assert reader.head().latest.number == dev_chain.height
            # Each byte comes in time, so only the time for the whole of it ends this.
            assert 0.4 < time.monotonic() - started < 2

    def test_an_answer_without_end_is_not_read(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(chain_http, "ANSWER_BYTES_MAX", 100_000)
        with fake_node(lambda _: (200, {}, b" " * 200_000)) as endless:
            with pytest.raises(TransientError, match="more than 100000 bytes"):
                make_evm_reader(endless.url).head()
            assert make_evm_reader(endless.url, dev_chain.url).head().latest.number == dev_chain.height


@contextmanager
def dripping(head: bytes, rest: bytes) -> Iterator[str]:
    """A server whose answer begins at once and then comes byte by byte, for a quarter of a minute."""
    import socket
    import threading

    stop = threading.Event()

    def serve(server: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(head)
                for at in range(150):
                    if stop.wait(0.1):
                        return
                    try:
                        connection.sendall(rest[at : at + 1])
                    except OSError:
                        break

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        finally:
            stop.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


class TestTheBreaker:
    def test_a_dead_node_costs_a_few_calls_and_no_more(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        with fake_node(die) as dead, proxy(dev_chain.url) as sound:
            reader = make_evm_reader(dead.url, sound.url)
            with structlog.testing.capture_logs() as logs:
                for _ in range(20):
                    reader.blocks([0])
            assert len(dead.bodies) == 3
            assert len([entry for entry in logs if entry["log_level"] == "warning"]) == 3
            sick, well = reader.nodes()
            assert sick.open_until is not None and sick.failing_since is not None and sick.failures == 3
            assert (well.calls, well.failures, well.open_until) == (20, 0, None)

    def test_a_node_that_asked_to_be_left_alone_is(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        def busy(_: Any) -> Reply:
            return 429, {"Retry-After": "30"}, b""

        with fake_node(busy) as limited, proxy(dev_chain.url) as sound:
            reader = make_evm_reader(limited.url, sound.url)
            for _ in range(5):
                reader.blocks([0])
            assert len(limited.bodies) == 1
            alone = make_evm_reader(limited.url)
            for _ in range(3):
                with pytest.raises(TransientError, match="limits our rate") as caught:
                    alone.blocks([0])
                assert caught.value.retry_after is not None
                assert timedelta(seconds=25) < caught.value.retry_after <= timedelta(seconds=33)
            assert len(limited.bodies) == 2


def behind(blocks: int) -> Callable[[Any, Any], Any]:
    """A node that has not seen the newest blocks, and what is in them."""

    def change(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call for call in body}
        newest = None
        changed = []
        for answer in answers:
            call = asked[answer["id"]]
            result = answer["result"]
            if call["method"] == "eth_blockNumber":
                result = hex(int(result, 16) - blocks)
            elif call["method"] in ("eth_getTransactionByHash", "eth_getTransactionReceipt"):
                result = None
            elif call["method"] == "eth_getBlockByNumber" and call["params"][0] == "latest":
                newest = result
                result = result | {"number": hex(int(result["number"], 16) - blocks)}
            elif call["method"] == "eth_getBlockByNumber" and newest and result:
                result = result | {"number": hex(max(0, int(result["number"], 16) - blocks))}
            changed.append(answer | {"result": result})
        return changed

    return change


class TestHeads:
    def test_a_node_that_lags_is_noticed_and_hides_no_payment(
        self, dev_chain: DevChain, make_evm_reader: MakeReader
    ) -> None:
        dev_chain.mine(8)
        chain_tx = dev_chain.send(dev_chain.new_account(), 5)
        with proxy(dev_chain.url, behind(6)) as late, proxy(dev_chain.url) as sound:
            reader = make_evm_reader(late.url, sound.url, lag_blocks_max=5, head_age_max_s=0)
            assert reader.head().latest.number == dev_chain.height - 6  # nobody knows better yet
            assert reader.head().latest.number == dev_chain.height
            assert [node.trouble for node in reader.nodes()] == ["lags", None]
            assert reader.chain_txs([chain_tx])[chain_tx].status is TxStatus.SUCCEEDED

    def test_a_node_that_stands_still_is_noticed(self, dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
        dev_chain.mine(1)
        still = dev_chain.rpc("eth_getBlockByNumber", "latest", False) | {"timestamp": "0x6553f100"}
        stuck = changing("eth_getBlockByNumber", lambda _: still)
        now = lambda block: block | {"timestamp": hex(int(time.time()))}  # noqa: E731
        with proxy(dev_chain.url, stuck) as one, proxy(dev_chain.url, changing("eth_getBlockByNumber", now)) as other:
            reader = make_evm_reader(one.url, other.url, lag_blocks_max=1_000)
            for _ in range(2):
                reader.head()
            assert [node.trouble for node in reader.nodes()] == ["stalled", None]
            assert reader.head().latest.time.year >= 2026


class TestAgreed:
    def reader(self, make_evm_reader: MakeReader, *nodes: FakeNode) -> EvmReader:
        return make_evm_reader(*(node.url.replace(ONE, host) for node, host in zip(nodes, (ONE, OTHER), strict=False)))

    @pytest.fixture
    def chain_tx(self, dev_chain: DevChain, token: Token) -> str:
        return dev_chain.send_token(token.address, dev_chain.new_account(), 7)

    def test_two_nodes_that_tell_the_same(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, chain_tx: str
    ) -> None:
        with proxy(dev_chain.url) as one, proxy(dev_chain.url) as other:
            reader = self.reader(make_evm_reader, one, other)
            head, agreed = reader.head(), reader.agreed([chain_tx])[chain_tx]
            assert agreed.reach == Reach(head.latest.number, head.finalized)
            assert replace(agreed, reach=None) == reader.chain_txs([chain_tx])[chain_tx]
            assert "eth_getTransactionReceipt" in one.methods and "eth_getTransactionReceipt" in other.methods
            spelled = chain_tx.upper().replace("0X", "")
            assert reader.agreed([spelled])[spelled].id == chain_tx

    @pytest.mark.parametrize("first", [True, False])
    def test_a_node_that_boasts_of_its_head_makes_no_block_deep(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, chain_tx: str, *, first: bool
    ) -> None:
        dev_chain.mine(70)

        def boast(block: Any) -> Any:
            return block | {"number": hex(int(block["number"], 16) + 1_000)}

        with proxy(dev_chain.url, changing("eth_getBlockByNumber", boast)) as liar, proxy(dev_chain.url) as sound:
            reader = self.reader(make_evm_reader, *((liar, sound) if first else (sound, liar)))
            truth = make_evm_reader().head()
            assert truth.finalized is not None
            assert reader.agreed([chain_tx])[chain_tx].reach == Reach(truth.latest.number, truth.finalized)

    @pytest.mark.parametrize(
        ("method", "lie"),
        [
            ("eth_getTransactionReceipt", {"status": "0x0", "logs": []}),
            ("eth_getTransactionReceipt", {"logs": []}),
            ("eth_getTransactionByHash", {"value": "0x1"}),
            ("eth_getTransactionByHash", None),
        ],
    )
    def test_a_node_that_tells_something_else_stops_it(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, chain_tx: str, method: str, lie: dict[str, Any] | None
    ) -> None:
        change = changing(method, lambda result: result | lie if lie is not None else None)
        with proxy(dev_chain.url) as one, proxy(dev_chain.url, change) as other:
            reader = self.reader(make_evm_reader, one, other)
            with pytest.raises(DisagreementError, match=f"{ONE} and {OTHER} disagree"):
                reader.agreed([chain_tx])
            assert [node.trouble for node in reader.nodes()] == ["disagrees", "disagrees"]
            # What needs no two witnesses goes on.
            assert reader.chain_txs([chain_tx])[chain_tx].status is TxStatus.SUCCEEDED

    def test_another_block_is_another_story(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, chain_tx: str
    ) -> None:
        fork = {"blockHash": "0x" + "cd" * 32}

        def change(body: Any, answers: Any) -> Any:
            moved = []
            for answer in answers:
                result = answer["result"]
                if isinstance(result, dict) and "blockHash" in result:
                    result = result | fork
                    if "logs" in result:
                        result["logs"] = [entry | fork for entry in result["logs"]]
                moved.append(answer | {"result": result})
            return moved

        with proxy(dev_chain.url) as one, proxy(dev_chain.url, change) as other:
            reader = self.reader(make_evm_reader, one, other)
            with pytest.raises(DisagreementError):
                reader.agreed([chain_tx])

    def test_a_node_that_lags_is_no_witness_and_no_liar(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, chain_tx: str
    ) -> None:
        with proxy(dev_chain.url) as one, proxy(dev_chain.url, behind(1)) as other:
            reader = self.reader(make_evm_reader, one, other)
            with pytest.raises(TransientError, match=f"{OTHER} is behind {ONE}") as caught:
                reader.agreed([chain_tx])
            assert not isinstance(caught.value, DisagreementError)
            assert [node.trouble for node in reader.nodes()] == [None, None]

    def test_one_node_under_two_ports_is_one_witness(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, chain_tx: str
    ) -> None:
        with proxy(dev_chain.url) as one, proxy(dev_chain.url) as other:
            reader = make_evm_reader(one.url, other.url)
            with pytest.raises(TransientError, match="no second endpoint of another host"):
                reader.agreed([chain_tx])


class TestRate:
    @pytest.fixture
    def make_paced(self, evm_node: Any, token: Token, redis_url: str) -> Callable[..., EvmReader]:
        def make(*nodes: tuple[str, str | None]) -> EvmReader:
            chain = Chain(
                id=CHAIN, name="Development", namespace="eip155", confirmations=2, reorg_depth=16, block_time_ms=1000,
                nodes=tuple(Node(url=url, rate=rate) for url, rate in nodes),
            )  # fmt: skip
            return EvmReader(chain, [Asset(id=COIN, symbol="ETH", scale=18)], read_timeout=5)

        return make

    def test_an_endpoint_at_its_limit_is_passed_over(
        self, dev_chain: DevChain, make_paced: Callable[..., EvmReader]
    ) -> None:
        with proxy(dev_chain.url) as limited, proxy(dev_chain.url) as free:
            reader = make_paced((limited.url, "5/minute"), (free.url, None))
            started = time.monotonic()
            for _ in range(10):
                reader.blocks([0])
            assert time.monotonic() - started < 1
            assert len(limited.bodies) == 5  # one of them for the chain's id
            assert [node.failures for node in reader.nodes()] == [0, 0]

    def test_all_readers_together_keep_it(self, dev_chain: DevChain, make_paced: Callable[..., EvmReader]) -> None:
        with proxy(dev_chain.url) as limited:
            readers = [make_paced((limited.url, "6/minute")) for _ in range(3)]  # as in three processes
            done, refused = 0, []
            for _ in range(3):
                for reader in readers:
                    try:
                        reader.blocks([0])
                        done += 1
                    except TransientError as error:
                        refused.append(error)
            assert len(limited.bodies) == 6 and done == 3
            assert all(error.retry_after and error.retry_after > timedelta(seconds=50) for error in refused)

    def test_a_turn_that_comes_soon_is_waited_for(
        self, dev_chain: DevChain, make_paced: Callable[..., EvmReader]
    ) -> None:
        with proxy(dev_chain.url) as limited:
            reader = make_paced((limited.url, "10/second"))
            started = time.monotonic()
            for _ in range(19):
                reader.blocks([0])
            assert time.monotonic() - started > 0.8
            assert len(limited.bodies) == 20

    def test_without_redis_each_process_counts_for_itself(
        self, dev_chain: DevChain, make_paced: Callable[..., EvmReader], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from config import settings

        monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
        settings.reload()
        with proxy(dev_chain.url) as limited, structlog.testing.capture_logs() as logs:
            reader = make_paced((limited.url, "4/minute"))
            for _ in range(3):
                reader.blocks([0])
            with pytest.raises(TransientError):
                reader.blocks([0])
            assert len(limited.bodies) == 4
        assert [entry["event"] for entry in logs if "counted by each process" in entry["event"]] != []
        assert limited.url not in str(logs)

    def test_no_key_is_written_to_redis(
        self, dev_chain: DevChain, make_paced: Callable[..., EvmReader], redis_url: str
    ) -> None:
        from core import redis

        with proxy(dev_chain.url) as limited:
            make_paced((limited.url, "4/minute")).blocks([0])
        keys = [str(key) for key in redis.client().scan_iter()]
        assert keys and not any("SECRETKEY123" in key for key in keys)


def test_the_headers_of_a_node_are_sent_and_struck_out(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("X-Api-Key"))
        return httpx.Response(401, json={"error": {"code": 1, "message": "bad key hunter2hunter2"}})

    endpoint = chain_http.HttpEndpoint(Node(url="http://node.test/", headers={"X-Api-Key": "hunter2hunter2"}))
    endpoint._client = httpx.Client(transport=httpx.MockTransport(answer), headers=endpoint.node.headers)
    with endpoint._client, pytest.raises(TransientError) as caught:
        endpoint.ask([("eth_chainId", [])])
    assert seen == ["hunter2hunter2"] and "hunter2" not in str(caught.value)


def test_readings_stay_whole_however_nodes_come_and_go(
    dev_chain: DevChain, make_evm_reader: MakeReader, paid: tuple[str, int, int]
) -> None:
    """Three nodes that fail at random: each scan is the undisturbed one, or none."""
    import random

    payee, first, last = paid
    undisturbed = make_evm_reader().scan(first, last, [payee])
    rng = random.Random(7)
    found: list[Scan] = []
    with ExitStack() as stack:

        def unsteady(body: Any, answers: Any) -> Any:
            match rng.randrange(12):
                case 0:
                    return die(body)
                case 1:
                    return answers[:-1]
                case 2:
                    return 200, {}, b"{"
                case _:
                    return answers

        urls = [stack.enter_context(proxy(dev_chain.url, unsteady)).url for _ in range(3)]
        reader = make_evm_reader(*urls)
        for _ in range(25):
            try:
                found.append(reader.scan(first, last, [payee]))
            except TransientError:
                continue
    assert len(found) > 5 and all(scan == undisturbed for scan in found)
