"""What every chain can be asked. Adapters answer with facts; what a fact means for money is decided in `domain`.

Units are the asset's smallest (wei, token base units); assets are CAIP-19 ids, chains CAIP-2 ids, block times UTC.
Every method may raise `core.errors.TransientError` (the node did not answer, or answered with nonsense):
reading changes nothing, so asking again is always safe.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

NATIVE_INDEX = -1
"""On EVM chains, the index of a transaction's own value transfer; token transfers have their log's, from 0."""


class TxStatus(StrEnum):
    MISSING = "missing"
    """The node has never heard of it, or has dropped it."""
    MEMPOOL = "mempool"
    """Seen, in no block yet; or, where only final blocks are read, in one that is not final. Proves nothing."""
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    """In a block, and failed: whatever its fields say, nothing moved."""


@dataclass(frozen=True)
class Block:
    number: int
    """Its height; on Solana its slot, so numbers may be missing there."""
    hash: str
    parent_hash: str
    time: datetime


@dataclass(frozen=True)
class Head:
    """The tip of the chain as one node sees it."""

    latest: Block
    """The newest block that is read: where `reorg_depth` is 0, the newest final one."""
    finalized: int | None
    """Number of the newest block under the finalized tag; None where the node has no such tag yet."""


@dataclass(frozen=True)
class Transfer:
    """Value that one transaction moved to one recipient. Its identity: (chain, chain_tx, index), never the tx alone."""

    # What `index` counts is the adapter's to say (log, output, instruction), and the same in every reading.

    chain: str
    chain_tx: str
    index: int
    asset: str | None
    """CAIP-19 id, or None for a token that is not in the registry: a look-alike, until somebody adds it."""
    contract: str | None
    """The token's contract or mint, spelled as in the asset's id; None for the chain's own coin."""
    sender: str | None
    """None where the chain does not say who paid (Bitcoin)."""
    recipient: str
    """The owner's address that apps know, never a token account behind it."""
    units: int
    """What arrived, after any fee that the token takes of it."""
    block_number: int
    block_hash: str
    block_time: datetime | None = None
    """None where reading it would cost another call; `ChainReader.blocks` tells."""
    tags: tuple[str, ...] = ()
    """What the payer wrote to it so that one address can serve many: memo, reference keys. Anybody can write any."""


@dataclass(frozen=True)
class Reach:
    """How far two endpoints have come that tell the same: both of them, so that neither can boast of depth alone."""

    newest: int
    """Number of the newest block: the lower of the two that they tell."""
    finalized: int | None
    """Likewise of the newest one under the finalized tag; None if either tells none."""


@dataclass(frozen=True)
class ChainTx:
    """One transaction as the node sees it now."""

    id: str
    status: TxStatus
    sender: str | None = None
    inputs: tuple[str, ...] = ()
    """What it uses up, and only one transaction ever can: a nonce (`0x.../7`), outputs (`txid:0`). See `spent`."""
    valid_until: datetime | None = None
    """In a block of a later time it can't be any more (Tron, Aptos). None: it says no such time."""
    block_number: int | None = None
    block_hash: str | None = None
    block_time: datetime | None = None
    transfers: tuple[Transfer, ...] = ()
    """Empty unless SUCCEEDED. Includes transfers of unknown tokens, and zero-value ones: policy is not ours."""
    reach: Reach | None = None
    """None unless two endpoints tell it (`ChainReader.agreed`)."""


@dataclass(frozen=True)
class Scan:
    """Every transfer to the watched addresses within a range of blocks, and the blocks that were read."""

    blocks: tuple[Block, ...]
    """All of the range, oldest first; where `reorg_depth` is 0, at least those with transfers and the newest."""
    transfers: tuple[Transfer, ...] = field(default=())


@dataclass(frozen=True)
class NodeHealth:
    """How one endpoint has done, as this process saw it."""

    label: str
    """Its host, with a number where several have the same. Never its URL, which may hold a key."""
    head_number: int | None
    head_time: datetime | None
    """The time of that block, by the chain's clock."""
    latency_ms: float | None
    """A moving average."""
    calls: int
    failures: int
    """Since the process began."""
    failing_since: datetime | None
    last_error: str | None
    open_until: datetime | None
    """Until then it is not asked (circuit breaker, or its own wish)."""
    trouble: str | None
    """`lags`, `stalled`, `disagrees`, `wrong_chain`, or None."""


class ChainReader(Protocol):
    """One chain, read through one or more nodes."""

    id: str

    def head(self) -> Head:
        """The newest block and the finalized one, from the same node."""
        ...

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        """Blocks of the canonical chain by number, in one round trip. What is above the head, or skipped, is absent."""
        ...

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        """Every id is answered (MISSING if need be). One batch per round, not one call per id."""
        ...

    def agreed(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        """As `chain_txs`, but told alike by two endpoints of different hosts, and with how far both are (`reach`).

        Raises DisagreementError if they tell it differently, TransientError if there are no two that answer.
        """
        ...

    def spent(self, inputs: Collection[str], *, block: int | None = None) -> frozenset[str]:
        """Those of the inputs that a transaction of the chain has used (up to the block, or to the head).

        A transaction that is in no block, and one of whose inputs is spent, has been replaced. Raises TransientError
        where no node can look back to the block: what the head tells may be undone yet.
        """
        ...

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Transfers (own coin and every token) to the addresses in blocks first..last, both inclusive.

        The blocks come from the same reading as the transfers; a caller that finds a gap in their parent hashes has
        been shown two forks and must not use the scan. Reads at most the chain's `scan_blocks_max` blocks.
        Raises RefusedError where the nodes won't answer for so long a range.
        """
        ...

    def nodes(self) -> Sequence[NodeHealth]:
        """How each endpoint has done so far. Asks none."""
        ...
