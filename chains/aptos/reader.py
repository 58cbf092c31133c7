"""Aptos over its full nodes' REST API. docs/chains-aptos.md says what is read how.

A block is in the ledger only after validators of more than two thirds of the stake have signed it, and none is ever
replaced: whatever a node tells of its ledger is final.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from chains import agreement, formats
from chains.aptos import objects, parse, scanning, transfers
from chains.aptos.formats import asset_coin_type, asset_metadata
from chains.aptos.node import AptosEndpoint
from chains.aptos.parse import Span
from chains.base import Block, ChainTx, Head, NodeHealth, Scan, TxStatus
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import WrongChainError
from chains.nodes import Nodes
from config.assets import Asset, Chain
from core.errors import PermanentError, TransientError

APT = "slip44:637"


class AptosReader:
    """A `ChainReader`. Each method asks one node from start to end; the next one only if that fails."""

    def __init__(
        self,
        chain: Chain,
        assets: Sequence[Asset],
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
    ) -> None:
        self.id = chain.id
        self._chain = chain
        reference = chain.id.partition(":")[2]
        if not (reference.isascii() and reference.isdigit()):
            raise PermanentError(f"{chain.id!r}: an Aptos chain is named by its number, as aptos:1")
        if chain.reorg_depth:
            raise PermanentError(f"{chain.id} replaces no block: its reorg_depth is 0, not {chain.reorg_depth}")
        self._number = int(reference)
        self._assets = _assets(chain.id, assets)
        self._nodes = Nodes(
            chain,
            [AptosEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes],
            verify=self._verify,
        )

    def head(self) -> Head:
        """The block that holds the newest version. The height that a node names may be 0 for want of an index."""

        def read(endpoint: AptosEndpoint) -> Head:
            block = endpoint.linked(endpoint.span_of(endpoint.ledger().version))
            return Head(latest=block, finalized=block.number)

        return self._nodes.head(read)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        """A request for each, and for each one's predecessor: the API has none for several."""
        wanted = list(dict.fromkeys(numbers))

        def read(endpoint: AptosEndpoint) -> dict[int, Block]:
            spans = {number: endpoint.span(number) for number in wanted}
            return {
                number: endpoint.linked(span, spans.get(number - 1))
                for number, span in spans.items()
                if span is not None
            }

        return self._nodes.first(read) if wanted else {}

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        """A request for each, and one for the block of each that is in one."""
        return self._spelled(ids, lambda wanted: self._nodes.first(lambda endpoint: self._told(endpoint, wanted)))

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        def read(endpoint: AptosEndpoint, wanted: Sequence[str]) -> agreement.Told:
            newest = endpoint.span_of(endpoint.ledger().version).block.number
            return agreement.Told(newest=newest, finalized=newest, chain_txs=self._told(endpoint, wanted))

        return self._spelled(ids, lambda wanted: agreement.agreed(self._nodes, lambda endpoint: read(endpoint, wanted)))

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        """Those sequence numbers that their accounts are past. An orderless transaction has none, and ends in time."""
        wanted = {input_: _input(input_) for input_ in inputs}

        def read(endpoint: AptosEndpoint) -> frozenset[str]:
            version = None if block is None else self._last_version(endpoint, block)
            numbers = {
                account: endpoint.sequence_number(account, version)
                for account in sorted({account for account, _ in wanted.values()})
            }
            return frozenset(input_ for input_, (account, number) in wanted.items() if numbers[account] > number)

        return self._nodes.first(read) if wanted else frozenset()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Raises ValueError for a range that is empty or longer than the chain's `scan_blocks_max`.

        All blocks of the range are told; where no address is watched, its last.
        """
        if not 0 <= first <= last:
            raise ValueError(f"blocks {first} to {last} are no range")
        if last - first >= self._chain.scan_blocks_max:
            raise ValueError(f"blocks {first} to {last}: {self.id} reads at most {self._chain.scan_blocks_max} at once")
        watched = [formats.parse_address(self.id, address) for address in dict.fromkeys(addresses)]
        return self._nodes.first(lambda endpoint: scanning.scan(endpoint, first, last, watched, self._assets))

    def nodes(self) -> Sequence[NodeHealth]:
        return self._nodes.health()

    def _told(self, endpoint: AptosEndpoint, ids: Sequence[str]) -> dict[str, ChainTx]:
        spans: list[Span] = []
        return {id_: self._chain_tx(endpoint, id_, spans) for id_ in ids}

    def _chain_tx(self, endpoint: AptosEndpoint, id_: str, spans: list[Span]) -> ChainTx:
        """`spans` are the blocks read so far, and get another one if need be."""
        raw = endpoint.chain_tx(id_)
        if raw is None:
            return ChainTx(id=id_, status=TxStatus.MISSING)
        found = parse.chain_tx(id_, raw)
        if found.status is TxStatus.MEMPOOL:
            return found
        version = parse.number_of(raw.get("version"))
        span = next((span for span in spans if span.first <= version <= span.last), None)
        if span is None:
            span = endpoint.span_of(version)
            spans.append(span)
        block = span.block
        return replace(
            found,
            block_number=block.number,
            block_hash=block.hash,
            block_time=block.time,
            transfers=transfers.transfers(raw, block, self._assets),
        )

    def _last_version(self, endpoint: AptosEndpoint, number: int) -> int:
        span = endpoint.span(number)
        if span is None:
            raise TransientError(f"{endpoint.label} does not have block {number}")
        return span.last

    def _spelled(self, ids: Sequence[str], read: Callable[[list[str]], Mapping[str, ChainTx]]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        if not canonical:
            return {}
        found = read(list(dict.fromkeys(canonical.values())))
        return {id_: found[name] for id_, name in canonical.items()}

    def _verify(self, endpoint: AptosEndpoint) -> None:
        """A node of another chain would show the right address with the wrong money: nothing of it is believed."""
        number = endpoint.ledger().chain_id
        if number != self._number:
            raise WrongChainError(f"{endpoint.label} is a node of aptos:{number}, not of {self.id}; check RPC_URLS")


def _input(text: str) -> tuple[str, int]:
    """An account and a sequence number, as `ChainTx.inputs` spells them."""
    account, _, number = text.partition("/")
    return account, int(number)


def _assets(chain: str, assets: Sequence[Asset]) -> transfers.Assets:
    """A token whose id is misspelled would never be recognised, and one given twice be two that are one."""
    native: str | None = None
    tokens: dict[str, str] = {}
    for asset in assets:
        reference = asset.id.partition("/")[2]
        if reference == APT:
            native = asset.id
            continue
        metadata = _metadata(reference)
        if metadata is None or metadata == objects.APT_METADATA:
            raise PermanentError(
                f"{asset.id!r} names neither {chain}'s coin ({APT}) nor a fungible asset (fungible:0x...)"
                " nor another coin (coin: and its type, percent-encoded)"
            )
        if metadata in tokens:
            raise PermanentError(
                f"{asset.id!r} and {tokens[metadata]!r} are one asset: the coin is paired with the other"
            )
        tokens[metadata] = asset.id
    return transfers.Assets(chain=chain, native=native, tokens=tokens)


def _metadata(reference: str) -> str | None:
    kind, _, name = reference.partition(":")
    if kind == "fungible":
        return asset_metadata(name)
    coin_type = asset_coin_type(name) if kind == "coin" else None
    return None if coin_type is None else objects.paired_metadata(coin_type)
