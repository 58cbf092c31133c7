"""What the facts of a chain mean for a transfer. Pure: no database, no node, no clock.

That it paid is said as soon as the chain's rule allows it: if that turns out wrong, it is still under way. That it did
not pay is said only of final blocks, and where there are two hosts by both: what follows is that it is paid anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from chains.base import Block, ChainTx, Head, TxStatus
from chains.sending import Reception
from config.assets import blocks_needed, registry
from domain.onchain.models import OnchainTransfer, OnchainVersion
from domain.onchain.states import WAITING, TransferState

S = TransferState


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What was read of the chain for one transfer, the head first; whether it is dead was asked before all else."""

    head: Head
    chain_txs: Mapping[str, ChainTx]
    """Of all its signed versions."""
    blocks: Mapping[int, Block]
    """Canonical ones, at the heights of these and of what was known."""
    is_dead: bool = False
    """None of the versions is in a block or will ever be."""
    pays_dead: bool = False
    """Likewise of those that pay."""
    witnesses: Mapping[str, ChainTx | None] = field(default_factory=dict)
    """Those that two hosts were asked about: what they tell alike, or None if they don't."""
    costs: Mapping[str, int] = field(default_factory=dict)


def in_block(versions: Sequence[OnchainVersion], sight: Sight) -> tuple[OnchainVersion, ChainTx] | None:
    """The version that is in a block of the chain, by two readings. One at most, as they exclude each other."""
    for version in versions:
        tx = sight.chain_txs.get(version.chain_tx or "")
        if tx is None or tx.block_number is None or tx.block_hash is None:
            continue
        block = sight.blocks.get(tx.block_number)
        if block is not None and block.hash == tx.block_hash:
            return version, tx
    return None


def is_in_none(versions: Sequence[OnchainVersion], sight: Sight) -> bool:
    """Not the opposite of `in_block`: a node in the middle of a reorg shows neither."""
    found = [sight.chain_txs.get(version.chain_tx or "") for version in versions]
    return all(tx is not None and tx.block_hash is None for tx in found)


def has_lost_its_block(transfer: OnchainTransfer, sight: Sight) -> bool:
    """There is another block where it was. A node that has none there may lag: that proves nothing."""
    if transfer.block_number is None:
        return False
    block = sight.blocks.get(transfer.block_number)
    return block is not None and block.hash != transfer.block_hash


def paid_units(transfer: OnchainTransfer, tx: ChainTx) -> int:
    """What it brought to its recipient of its asset. A token may fail without saying so: only what moved counts."""
    if tx.status is not TxStatus.SUCCEEDED:
        return 0
    return sum(
        each.units
        for each in tx.transfers
        if each.asset == transfer.asset and each.recipient == transfer.recipient and each.recipient != transfer.wallet
    )


def pays(transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx) -> bool:
    return not version.cancels and paid_units(transfer, tx) > 0


def is_deep(transfer: OnchainTransfer, tx: ChainTx, head: Head) -> bool:
    """As deep as the chain's rule asks for such an amount."""
    if tx.block_number is None:
        return False
    rule = registry().assets[transfer.asset].confirmations or registry().chains[transfer.chain].confirmations
    blocks = blocks_needed(rule, transfer.units)
    if blocks is None:
        return head.finalized is not None and tx.block_number <= head.finalized
    return head.latest.number - tx.block_number + 1 >= blocks


def is_final(chain: str, number: int | None, *, newest: int, finalized: int | None) -> bool:
    """No reorg that anybody should expect reaches this block."""
    if number is None:
        return False
    depth = newest - number + 1
    return (finalized is not None and number <= finalized) or depth > registry().chains[chain].reorg_depth


def is_final_by(transfer: OnchainTransfer, tx: ChainTx, head: Head) -> bool:
    return is_final(transfer.chain, tx.block_number, newest=head.latest.number, finalized=head.finalized)


def hosts(chain: str) -> int:
    """Of different hosts, of which one may be wrong."""
    return len({(urlsplit(node.url).hostname or "").rstrip(".") for node in registry().chains[chain].nodes})


def wants_witness(transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx, head: Head) -> bool:
    """Only the word of a second host is lacking."""
    if hosts(transfer.chain) < 2 or transfer.current is S.CONFIRMED:  # noqa: PLR2004
        return False
    if pays(transfer, version, tx):
        quorum = registry().assets[transfer.asset].quorum_units
        return quorum is not None and transfer.units >= quorum and is_deep(transfer, tx, head)
    return is_final_by(transfer, tx, head)


def is_witnessed(transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx, sight: Sight) -> bool:
    """Two hosts tell it alike, in the same block and as deep, or nobody needs to."""
    if not wants_witness(transfer, version, tx, sight.head):
        return True
    told = sight.witnesses.get(tx.id)
    if told is None or told.reach is None:
        return False
    if (told.status, told.block_number, told.block_hash) != (tx.status, tx.block_number, tx.block_hash):
        return False
    if pays(transfer, version, tx):
        return paid_units(transfer, told) == paid_units(transfer, tx)
    return not pays(transfer, version, told) and is_final(
        transfer.chain, told.block_number, newest=told.reach.newest, finalized=told.reach.finalized
    )


def ending(transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx, sight: Sight) -> str | None:
    """The event that ends one whose version is in this block; None: look again later."""
    if not is_witnessed(transfer, version, tx, sight):
        return None
    if pays(transfer, version, tx):
        return "confirm" if is_deep(transfer, tx, sight.head) else None
    if not is_final_by(transfer, tx, sight.head) or tx.id not in sight.costs:
        return None
    if version.cancels:
        return "cancel" if sight.pays_dead else None
    return "revert" if tx.status is TxStatus.REVERTED else None


def shows_nothing(transfer: OnchainTransfer, version: OnchainVersion, tx: ChainTx, head: Head) -> bool:
    """It says that it succeeded, and brought nothing that we can see. A person must say what that is."""
    return (
        tx.status is TxStatus.SUCCEEDED
        and not version.cancels
        and not pays(transfer, version, tx)
        and is_final_by(transfer, tx, head)
    )


LOOKS = 4
"""So often one is looked at before nodes are asked for a proof that it is dead."""


def may_be_dead(transfer: OnchainTransfer, versions: Sequence[OnchainVersion]) -> bool:
    """Whether it is worth asking. Never while a version is being signed: of that one nobody would have asked."""
    if transfer.current not in WAITING or any(each.is_unsigned for each in versions):
        return False
    signed = [each for each in versions if each.raw is not None]
    came_late = any(each.reception == Reception.LATE or each.terms["ends"] is not None for each in signed)
    return bool(signed) and (came_late or transfer.looks > LOOKS)
