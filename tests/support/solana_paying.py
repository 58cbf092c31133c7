"""A desk that pays on the development chain of Solana: the sender, the signer, and what a test asks of both."""

import hashlib
import itertools
from dataclasses import dataclass

import pytest

from chains.sending import Order, OrderRefusedError, Reception, Version
from chains.solana.sender import SolanaSender
from config.assets import Asset
from local.solana_dev import Mint, SolanaDev
from signer.solana import SolanaSigner
from tests.support.solana import asset_of, chain_of

SECRET = hashlib.sha256(b"our wallet").digest()
WALLET = SolanaSigner().address("solana:any", SECRET)
RICH = 10**12

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Desk:
    """Both halves of paying, against one node."""

    dev: SolanaDev
    coin: Mint
    coin_2022: Mint

    def sender(self, *urls: str) -> SolanaSender:
        mints = [Asset(id=asset_of(self.dev, mint), symbol="TOKEN", scale=6) for mint in (self.coin, self.coin_2022)]
        native = Asset(id=self.native, symbol="SOL", scale=9)
        return SolanaSender(chain_of(self.dev.chain, *(urls or [self.dev.url])), [native, *mints], read_timeout=5.0)

    @property
    def native(self) -> str:
        return f"{self.dev.chain}/slip44:501"

    def order(self, to: str, units: int, mint: Mint | None = None, *, tag: str | None = None) -> Order:
        asset = self.native if mint is None else asset_of(self.dev, mint)
        reference = f"payout-{next(_numbers)}"
        return Order(reference=reference, chain=self.dev.chain, wallet=WALLET, asset=asset, to=to, units=units, tag=tag)

    def version(self, order: Order) -> Version:
        terms = self.sender().terms(order, reserved=())
        signed = SolanaSigner().build(SECRET, order, terms)
        assert (signed.fee_max, signed.ends, signed.conflicts) == (terms.fee_max, terms.ends, frozenset())
        return Version(number=1, terms=terms, chain_tx=signed.chain_tx, raw=signed.raw)

    def sent(self, order: Order) -> Version:
        version = self.version(order)
        assert self.sender().broadcast(version).reception is Reception.TAKEN
        return version

    def lamports(self) -> int:
        return self.sender().balance(WALLET, self.native)

    def refused(self, order: Order) -> str:
        with pytest.raises(OrderRefusedError) as error:
            self.sender().terms(order, reserved=())
        return error.value.what
