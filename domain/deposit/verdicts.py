"""What the facts of a chain mean for a deposit. Pure: no database, no node, no clock."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from chains.base import Block, ChainTx, Head, Transfer, TxStatus
from config.assets import blocks_needed, registry
from core.money import UNITS_MAX
from domain.deposit import agreement
from domain.deposit.agreement import Testimony, Witness
from domain.deposit.models import Deposit
from domain.deposit.pace import deadline, forgotten_at
from domain.deposit.settings import deposit as settings
from domain.deposit.states import IN_A_BLOCK, SUSPENDING, DepositState, Mode, Reason
from domain.deposit.valuation import Rate

S = DepositState
BPS = 10_000
PROGRESS = 10
"""Confirmations are written in steps of this fraction of what is needed: each block would be a write a deposit."""


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
    next_block: int | None = None
    """The scan has not read this block yet, nor those above it; None on a chain that is not scanned."""
    witness: Witness | None = None
    """What two endpoints tell of it, or why they don't; None if they were not asked."""


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
    return _verdict(deposit, sight) if deposit.current is S.PENDING and is_deep(deposit, sight) else None


def _verdict(deposit: Deposit, sight: Sight) -> str | None:
    if is_overruled(deposit, sight):
        return "overruled"
    if deposit.why is not None and deposit.why not in SUSPENDING:
        return "reject"
    if is_unpriced(deposit) or agreement.is_needed(deposit):
        return None  # deep enough, but not to be booked yet
    return "credit" if deposit.why is None or accepts(deposit, deposit.why) else "suspend"


def wants_witness(deposit: Deposit, sight: Sight) -> bool:
    """Nothing but the word of a second endpoint is lacking to book it."""
    return (
        deposit.current is S.PENDING
        and sight.block is not None
        and sight.block.hash == deposit.block_hash
        and agreement.is_needed(deposit)
        and is_deep(deposit, sight)
    )


def is_overruled(deposit: Deposit, sight: Sight) -> bool:
    """Two endpoints tell its transaction otherwise than the one that was believed."""
    return (
        isinstance(sight.witness, ChainTx)
        and agreement.is_needed(deposit)
        and agreement.testimony(deposit, sight.witness, needed=needed(deposit)) is Testimony.OTHERWISE
    )


def _is_in_block(sight: Sight) -> bool:
    """In a block that is part of the chain by a second reading: a node in the middle of a reorg contradicts itself."""
    tx, block = sight.chain_tx, sight.block
    return tx is not None and tx.block_hash is not None and block is not None and block.hash == tx.block_hash


def _absent(deposit: Deposit, sight: Sight) -> str | None:
    if deposit.chain_tx is not None and (sight.chain_tx is None or sight.chain_tx.block_hash is not None):
        return None  # not asked for, or in a block that is not certain
    if sight.outrun and deposit.by is Mode.TX:
        return "replace"
    if has_lapsed(deposit, sight):
        return "expire"
    # By the chain's clock: a node that stands still expires nothing.
    return "expire" if sight.read_until is not None and sight.read_until > deadline(deposit) else None


def has_lapsed(deposit: Deposit, sight: Sight) -> bool:
    """No block can take the transaction in any more, by its own word and the time of the newest final block."""
    if deposit.by is not Mode.TX or registry().chains[deposit.chain].reorg_depth or sight.head is None:
        return False  # on an address another may come; and what is not final may be replaced by what is older
    told = sight.chain_tx.valid_until if sight.chain_tx is not None else None
    until = told or deposit.tx_valid_until
    return until is not None and sight.head.latest.time > until


def find(  # noqa: C901, PLR0911  # a list of frauds
    deposit: Deposit,
    tx: ChainTx,
    block: Block,
    *,
    claimed: frozenset[int],
    not_for: frozenset[int] = frozenset(),
    rate: Rate | None = None,
) -> Finding:
    """The deposit's payment in a transaction that lies in this block. `claimed` belongs to others already, and by their
    tags those of `not_for` are no payments of this deposit.
    """
    if tx.status is TxStatus.REVERTED:
        return Finding(Reason.REVERTED)
    to_us = [transfer for transfer in tx.transfers if transfer.recipient == deposit.address]
    if not to_us:
        return Finding(Reason.WRONG_RECIPIENT)
    # By the contract, never by a symbol: anybody may deploy a token of any name.
    ours = [transfer for transfer in to_us if transfer.asset == deposit.asset]
    if not ours:
        return Finding(Reason.WRONG_TOKEN)
    ours = [transfer for transfer in ours if transfer.index not in not_for]
    if not ours:
        return Finding(Reason.WRONG_TAG)
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
            not is_within(deposit, transfer.units, rate),
            transfer.index,
        ),
    )
    if chosen.units < units_min:
        return Finding(Reason.BELOW_MINIMUM)
    if chosen.units > UNITS_MAX:
        return Finding(Reason.TOO_LARGE)
    return Finding(weigh(deposit, chosen.units, block.time, rate), chosen)


