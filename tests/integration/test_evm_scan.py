"""Scans of block ranges: what transactions say one by one, the scan must say too, or nothing."""

import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from chains.base import NATIVE_INDEX, Transfer
from chains.evm.reader import EvmReader
from core.errors import TransientError
from local.devchain import DevChain
from tests.support.evm import MakeReader, Token, changing, proxy

pytest_plugins = ["tests.support.evm_fixtures"]

ETHER = 10**18


def activity(
    dev_chain: DevChain, token: Token, emitter: str, addresses: list[str], *, seed: int, steps: int = 40
) -> tuple[int, int, list[str]]:
    """Random payments, frauds and failures, in blocks of random size. Returns the range and every transaction."""
    rng = random.Random(seed)
    dev_chain.send_token(token.address, emitter, 10_000)
    poor = dev_chain.new_account(units=ETHER)
    stranger = dev_chain.new_account()

    def anybody() -> str:
        return rng.choice([*addresses, stranger])

    def some() -> list[str]:
        return [anybody() for _ in range(rng.randrange(4))]

    kinds: list[Callable[[], str]] = [
        lambda: dev_chain.send(anybody(), rng.randrange(3)),
        lambda: dev_chain.send_token(token.address, anybody(), rng.randrange(3)),
        lambda: dev_chain.send_token(token.address, anybody(), 10**30),
        lambda: dev_chain.transact(emitter, "spread(address,address[],uint256)", token.address, some(), 1),
        lambda: dev_chain.transact(emitter, "forgeMany(address,address[],uint256)", stranger, some(), 2**256 - 1),
        lambda: dev_chain.transact(emitter, "forge721(address,address,uint256)", stranger, anybody(), 1),
        lambda: dev_chain.transact(
            emitter, "malformed(address,address,uint256,uint96)", stranger, anybody(), 31 + rng.randrange(3), 0
        ),
        lambda: dev_chain.transact(emitter, "fail()"),
        lambda: dev_chain.send_token(token.address, anybody(), 1, sender=poor),  # reverts
    ]
    first, ids = dev_chain.height + 1, []
    with dev_chain.no_mining():
        for _ in range(steps):
            ids.append(rng.choice(kinds)())
            if rng.random() < 0.4:
                dev_chain.mine(rng.randrange(1, 3))
        last = dev_chain.mine()
    return first, last, ids


