"""EVM chains (Ethereum, BNB Smart Chain and their like) over JSON-RPC. docs/chains.md says what is read how."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog

from chains import formats
from chains.base import Block, ChainTx, Head, Scan
from chains.evm import parse
from chains.evm.rpc import CALLS_MAX, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, Call, Endpoint, RefusedError
from chains.evm.scanning import Scanner, halving
from config.assets import Asset, Chain
from core.errors import PermanentError, TransientError

log = structlog.get_logger(__name__)

T = TypeVar("T")

_ASSET = re.compile(r"slip44:\d+|erc20:0x[0-9a-f]{40}")


class EvmReader:
    """A `ChainReader`. Each method asks one endpoint from start to end; the next one only if the first fails."""

    def __init__(
        self,
        chain: Chain,
        assets: Sequence[Asset],
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
    ) -> None:
        if not chain.nodes:
            raise PermanentError(f"no RPC_URLS for {chain.id} ({chain.name})")
        self.id = chain.id
        self._chain = chain
        self._number = int(chain.id.partition(":")[2])
        _check_assets(chain.id, assets)
        self._assets = parse.Assets(
            chain=chain.id,
            native=next((asset.id for asset in assets if asset.contract is None), None),
            tokens={asset.contract: asset.id for asset in assets if asset.contract is not None},
        )
        self._endpoints = [
            Endpoint(node.url, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes
        ]
        self._verified: set[Endpoint] = set()

    def head(self) -> Head:
        """The newest block and the number of the finalized one. An endpoint without the tag answers None."""

        def read(endpoint: Endpoint) -> Head:
            latest, finalized = endpoint.try_all([_block_call("latest"), _block_call("finalized")])
            if isinstance(latest, RefusedError):
                raise latest
            newest = parse.block(latest)
            if finalized is None or isinstance(finalized, RefusedError):
                return Head(latest=newest, finalized=None)
            number = parse.block(finalized).number
            if number > newest.number:
                raise parse.MalformedError(f"block {number} is finalized, {newest.number} is the newest")
            return Head(latest=newest, finalized=number)

        return self._first(read)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        wanted = list(dict.fromkeys(numbers))

        def read(endpoint: Endpoint) -> dict[int, Block]:
            answers = endpoint.ask([_block_call(hex(number)) for number in wanted])
            found = {number: parse.block(raw) for number, raw in zip(wanted, answers, strict=True) if raw is not None}
            if any(block.number != number for number, block in found.items()):
                raise parse.MalformedError("not the block that was asked for")
            return found

        return self._first(read)

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        wanted = list(dict.fromkeys(canonical.values()))

        def read(endpoint: Endpoint) -> list[ChainTx]:
            def some(first: int, last: int) -> list[ChainTx]:
                part = wanted[first : last + 1]
                calls: list[Call] = []
                for id_ in part:
                    calls += [("eth_getTransactionByHash", [id_]), ("eth_getTransactionReceipt", [id_])]
                answers = iter(endpoint.ask(calls))
                return [parse.chain_tx(id_, next(answers), next(answers), self._assets) for id_ in part]

            found: list[ChainTx] = []
            step = CALLS_MAX // 2  # a transaction and its receipt stay in one HTTP request
            for start in range(0, len(wanted), step):
                # Anybody may make a receipt of megabytes; it must not cost its neighbours their answer.
                found += halving(start, min(start + step, len(wanted)) - 1, some)
            return found

        found = {chain_tx.id: chain_tx for chain_tx in self._first(read)}
        return {id_: found[name] for id_, name in canonical.items()}

    def nonces(self, addresses: Sequence[str], *, block: int | None = None) -> Mapping[str, int]:
        at = "latest" if block is None else hex(block)

        def read(endpoint: Endpoint) -> dict[str, int]:
            answers = endpoint.ask([("eth_getTransactionCount", [address, at]) for address in addresses])
            return {address: parse.quantity(raw) for address, raw in zip(addresses, answers, strict=True)}

        return self._first(read)

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Raises ValueError for a range that is empty or longer than the chain's `scan_blocks_max`."""
        if not 0 <= first <= last:
            raise ValueError(f"blocks {first} to {last} are no range")
        if last - first >= self._chain.scan_blocks_max:
            raise ValueError(f"blocks {first} to {last}: {self.id} reads at most {self._chain.scan_blocks_max} at once")
        watched = [formats.parse_address(self.id, address) for address in dict.fromkeys(addresses)]
        return self._first(lambda endpoint: Scanner(endpoint, self._assets, watched).scan(first, last))

    def _first(self, read: Callable[[Endpoint], T]) -> T:
        """The first endpoint's answer, or the next one's if it has none. Raises the last one's TransientError."""
        for left, endpoint in zip(range(len(self._endpoints) - 1, -1, -1), self._endpoints, strict=True):
            try:
                self._verify(endpoint)
                return self._asked(endpoint, read)
            except TransientError as error:
                if not left:
                    raise
                log.warning("chain endpoint failed, asking the next", chain=self.id, error=str(error))
        raise AssertionError("a reader has at least one endpoint")

    def _asked(self, endpoint: Endpoint, read: Callable[[Endpoint], T]) -> T:
        try:
            return read(endpoint)
        except parse.MalformedError as error:
            raise TransientError(f"{endpoint.host} answered with nonsense: {error}") from error

    def _verify(self, endpoint: Endpoint) -> None:
        """A node of another chain would show the right address with the wrong money: nothing of it is believed."""
        if endpoint in self._verified:
            return
        number = self._asked(endpoint, lambda asked: parse.quantity(asked.ask([("eth_chainId", [])])[0]))
        if number != self._number:
            raise TransientError(f"{endpoint.host} is a node of eip155:{number}, not of {self.id}; check RPC_URLS")
        self._verified.add(endpoint)


def _check_assets(chain: str, assets: Sequence[Asset]) -> None:
    """A token whose id is misspelled would be taken for the chain's own coin, and its coin for that token."""
    for asset in assets:
        if not _ASSET.fullmatch(asset.id.partition("/")[2]):
            raise PermanentError(f"{asset.id!r} names neither {chain}'s coin (slip44:...) nor a token (erc20:0x...)")
    if len(coins := [asset.id for asset in assets if asset.contract is None]) > 1:
        raise PermanentError(f"{chain} has one coin, and {' and '.join(coins)} are given")


def _block_call(tag: str) -> Call:
    return ("eth_getBlockByNumber", [tag, False])
