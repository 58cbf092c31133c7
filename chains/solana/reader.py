"""Solana over JSON-RPC, final blocks only. docs/chains-solana.md says what is read how."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from chains import agreement, formats
from chains.base import Block, ChainTx, Head, NodeHealth, Scan, TxStatus
from chains.endpoint import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from chains.errors import RefusedError, WrongChainError
from chains.fields import whole
from chains.http import HttpEndpoint
from chains.nodes import Nodes
from chains.solana import parse
from chains.solana.fields import address
from chains.solana.formats import key
from chains.solana.scanning import (
    FINAL,
    SKIPPED,
    Scanner,
    block_call,
    check_skipped,
    newest_final,
    portions,
    read_blocks_had,
    read_headers,
    read_txs,
    token_programs,
)
from chains.solana.transfers import Assets
from config.assets import Asset, Chain
from core.errors import PermanentError

KNOWN_MAX = 100_000
"""Accounts of which a signature is remembered, to make the next list shorter."""


@dataclass
class _Memory:
    """What one endpoint said before, for its own scans only: a lie in it would hide payments from those of others."""

    programs: Mapping[str, str] = field(default_factory=dict)
    known: Mapping[str, parse.Listed] = field(default_factory=dict)

    def programs_of(self, endpoint: HttpEndpoint, assets: Assets) -> Mapping[str, str]:
        """A mint never changes its program, so it is asked for once."""
        if unknown := [mint for mint in assets.tokens if mint not in self.programs]:
            self.programs = {**self.programs, **token_programs(endpoint, unknown)}
        return self.programs

    def keep(self, newest: Mapping[str, parse.Listed]) -> None:
        kept = {**self.known, **newest}
        for account in list(kept)[: max(0, len(kept) - KNOWN_MAX)]:
            del kept[account]
        self.known = kept


class SolanaReader:
    """A `ChainReader`. A transaction's value is told by what its accounts hold after it: transfers.py.

    `Transfer.index` says which instruction it was: transfers.py and instructions.py. Nothing but what is finalized
    (rooted by two thirds of the stake, about 13 s) is ever told as being in a block.
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
        if chain.reorg_depth:
            raise PermanentError(f"{chain.id}: only final blocks are read, so reorg_depth must be 0")
        check_assets(chain.id, assets)
        self._assets = Assets(
            chain=chain.id,
            native=next((asset.id for asset in assets if asset.contract is None), None),
            tokens={asset.contract: asset.id for asset in assets if asset.contract is not None},
        )
        endpoints = [
            HttpEndpoint(node, connect_timeout=connect_timeout, read_timeout=read_timeout) for node in chain.nodes
        ]
        self._nodes = Nodes(chain, endpoints, verify=partial(verify, chain.id))
        self._memories: dict[str, _Memory] = {}
        """By endpoint."""
        self._lock = threading.Lock()

    def head(self) -> Head:
        """The newest final slot that has a block."""

        def read(endpoint: HttpEndpoint) -> Head:
            block = newest_final(endpoint).block
            return Head(latest=block, finalized=block.number)

        return self._nodes.head(read)

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        """A slot is called skipped only if a later block names an earlier one as its parent."""
        wanted = list(dict.fromkeys(numbers))

        def read(endpoint: HttpEndpoint) -> dict[int, Block]:
            head, *answers = endpoint.try_all([("getSlot", [FINAL]), *map(block_call, wanted)])
            if isinstance(head, RefusedError):
                raise head
            found: dict[int, Block] = {}
            missing: list[int] = []
            for slot, answer in zip(wanted, answers, strict=True):
                if answer is not None and not isinstance(answer, RefusedError):
                    found[slot] = parse.header(slot, answer).block
                elif answer is not None and answer.code not in SKIPPED:
                    found[slot] = read_headers(endpoint, [slot])[slot].block  # alone, it may be answered
                elif slot <= whole(head):
                    missing.append(slot)
            check_skipped(endpoint, missing)
            return found

        return self._nodes.first(read) if wanted else {}

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        wanted = list(dict.fromkeys(canonical.values()))
        found = self._nodes.first(lambda endpoint: self._read_txs(endpoint, wanted)) if wanted else {}
        return {id_: found[name] for id_, name in canonical.items()}

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        canonical = {id_: formats.parse_chain_tx(self.id, id_) for id_ in ids}
        wanted = list(dict.fromkeys(canonical.values()))
        if not wanted:
            return {}

        def read(endpoint: HttpEndpoint) -> agreement.Told:
            newest = whole(endpoint.ask([("getSlot", [FINAL])])[0])
            return agreement.Told(newest=newest, finalized=newest, chain_txs=self._read_txs(endpoint, wanted))

        told = agreement.agreed(self._nodes, read)
        return {id_: told[name] for id_, name in canonical.items()}

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:  # noqa: ARG002
        """None, ever: `ChainTx.inputs` is empty here. Durable nonces, which are used up, are not followed."""
        return frozenset()

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Blocks: those with transfers, and the newest at or below `last`, which lies below `first` if all slots of the
        range were skipped. Raises ValueError for a range that is empty or longer than the chain's `scan_blocks_max`.
        """
        if not 0 <= first <= last:
            raise ValueError(f"blocks {first} to {last} are no range")
        if last - first >= self._chain.scan_blocks_max:
            raise ValueError(f"blocks {first} to {last}: {self.id} reads at most {self._chain.scan_blocks_max} at once")
        watched = list(dict.fromkeys(formats.parse_address(self.id, address) for address in addresses))

        def read(endpoint: HttpEndpoint) -> Scan:
            memory = self._memory_of(endpoint)
            programs = memory.programs_of(endpoint, self._assets)
            scanner = Scanner(endpoint, self._assets, watched, programs=programs, known=memory.known)
            scan = scanner.scan(first, last)
            with self._lock:
                memory.keep(scanner.newest)
            return scan

        return self._nodes.first(read)

    def nodes(self) -> Sequence[NodeHealth]:
        return self._nodes.health()

    def _read_txs(self, endpoint: HttpEndpoint, ids: Sequence[str]) -> dict[str, ChainTx]:
        found: dict[str, ChainTx] = {}
        for some in portions(ids):
            (answer,) = endpoint.ask([("getSignatureStatuses", [list(some), {"searchTransactionHistory": True}])])
            told = parse.statuses(answer, len(some))
            raws = read_txs(endpoint, some)
            slots = {id_: parse.slot_of(raw) for id_, raw in raws.items()}
            blocks = read_blocks_had(endpoint, [slot for slot in slots.values() if slot is not None])
            for id_, status in zip(some, told, strict=True):
                if id_ in raws:
                    block = blocks.get(slots[id_] or 0)
                    found[id_] = parse.chain_tx(id_, status, raws[id_], block, self._assets)
                else:  # of a version that can't be read
                    found[id_] = ChainTx(id=id_, status=TxStatus.MEMPOOL)
        return found

    def _memory_of(self, endpoint: HttpEndpoint) -> _Memory:
        with self._lock:
            return self._memories.setdefault(endpoint.label, _Memory())


def verify(chain: str, endpoint: HttpEndpoint) -> None:
    """A node of another cluster would show the right address with worthless money: nothing of it is believed."""
    genesis = address(endpoint.ask([("getGenesisHash", [])])[0])
    found = f"solana:{genesis[:32]}"
    if found != chain:
        raise WrongChainError(f"{endpoint.label} is a node of {found}, not of {chain}; check RPC_URLS")


def check_assets(chain: str, assets: Sequence[Asset]) -> None:
    """A mint that is misspelled would be a token that never comes."""
    for asset in assets:
        kind, _, reference = asset.id.partition("/")[2].partition(":")
        if (kind, reference) != ("slip44", "501") and (kind != "token" or key(reference) is None):
            raise PermanentError(f"{asset.id!r} names neither {chain}'s coin (slip44:501) nor a token (token:<mint>)")
    if len(coins := [asset.id for asset in assets if asset.contract is None]) > 1:
        raise PermanentError(f"{chain} has one coin, and {' and '.join(coins)} are given")
