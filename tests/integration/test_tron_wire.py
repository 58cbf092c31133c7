"""tronpy's own client, on its own transport, pays at the double and reads it: so its wire format is not only ours."""

from collections.abc import Iterator

import pytest
from tronpy import Contract, Tron  # type: ignore[import-untyped]
from tronpy.exceptions import BadSignature, BlockNotFound, TransactionNotFound  # type: ignore[import-untyped]
from tronpy.keys import PrivateKey  # type: ignore[import-untyped]
from tronpy.providers import HTTPProvider  # type: ignore[import-untyped]

from chains.base import TxStatus
from chains.tron.reader import TronReader
from tests.support.tron import recorded
from tests.support.tron.node import TronChain, TronNode, serving
from tests.support.tron.readers import CHAIN, COIN, TOKEN, TOKEN_ASSET, make_reader

ALICE = PrivateKey(bytes.fromhex("11" * 32))
BOB = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"


@pytest.fixture
def node() -> Iterator[TronNode]:
    chain = TronChain(recorded.MAINNET_GENESIS)
    chain.mine(5)
    with serving(chain) as node:
        yield node


@pytest.fixture
def tronpy(node: TronNode) -> Tron:
    return Tron(HTTPProvider(node.url + "/", timeout=5))  # without the slash it would drop the path


@pytest.fixture
def reader(node: TronNode) -> TronReader:
    return make_reader(node.url)


def alice() -> str:
    return str(ALICE.public_key.to_base58check_address())


def test_tronpy_pays_trx_with_a_memo(node: TronNode, tronpy: Tron, reader: TronReader) -> None:
    sent = tronpy.trx.transfer(alice(), BOB, 1_234_567).memo("ORDER7").build().sign(ALICE).broadcast()
    assert sent["result"] is True, "which proves nothing"
    waiting = reader.chain_txs([sent.txid])[sent.txid]
    assert waiting.status is TxStatus.MEMPOOL and waiting.transfers == () and waiting.valid_until is not None
    with pytest.raises(TransactionNotFound):
        tronpy.get_transaction(sent.txid)
    node.chain.mine()
    assert tronpy.get_transaction(sent.txid)["ret"] == [{"contractRet": "SUCCESS"}]
    with pytest.raises(TransactionNotFound):
        tronpy.get_solid_transaction_info(sent.txid)
    assert reader.chain_txs([sent.txid])[sent.txid].status is TxStatus.MEMPOOL
    node.chain.mine(2)
    info = sent.wait(solid=True, timeout=5, interval=0.1)
    told = reader.chain_txs([sent.txid])[sent.txid]
    assert (told.status, told.block_number) == (TxStatus.SUCCEEDED, info["blockNumber"])
    assert told.block_hash == tronpy.get_block(told.block_number)["blockID"]
    (transfer,) = told.transfers
    assert (transfer.chain, transfer.asset, transfer.units, transfer.index) == (CHAIN, COIN, 1_234_567, -1)
    assert (transfer.sender, transfer.recipient, transfer.tags) == (alice(), BOB, ("ORDER7",))


def test_tronpy_pays_a_trc10_token(node: TronNode, tronpy: Tron, reader: TronReader) -> None:
    sent = tronpy.trx.asset_transfer(alice(), BOB, 77, 1_000_617).build().sign(ALICE).broadcast()
    node.chain.mine(3)
    (transfer,) = reader.chain_txs([sent.txid])[sent.txid].transfers
    assert (transfer.asset, transfer.contract, transfer.units, transfer.index) == (None, "1000617", 77, -2)


