"""Tron over java-tron's HTTP interface. docs/chains-tron.md says what is read how.

Only solid blocks are read, which more than two thirds of the block producers have built on: none is ever replaced. So a
chain's `reorg_depth` is 0, and what is in a later block is MEMPOOL.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from itertools import pairwise

from chains import agreement
from chains.base import Block, ChainTx, Head, NodeHealth, Scan, Transfer, TxStatus
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import MalformedError, RefusedError, WrongChainError
from chains.fields import Json, listing, mapping
from chains.nodes import Nodes
from chains.tron import formats, parse
from chains.tron.rpc import TronEndpoint
from config.assets import Asset, Chain
from core.errors import InvalidRequestError, PermanentError, TransientError

BLOCKS_MAX = 20
"""Full blocks in one request: a busy one is a megabyte. java-tron gives 100 at most."""

_CHAIN = re.compile(r"tron:(0|[1-9]\d{0,9})")
_ASSET = re.compile(r"slip44:195|trc20:(?P<trc20>\w+)|trc10:(?P<trc10>[1-9]\d*)")


class TronReader:
    """A `ChainReader`. Each method asks one endpoint from start to end; the next one only if the first fails."""

    def __init__(
        self,
        chain: Chain,
        assets: Sequence[Asset],
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
    ) -> None:
        if not _CHAIN.fullmatch(chain.id):
            raise PermanentError(f"{chain.id!r} is no Tron chain: tron: and the chain id in decimal (tron:728126428)")
        if chain.reorg_depth:
            raise PermanentError(f"{chain.id} is read by its solid blocks, which none replaces: reorg_depth must be 0")
        self.id = chain.id
        self._chain = chain
        self._assets = assets_of(chain.id, assets)
        endpoints = [
            TronEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes
        ]
        self._nodes = Nodes(chain, endpoints, verify=partial(verify, chain.id))

    def head(self) -> Head:
        def read(endpoint: TronEndpoint) -> Head:
            latest = parse.block(endpoint.solid_head())
            return Head(latest=latest, finalized=latest.number)

        return self._nodes.head(read)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        """One small call for each: the interface has no batches."""
        wanted = list(dict.fromkeys(numbers))
        return self._nodes.first(lambda endpoint: _Reading(endpoint, self._assets).blocks(wanted)) if wanted else {}

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        """Two or three small calls for each: the interface has no batches."""
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        if not canonical:
            return {}
        found = self._nodes.first(lambda endpoint: _Reading(endpoint, self._assets).chain_txs(canonical.values()))
        return {id_: found[name] for id_, name in canonical.items()}

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        if not canonical:
            return {}

        def read(endpoint: TronEndpoint) -> agreement.Told:
            reading = _Reading(endpoint, self._assets)
            newest, told = reading.newest, reading.chain_txs(canonical.values())
            return agreement.Told(newest=newest, finalized=newest, chain_txs=told)

        told = agreement.agreed(self._nodes, read)
        return {id_: told[name] for id_, name in canonical.items()}

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:  # noqa: ARG002  # the interface's
        """None: on Tron a transaction uses nothing up that another could. It expires."""
        return frozenset()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Raises ValueError for a range that is empty or longer than the chain's `scan_blocks_max`."""
        if not 0 <= first <= last:
            raise ValueError(f"blocks {first} to {last} are no range")
        if last - first >= self._chain.scan_blocks_max:
            raise ValueError(f"blocks {first} to {last}: {self.id} reads at most {self._chain.scan_blocks_max} at once")
        watched = {formats.raw_address(self.id, address) for address in addresses}
        return self._nodes.first(lambda endpoint: _Reading(endpoint, self._assets).scan(first, last, watched))

    def nodes(self) -> Sequence[NodeHealth]:
        return self._nodes.health()


def verify(chain: str, endpoint: TronEndpoint) -> None:
    """A node of another chain would show the right address with the wrong money: nothing of it is believed."""
    genesis = parse.block(endpoint.genesis())
    number = int(genesis.hash[-8:], 16)  # TIP-474
    if genesis.number != 0 or f"tron:{number}" != chain:
        raise WrongChainError(f"{endpoint.label} is a node of tron:{number}, not of {chain}; check RPC_URLS")


