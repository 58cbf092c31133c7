"""One JSON-RPC endpoint of an EVM chain: batches out, checked answers in, and what was learned of its limits."""

from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.fit import Fit
from chains.http import HttpEndpoint
from config.assets import Node

SPAN_MAX = 10_000
"""Blocks in one eth_getLogs. A scan's own limit is mostly lower."""


class EvmEndpoint(HttpEndpoint):
    def __init__(
        self, node: Node, *, connect_timeout: float = CONNECT_TIMEOUT_S, read_timeout: float = READ_TIMEOUT_S
    ) -> None:
        super().__init__(node, connect_timeout=connect_timeout, read_timeout=read_timeout)
        self.span = Fit(SPAN_MAX)
        """Blocks in one eth_getLogs by recipients."""
        self.bulk_span = Fit(SPAN_MAX)
        """And in one for every transfer of the registered tokens."""
