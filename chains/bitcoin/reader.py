"""Bitcoin over Bitcoin Core's JSON-RPC. docs/chains-bitcoin.md says what is read how."""

from collections.abc import Collection, Mapping, Sequence

from chains import agreement
from chains.base import Block, ChainTx, Head, NodeHealth, Scan
from chains.bitcoin import formats
from chains.bitcoin.pool import assets_of, nodes_of
from chains.bitcoin.reading import Reading, outpoint
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.http import HttpEndpoint
from config.assets import Asset, Chain


class BitcoinReader:
    """A `ChainReader`. Each method asks one endpoint from start to end; the next one only if the first fails.

    The index of a transfer is the number of its output (vout). What a transaction uses up are outputs: `txid:vout`.
    """

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
        self._assets = assets_of(chain, assets)
        self._nodes = nodes_of(chain, connect_timeout=connect_timeout, read_timeout=read_timeout)

    def head(self) -> Head:
        """Nothing is ever final by rule: `finalized` is None."""
        return self._nodes.head(lambda endpoint: self._reading(endpoint).head())

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        wanted = list(dict.fromkeys(numbers))
        return self._nodes.first(lambda endpoint: self._reading(endpoint).blocks(wanted)) if wanted else {}

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        wanted = list(dict.fromkeys(canonical.values()))
        found = self._nodes.first(lambda endpoint: self._reading(endpoint).chain_txs(wanted)) if wanted else {}
        return {id_: found[name] for id_, name in canonical.items()}

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        wanted = list(dict.fromkeys(canonical.values()))

        def read(endpoint: HttpEndpoint) -> agreement.Told:
            reading = self._reading(endpoint)
            return agreement.Told(newest=reading.newest(), finalized=None, chain_txs=reading.chain_txs(wanted))

        told = agreement.agreed(self._nodes, read)
        return {id_: told[name] for id_, name in canonical.items()}

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        """Exact up to the block, unless that lies deeper than `reorg_depth`: what is deeper is taken for spent by then.

        Raises ValueError for what is no output.
        """
        parsed = {each: outpoint(each) for each in inputs}
        if not parsed:
            return frozenset()
        wanted = frozenset(parsed.values())
        spent = self._nodes.first(
            lambda endpoint: self._reading(endpoint).spent(wanted, block=block, depth_max=self._chain.reorg_depth)
        )
        return frozenset(each for each, place in parsed.items() if place in spent)

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Raises ValueError for a range that is empty or longer than the chain's `scan_blocks_max`."""
        if not 0 <= first <= last:
            raise ValueError(f"blocks {first} to {last} are no range")
        if last - first >= self._chain.scan_blocks_max:
            raise ValueError(f"blocks {first} to {last}: {self.id} reads at most {self._chain.scan_blocks_max} at once")
        watched = frozenset(formats.script_of(self.id, address) for address in addresses)
        return self._nodes.first(lambda endpoint: self._reading(endpoint).scan(first, last, watched))

    def nodes(self) -> Sequence[NodeHealth]:
        return self._nodes.health()

    def _reading(self, endpoint: HttpEndpoint) -> Reading:
        return Reading(endpoint, self._assets)
