"""web3.py, which knows nothing of us, reads what our reader tells from the same node: blocks, payments, nonces."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from chains.base import NATIVE_INDEX, Block, Transfer, TxStatus
from chains.evm.reader import EvmReader
from local.devchain import DevChain
from tests.integration.test_evm_scan import activity
from tests.support.evm import Token

if TYPE_CHECKING:
    from web3 import Web3

pytest_plugins = ["tests.support.evm_fixtures"]

TRANSFER_ABI = {
    "type": "event",
    "name": "Transfer",
    "anonymous": False,
    "inputs": [
        {"name": "from", "type": "address", "indexed": True},
        {"name": "to", "type": "address", "indexed": True},
        {"name": "value", "type": "uint256", "indexed": False},
    ],
}
AMOUNT_BYTES = 32
NEVER = "0x" + "ab" * 32

Facts = tuple[str, int, str | None, str, str, int, int, str]
"""Transaction, index, contract, sender, recipient, units, block number, block hash."""


@pytest.fixture
def web3(dev_chain: DevChain) -> "Iterator[Web3]":
    # Importing it brings py_ecc, which sets the process's recursion limit to 100,000: from then on a reply of nested
    # brackets overflows the C stack of whoever reads it.
    limit = sys.getrecursionlimit()
    import requests
    from web3 import Web3

    sys.setrecursionlimit(limit)
    with requests.Session() as session:
        session.trust_env = False
        yield Web3(Web3.HTTPProvider(dev_chain.url, session=session))


def hexed(value: bytes) -> str:
    return "0x" + bytes(value).hex()


def facts(transfers: Sequence[Transfer]) -> set[Facts]:
    told = {
        (t.chain_tx, t.index, t.contract, t.sender or "", t.recipient, t.units, t.block_number, t.block_hash)
        for t in transfers
    }
    assert len(told) == len(transfers)
    return told


def events(web3: "Web3", first: int, last: int, contract: str | None = None) -> set[Facts]:
    """ERC-20's Transfer as web3 decodes it, of one contract or of all."""
    from eth_abi.exceptions import InsufficientDataBytes
    from web3.exceptions import LogTopicError

    event: Any = web3.eth.contract(abi=[TRANSFER_ABI]).events.Transfer()
    asked: Any = {
        "fromBlock": first,
        "toBlock": last,
        "topics": [hexed(web3.keccak(text="Transfer(address,address,uint256)"))],
    }
    if contract is not None:
        asked["address"] = contract
    found = []
    for log in web3.eth.get_logs(asked):
        # ERC-721 has a topic more. Data that ends too soon; what follows the amount web3 forgives, and we do not.
        with suppress(LogTopicError, InsufficientDataBytes):
            told = event.process_log(log)
            if len(log["data"]) == AMOUNT_BYTES:
                found.append(told)
    return {
        (
            hexed(each["transactionHash"]),
            each["logIndex"],
            each["address"].lower(),
            each["args"]["from"],
            each["args"]["to"],
            each["args"]["value"],
            each["blockNumber"],
            hexed(each["blockHash"]),
        )
        for each in found
    }


def coins(web3: "Web3", first: int, last: int) -> set[Facts]:
    """The value of each transaction that did not fail and has a recipient."""
    found: set[Facts] = set()
    for number in range(first, last + 1):
        for tx in web3.eth.get_block(number, full_transactions=True)["transactions"]:
            assert not isinstance(tx, bytes)
            receipt = web3.eth.get_transaction_receipt(tx["hash"])
            if receipt["status"] == 1 and tx.get("to") is not None:
                where = (tx["blockNumber"], hexed(tx["blockHash"]))
                found.add((hexed(tx["hash"]), NATIVE_INDEX, None, tx["from"], tx["to"], tx["value"], *where))
    return found


def test_blocks(dev_chain: DevChain, reader: EvmReader, web3: "Web3") -> None:
    last = dev_chain.mine(5)
    told = reader.blocks(range(last - 4, last + 1))
    for number, block in told.items():
        theirs = web3.eth.get_block(number)
        assert (
            block == Block(theirs["number"], hexed(theirs["hash"]), hexed(theirs["parentHash"]), block.time)
            and block.time.timestamp() == theirs["timestamp"]
        )
    head = reader.head()
    assert head.latest == told[web3.eth.get_block("latest")["number"]] == told[last]
    assert head.finalized == web3.eth.get_block("finalized")["number"]
    assert web3.eth.chain_id == int(reader.id.partition(":")[2])


@pytest.mark.parametrize("seed", [11, 12])
def test_transactions_and_events_of_a_busy_time(  # noqa: PLR0917  # pytest gives them by name
    dev_chain: DevChain, reader: EvmReader, token: Token, emitter: str, web3: "Web3", seed: int
) -> None:
    """Payments, frauds and failures, among them ERC-721's Transfer and events of a wrong length."""
    watched = [*(dev_chain.new_account() for _ in range(4)), emitter]
    first, last, ids = activity(dev_chain, token, emitter, watched, seed=seed, steps=60)
    theirs = coins(web3, first, last) | events(web3, first, last)
    told = reader.chain_txs(ids)
    assert facts([t for tx in told.values() for t in tx.transfers]) == theirs
    mine = {each for each in theirs if each[4] in watched}
    assert facts(reader.scan(first, last, watched).transfers) == mine and len(mine) > 10
    known = facts([t for t in reader.scan(first, last, watched).transfers if t.asset == token.asset])
    assert known == {each for each in events(web3, first, last, token.address) if each[4] in watched} != set()
    for id_, tx in told.items():
        receipt, raw = web3.eth.get_transaction_receipt(id_), web3.eth.get_transaction(id_)  # type: ignore[arg-type]
        assert tx.status is (TxStatus.SUCCEEDED if receipt["status"] else TxStatus.REVERTED)
        assert (tx.block_number, tx.block_hash) == (receipt["blockNumber"], hexed(receipt["blockHash"]))
        assert (tx.sender, tx.inputs) == (raw["from"], (f"{raw['from']}/{raw['nonce']}",))


def test_nonces(dev_chain: DevChain, reader: EvmReader, web3: "Web3") -> None:
    payer = dev_chain.new_account(units=10**18)
    for _ in range(3):
        dev_chain.send(dev_chain.new_account(), 1, sender=payer)
    before = dev_chain.height
    dev_chain.send(dev_chain.new_account(), 1, sender=payer)
    asked = [f"{payer}/{nonce}" for nonce in range(6)]
    for block in (None, before, before - 2):
        used = web3.eth.get_transaction_count(payer, "latest" if block is None else block)  # type: ignore[arg-type]
        assert reader.spent(asked, block=block) == set(asked[:used]) and used > 0


def test_what_is_not_there(reader: EvmReader, web3: "Web3") -> None:
    from web3.exceptions import TransactionNotFound

    assert reader.chain_txs([NEVER])[NEVER].status is TxStatus.MISSING
    with pytest.raises(TransactionNotFound):
        web3.eth.get_transaction(NEVER)  # type: ignore[arg-type]


def test_the_import_left_no_trace(web3: "Web3") -> None:
    assert web3.is_connected() and sys.getrecursionlimit() < 10_000
