"""Nodes of another cluster, nodes that lag, limit, lie or answer with garbage."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chains.base import TxStatus
from chains.errors import DisagreementError, RefusedError
from chains.solana.reader import SolanaReader
from config.assets import Asset
from core.errors import PermanentError, TransientError
from local.solana_dev import SolanaDev
from local.solana_node import SolanaNode
from tests.support.evm import changing, fake_node, proxy, reply
from tests.support.solana import MAINNET, USDC, chain_of, reader_of, settled


@pytest.fixture(scope="module")
def dev() -> Iterator[SolanaDev]:
    with SolanaNode() as node, SolanaDev(node.url) as dev:
        yield dev


@pytest.fixture(scope="module")
def paid(dev: SolanaDev) -> str:
    signature = dev.pay(dev.new_address(), 5)
    settled(dev)
    return signature


def everything(reader: SolanaReader, signature: str) -> list[Callable[[], Any]]:
    return [
        reader.head,
        lambda: reader.blocks([1]),
        lambda: reader.chain_txs([signature]),
        lambda: reader.scan(1, 2, []),
    ]


def test_a_node_of_another_cluster_is_named_and_asked_nothing(dev: SolanaDev, paid: str) -> None:
    with SolanaNode() as other, proxy(other.url) as node:
        reader = reader_of(dev, urls=[node.url])
        for ask in everything(reader, paid):
            with pytest.raises(TransientError) as failed:
                ask()
            assert "SECRETKEY123" not in str(failed.value)
    assert set(node.methods) == {"getGenesisHash"}


def test_the_genesis_hash_names_the_chain(dev: SolanaDev) -> None:
    """solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp is mainnet (github.com/ChainAgnostic/namespaces, solana/caip2.md)."""
    genesis = "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d"
    with proxy(dev.url, changing("getGenesisHash", lambda _: genesis)) as node:
        reader = SolanaReader(chain_of(MAINNET, node.url, head_age_max_s=0), [])
        assert reader.head().latest.number >= 0
    with (
        proxy(dev.url, changing("getGenesisHash", lambda _: genesis[:32])) as node,
        pytest.raises(TransientError, match="nonsense"),
    ):
        SolanaReader(chain_of(MAINNET, node.url), []).head()


GARBAGE: list[Any] = [None, 5, -1, 2**70, "x", [], {}, [None], [[]], {"value": None}, True, 1.5]


@pytest.mark.parametrize("garbage", GARBAGE, ids=repr)
def test_garbage_is_a_failure_of_the_node(dev: SolanaDev, paid: str, garbage: Any) -> None:
    """Of every method but the first, which is about the node's cluster."""

    def answer(body: Any) -> Any:
        return reply(
            [
                {"jsonrpc": "2.0", "id": call["id"], "result": genesis if "Genesis" in call["method"] else garbage}
                for call in body
            ]
        )

    genesis = dev.rpc("getGenesisHash")
    with fake_node(answer) as node:
        reader = reader_of(dev, urls=[node.url])
        for ask in everything(reader, paid):
            with pytest.raises(TransientError):
                ask()


def broken(error: Any) -> Callable[[Any, Any], Any]:
    def change(body: Any, answers: Any) -> Any:
        return [
            answer if call["method"] == "getGenesisHash" else {"jsonrpc": "2.0", "id": call["id"], "error": error}
            for call, answer in zip(body, answers, strict=True)
        ]

    return change


@pytest.mark.parametrize(
    "error",
    [
        {"code": -32002, "message": "Transaction simulation failed"},  # without `data`, on which solders panics
        {"code": -32005, "message": "Node is behind by 42 slots", "data": {"numSlotsBehind": 42}},
        {"code": -32016, "message": "Minimum context slot has not been reached"},
        {"code": -32011, "message": "Transaction history is not available from this node"},
        {"message": None},
        "just a text",
    ],
    ids=str,
)
def test_a_nodes_error_is_a_refusal(dev: SolanaDev, paid: str, error: Any) -> None:
    with proxy(dev.url, broken(error)) as node:
        reader = reader_of(dev, urls=[node.url])
        for ask in everything(reader, paid):
            with pytest.raises(TransientError):
                ask()
        with pytest.raises(RefusedError):
            reader.head()


