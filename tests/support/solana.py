"""Readers of Solana nodes, and transactions of the real chain, for tests. The node: local/solana_node.py."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chains.base import Block, ChainTx, Scan, Transfer, TxStatus
from chains.solana import parse
from chains.solana.reader import SolanaReader
from chains.solana.transfers import Assets
from config.assets import Asset, Chain, Node
from local.solana_dev import Mint, SolanaDev

MAINNET = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp"
USDC = "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v"
ASSETS = Assets(chain=MAINNET, native=f"{MAINNET}/slip44:501", tokens={USDC: f"{MAINNET}/token:{USDC}"})


@dataclass(frozen=True)
class Recorded:
    """What a node of a public cluster said of a transaction. Sources: solana_transactions.json."""

    id: str
    answer: Any

    def parsed(self) -> ChainTx:
        slot = self.answer["slot"]
        time = datetime.fromtimestamp(self.answer["blockTime"], UTC)
        block = Block(number=slot, hash="1" * 32, parent_hash="1" * 32, time=time)
        return parse.chain_tx(self.id, None, self.answer, block, ASSETS)


def recorded(name: str) -> Recorded:
    every = json.loads(Path(__file__).with_name("solana_transactions.json").read_text())
    return Recorded(every[name]["id"], every[name]["answer"])


def chain_of(id_: str, *urls: str, **fields: Any) -> Chain:
    given: dict[str, Any] = {"name": "Solana", "namespace": "solana", "confirmations": 1, "reorg_depth": 0}
    given |= {"block_time_ms": 400, "head_age_max_s": 0, "nodes": tuple(Node(url=url) for url in urls)}
    return Chain(id=id_, **(given | fields))


def reader_of(dev: SolanaDev, *mints: Mint, urls: Sequence[str] = (), **fields: Any) -> SolanaReader:
    """A reader that asks the node itself, or what stands in front of it."""
    assets = [Asset(id=f"{dev.chain}/slip44:501", symbol="SOL", scale=9)]
    assets += [Asset(id=asset_of(dev, mint), symbol="TOKEN", scale=mint.decimals) for mint in mints]
    return SolanaReader(chain_of(dev.chain, *(urls or [dev.url]), **fields), assets, read_timeout=2.0)


def asset_of(dev: SolanaDev, mint: Mint) -> str:
    return f"{dev.chain}/token:{mint.address}"


def settled(dev: SolanaDev) -> int:
    """Mine until what waits is final. Returns the newest final slot."""
    dev.mine(3)
    slot: int = dev.rpc("getSlot")
    return slot


def read_both(reader: SolanaReader, signature: str, *addresses: str) -> ChainTx:
    """The transaction, once a scan of its slot has told the same transfers to these addresses."""
    told: Mapping[str, ChainTx] = reader.chain_txs([signature])
    tx = told[signature]
    assert tx.status is TxStatus.SUCCEEDED and tx.block_number is not None
    scan: Scan = reader.scan(tx.block_number, tx.block_number, addresses)
    scanned = [part for part in scan.transfers if part.chain_tx == signature]
    assert scanned == [part for part in tx.transfers if part.recipient in addresses]
    return tx


def to(tx: ChainTx, recipient: str) -> list[Transfer]:
    return [transfer for transfer in tx.transfers if transfer.recipient == recipient]
