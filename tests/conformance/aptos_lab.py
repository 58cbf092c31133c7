"""The double of a full node, with a ledger that pays."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chains.aptos.objects import APT_METADATA
from tests.conformance.lab import Payment, chains_toml
from tests.support.aptos_ledger import Ledger, Move
from tests.support.aptos_node import AptosNode

PAYER = "0x" + "a1" * 30 + "0fee"
TOKEN = "0x" + "d011a2".rjust(64, "5")
FAKE = "0x" + "fa5e".rjust(64, "6")


class AptosLab:
    chain = "aptos:2"
    missing = "0x" + "00" * 31 + "07"
    final_after = 1
    coin = f"{chain}/slip44:637"
    token = f"{chain}/fungible:{TOKEN}"
    # A transfer of nothing leaves no event in a fungible asset's store.
    can = frozenset({"fail", "replace", "drop", "many", "strange", "expire"})

    def __init__(self, node: AptosNode) -> None:
        self._node = node
        self._ledger = node.ledger
        self._addresses = 0

    def toml(self) -> str:
        assets = {self.coin: ("APT", 8), self.token: ("USDT", 6)}
        return chains_toml(self.chain, "Aptos double", assets, block_time_ms=1000)

    def urls(self) -> list[str]:
        return [self._node.url]

    def new_address(self) -> str:
        return "0x" + secrets.token_hex(31) + "07"

    def pay(self, *payments: Payment) -> str:
        return self._submit([Move(payment.to, payment.units, self._metadata(payment.asset)) for payment in payments])

    def pay_strange(self, to: str, units: int, *, decimals: int = 6) -> str:  # no transfer tells decimals
        return self._submit([Move(to, units, FAKE)])

    def fail(self, to: str, units: int) -> str:
        return self._submit([Move(to, units)], success=False)

    def replace(self, chain_tx: str) -> str:
        with self._node.lock:
            first = self._ledger.pending.pop(chain_tx)
            other = self._ledger.submit(Move(PAYER, 1), sender=first.sender, sequence_number=first.sequence_number)
            self._ledger.pending[chain_tx] = first
            return other

    def drop(self, chain_tx: str) -> None:
        with self._node.lock:
            del self._ledger.pending[chain_tx]

    def look_alike(self, address: str) -> str:
        return address[:8] + secrets.token_hex(26) + address[-6:]

    def height_of(self, chain_tx: str) -> int | None:
        with self._node.lock:
            version = next((int(tx["version"]) for tx in self._ledger.txs if tx["hash"] == chain_tx), None)
            ends = [(int(block["last_version"]), int(block["block_height"])) for block in self._ledger.blocks]
        return None if version is None else next(height for last, height in ends if version <= last)

    def mine(self, blocks: int = 1) -> None:
        self._node.mine(blocks)

    def undo(self, blocks: int, *, keep: Sequence[str] = ()) -> None:
        raise NotImplementedError("Aptos replaces no block")

    def _submit(self, moves: Sequence[Move], *, success: bool = True) -> str:
        with self._node.lock:
            # A sender for each, as each can be dropped without holding up the rest. "fee" at the end: it has money.
            self._addresses += 1
            sender = f"0x{self._addresses:060x}0fee"
            return self._ledger.submit(*moves, sender=sender, success=success, expires_in_s=5)

    def _metadata(self, asset: str | None) -> str:
        return TOKEN if asset == self.token else APT_METADATA


@contextmanager
def opened(folder: Path) -> Iterator[AptosLab]:
    with AptosNode(Ledger(chain_id=2)) as node:
        node.mine(3)
        yield AptosLab(node)
