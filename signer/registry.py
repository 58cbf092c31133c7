"""The signer of each kind of chain, by CAIP-2 namespace. Only what a deployment's keys need is imported."""

from functools import cache
from importlib import import_module
from typing import cast

from signer.base import ChainSigner

SIGNERS = {
    "eip155": "signer.evm:EvmSigner",
    "bip122": "signer.bitcoin:BitcoinSigner",
    "solana": "signer.solana:SolanaSigner",
    "tron": "signer.tron:TronSigner",
}
SHOWN_ON = {
    "eip155": "eip155:1",
    "bip122": "bip122:000000000019d6689c085ae165831e93",
    "solana": "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp",
    "tron": "tron:728126428",
}
"""The main network of each, on which the address of a key is shown that no policy names yet."""


def namespace_of(chain: str) -> str:
    return chain.partition(":")[0]


@cache
def of(namespace: str) -> ChainSigner:
    """Raises KeyError for a namespace that nothing can be signed for."""
    module, _, name = SIGNERS[namespace].partition(":")
    return cast("ChainSigner", getattr(import_module(module), name)())
