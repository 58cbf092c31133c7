"""Which chains can be read and paid on here. Adapters are imported when first asked for: some take a second."""

import os
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from chains.base import ChainReader
from chains.sending import ChainSender
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
SENDERS = {
    "eip155": "chains.evm.sender:EvmSender",
    "bip122": "chains.bitcoin.sender:BitcoinSender",
    "solana": "chains.solana.sender:SolanaSender",
    "tron": "chains.tron.sender:TronSender",
}
"""Likewise, of those that we can pay on."""


def known() -> list[str]:
    """The chains that have an endpoint configured."""
    return [chain.id for chain in assets.registry().chains.values() if chain.nodes]


@cache
def get(chain_id: str) -> ChainReader:
    """The process's reader of this chain. Raises PermanentError if the chain is unknown or has no endpoint."""
    reader: ChainReader = _made(chain_id, READERS, "reads")
    return reader


@cache
def sender(chain_id: str) -> ChainSender:
    """The process's sender to this chain. Raises PermanentError if the chain is unknown or has no endpoint."""
    made: ChainSender = _made(chain_id, SENDERS, "pays on")
    return made


def _made(chain_id: str, places: Mapping[str, str], verb: str) -> Any:
    registry = assets.registry()
    chain = registry.chains.get(chain_id)
    if chain is None:
        raise PermanentError(f"no chains file describes the chain {chain_id!r}")
    if chain.namespace not in places:
        raise PermanentError(f"no adapter {verb} chains of the namespace {chain.namespace!r} ({chain_id})")
    module, _, name = places[chain.namespace].partition(":")
    return getattr(import_module(module), name)(chain, registry.of_chain(chain_id))


def _forget() -> None:
    get.cache_clear()
    sender.cache_clear()


def reload() -> None:
    """Forget the readers and senders, after the configuration changed."""
    _forget()


# Open connections can't be shared with a forked worker process.
os.register_at_fork(after_in_child=_forget)
