"""Wallets whose key a test holds, and senders that pay from them on a real EVM node."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from chains.evm.sender import PLAIN_GAS, EvmSender
from chains.sending import Order, OrderRefusedError, Terms, Version
from config.assets import Asset, Chain, Node
from local.devchain import GWEI, DevChain
from signer.evm import EvmSigner
from tests.support.evm import CHAIN, COIN

ETHER = 10**18
ONE, OTHER = "127.0.0.1", "localhost"
"""Two hosts, as far as anybody can tell by their names."""
FINAL_AFTER = 2
"""Blocks on top of one, until anvil calls it finalized."""


def asset_of(token: str) -> str:
    return f"{CHAIN}/erc20:{token}"


def described(*urls: str) -> Chain:
    return Chain(
        id=CHAIN,
        name="Development",
        namespace="eip155",
        confirmations=2,
        reorg_depth=16,
        block_time_ms=1000,
        nodes=tuple(Node(url=url) for url in urls),
    )


def sender_of(*urls: str, tokens: tuple[str, ...] = ()) -> EvmSender:
    assets = [Asset(id=COIN, symbol="ETH", scale=18)]
    assets += [Asset(id=asset_of(each), symbol="USDT", scale=6) for each in tokens]
    return EvmSender(described(*urls), assets, read_timeout=5)


@dataclass
class Wallet:
    """Of ours, and what the signer does with it."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def address(self) -> str:
        return EvmSigner().address(CHAIN, self.secret)

    def order(self, to: str, units: int, asset: str = COIN) -> Order:
        reference = secrets.token_hex(8)
        return Order(reference=reference, chain=CHAIN, wallet=self.address, asset=asset, to=to, units=units)

    def sign(self, order: Order, terms: Terms, number: int = 1) -> Version:
        signed = EvmSigner().build(self.secret, order, terms)
        assert signed.fee_max == terms.fee_max and signed.conflicts == set(terms.inputs)
        return Version(number=number, terms=terms, chain_tx=signed.chain_tx, raw=signed.raw)

    def first(self, sender: EvmSender, order: Order, reserved: tuple[str, ...] = ()) -> Version:
        return self.sign(order, sender.terms(order, reserved=reserved))

    def elsewhere(self, chain: DevChain, nonce: int, *, price: int = 20 * GWEI) -> str:
        """The wallet's key is used by somebody else."""
        order = self.order(chain.accounts[1], 1)
        fields = {"gas": str(PLAIN_GAS), "gas_price": str(price)}
        terms = Terms(inputs=(f"{self.address}/{nonce}",), fee_max=PLAIN_GAS * price, fields=fields)
        return str(chain.rpc("eth_sendRawTransaction", "0x" + self.sign(order, terms).raw))


def refusing(which: Callable[[Any], bool], words: str = "missing trie node") -> Callable[[Any, Any], Any]:
    """For `proxy`: these calls are refused."""

    def change(body: Any, answers: Any) -> Any:
        ids = {call["id"] for call in body if which(call)}
        error = {"code": -32000, "message": words}
        return [{"id": each["id"], "error": error} if each["id"] in ids else each for each in answers]

    return change


def refused(what: str, ask: Callable[[], Any]) -> str:
    with pytest.raises(OrderRefusedError) as caught:
        ask()
    assert caught.value.what == what
    return str(caught.value)
