"""What the conformance suite asks of a chain it can act on: one for each kind, tests/conformance/<kind>_lab.py."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Payment:
    """One of the transfers of a transaction."""

    to: str
    units: int
    asset: str | None = None
    """CAIP-19 id; None: the chain's own coin."""
    tag: str | None = None
    also: tuple[str, ...] = ()
    """Further tags, where the lab can `tags`."""


def chains_toml(
    chain: str, name: str, assets: Mapping[str, tuple[str, int]], *, block_time_ms: int, reorg_depth: int = 0
) -> str:
    """A chain and its assets (id -> symbol and scale). Without a depth only final blocks are read."""
    described = f"""
        [chains."{chain}"]
        name = "{name}"
        namespace = "{chain.partition(":")[0]}"
        confirmations = {2 if reorg_depth else '"finalized"'}
        reorg_depth = {reorg_depth}
        block_time_ms = {block_time_ms}
        scan_blocks_max = 10
        head_age_max_s = 0
    """
    return described + "".join(
        f"""
        [assets."{asset}"]
        symbol = "{symbol}"
        scale = {scale}
        """
        for asset, (symbol, scale) in assets.items()
    )


class Lab(Protocol):
    """A node (or its double) with money to pay out. Every payment is a transaction that waits until `mine`."""

    chain: str
    """CAIP-2."""
    coin: str
    """CAIP-19 id of the chain's own coin."""
    token: str
    """CAIP-19 id of a token in the registry; the coin where the chain has no tokens."""
    missing: str
    """A well-formed transaction id that is nobody's."""
    final_after: int
    """So many calls of `mine(1)`, the first of which takes a payment into a block, make it final."""
    can: frozenset[str]
    """Of: `reorg` (undo), `fail` (a transaction in a block that moved nothing), `replace`, `drop`, `tag`, `many`
    (several transfers in one transaction), `strange` (a token that is not in the registry), `zero` (a transfer of
    nothing), `tags` (several in one payment), `expire` (a transaction that says until when it is valid)."""

    def toml(self) -> str:
        """The chain and its assets, as CHAINS_FILE has them. confirmations = 2 unless only final blocks are read."""
        ...

    def urls(self) -> list[str]: ...
    def new_address(self) -> str:
        """In the canonical spelling, never used before, nobody's."""
        ...

    def pay(self, *payments: Payment) -> str:
        """One transaction with all of these. Returns its id in the canonical spelling."""
        ...

    def pay_strange(self, to: str, units: int, *, decimals: int = 6) -> str:
        """In a token that is not in the registry, but calls itself like one that is (of 6 decimals)."""
        ...

    def fail(self, to: str, units: int) -> str:
        """A transaction that is in a block in the end, fails there, and would have paid."""
        ...

    def replace(self, chain_tx: str) -> str:
        """Outbid a waiting payment by one that pays nobody of ours; after `mine` the first is not in the chain."""
        ...

    def drop(self, chain_tx: str) -> None:
        """Make the node forget a waiting payment."""
        ...

    def mine(self, blocks: int = 1) -> None:
        """The first of the blocks takes what waits."""
        ...

    def undo(self, blocks: int, *, keep: Sequence[str] = ()) -> None:
        """Other blocks take the place of the newest. Only the payments to `keep` are in them again."""
        ...

    def look_alike(self, address: str) -> str:
        """Another address that begins alike, and ends alike where no checksum prevents it."""
        ...

    def height_of(self, chain_tx: str) -> int | None:
        """The block that holds it, as the node itself says; None if none does."""
        ...


Opened = AbstractContextManager[Lab]