def flat(transfers: list[Transfer]) -> set[tuple[object, ...]]:
    return {
        (
            t.chain,
            t.chain_tx,
            t.index,
            t.asset,
            t.contract,
            t.sender,
            t.recipient,
            t.units,
            t.block_number,
            t.block_hash,
        )
        for t in transfers
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_scan_says_what_its_transactions_say(
    dev_chain: DevChain, reader: EvmReader, token: Token, emitter: str, seed: int
) -> None:
    # The contract stands for a smart wallet: calls to it are payments of nothing, and their logs are its own.
    watched = [*(dev_chain.new_account() for _ in range(4)), emitter]
    first, last, ids = activity(dev_chain, token, emitter, watched, seed=seed)
    scan = reader.scan(first, last, watched)
    one_by_one = [t for tx in reader.chain_txs(ids).values() for t in tx.transfers if t.recipient in watched]
    assert len(one_by_one) > 5
    assert flat(list(scan.transfers)) == flat(one_by_one)
    assert len(scan.transfers) == len(one_by_one)
    # The same in parts, and with nothing but what others were paid left out.
    middle = (first + last) // 2
    parts = [*reader.scan(first, middle, watched).transfers, *reader.scan(middle + 1, last, watched).transfers]
    assert parts == list(scan.transfers)
    some = reader.scan(first, last, watched[:2]).transfers
    assert list(some) == [t for t in scan.transfers if t.recipient in watched[:2]]


def test_a_scan_returns_its_blocks_in_one_unbroken_line(dev_chain: DevChain, reader: EvmReader) -> None:
    last = dev_chain.mine(30)
    scan = reader.scan(last - 29, last, [dev_chain.new_account()])
    assert [block.number for block in scan.blocks] == list(range(last - 29, last + 1))
    assert all(child.parent_hash == parent.hash for parent, child in pairwise(scan.blocks))
    assert {block.number: block for block in scan.blocks} == reader.blocks([block.number for block in scan.blocks])
    assert reader.scan(last - 29, last, []) == scan


def test_a_scanned_transfer_knows_its_time(dev_chain: DevChain, reader: EvmReader) -> None:
    payee = dev_chain.new_account()
    dev_chain.send(payee, 5)
    here = dev_chain.height
    (transfer,) = reader.scan(here, here, [payee]).transfers
    assert transfer.index == NATIVE_INDEX
    assert transfer.block_time == reader.blocks([here])[here].time


def test_ranges_that_are_none_or_too_long_are_refused(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    reader = make_evm_reader(scan_blocks_max=5)
    last = dev_chain.mine(6)
    assert len(reader.scan(last - 4, last, []).blocks) == 5
    for first, end in [(last - 5, last), (last, last - 1), (-1, 2)]:
        with pytest.raises(ValueError, match="blocks"):
            reader.scan(first, end, [])


def test_a_block_that_the_node_lacks_fails_the_scan(dev_chain: DevChain, reader: EvmReader) -> None:
    with pytest.raises(TransientError, match=f"does not have block {dev_chain.height + 1}"):
        reader.scan(dev_chain.height, dev_chain.height + 1, [dev_chain.new_account()])


def test_many_addresses_and_blocks_cost_a_few_requests(
    dev_chain: DevChain, make_evm_reader: MakeReader, token: Token
) -> None:
    watched = [dev_chain.new_account() for _ in range(450)]
    first = dev_chain.height + 1
    for payee in (watched[0], watched[225], watched[449]):
        dev_chain.send_token(token.address, payee, 1)
        dev_chain.send(payee, 1)
    last = dev_chain.mine(14)
    assert last - first + 1 == 20
    with proxy(dev_chain.url) as node:
        scan = make_evm_reader(node.url).scan(first, last, watched)
        assert len(node.bodies) == 1 + 2 + 1 + 1  # chain id, blocks, receipts, logs
        assert node.methods.count("eth_getLogs") == 3
    assert len(scan.transfers) == 6


@pytest.mark.parametrize("limit", [1, 3, 7])
@pytest.mark.parametrize("whole_request", [False, True], ids=["one call refused", "HTTP 400"])
def test_a_range_the_node_refuses_is_read_in_parts(
    dev_chain: DevChain, make_evm_reader: MakeReader, token: Token, emitter: str, limit: int, *, whole_request: bool
) -> None:
    watched = [dev_chain.new_account() for _ in range(3)]
    first, last, _ = activity(dev_chain, token, emitter, watched, seed=limit, steps=15)

    def refuse(body: Any, answers: Any) -> Any:
        error = {"code": -32602, "message": f"range exceeds limit of {limit}"}
        asked = {call["id"]: call for call in body}
        changed = []
        for answer in answers:
            call = asked[answer["id"]]
            if call["method"] == "eth_getLogs":
                start, end = (int(call["params"][0][key], 16) for key in ("fromBlock", "toBlock"))
                if end - start >= limit:
                    if whole_request:
                        return 400, {}, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"range too big"}}'
                    changed.append({"jsonrpc": "2.0", "id": answer["id"], "error": error})
                    continue
            changed.append(answer)
        return changed

    with proxy(dev_chain.url, refuse) as node:
        assert make_evm_reader(node.url).scan(first, last, watched) == make_evm_reader().scan(first, last, watched)


def test_a_refusal_that_no_splitting_mends_ends_soon(dev_chain: DevChain, make_evm_reader: MakeReader) -> None:
    last = dev_chain.mine(64)

    def refuse(body: Any, answers: Any) -> Any:
        logs = {call["id"] for call in body if call["method"] == "eth_getLogs"}
        error = {"code": -32601, "message": "the method eth_getLogs is not available"}
        return [{"id": a["id"], "error": error} if a["id"] in logs else a for a in answers]

    with proxy(dev_chain.url, refuse) as node:
        with pytest.raises(TransientError, match="not available"):
            make_evm_reader(node.url).scan(last - 63, last, [dev_chain.new_account()])
        assert node.methods.count("eth_getLogs") == 7 + 2  # then by the block's hash, and at last for known tokens only


def test_a_block_filled_with_worthless_tokens_hides_no_payment(
    dev_chain: DevChain, make_evm_reader: MakeReader, token: Token, emitter: str
) -> None:
    payee = dev_chain.new_account()
    with dev_chain.no_mining():
        for _ in range(3):
            dev_chain.transact(emitter, "forgeMany(address,address[],uint256)", payee, [payee] * 5, 2**256 - 1)
        paid = dev_chain.send_token(token.address, payee, 5)
        last = dev_chain.mine()

    def refuse(body: Any, answers: Any) -> Any:
        logs = {call["id"] for call in body if call["method"] == "eth_getLogs"}
        error = {"code": -32005, "message": "query returned more than 10 results"}
        return [{"id": a["id"], "error": error} if a["id"] in logs and len(a["result"]) > 10 else a for a in answers]

    with proxy(dev_chain.url, refuse) as node:
        found = make_evm_reader(node.url).scan(last - 3, last, [payee]).transfers
    assert [(each.chain_tx, each.asset, each.units) for each in found] == [(paid, token.asset, 5)]