def test_tronpy_pays_a_trc20_token(node: TronNode, tronpy: Tron, reader: TronReader) -> None:
    abi = [
        {
            "type": "function",
            "name": "transfer",
            "stateMutability": "nonpayable",
            "inputs": [{"name": "to", "type": "address"}, {"name": "value", "type": "uint256"}],
            "outputs": [{"name": "", "type": "bool"}],
        }
    ]
    contract = Contract(addr=TOKEN, bytecode="", name="Test", abi=abi, user_resource_percent=100, client=tronpy)
    sent = contract.functions.transfer(BOB, 5).with_owner(alice()).build().sign(ALICE).broadcast()
    node.chain.mine(3)
    (transfer,) = reader.chain_txs([sent.txid])[sent.txid].transfers
    assert (transfer.asset, transfer.contract, transfer.units, transfer.index) == (TOKEN_ASSET, TOKEN, 5, 0)
    assert (transfer.sender, transfer.recipient) == (alice(), BOB)


def test_tronpy_finds_the_doubles_blocks_and_errors_where_it_looks_for_them(node: TronNode, tronpy: Tron) -> None:
    assert tronpy.get_latest_solid_block_number() == 3
    assert tronpy.get_latest_solid_block()["block_header"]["raw_data"]["number"] == 3
    assert tronpy.get_latest_block_id() == node.chain.blocks[5]["blockID"]
    assert tronpy.get_block(0)["blockID"] == recorded.MAINNET_GENESIS
    with pytest.raises(BlockNotFound):
        tronpy.get_block(6)
    unsigned = tronpy.trx.transfer(alice(), BOB, 1).build()
    with pytest.raises(BadSignature):
        unsigned.broadcast()


def test_real_blocks_are_read_through_the_double(node: TronNode, tronpy: Tron, reader: TronReader) -> None:
    block, usdt, (number, stamp) = recorded.MAINNET_BLOCK, recorded.USDT_TRANSFER, recorded.USDT_BLOCK
    header = block["block_header"]["raw_data"]
    infos = [
        {
            "id": tx["txID"],
            "blockNumber": header["number"],
            "blockTimeStamp": header["timestamp"],
            "contractResult": [""],
            # The infos of these were not recorded: those of their kind look so (recorded.TRX_INFO, USDT_INFO).
            "receipt": {"net_usage": 265} | ({"result": "SUCCESS"} if "fee_limit" in tx["raw_data"] else {}),
        }
        for tx in block["transactions"]
    ]
    node.chain.put(block, infos)
    later = {
        "number": number,
        "timestamp": stamp,
        "txTrieRoot": "00" * 32,
        "parentHash": f"{number - 1:016x}" + "00" * 24,
    }
    log = recorded.USDT_INFO["log"][0] | {"data": f"{18_001:064x}"}
    info = recorded.USDT_INFO | {"id": usdt["txID"], "blockNumber": number, "blockTimeStamp": stamp, "log": [log]}
    node.chain.put(
        {"blockID": f"{number:016x}" + "11" * 24, "block_header": {"raw_data": later}, "transactions": [usdt]}, [info]
    )
    node.chain.solid_lag = 0
    trx, trc10, trc20, paid = [*(tx["txID"] for tx in block["transactions"]), usdt["txID"]]
    found = reader.chain_txs([trx, trc10, trc20, paid])
    assert {tx.status for tx in found.values()} == {TxStatus.SUCCEEDED}
    assert [(t.asset, t.units) for t in found[trx].transfers] == [(COIN, 5)]
    assert [(t.contract, t.units) for t in found[trc10].transfers] == [("1004935", 10_000)]
    assert found[trc20].transfers == (), "a call that wrote no log of a transfer"
    assert [(t.contract, t.units) for t in found[paid].transfers] == [(BOB, 18_001)]
    assert found[trx].block_hash == block["blockID"] == reader.blocks([header["number"]])[header["number"]].hash
    payee = found[trx].transfers[0].recipient
    scan = reader.scan(header["number"], header["number"], [payee])
    assert [b.hash for b in scan.blocks] == [block["blockID"]] and scan.transfers == found[trx].transfers
    assert tronpy.get_solid_transaction_info(paid)["log"][0]["address"] == BOB, "as java-tron shows it with `visible`"
