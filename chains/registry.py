"""Which chains can be read here. Adapters are imported when their chain is first asked for: web3 alone takes 1.4 s."""

import os
from functools import cache

from chains.base import ChainReader
from config import assets
from core.errors import PermanentError


def known() -> list[str]:
    """The chains that have an endpoint configured."""
    return [chain.id for chain in assets.registry().chains.values() if chain.rpc_urls]


@cache
def get(chain_id: str) -> ChainReader:
    """The process's reader of this chain. Raises PermanentError if the chain is unknown or has no endpoint."""
    registry = assets.registry()
    chain = registry.chains.get(chain_id)
    if chain is None:
        raise PermanentError(f"no chains file describes the chain {chain_id!r}")
    if chain.namespace == "eip155":
        from chains.evm.reader import EvmReader

        return EvmReader(chain, registry.of_chain(chain_id))
    raise PermanentError(f"no adapter reads chains of the namespace {chain.namespace!r} ({chain_id})")


def reload() -> None:
    """Forget the readers, after the configuration changed."""
    get.cache_clear()


# Open connections can't be shared with a forked worker process.
os.register_at_fork(after_in_child=get.cache_clear)