def is_older(deposit: Deposit, block_time: datetime) -> bool:
    """An old payment, shown again as if it were for this order."""
    return deposit.by is not Mode.UNEXPECTED and block_time < deposit.created_at - settings().older_by_max


def weigh(deposit: Deposit, units: int, block_time: datetime, rate: Rate | None = None) -> Reason | None:
    """Whether a payment to be booked is as it was asked for; None: it is, what arrived is credited.

    Of several reasons the first that the deposit doesn't accept is told, and only if it accepts all the first of all:
    what is late and short is not credited because being late was accepted.
    """
    found = list(_reasons(deposit, units, block_time, rate))
    kept = [reason for reason in found if not accepts(deposit, reason)]
    return next(iter(kept or found), None)


def _reasons(deposit: Deposit, units: int, block_time: datetime, rate: Rate | None) -> Iterator[Reason]:
    if deposit.by is Mode.UNEXPECTED:
        yield Reason.UNEXPECTED  # nothing was asked for that it could be late for, or too little
        return
    if block_time > deadline(deposit):
        yield Reason.LATE
    compared = _compared(deposit, units, rate)
    if compared is not None and not is_within(deposit, units, rate):
        arrived, expected = compared
        yield Reason.UNDERPAID if arrived < expected else Reason.OVERPAID


def accepts(deposit: Deposit, reason: Reason) -> bool:
    """It is to be credited all the same."""
    return reason in (deposit.accepts or ())


def is_unpriced(deposit: Deposit) -> bool:
    """It was expected by value, and what arrived has not been weighed: no rate was known."""
    return deposit.value_units is not None and deposit.units_received is not None and deposit.priced_at is None


def _compared(deposit: Deposit, units: int, rate: Rate | None) -> tuple[int, int] | None:
    """What arrived and what was expected, on one scale; None if nothing was, or if the rate isn't known.

    A value is compared as units * numerator with value * denominator: nothing is divided, so nothing is rounded.
    """
    if deposit.units_expected is not None:
        return units, deposit.units_expected
    if deposit.value_units is not None and rate is not None:
        return units * rate.numerator, deposit.value_units * rate.denominator
    return None


def is_within(deposit: Deposit, units: int, rate: Rate | None = None) -> bool:
    """Within the tolerance of what is expected, both ends included. Of a value without a rate it can't be said."""
    compared = _compared(deposit, units, rate)
    if compared is None:
        return deposit.value_units is None
    arrived, expected = compared
    return abs(arrived - expected) * BPS <= expected * deposit.tolerance_bps


def is_crumb(deposit: Deposit, units: int, rate: Rate | None = None) -> bool:
    """So much less than expected that it is no try to pay: whoever knows the address may send it.

    It must not use up the deposit that waits there. Where underpayments are accepted, any amount is a payment.
    """
    compared = _compared(deposit, units, rate)
    if compared is None or accepts(deposit, Reason.UNDERPAID) or is_within(deposit, units, rate):
        return False
    arrived, expected = compared
    return arrived * BPS < expected * settings().part_min_bps


def confirmations(deposit: Deposit, sight: Sight) -> int:
    """How many blocks stand on it. The one that holds it is the first."""
    if sight.head is None or deposit.block_number is None:
        return 0
    return max(sight.head.latest.number - deposit.block_number + 1, 0)


def has_progressed(deposit: Deposit, sight: Sight) -> bool:
    """So many more blocks stand on it than was written that whoever waits for it would like to know."""
    seen = confirmations(deposit, sight)
    depth = registry().chains[deposit.chain].reorg_depth
    goal = (needed(deposit) or depth) if deposit.current is S.PENDING else depth
    if not seen or not deposit.confirmations_seen:
        return bool(seen)
    return abs(seen - deposit.confirmations_seen) >= max(goal // PROGRESS, 1)


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
    # A reorg that nobody should expect any more is noticed by the scan, and only in blocks that it has read.
    if sight.next_block is not None and (deposit.block_number is None or deposit.block_number >= sight.next_block):
        return False
    depth = registry().chains[deposit.chain].reorg_depth
    return _is_finalized(deposit, sight) or confirmations(deposit, sight) > depth
