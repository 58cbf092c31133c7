"""A wallet that pays on the regtest node, its signer, and nodes that say other things of fees."""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from chains.bitcoin.payment import written
from chains.bitcoin.sender import BitcoinSender
from chains.sending import Order, Reception, Terms, Version
from chains.signing import terms_body, terms_of
from local.bitcoin_chain import RegtestChain
from signer.bitcoin import BitcoinSigner
from tests.support.bitcoin import COIN, REGTEST, Change, altered
from tests.support.evm import FakeNode, changing

UNITS = 1_000_000
DEPTH = 3
SIGNER = BitcoinSigner()
_numbers = itertools.count(1)


@dataclass
class Wallet:
    """A key of its own, its orders, and what its versions may use yet."""

    chain: RegtestChain
    secret: bytes = field(default_factory=lambda: hashlib.sha256(b"sending %d" % next(_numbers)).digest())
    reserved: set[str] = field(default_factory=set)

    @property
    def address(self) -> str:
        return SIGNER.address(REGTEST, self.secret)

    def fund(self, *units: int) -> None:
        self.chain.send(*[(self.address, each) for each in units])
        self.chain.mine()

    def order(self, to: str | None = None, units: int = UNITS) -> Order:
        return Order(
            reference=f"order-{next(_numbers)}",
            chain=REGTEST,
            wallet=self.address,
            asset=COIN,
            to=to or self.chain.new_address(),
            units=units,
        )

    def sign(self, order: Order, terms: Terms | None, number: int = 1) -> Version:
        """Of terms that have been in the database, as there are no others."""
        assert terms is not None
        kept = terms_of(json.loads(json.dumps(terms_body(terms))))
        signed = SIGNER.build(self.secret, order, kept)
        assert signed.conflicts == set(terms.inputs) and signed.fee_max == terms.fee_max
        self.reserved |= signed.conflicts
        return Version(number=number, terms=kept, chain_tx=signed.chain_tx, raw=signed.raw)

    def first(self, sender: BitcoinSender, order: Order) -> Version:
        return self.sign(order, sender.terms(order, reserved=self.reserved))


MakeSender = Callable[..., BitcoinSender]


@contextmanager
def asking(chain: RegtestChain, *rates: float | None) -> Iterator[list[FakeNode]]:
    """Nodes that estimate these fees (BTC for 1,000 vbytes), or know too little."""
    with ExitStack() as stack:
        told = [{"feerate": rate} if rate else {"errors": ["Insufficient data or no feerate found"]} for rate in rates]
        yield [stack.enter_context(altered(chain, answering("estimatesmartfee", each))) for each in told]


def answering(method: str, result: Any) -> Change:
    return changing(method, lambda _: result)


def fee(version: Version) -> int:
    return version.terms.fee_max


def took(sender: BitcoinSender, version: Version) -> None:
    told = sender.broadcast(version)
    assert told.reception is Reception.TAKEN, told


def in_the_way(wallet: Wallet, version: Version, *, to: str | None = None, units: int = 2 * UNITS) -> Version:
    """Of somebody else who has the key: the same inputs, another payment, a higher fee."""
    order = wallet.order(to, units)
    total = sum(coin.units for coin in written(version.terms).plan.coins)
    fields = {**version.terms.fields, "change": [str(total - units - 9_000)]}
    return wallet.sign(order, replace(version.terms, fee_max=9_000, cancels=False, fields=fields))


def elsewhere(node: FakeNode) -> str:
    """The same node under another host's name."""
    return node.url.replace("127.0.0.1", "localhost")
