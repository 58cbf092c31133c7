"""A double of java-tron (tests/support/tron/node.py). Blocks come when the lab says, and are solid two later."""

import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from chains.tron import formats
from tests.conformance.lab import Payment, chains_toml
from tests.support.tron.node import (
    CALL_TRANSFER,
    Outcome,
    TronChain,
    TronNode,
    hex_of,
    internal_call,
    serving,
    token_log,
)

GENESIS = "0000000000000000" + "5a" * 20 + "0badcafe"
SOLID_LAG = 2
LIVES_MS = 6_000


class TronLab:
    missing = "00" * 31 + "07"
    final_after = SOLID_LAG + 1
    can = frozenset({"fail", "drop", "tag", "many", "strange", "zero", "expire"})

    def __init__(self, node: TronNode) -> None:
        self._node = node
        self._payer = self.new_address()
        self._token, self._fake, self._spray = (self.new_address() for _ in range(3))
        self.chain = f"tron:{0x0BADCAFE}"
        self.coin = f"{self.chain}/slip44:195"
        self.token = f"{self.chain}/trc20:{self._token}"
        self._trc10 = f"{self.chain}/trc10:1000617"

    def toml(self) -> str:
        assets = {self.coin: ("TRX", 6), self.token: ("TST", 6), self._trc10: ("TEN", 6)}
        return chains_toml(self.chain, "Development", assets, block_time_ms=3000)

    def urls(self) -> list[str]:
        return [self._node.url]

    def new_address(self) -> str:
        return formats.spelled(bytes([formats.PREFIX]) + secrets.token_bytes(20))

    def pay(self, *payments: Payment) -> str:
        memo = next((payment.tag.encode() for payment in payments if payment.tag), b"")
        first = payments[0]
        if len(payments) == 1 and first.asset in (None, self.coin):
            if not first.units:
                raise ValueError("the network takes no transfer of 0 TRX")
            return self._send("TransferContract", {"to_address": first.to, "amount": first.units}, memo=memo)
        if len(payments) == 1 and first.asset == self.token:
            data = CALL_TRANSFER + hex_of(first.to)[2:].rjust(64, "0") + f"{first.units:064x}"
            return self._send("TriggerSmartContract", {"contract_address": self._token, "data": data}, memo=memo)
        # A contract that pays several: tokens by their logs, TRX by the calls it makes.
        tokens, coins = ([p for p in payments if (p.asset == self.token) is wanted] for wanted in (True, False))
        logs = tuple(token_log(self._token, self._payer, p.to, p.units) for p in tokens)
        calls = tuple(internal_call(self._spray, p.to, p.units) for p in coins)
        return self._call(Outcome(logs=logs, internal=calls), memo=memo)

    def pay_strange(self, to: str, units: int, *, decimals: int = 6) -> str:  # no transfer tells decimals
        return self._call(Outcome(logs=(token_log(self._fake, self._payer, to, units),)))

    def fail(self, to: str, units: int) -> str:
        """A contract that was to pass on TRX, and has run out of energy. It keeps what it was called with: nothing."""
        return self._call(Outcome(result="OUT_OF_ENERGY", logs=(token_log(self._token, self._payer, to, units),)))

    def replace(self, chain_tx: str) -> str:
        raise NotImplementedError

    def drop(self, chain_tx: str) -> None:
        self._node.chain.drop(chain_tx)

    def look_alike(self, address: str) -> str:
        return formats.spelled(formats.raw_address(self.chain, address)[:4] + secrets.token_bytes(17))

    def height_of(self, chain_tx: str) -> int | None:
        info = self._node.chain.infos.get(chain_tx)
        return None if info is None else int(info["blockNumber"])

    def mine(self, blocks: int = 1) -> None:
        self._node.chain.mine(blocks)

    def undo(self, blocks: int, *, keep: Sequence[str] = ()) -> None:
        raise NotImplementedError

    def _call(self, outcome: Outcome, *, memo: bytes = b"") -> str:
        value = {"contract_address": self._spray, "data": "f8a8fd6d"}
        return self._send("TriggerSmartContract", value, outcome, memo=memo)

    def _send(
        self, kind: str, value: Mapping[str, object], outcome: Outcome | None = None, *, memo: bytes = b""
    ) -> str:
        held = {"owner_address": self._payer, **value}
        return self._node.chain.send(kind, held, outcome, memo=memo, lives_ms=LIVES_MS)


@contextmanager
def opened(folder: Path) -> Iterator[TronLab]:
    chain = TronChain(GENESIS, solid_lag=SOLID_LAG)
    chain.mine(3)
    with serving(chain) as node:
        yield TronLab(node)
