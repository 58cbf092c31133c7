"""What two endpoints tell alike: for deposits so large that one endpoint must not decide them (ADR 15)."""

from collections.abc import Collection
from enum import Enum

import structlog

from chains.base import ChainReader, ChainTx, TxStatus
from chains.errors import DisagreementError
from config.assets import registry
from core.errors import TransientError
from domain.deposit.models import Deposit

log = structlog.stdlib.get_logger(__name__)

Witness = ChainTx | TransientError
"""What two endpoints tell alike of a transaction, or why they don't."""

DISAGREEMENTS_MAX = 20
FAILURES_MAX = 3
"""Failed askings of one round: enough to find the few that spoil it for others, few enough to end it in time."""


class Testimony(Enum):
    """What two endpoints say to what we have of one."""

    ALIKE = "alike"
    ABSENT = "absent"
    """They know it in no block. They may lag both, or not keep what is old: that proves nothing."""
    OTHERWISE = "otherwise"
    """In another block, failed, or with other transfers: two against one."""
    SHALLOW = "shallow"
    """Alike, but as deep as it must be by the word of one alone: any endpoint can boast of a head."""


def is_needed(deposit: Deposit) -> bool:
    """Whether what arrived may be booked only when two endpoints tell it alike, and they have not yet."""
    if deposit.agreed_at is not None or deposit.units_received is None:
        return False
    quorum = registry().assets[deposit.asset].quorum_units
    return deposit.disputed_at is not None or (quorum is not None and deposit.units_received >= quorum)


def testimony(deposit: Deposit, tx: ChainTx, *, needed: int | None) -> Testimony:
    """Compare all that money rests on: status, block, the very transfer that the deposit claims, and its depth.

    `needed`: how many blocks must stand on it, the one that holds it counted; None: it must be finalized.
    """
    if tx.block_hash is None:
        return Testimony.ABSENT
    if tx.status is not TxStatus.SUCCEEDED or (tx.block_number, tx.block_hash) != (
        deposit.block_number,
        deposit.block_hash,
    ):
        return Testimony.OTHERWISE
    ours: tuple[object, ...] = (deposit.index, deposit.asset, deposit.sender, deposit.address, deposit.units_received)
    theirs: list[tuple[object, ...]] = [
        (each.index, each.asset, each.sender, each.recipient, each.units) for each in tx.transfers
    ]
    if theirs.count(ours) != 1:
        return Testimony.OTHERWISE
    return Testimony.ALIKE if _is_deep(tx, needed) else Testimony.SHALLOW


def _is_deep(tx: ChainTx, needed: int | None) -> bool:
    """By the lower of both heads."""
    if tx.reach is None or tx.block_number is None:
        return False
    if needed is None:
        return tx.reach.finalized is not None and tx.block_number <= tx.reach.finalized
    return tx.reach.newest - tx.block_number + 1 >= needed


def ask(reader: ChainReader, ids: Collection[str]) -> dict[str, Witness]:
    """Each as two endpoints tell it, or why they don't. One that they disagree about costs the others nothing."""
    told: dict[str, Witness] = {}
    parts = [sorted(ids)] if ids else []
    disagreements = failures = 0
    while parts:
        part = parts.pop()
        try:
            told |= reader.agreed(part)
        except TransientError as error:
            log.warning("chain.not_agreed", chain=reader.id, chain_txs=len(part), error=str(error))
            disagreements += isinstance(error, DisagreementError)
            failures += not isinstance(error, DisagreementError)
            if len(part) == 1 or disagreements > DISAGREEMENTS_MAX or failures > FAILURES_MAX:
                told |= dict.fromkeys(part, error)
            else:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
    return told
