"""What every chain can be asked. Adapters answer with facts; what a fact means for money is decided in `domain`.

Units are the asset's smallest (wei, token base units); assets are CAIP-19 ids, chains CAIP-2 ids, block times UTC.
Every method may raise `core.errors.TransientError` (the node did not answer, or answered with nonsense):
reading changes nothing, so asking again is always safe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

NATIVE_INDEX = -1
"""The index of a transaction's own value transfer; token transfers have their log's index, which starts at 0."""


class TxStatus(StrEnum):
    MISSING = "missing"
    """The node has never heard of it, or has dropped it."""
    MEMPOOL = "mempool"
    """Seen, in no block yet. Proves nothing."""
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    """In a block, and failed: whatever its fields say, nothing moved."""


@dataclass(frozen=True)
class Block:
    number: int
    hash: str
    parent_hash: str
    time: datetime


@dataclass(frozen=True)
class Head:
    """The tip of the chain as one node sees it."""

    latest: Block
    finalized: int | None
    """Number of the newest block under the finalized tag; None where the node has no such tag yet."""


@dataclass(frozen=True)
class Transfer:
    """Value that one transaction moved to one recipient. Its identity: (chain, chain_tx, index), never the tx alone."""

    chain: str
    chain_tx: str
    index: int
    asset: str | None
    """CAIP-19 id, or None for a token that is not in the registry: a look-alike, until somebody adds it."""
    contract: str | None
    """Lower-case token contract; None for the chain's own coin."""
    sender: str
    recipient: str
    units: int
    block_number: int
    block_hash: str
    block_time: datetime | None = None
    """None where reading it would cost another call; `ChainReader.blocks` tells."""


@dataclass(frozen=True)
class ChainTx:
    """One transaction as the node sees it now."""

    id: str
    status: TxStatus
    sender: str | None = None
    nonce: int | None = None
    block_number: int | None = None
    block_hash: str | None = None
    block_time: datetime | None = None
    transfers: tuple[Transfer, ...] = ()
    """Empty unless SUCCEEDED. Includes transfers of unknown tokens, and zero-value ones: policy is not ours."""


@dataclass(frozen=True)
class Scan:
    """Every transfer to the watched addresses within a range of blocks, and the blocks that were read."""

    blocks: tuple[Block, ...]
    transfers: tuple[Transfer, ...] = field(default=())


class ChainReader(Protocol):
    """One chain, read through one or more nodes."""

    id: str

    def head(self) -> Head:
        """The newest block and the finalized one, from the same node."""
        ...

    def blocks(self, numbers: Sequence[int]) -> Mapping[int, Block]:
        """Blocks of the canonical chain by number, in one round trip. A number above the head is absent."""
        ...

    def chain_txs(self, ids: Sequence[str]) -> Mapping[str, ChainTx]:
        """Every id is answered (MISSING if need be). One JSON-RPC batch per round, not one call per id."""
        ...

    def nonces(self, addresses: Sequence[str], *, block: int | None = None) -> Mapping[str, int]:
        """How many transactions each address has had executed (at the block, or at the head).

        A pending transaction with a lower nonce than this, and in no block, has been replaced.
        """
        ...

    def scan(self, first: int, last: int, addresses: Sequence[str]) -> Scan:
        """Transfers (own coin and every token) to the addresses in blocks first..last, both inclusive.

        The blocks come from the same reading as the transfers; a caller that finds a gap in their parent hashes has
        been shown two forks and must not use the scan. Reads at most the chain's `scan_blocks_max` blocks.
        """
        ...