def test_a_rate_limit_is_told_with_the_nodes_wish(dev: SolanaDev, paid: str) -> None:
    with (
        fake_node(lambda _: (429, {"Retry-After": "7"}, b"{}")) as node,
        pytest.raises(TransientError, match="429") as limited,
    ):
        reader_of(dev, urls=[node.url]).chain_txs([paid])
    assert limited.value.retry_after is not None and limited.value.retry_after.total_seconds() == 7


def test_the_next_node_is_asked_when_one_fails(dev: SolanaDev, paid: str) -> None:
    with fake_node(lambda _: (502, {}, b"<html>")) as node:
        reader = reader_of(dev, urls=[node.url, dev.url])
        assert reader.chain_txs([paid])[paid].status is TxStatus.SUCCEEDED


def test_a_node_that_counts_a_slot_before_it_stores_its_block_tells_the_one_below(dev: SolanaDev) -> None:
    last = settled(dev)

    def late(body: Any, answers: Any) -> Any:
        return [
            {"jsonrpc": "2.0", "id": call["id"], "error": {"code": -32004, "message": "Block not available"}}
            if call["method"] == "getBlock" and call["params"][0] == last
            else answer | {"result": [slot for slot in answer["result"] if slot != last]}
            if call["method"] == "getBlocks"
            else answer
            for call, answer in zip(body, answers, strict=True)
        ]

    with proxy(dev.url, late) as node:
        assert reader_of(dev, urls=[node.url]).head().latest.number == last - 1


def test_witnesses_must_tell_money_alike(dev: SolanaDev, paid: str) -> None:
    def other_block(raw: Any) -> Any:
        return raw | {"blockhash": "4NpjLLnFBqFzwFkRFBauGFYVnijcQhLBSPo9UhbZgqRf"}

    second = dev.url.replace("127.0.0.1", "localhost")
    assert reader_of(dev, urls=[dev.url, second]).agreed([paid])[paid].status is TxStatus.SUCCEEDED
    with proxy(second, changing("getBlock", other_block)) as node:
        urls = [dev.url, node.url.replace("127.0.0.1", "localhost")]
        with pytest.raises(DisagreementError):
            reader_of(dev, urls=urls).agreed([paid])
    with pytest.raises(TransientError):
        reader_of(dev, urls=[dev.url]).agreed([paid])
    assert reader_of(dev).agreed([]) == {}


def test_a_node_that_lags_is_no_witness_and_no_liar(dev: SolanaDev, paid: str) -> None:
    slot = reader_of(dev).chain_txs([paid])[paid].block_number
    assert slot is not None
    told = {
        "getSlot": slot - 1,
        "getTransaction": None,
        "getSignatureStatuses": {"context": {"slot": 1}, "value": [None]},
    }

    def late(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call["method"] for call in body}
        return [answer | {"result": told.get(asked[answer["id"]], answer["result"])} for answer in answers]

    with proxy(dev.url, late) as node:
        reader = reader_of(dev, urls=[dev.url, node.url.replace("127.0.0.1", "localhost")])
        with pytest.raises(TransientError, match="is behind") as caught:
            reader.agreed([paid])
        assert not isinstance(caught.value, DisagreementError)
        assert [each.trouble for each in reader.nodes()] == [None, None]


@pytest.mark.parametrize(
    "id_",
    [
        f"{MAINNET}/slip44:60",
        f"{MAINNET}/token:{USDC.lower()}",
        f"{MAINNET}/token:{USDC}x",
        f"{MAINNET}/erc20:{USDC}",
        f"{MAINNET}/token",
    ],
)
def test_assets_that_are_misspelled_are_refused_at_the_start(id_: str) -> None:
    with pytest.raises(PermanentError):
        SolanaReader(chain_of(MAINNET, "http://127.0.0.1:1"), [Asset(id=id_, symbol="X", scale=6)])
    with pytest.raises(PermanentError, match="no RPC_URLS"):
        SolanaReader(chain_of(MAINNET), [])
    with pytest.raises(PermanentError, match="reorg_depth"):
        SolanaReader(chain_of(MAINNET, "http://127.0.0.1:1", reorg_depth=5), [])


def test_nothing_is_spent_here(dev: SolanaDev, paid: str) -> None:
    reader = reader_of(dev)
    tx = reader.chain_txs([paid])[paid]
    assert tx.inputs == () and tx.valid_until is None and reader.spent(["anything"]) == frozenset()
