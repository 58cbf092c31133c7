"""The JSON-RPC endpoints of an EVM chain: batches out, checked answers in, and what was learned of their limits."""

from chains.base import Head
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError, RefusedError, WrongChainError
from chains.evm import parse
from chains.fit import Fit
from chains.http import Call, HttpEndpoint
from chains.nodes import Nodes
from config.assets import Chain, Node

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


def nodes_of(chain: Chain, *, connect_timeout: float, read_timeout: float) -> Nodes[EvmEndpoint]:
    """The chain's endpoints. Raises PermanentError if it has none."""
    number = int(chain.id.partition(":")[2])

    def verify(endpoint: EvmEndpoint) -> None:
        """A node of another chain would show the right address with the wrong money: nothing of it is believed."""
        theirs = parse.quantity(endpoint.ask([("eth_chainId", [])])[0])
        if theirs != number:
            raise WrongChainError(f"{endpoint.label} is a node of eip155:{theirs}, not of {chain.id}; check RPC_URLS")

    endpoints = [EvmEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes]
    return Nodes(chain, endpoints, verify=verify)


def head(endpoint: EvmEndpoint) -> Head:
    latest, finalized = endpoint.try_all([block_call("latest"), block_call("finalized")])
    if isinstance(latest, RefusedError):
        raise latest
    newest = parse.block(latest)
    if finalized is None or isinstance(finalized, RefusedError):
        return Head(latest=newest, finalized=None)
    number = parse.block(finalized).number
    if number > newest.number:
        raise MalformedError(f"block {number} is finalized, {newest.number} is the newest")
    return Head(latest=newest, finalized=number)


def block_call(tag: str, *, full: bool = False) -> Call:
    """`full`: with its transactions, not only their hashes."""
    return ("eth_getBlockByNumber", [tag, full])


def count_call(address: str, tag: str) -> Call:
    """How many nonces it has used, which is its next one."""
    return ("eth_getTransactionCount", [address, tag])
