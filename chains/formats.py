"""How addresses, transaction ids and payment requests are spelled, by CAIP-2 namespace. No node is ever asked.

Each kind of chain has a module `chains.<kind>.formats` with the functions of `Formats`; only what a deployment uses is
imported.
"""

from functools import cache
from importlib import import_module
from typing import Protocol, cast

from core.errors import InvalidRequestError

MODULES = {
    "eip155": "chains.evm.formats",
    "bip122": "chains.bitcoin.formats",
    "solana": "chains.solana.formats",
    "tron": "chains.tron.formats",
    "aptos": "chains.aptos.formats",
}


class Formats(Protocol):
    """A kind of chain's spellings. All raise InvalidRequestError, with `field`, for what is malformed."""

    TELLS_PAYER: bool
    """Whether a transfer names who paid it."""
    TAKES_TAGS: bool
    """Whether payments can carry a tag (memo, reference)."""
    DERIVES: bool
    """Whether addresses can be derived from an extended public key."""

    def parse_address(self, chain: str, text: str) -> str: ...
    def parse_chain_tx(self, chain: str, text: str) -> str: ...
    def parse_tag(self, chain: str, text: str) -> str: ...
    def new_tag(self, chain: str) -> str: ...
    def check_extended_key(self, chain: str, key: str) -> str: ...
    def derive(self, chain: str, key: str, index: int) -> str: ...
    def payment_uri(
        self, chain: str, address: str, *, asset: str, scale: int, units: int | None, tag: str | None
    ) -> str | None: ...


def parse_address(chain: str, text: str) -> str:
    """The address in the chain's one canonical spelling (EVM: EIP-55 mixed case).

    Raises InvalidRequestError if it is malformed, of another network, or has a wrong checksum.
    """
    return of(chain).parse_address(chain, text)


def parse_chain_tx(chain: str, text: str) -> str:
    """The transaction id in canonical spelling (EVM: 0x and lower case), so that one transaction has one name.

    Raises InvalidRequestError if it is malformed.
    """
    return of(chain).parse_chain_tx(chain, text)


def parse_tag(chain: str, text: str) -> str:
    """The tag in canonical spelling. Raises InvalidRequestError where the chain has none, or if it is malformed."""
    return of(chain).parse_tag(chain, text)


def new_tag(chain: str) -> str:
    """A tag that nobody has. Raises InvalidRequestError where the chain has none."""
    return of(chain).new_tag(chain)


def check_extended_key(chain: str, key: str) -> str:
    """The extended public key (BIP-32) in the spelling that is kept.

    Raises InvalidRequestError if it is malformed, of another network, or private: a private key has no place here.
    """
    return of(chain).check_extended_key(chain, key)


def derive(chain: str, key: str, index: int) -> str:
    """The canonical address of the key's child `index` (not hardened), by the chain's usual kind of address."""
    return of(chain).derive(chain, key, index)


def payment_uri(
    chain: str, address: str, *, asset: str, scale: int, units: int | None = None, tag: str | None = None
) -> str | None:
    """What a wallet reads from a QR code (BIP-21, EIP-681, Solana Pay). None where the chain has no such form.

    `units` in the asset's smallest unit; `scale` is the asset's.
    """
    return of(chain).payment_uri(chain, address, asset=asset, scale=scale, units=units, tag=tag)


def tells_payer(chain: str) -> bool:
    return of(chain).TELLS_PAYER


def takes_tags(chain: str) -> bool:
    return of(chain).TAKES_TAGS


def derives(chain: str) -> bool:
    return of(chain).DERIVES


@cache
def of(chain: str) -> Formats:
    """The spellings of this chain's kind. Raises InvalidRequestError for a namespace that is not supported."""
    module = MODULES.get(chain.partition(":")[0])
    if module is None:
        raise InvalidRequestError(f"the chain {chain!r} is not supported", field="chain")
    return cast("Formats", import_module(module))