class _Reading:
    """One reading of one endpoint. What it tells is no later than its solid head."""

    def __init__(self, endpoint: TronEndpoint, assets: parse.Assets) -> None:
        self._endpoint = endpoint
        self._assets = assets
        # Read before all else: a gateway that answered for a later block would not be answering for solid ones.
        self._head = parse.block(endpoint.solid_head())
        self._blocks: dict[int, Block] = {self._head.number: self._head}

    @property
    def newest(self) -> int:
        return self._head.number

    def blocks(self, numbers: Sequence[int]) -> dict[int, Block]:
        found = {number: self._block(number) for number in numbers}
        return {number: block for number, block in found.items() if block is not None}

    def chain_txs(self, ids: Collection[str]) -> dict[str, ChainTx]:
        return {id_: self._chain_tx(id_) for id_ in ids}

    def scan(self, first: int, last: int, watched: Collection[bytes]) -> Scan:
        """Raises TransientError if the node lacks one of the blocks, or what became of one's transactions."""
        if last > self._head.number:
            raise TransientError(f"{self._endpoint.label} does not have the solid block {last}")
        blocks: list[Block] = []
        found: list[Transfer] = []
        for start in range(first, last + 1, BLOCKS_MAX):
            for raw in self._range(start, min(start + BLOCKS_MAX - 1, last)):
                blocks.append(parse.block(raw))
                if watched:
                    found += self._transfers(blocks[-1], listing(raw.get("transactions", [])), watched)
        for parent, child in pairwise(blocks):
            if child.parent_hash != parent.hash:
                raise MalformedError(f"block {child.number} does not follow on block {parent.number}")
        return Scan(blocks=tuple(blocks), transfers=tuple(found))

    def _chain_tx(self, id_: str) -> ChainTx:
        given = self._endpoint.solid_info(id_)
        if given is None:
            return self._unsettled(id_)
        executed = parse.info(given)
        raw, block = self._endpoint.solid_transaction(id_), self._block(executed.block_number)
        if raw is None or block is None:  # another machine behind the same address, which is not so far
            return self._unsettled(id_)
        if executed.block_time != block.time:
            raise MalformedError(f"{id_} is of {executed.block_time}, its block of {block.time}")
        return parse.chain_tx(_asked(id_, raw), executed, block, self._assets)

    def _unsettled(self, id_: str) -> ChainTx:
        seen = self._endpoint.seen_transaction(id_)
        return ChainTx(id=id_, status=TxStatus.MISSING) if seen is None else parse.unsettled(_asked(id_, seen))

    def _block(self, number: int) -> Block | None:
        if number not in self._blocks and 0 <= number < self._head.number:
            raw = self._endpoint.solid_header(number)
            if raw is None:
                return None
            block = parse.block(raw)
            if block.number != number:
                raise MalformedError(f"asked for block {number}, told of {block.number}")
            self._blocks[number] = block
        return self._blocks.get(number)

    def _range(self, first: int, last: int) -> list[Json]:
        """The blocks with their transactions, in order; in halves where the node won't give as many at once."""
        try:
            raw = self._endpoint.solid_blocks(first, last)
        except RefusedError:
            if first == last:
                raise
            middle = (first + last) // 2
            return [*self._range(first, middle), *self._range(middle + 1, last)]
        blocks = {parse.block(block).number: mapping(block) for block in listing(raw.get("block", []))}
        if sorted(blocks) != list(range(first, last + 1)):
            raise MalformedError(f"asked for the blocks {first} to {last}, told of {sorted(blocks)[:10]}")
        return [blocks[number] for number in range(first, last + 1)]

    def _transfers(self, block: Block, transactions: Sequence[object], watched: Collection[bytes]) -> list[Transfer]:
        if not transactions or block.number == 0:  # of the first block's nothing is known, and none is ours
            return []
        infos = {info.id: info for info in map(parse.info, listing(self._endpoint.solid_infos(block.number)))}
        txs = {tx.id: tx for tx in map(parse.transaction, transactions)}
        if txs.keys() != infos.keys() or any(info.block_number != block.number for info in infos.values()):
            # A node that has not got all of them yet looks the same as one where nobody paid.
            raise TransientError(f"{self._endpoint.label} does not know what became of block {block.number}")
        found: list[Transfer] = []
        for tx in txs.values():
            executed = infos[tx.id]
            moved = parse.transfers(tx, executed, block, self._assets, watched)
            if moved and parse.succeeded(tx, executed):
                found += moved
        return found


def _asked(id_: str, raw: Json) -> parse.Tx:
    tx = parse.transaction(raw)
    if tx.id != id_:
        raise MalformedError(f"asked for {id_}, told of {tx.id}")
    return tx


def assets_of(chain: str, assets: Sequence[Asset]) -> parse.Assets:
    """A token whose id is misspelled would never be found, or would be taken for the chain's own coin."""
    native, trc20, trc10 = None, {}, {}
    for asset in assets:
        match = _ASSET.fullmatch(asset.id.partition("/")[2])
        if match is None or (match["trc20"] and not _is_address(chain, match["trc20"])):
            raise PermanentError(
                f"{asset.id!r} names neither TRX (slip44:195) nor a token (trc20:T..., trc10:<number>)"
            )
        if match["trc20"]:
            trc20[match["trc20"]] = asset.id
        elif match["trc10"]:
            trc10[match["trc10"]] = asset.id
        else:
            native = asset.id
    return parse.Assets(chain=chain, native=native, trc20=trc20, trc10=trc10)


def _is_address(chain: str, text: str) -> bool:
    try:
        return formats.parse_address(chain, text) == text
    except InvalidRequestError:
        return False
