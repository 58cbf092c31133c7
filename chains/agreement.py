"""Whether two nodes tell the same of some transactions: for `Nodes.agreed`, on every chain."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from chains.base import ChainTx


@dataclass(frozen=True)
class Told:
    """What one node told."""

    newest: int
    """Number of the newest block that it reads, asked before the rest: a later block it can't have known."""
    chain_txs: Mapping[str, ChainTx]
    """The same ids from every node."""


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
