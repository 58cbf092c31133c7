"""Which chains can be read here. Adapters are imported when their chain is first asked for: some take a second."""

import os
from functools import cache
from importlib import import_module

from chains.base import ChainReader
from config import assets
from core.errors import PermanentError

READERS = {
    "eip155": "chains.evm.reader:EvmReader",
    "bip122": "chains.bitcoin.reader:BitcoinReader",
    "solana": "chains.solana.reader:SolanaReader",
    "tron": "chains.tron.reader:TronReader",
    "aptos": "chains.aptos.reader:AptosReader",
}
"""CAIP-2 namespace -> module and class, made of a Chain and its Assets."""


def known() -> list[str]:
    """The chains that have an endpoint configured."""
    return [chain.id for chain in assets.registry().chains.values() if chain.nodes]


@cache
def get(chain_id: str) -> ChainReader:
    """The process's reader of this chain. Raises PermanentError if the chain is unknown or has no endpoint."""
    registry = assets.registry()
    chain = registry.chains.get(chain_id)
    if chain is None:
        raise PermanentError(f"no chains file describes the chain {chain_id!r}")
    if chain.namespace not in READERS:
        raise PermanentError(f"no adapter reads chains of the namespace {chain.namespace!r} ({chain_id})")
    module, _, name = READERS[chain.namespace].partition(":")
    reader: ChainReader = getattr(import_module(module), name)(chain, registry.of_chain(chain_id))
    return reader


def reload() -> None:
    """Forget the readers, after the configuration changed."""
    get.cache_clear()


# Open connections can't be shared with a forked worker process.
os.register_at_fork(after_in_child=get.cache_clear)
