"""What the facts of a chain mean for a deposit. Pure: no database, no node, no clock."""

from dataclasses import dataclass, field
from datetime import datetime

from chains.base import Block, ChainTx, Head, Transfer, TxStatus
from config.assets import blocks_needed, registry
from core.money import UNITS_MAX
from domain.deposit.models import Deposit
from domain.deposit.pace import deadline, forgotten_at
from domain.deposit.settings import deposit as settings
from domain.deposit.states import IN_A_BLOCK, SUSPENDING, DepositState, Mode, Reason

S = DepositState
BPS = 10_000


@dataclass(frozen=True)
class Sight:
    """What was read of the chain for one deposit. All of it at about the same moment, the head first."""

    head: Head | None = None
    """None if the node was not asked."""
    chain_tx: ChainTx | None = None
    """The deposit's transaction, if it was in no block when last seen."""
    block: Block | None = None
    """The canonical block at the height of the deposit's transfer; None if the node has none there."""
    outrun: bool = False
    """Another transaction with the same nonce lies as deep as a credit would have to."""
    read_until: datetime | None = None
    """The chain has been read up to a block of this time."""


@dataclass(frozen=True)
class Finding:
    """What a transaction holds for a deposit."""

    reason: Reason | None
    """None: to be credited."""
    transfer: Transfer | None = field(default=None)
    """What the deposit claims; None if nothing in the transaction is its payment."""


def next_event(deposit: Deposit, sight: Sight) -> str | None:
    """The event that the sight proves, or None: look again later."""
    state = deposit.current
    if state in IN_A_BLOCK:
        return _buried_or_undone(deposit, sight)
    if _is_in_block(sight):
        return "seen" if state is S.WATCHING else "late"
    return _absent(deposit, sight) if state is S.WATCHING else None


def _buried_or_undone(deposit: Deposit, sight: Sight) -> str | None:
    if sight.block is None or sight.block.number != deposit.block_number:
        return None  # a node that has no such block now may lag: that proves nothing
    if sight.block.hash != deposit.block_hash:
        return "reorged"
    if deposit.current is not S.PENDING or not is_deep(deposit, sight):
        return None
    if deposit.why is None:
        return "credit"
    return "suspend" if deposit.why in SUSPENDING else "reject"


def _is_in_block(sight: Sight) -> bool:
    """In a block that is part of the chain by a second reading: a node in the middle of a reorg contradicts itself."""
    tx, block = sight.chain_tx, sight.block
    return tx is not None and tx.block_hash is not None and block is not None and block.hash == tx.block_hash


def _absent(deposit: Deposit, sight: Sight) -> str | None:
    if deposit.chain_tx is not None and (sight.chain_tx is None or sight.chain_tx.block_hash is not None):
        return None  # not asked for, or in a block that is not certain
    if sight.outrun and deposit.by is Mode.TX:
        return "replace"
    # By the chain's clock: a node that stands still expires nothing.
    return "expire" if sight.read_until is not None and sight.read_until > deadline(deposit) else None


def find(deposit: Deposit, tx: ChainTx, block: Block, *, claimed: frozenset[int]) -> Finding:  # noqa: PLR0911  # a list of frauds
    """The deposit's payment in a transaction that lies in this block. `claimed` belongs to others already."""
    if tx.status is TxStatus.REVERTED:
        return Finding(Reason.REVERTED)
    to_us = [transfer for transfer in tx.transfers if transfer.recipient == deposit.address]
    if not to_us:
        return Finding(Reason.WRONG_RECIPIENT)
    # By the contract, never by a symbol: anybody may deploy a token of any name.
    ours = [transfer for transfer in to_us if transfer.asset == deposit.asset]
    if not ours:
        return Finding(Reason.WRONG_TOKEN)
    paid = [transfer for transfer in ours if transfer.units > 0]
    if not paid:
        return Finding(Reason.ZERO_VALUE)
    paid = [transfer for transfer in paid if deposit.payer in (None, transfer.sender)]
    if not paid:
        return Finding(Reason.WRONG_PAYER)
    if is_older(deposit, block.time):
        return Finding(Reason.OLDER_THAN_ORDER)
    free = [transfer for transfer in paid if transfer.index not in claimed]
    if not free:
        return Finding(Reason.DUPLICATE)
    units_min = registry().assets[deposit.asset].units_min
    chosen = min(
        free,
        key=lambda transfer: (
            not units_min <= transfer.units <= UNITS_MAX,  # dust beside a payment is not the payment
            transfer.units != deposit.units_expected,
            not is_within(deposit, transfer.units),
            transfer.index,
        ),
    )
    if chosen.units < units_min:
        return Finding(Reason.BELOW_MINIMUM)
    if chosen.units > UNITS_MAX:
        return Finding(Reason.TOO_LARGE)
    return Finding(weigh(deposit, chosen.units, block.time), chosen)


def is_older(deposit: Deposit, block_time: datetime) -> bool:
    """An old payment, shown again as if it were for this order."""
    return deposit.by is not Mode.UNEXPECTED and block_time < deposit.created_at - settings().older_by_max


def weigh(deposit: Deposit, units: int, block_time: datetime) -> Reason | None:
    """Whether a payment to be booked is as it was asked for; None: it is, what arrived is credited."""
    if deposit.by is Mode.UNEXPECTED:
        return Reason.UNEXPECTED
    if block_time > deadline(deposit):
        return Reason.LATE
    if is_within(deposit, units):
        return None
    return Reason.UNDERPAID if units < (deposit.units_expected or 0) else Reason.OVERPAID


def is_within(deposit: Deposit, units: int) -> bool:
    """Within the tolerance of what is expected, both ends included."""
    expected = deposit.units_expected
    return expected is None or abs(units - expected) * BPS <= expected * deposit.tolerance_bps


def confirmations(deposit: Deposit, sight: Sight) -> int:
    """How many blocks stand on it. The one that holds it is the first."""
    if sight.head is None or deposit.block_number is None:
        return 0
    return max(sight.head.latest.number - deposit.block_number + 1, 0)


def needed(deposit: Deposit) -> int | None:
    """How many must; None: the finalized tag decides. A verdict that says no waits as long as a credit would."""
    if deposit.confirmations is not None:
        return deposit.confirmations
    asset = registry().assets[deposit.asset]
    rule = asset.confirmations or registry().chains[deposit.chain].confirmations
    return blocks_needed(rule, deposit.units_received or deposit.units_expected or UNITS_MAX)


def is_deep(deposit: Deposit, sight: Sight) -> bool:
    blocks = needed(deposit)
    return _is_finalized(deposit, sight) if blocks is None else confirmations(deposit, sight) >= blocks


def _is_finalized(deposit: Deposit, sight: Sight) -> bool:
    finalized = sight.head.finalized if sight.head is not None else None
    return finalized is not None and deposit.block_number is not None and deposit.block_number <= finalized


def is_final(deposit: Deposit, sight: Sight, *, now: datetime) -> bool:
    """Nothing will change it any more: no reorg reaches its block, or nobody looks for it any longer."""
    state = deposit.current
    if state in (S.EXPIRED, S.REPLACED):
        return now >= forgotten_at(deposit)
    if state not in (S.CREDITED, S.SUSPENDED, S.REJECTED) or sight.block is None:
        return False
    if sight.block.hash != deposit.block_hash:
        return False
    depth = registry().chains[deposit.chain].reorg_depth
    return _is_finalized(deposit, sight) or confirmations(deposit, sight) > depth
