"""The development node of local/solana_node.py: the real virtual machine behind Solana's JSON-RPC."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from solders.instruction import Instruction
from solders.keypair import Keypair

from chains.solana.formats import key
from local.solana_dev import Mint, SolanaDev
from local.solana_node import SolanaNode
from tests.conformance.lab import Payment, chains_toml


class SolanaLab:
    missing = "5VERv8NMvzbJMEkV8xnrLkEaWRtSz9CosKDYjCJjBRnbJLgp8uirBgmQpjKhoR4tjF3ZpRzrFmBV6UjKdiSZkQUW"
    final_after = 3
    can = frozenset({"fail", "drop", "tag", "tags", "many", "strange", "zero"})

    def __init__(self, dev: SolanaDev) -> None:
        self._dev = dev
        self._mint = dev.new_mint()
        self._fakes = {decimals: dev.new_mint(decimals) for decimals in (6, 9)}
        self.chain = dev.chain
        self.coin = f"{dev.chain}/slip44:501"
        self.token = f"{dev.chain}/token:{self._mint.address}"

    def toml(self) -> str:
        assets = {self.coin: ("SOL", 9), self.token: ("TST", 6)}
        return chains_toml(self.chain, "Development", assets, block_time_ms=400)

    def urls(self) -> list[str]:
        return [self._dev.url]

    def new_address(self) -> str:
        return self._dev.new_address()

    def pay(self, *payments: Payment) -> str:
        return self._dev.send(*(part for payment in payments for part in self._parts(payment)))

    def pay_strange(self, to: str, units: int, *, decimals: int = 6) -> str:
        return self._dev.pay_token(self._fakes[min(decimals, 9)], to, units)

    def fail(self, to: str, units: int) -> str:
        """Its last instruction asks for more than the payer has."""
        return self._dev.send(self._dev.coin(to, units), self._dev.coin(to, 2**63))

    def replace(self, chain_tx: str) -> str:
        raise NotImplementedError

    def drop(self, chain_tx: str) -> None:
        self._dev.drop(chain_tx)

    def look_alike(self, address: str) -> str:
        while not (made := str(Keypair().pubkey())).startswith(address[:2]):
            pass
        return made

    def height_of(self, chain_tx: str) -> int | None:
        (status,) = self._dev.rpc("getSignatureStatuses", [chain_tx], {"searchTransactionHistory": True})["value"]
        return None if status is None or status["confirmationStatus"] == "processed" else int(status["slot"])

    def mine(self, blocks: int = 1) -> None:
        self._dev.mine(blocks)

    def undo(self, blocks: int, *, keep: Sequence[str] = ()) -> None:
        raise NotImplementedError

    def _parts(self, payment: Payment) -> list[Instruction]:
        """A reference key goes along with the transfer, any other tag before it as a memo."""
        tags = [tag for tag in (payment.tag, *payment.also) if tag is not None]
        references = [tag for tag in tags if key(tag) is not None]
        parts = [self._dev.memo(tag) for tag in tags if key(tag) is None]
        if payment.asset in (None, self.coin):
            return [*parts, self._dev.coin(payment.to, payment.units, *references)]
        mint: Mint = self._mint
        return [
            self._dev.account(mint, payment.to),
            *parts,
            self._dev.token(mint, payment.to, payment.units, *references),
        ]


@contextmanager
def opened(_folder: Path) -> Iterator[SolanaLab]:
    with SolanaNode() as node, SolanaDev(node.url) as dev:
        yield SolanaLab(dev)
