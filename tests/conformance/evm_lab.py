"""anvil, acted on through local/devchain.py."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eth_utils.address import to_checksum_address

from local.anvil import Anvil
from local.devchain import DevChain
from tests.conformance.lab import Payment, chains_toml


class EvmLab:
    missing = "0x" + "00" * 31 + "07"
    final_after = 3
    can = frozenset({"reorg", "fail", "replace", "drop", "many", "strange", "zero"})

    def __init__(self, chain: DevChain) -> None:
        self._dev = chain
        self.chain = chain.chain
        self.coin = f"{self.chain}/slip44:60"
        self._token = chain.deploy("TestToken", "Test", "TST", 6, 10**12)
        self._fakes = {decimals: chain.deploy("TestToken", "Test", "TST", decimals, 10**24) for decimals in (6, 18)}
        self._payer = chain.deploy("Payer")
        self._poor = chain.new_account(units=10**20)
        with chain.no_mining():
            chain.send_token(self._token, self._payer, 10**11)
            chain.mine()
        self.token = f"{self.chain}/erc20:{self._token.lower()}"

    def toml(self) -> str:
        assets = {self.coin: ("COIN", 18), self.token: ("TST", 6)}
        return chains_toml(self.chain, "Development", assets, block_time_ms=1000, reorg_depth=24)

    def urls(self) -> list[str]:
        return [self._dev.url]

    def new_address(self) -> str:
        return self._dev.new_account()

    def pay(self, *payments: Payment) -> str:
        if len(payments) > 1:
            if any(payment.asset != self.token for payment in payments):
                raise ValueError("coins that a contract passes on leave no log: see docs/chains-evm.md")
            to, units = [payment.to for payment in payments], [payment.units for payment in payments]
            tokens = [self._token] * len(payments)
            return self._dev.transact(self._payer, "pay(address[],address[],uint256[])", tokens, to, units)
        (payment,) = payments
        if payment.asset in (None, self.coin):
            return self._dev.send(payment.to, payment.units)
        return self._dev.send_token(self._token, payment.to, payment.units)

    def pay_strange(self, to: str, units: int, *, decimals: int = 6) -> str:
        return self._dev.send_token(self._fakes[decimals], to, units)

    def fail(self, to: str, units: int) -> str:
        """All fields are right, and the payer has no tokens."""
        return self._dev.send_token(self._token, to, units, sender=self._poor)

    def replace(self, chain_tx: str) -> str:
        return self._dev.replace(chain_tx)

    def drop(self, chain_tx: str) -> None:
        self._dev.drop(chain_tx)

    def height_of(self, chain_tx: str) -> int | None:
        receipt = self._dev.receipt(chain_tx)
        return None if receipt is None else int(receipt["blockNumber"], 16)

    def look_alike(self, address: str) -> str:
        made: str = to_checksum_address(address[:6] + secrets.token_hex(16) + address[-4:])
        return made

    def mine(self, blocks: int = 1) -> None:
        self._dev.mine(blocks)

    def undo(self, blocks: int, *, keep: Sequence[str] = ()) -> None:
        self._dev.reorg(blocks, keep=[(chain_tx, 0) for chain_tx in keep])


@contextmanager
def opened(folder: Path) -> Iterator[EvmLab]:
    node = Anvil(folder / "anvil")
    node.start()
    try:
        with DevChain(node.url) as chain, chain.no_mining():
            yield EvmLab(chain)
    finally:
        node.stop()