class TestTheChainChangesUnderTheScan:
    """Nothing is returned rather than the blocks of one fork with the transfers of another."""

    @pytest.fixture
    def paid(self, dev_chain: DevChain, token: Token) -> str:
        payee = dev_chain.new_account()
        dev_chain.send_token(token.address, payee, 5)
        dev_chain.send(payee, 5)
        return payee

    def check(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str, change: Callable[[Any, Any], Any]
    ) -> None:
        with proxy(dev_chain.url, change) as node, pytest.raises(TransientError, match="changed under the scan"):
            make_evm_reader(node.url).scan(dev_chain.height - 1, dev_chain.height, [paid])

    @pytest.mark.parametrize("before", ["eth_getTransactionReceipt", "eth_getLogs"])
    def test_a_real_reorg_between_two_requests(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str, before: str
    ) -> None:
        # With only the token's transfer gone there is no log to contradict the blocks: the last block's hash does.
        done: list[bool] = []
        http_answers = dev_chain.rpc

        def reorg_after(body: Any, answers: Any) -> Any:
            following = {
                "eth_getTransactionReceipt": "eth_getBlockByNumber",
                "eth_getLogs": "eth_getTransactionReceipt",
            }
            if not done and body[0]["method"] == following[before]:
                done.append(True)
                http_answers("anvil_reorg", 2, [])
            return answers

        self.check(dev_chain, make_evm_reader, paid, reorg_after)
        assert done

    def test_a_log_of_another_block(self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str) -> None:
        other = changing("eth_getLogs", lambda logs: [log | {"blockHash": "0x" + "cd" * 32} for log in logs])
        self.check(dev_chain, make_evm_reader, paid, other)

    def test_a_log_of_a_block_outside_the_range(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str
    ) -> None:
        self.check(
            dev_chain,
            make_evm_reader,
            paid,
            changing("eth_getLogs", lambda logs: [x | {"blockNumber": "0x1"} for x in logs]),
        )

    def test_a_receipt_that_is_gone(self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str) -> None:
        self.check(dev_chain, make_evm_reader, paid, changing("eth_getTransactionReceipt", lambda _: None))

    def test_a_block_with_another_parent(self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str) -> None:
        other = changing("eth_getBlockByNumber", lambda block: block | {"parentHash": "0x" + "cd" * 32})
        self.check(dev_chain, make_evm_reader, paid, other)

    def test_a_lagging_node_that_has_no_logs_yet(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str
    ) -> None:
        """The request for logs reaches a node behind the balancer that lacks the newest block: it finds no logs."""

        def lag(body: Any, answers: Any) -> Any:
            if body[0]["method"] == "eth_getLogs":
                results: list[Any] = [[], None]
                return [a | {"result": r} for a, r in zip(answers, results, strict=True)]
            return answers

        self.check(dev_chain, make_evm_reader, paid, lag)

    def test_a_log_for_somebody_else_is_nonsense(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str, token: Token
    ) -> None:
        dev_chain.send_token(token.address, dev_chain.new_account(), 5)
        here = dev_chain.height
        logs = dev_chain.rpc("eth_getLogs", {"fromBlock": hex(here), "toBlock": hex(here)})
        foreign = changing("eth_getLogs", lambda _: logs)
        with proxy(dev_chain.url, foreign) as node, pytest.raises(TransientError, match="not asked for"):
            make_evm_reader(node.url).scan(here, here, [paid])

    @pytest.mark.parametrize(
        "lie",
        [
            lambda logs: [log | {"removed": True} for log in logs],
            lambda logs: [*logs, *logs],
            lambda logs: [log | {"data": None} for log in logs],
        ],
        ids=["removed", "twice", "no data"],
    )
    def test_logs_that_can_not_be_fail_the_scan_and_hide_nothing(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str, lie: Callable[[Any], Any]
    ) -> None:
        with (
            proxy(dev_chain.url, changing("eth_getLogs", lie)) as node,
            pytest.raises(TransientError, match=r"a log|log's"),
        ):
            make_evm_reader(node.url).scan(dev_chain.height - 1, dev_chain.height, [paid])

    def test_a_receipt_without_a_status_fails_the_scan_and_hides_no_payment(
        self, dev_chain: DevChain, make_evm_reader: MakeReader, paid: str
    ) -> None:
        def half(receipt: Any) -> Any:
            return {key: value for key, value in receipt.items() if key != "status"}

        change = changing("eth_getTransactionReceipt", half)
        with proxy(dev_chain.url, change) as node, pytest.raises(TransientError, match="changed under the scan"):
            make_evm_reader(node.url).scan(dev_chain.height - 1, dev_chain.height, [paid])
