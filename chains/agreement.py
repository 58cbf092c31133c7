"""What two nodes tell alike of some transactions, on every chain."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from chains.base import ChainTx, Reach
from chains.endpoint import Endpoint
from chains.nodes import Nodes


@dataclass(frozen=True)
class Told:
    """What one node told."""

    newest: int
    """Number of the newest block that it reads, asked before the rest: a later block it can't have known."""
    finalized: int | None
    """As `Head.finalized`, asked together with it."""
    chain_txs: Mapping[str, ChainTx]
    """The same ids from every node."""


E = TypeVar("E", bound=Endpoint)


def agreed(nodes: Nodes[E], read: Callable[[E], Told]) -> Mapping[str, ChainTx]:
    """What two nodes tell alike. Raises as `ChainReader.agreed`."""
    return nodes.agreed(read, same=same, behind=behind, both=both).chain_txs


def both(one: Told, other: Told) -> Told:
    """What two tell alike, and no more depth than both vouch for."""
    newest, finalized = min(one.newest, other.newest), None
    if one.finalized is not None and other.finalized is not None:
        finalized = min(one.finalized, other.finalized)
    reach = Reach(newest, finalized)
    return Told(newest, finalized, {id_: replace(tx, reach=reach) for id_, tx in one.chain_txs.items()})


def same(one: Told, other: Told) -> bool:
    """Alike in what matters for money: status, block, transfers. What is in no block is alike: mempools differ."""
    return all(_alike(one.chain_txs[id_], other.chain_txs[id_]) for id_ in one.chain_txs)


def behind(one: Told, other: Told) -> bool:
    """Whether the first node lacks a block that the other tells of: then what it tells is no contradiction."""
    return any(
        not _alike(one.chain_txs[id_], told) and told.block_number is not None and told.block_number > one.newest
        for id_, told in other.chain_txs.items()
    )


def _alike(one: ChainTx, other: ChainTx) -> bool:
    if one.block_number is None or other.block_number is None:
        return one.block_number is other.block_number
    facts = [
        # Some readings know the block's time, others leave it out.
        (tx.status, tx.block_number, tx.block_hash, Counter(replace(each, block_time=None) for each in tx.transfers))
        for tx in (one, other)
    ]
    return facts[0] == facts[1]
