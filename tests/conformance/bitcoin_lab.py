"""A Bitcoin regtest node, acted on through local/bitcoin_chain.py."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from btclib import b32

from local.bitcoin_chain import RegtestChain
from local.bitcoin_node import BitcoinNode
from tests.conformance.lab import Payment, chains_toml


class BitcoinLab:
    """There are no tokens: the coin stands for one. Nothing fails in a block: what would is in none."""

    missing = "00" * 31 + "07"
    final_after = 2
    can = frozenset({"reorg", "replace", "drop", "many", "zero"})

    def __init__(self, chain: RegtestChain) -> None:
        self._dev = chain
        self.chain = chain.chain
        self.coin = self.token = f"{self.chain}/slip44:0"

    def toml(self) -> str:
        return chains_toml(self.chain, "Regtest", {self.coin: ("BTC", 8)}, block_time_ms=1000, reorg_depth=24)

    def urls(self) -> list[str]:
        return [self._dev.url]

    def new_address(self) -> str:
        return self._dev.new_address()

    def pay(self, *payments: Payment) -> str:
        return self._dev.send(*[(payment.to, payment.units) for payment in payments])

    def pay_strange(self, to: str, units: int, *, decimals: int = 6) -> str:
        raise NotImplementedError

    def fail(self, to: str, units: int) -> str:
        raise NotImplementedError

    def replace(self, chain_tx: str) -> str:
        return self._dev.replace(chain_tx)

    def drop(self, chain_tx: str) -> None:
        self._dev.drop(chain_tx)

    def mine(self, blocks: int = 1) -> None:
        self._dev.mine(blocks)

    def undo(self, blocks: int, *, keep: Sequence[str] = ()) -> None:
        self._dev.undo(blocks, keep=keep)

    def look_alike(self, address: str) -> str:
        _, program, _ = b32.witness_from_address(address)
        return b32.address_from_witness(0, program[:3] + secrets.token_bytes(17), "regtest")

    def height_of(self, chain_tx: str) -> int | None:
        return self._dev.height_of(chain_tx)


@contextmanager
def opened(folder: Path) -> Iterator[BitcoinLab]:
    with BitcoinNode(folder / "bitcoin") as node, RegtestChain(node.url) as chain:
        chain.fund()
        yield BitcoinLab(chain)
