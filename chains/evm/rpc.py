"""One JSON-RPC endpoint of an EVM chain."""

from chains.http import HttpEndpoint


class EvmEndpoint(HttpEndpoint):
    """Batches out, checked answers in."""
