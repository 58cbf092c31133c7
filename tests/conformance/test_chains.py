"""What every chain adapter promises, over the registry. A new adapter adds a Lab, and changes nothing below it."""

import json
from collections.abc import Iterator
from dataclasses import FrozenInstanceError
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import pytest

from chains import registry
from chains.base import ChainReader, TxStatus
from config import assets, settings
from core.errors import TransientError
from local.anvil import Anvil
from local.devchain import DevChain

pytest_plugins = ["tests.support.evm_fixtures"]


class Lab(Protocol):
    """A chain of this kind on which the suite can act."""

    chain: str
    missing: str
    """A well-formed transaction id that is nobody's."""

    def new_account(self) -> str: ...
    def pay(self, to: str, units: int) -> str: ...
    def pay_token(self, to: str, units: int) -> str: ...
    def fail(self) -> str: ...
    def mine(self, blocks: int) -> None: ...
    def undo(self, blocks: int) -> None: ...


class EvmLab:
    missing = "0x" + "00" * 31 + "07"

    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self.chain = chain.chain
        self.new_account = chain.new_account
        self.token = chain.deploy("TestToken", "Test", "TST", 6, 10**12)
        self._emitter = chain.deploy("Emitter")

    def pay(self, to: str, units: int) -> str:
        return self._chain.send(to, units)

    def pay_token(self, to: str, units: int) -> str:
        return self._chain.send_token(self.token, to, units)

    def fail(self) -> str:
        return self._chain.transact(self._emitter, "fail()")

    def mine(self, blocks: int) -> None:
        self._chain.mine(blocks)

    def undo(self, blocks: int) -> None:
        self._chain.reorg(blocks)


CHAINS_TOML = """
[chains."{chain}"]
name = "Development"
namespace = "{namespace}"
confirmations = 2
reorg_depth = 16
block_time_ms = 1000
scan_blocks_max = 10
[assets."{chain}/slip44:60"]
symbol = "COIN"
scale = 18
[assets."{chain}/erc20:{token}"]
symbol = "TST"
scale = 6
"""


@pytest.fixture(scope="module", params=["eip155"])
def lab(request: pytest.FixtureRequest, evm_node: Anvil, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EvmLab]:
    with pytest.MonkeyPatch.context() as patch, DevChain(evm_node.url) as chain:
        lab = EvmLab(chain)
        file: Path = tmp_path_factory.mktemp("chains") / "chains.toml"
        file.write_text(CHAINS_TOML.format(chain=lab.chain, namespace=request.param, token=lab.token.lower()))
        patch.setenv("CHAINS_FILE", str(file))
        patch.setenv("RPC_URLS", json.dumps({lab.chain: [evm_node.url]}))
        for cached in (settings, assets, registry):
            cached.reload()
        yield lab
    for cached in (settings, assets, registry):
        cached.reload()


@pytest.fixture
def reader(lab: Lab) -> ChainReader:
    assert registry.known() == [lab.chain]
    return registry.get(lab.chain)


def test_the_head_is_a_block_of_the_chain(lab: Lab, reader: ChainReader) -> None:
    lab.mine(4)
    head = reader.head()
    assert reader.id == lab.chain
    assert reader.blocks([head.latest.number]) == {head.latest.number: head.latest}
    assert head.finalized is None or head.finalized <= head.latest.number
    assert head.latest.time.tzinfo is not None and head.latest.time.utcoffset() is not None


def test_blocks_are_linked_by_their_parents_and_end_at_the_head(lab: Lab, reader: ChainReader) -> None:
    lab.mine(4)
    latest = reader.head().latest.number
    found = reader.blocks([latest - 2, latest - 1, latest, latest + 1])
    assert sorted(found) == [latest - 2, latest - 1, latest]
    assert all(found[b].parent_hash == found[a].hash for a, b in pairwise(sorted(found)))


def test_every_id_is_answered_in_the_spelling_that_was_asked(lab: Lab, reader: ChainReader) -> None:
    paid, failed = lab.pay(lab.new_account(), 5), lab.fail()
    lab.mine(1)
    found = reader.chain_txs([paid, lab.missing, failed, paid])
    assert {id_: tx.status for id_, tx in found.items()} == {
        paid: TxStatus.SUCCEEDED,
        lab.missing: TxStatus.MISSING,
        failed: TxStatus.REVERTED,
    }
    assert found[failed].transfers == ()


def test_nothing_asked_is_nothing_answered(reader: ChainReader) -> None:
    assert reader.chain_txs([]) == {} and reader.blocks([]) == {} and reader.nonces([]) == {}


def test_a_transfer_is_the_same_by_its_transaction_and_by_a_scan(lab: Lab, reader: ChainReader) -> None:
    payee = lab.new_account()
    first = reader.head().latest.number + 1
    ids = [lab.pay(payee, 5), lab.pay_token(payee, 6), lab.pay(payee, 0), lab.fail()]
    lab.mine(1)
    by_id = {(t.chain_tx, t.index): t for tx in reader.chain_txs(ids).values() for t in tx.transfers}
    scanned = reader.scan(first, reader.head().latest.number, [payee]).transfers
    assert sorted(transfer.units for transfer in scanned) == [0, 5, 6]
    known = assets.registry().assets
    for transfer in scanned:
        same = by_id[transfer.chain_tx, transfer.index]
        for name in ("chain", "asset", "contract", "sender", "recipient", "units", "block_number", "block_hash"):
            assert getattr(transfer, name) == getattr(same, name)
        assert transfer.recipient == payee and type(transfer.units) is int
        assert transfer.asset in known and transfer.chain == lab.chain


def test_a_scan_is_its_blocks_and_nothing_else(lab: Lab, reader: ChainReader) -> None:
    lab.mine(10)
    last = reader.head().latest.number
    scan = reader.scan(last - 9, last, [lab.new_account()])
    assert [block.number for block in scan.blocks] == list(range(last - 9, last + 1))
    assert scan.transfers == ()
    with pytest.raises(ValueError, match="at most 10"):
        reader.scan(last - 10, last, [])
    with pytest.raises(TransientError):
        reader.scan(last, last + 1, [])


def test_what_a_reorg_took_away_is_no_longer_told(lab: Lab, reader: ChainReader) -> None:
    payee = lab.new_account()
    chain_tx = lab.pay(payee, 5)
    lab.mine(1)
    before = reader.chain_txs([chain_tx])[chain_tx]
    assert before.block_number is not None
    depth = reader.head().latest.number - before.block_number + 1
    lab.undo(depth)
    assert reader.chain_txs([chain_tx])[chain_tx].status in (TxStatus.MISSING, TxStatus.MEMPOOL)
    assert reader.blocks([before.block_number])[before.block_number].hash != before.block_hash
    assert reader.scan(before.block_number, before.block_number, [payee]).transfers == ()


def test_facts_can_not_be_changed(lab: Lab, reader: ChainReader) -> None:
    with pytest.raises(FrozenInstanceError):
        reader.head().latest.number = 0  # type: ignore[misc]
