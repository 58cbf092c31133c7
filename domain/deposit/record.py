"""Recording what was seen: each step moves the state, posts and writes history in the caller's one transaction."""

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from chains.base import Block, ChainTx, Transfer, TxStatus
from domain.deposit import books, queries, verdicts
from domain.deposit.models import Deposit, DepositEvent, DepositTransfer
from domain.deposit.pace import next_poll
from domain.deposit.states import DEPOSIT, IN_A_BLOCK, OPEN, Mode, Reason
from domain.deposit.verdicts import Sight

log = structlog.stdlib.get_logger(__name__)

STEPS_MAX = 4
"""Seen, deep enough, final: no sight proves more at once."""
INPUTS_NOTED = 20
"""Inputs of a transaction that its history names; a large payer's may have hundreds."""


def record(session: Session, read: Deposit, sight: Sight, *, now: datetime) -> None:
    """Draw the conclusions of a sight of the deposit as it was `read`; none if it has changed since."""
    deposit = queries.lock(session, read.id)
    if deposit is None or deposit.final_at is not None or _facts(deposit) != _facts(read):
        return
    for _ in range(STEPS_MAX):
        event = verdicts.next_event(deposit, sight)
        if event is None or not _STEPS[event](session, deposit, sight, event, now):
            break
    _note_inputs(session, deposit, sight, now)
    if deposit.current in IN_A_BLOCK:
        deposit.confirmations_seen = verdicts.confirmations(deposit, sight) or deposit.confirmations_seen
    if verdicts.is_final(deposit, sight, now=now):
        deposit.final_at = now
    deposit.next_poll_at = next_poll(deposit, now=now)


def _facts(deposit: Deposit) -> tuple[object, ...]:
    return (deposit.state, deposit.incarnation, deposit.chain_tx, deposit.block_hash)


def move(session: Session, deposit: Deposit, event: str, *, now: datetime, **detail: Any) -> None:
    """The only way a deposit's state changes."""
    before = deposit.current
    deposit.state = DEPOSIT.then(before, event)
    deposit.updated_at = now
    session.add(
        DepositEvent(
            deposit_id=deposit.id, at=now, event=event, state_before=before, state_after=deposit.state, detail=detail
        )
    )
    log.info(
        "deposit.moved", deposit_id=str(deposit.id), deposit_event=event, state=deposit.state, reason=deposit.reason
    )


def note(session: Session, deposit: Deposit, event: str, *, now: datetime, **detail: Any) -> None:
    """Something worth knowing that changes nothing."""
    session.add(
        DepositEvent(
            deposit_id=deposit.id,
            at=now,
            event=event,
            state_before=deposit.state,
            state_after=deposit.state,
            detail=detail,
        )
    )


def claim(session: Session, deposit: Deposit, transfer: Transfer, *, now: datetime) -> bool:
    """Attribute the transfer to the deposit. False if it is another's: of two at once, one waits for the other."""
    made = session.execute(
        insert(DepositTransfer)
        .values(
            chain=transfer.chain,
            chain_tx=transfer.chain_tx,
            index=transfer.index,
            block_hash=transfer.block_hash,
            block_number=transfer.block_number,
            deposit_id=deposit.id,
            units=transfer.units,
            attributed_at=now,
        )
        .on_conflict_do_nothing(
            index_elements=["chain", "chain_tx", "index"], index_where=DepositTransfer.orphaned_at.is_(None)
        )
        .returning(DepositTransfer.id)
    )
    return made.first() is not None


def attach(
    session: Session,
    deposit: Deposit,
    transfer: Transfer,
    *,
    block_time: datetime,
    reason: Reason | None,
    now: datetime,
) -> None:
    """The transfer, which the deposit has claimed, lies in a block: it is pending now."""
    deposit.chain_tx = transfer.chain_tx
    deposit.index = transfer.index
    deposit.sender = transfer.sender
    deposit.units_received = transfer.units
    _rest_on(deposit, transfer.block_number, transfer.block_hash, block_time, reason)
    move(
        session,
        deposit,
        "seen" if DEPOSIT.can(deposit.current, "seen") else "late",
        now=now,
        chain_tx=transfer.chain_tx,
        index=transfer.index,
        units=str(transfer.units),
        sender=transfer.sender,
        block=transfer.block_number,
        block_hash=transfer.block_hash,
        reason=reason,
    )


def _rest_on(deposit: Deposit, number: int, block_hash: str, time: datetime, reason: Reason | None) -> None:
    deposit.block_number, deposit.block_hash, deposit.block_time = number, block_hash, time
    deposit.confirmations_seen = 0
    deposit.reason = reason


def undo(session: Session, deposit_id: UUID, block_hash: str, *, now: datetime) -> None:
    """The block is no part of the chain any more: undo what rests on it, also where it was thought final."""
    deposit = queries.lock(session, deposit_id)
    if deposit is None or deposit.block_hash != block_hash or deposit.current not in IN_A_BLOCK:
        return
    if deposit.final_at is not None:
        log.error("deposit.final_undone", deposit_id=str(deposit_id), block_hash=block_hash)
        deposit.final_at = None
    _send_back(session, deposit, None, now)
    deposit.next_poll_at = next_poll(deposit, now=now)


# --- steps -------------------------------------------------------------------------------------------------------


def _see(session: Session, deposit: Deposit, sight: Sight, event: str, now: datetime) -> bool:
    tx, block = sight.chain_tx, sight.block
    if tx is None or block is None:
        return False
    claimed = queries.claimed_by_others(session, deposit, tx.id)
    finding = verdicts.find(deposit, tx, block, claimed=claimed)
    while finding.transfer is not None and not claim(session, deposit, finding.transfer, now=now):
        claimed |= {finding.transfer.index}
        finding = verdicts.find(deposit, tx, block, claimed=claimed)
    deposit.tx_inputs = list(tx.inputs) or deposit.tx_inputs
    if finding.transfer is not None:
        attach(session, deposit, finding.transfer, block_time=block.time, reason=finding.reason, now=now)
        return True
    if deposit.by is not Mode.TX:
        deposit.chain_tx = None  # this transaction came to nothing; another may arrive on the address
        return False
    deposit.index = deposit.units_received = None
    deposit.sender = tx.sender
    _rest_on(deposit, block.number, block.hash, block.time, finding.reason)
    move(session, deposit, event, now=now, block=block.number, block_hash=block.hash, reason=finding.reason)
    return True


def _credit(session: Session, deposit: Deposit, _: Sight, event: str, now: datetime) -> bool:
    books.credit(session, deposit)
    _move_booked(session, deposit, event, now)
    return True


def _suspend(session: Session, deposit: Deposit, _: Sight, event: str, now: datetime) -> bool:
    books.suspend(session, deposit)
    _move_booked(session, deposit, event, now)
    return True


def _move_booked(session: Session, deposit: Deposit, event: str, now: datetime) -> None:
    detail = {"units": str(deposit.units_received), "journal_id": str(deposit.journal_id), "reason": deposit.reason}
    if deposit.units_recovered:
        detail["recovered"] = str(deposit.units_recovered)
    move(session, deposit, event, now=now, **detail)


def _end(session: Session, deposit: Deposit, _: Sight, event: str, now: datetime) -> bool:
    move(session, deposit, event, now=now, reason=deposit.reason)
    return True


def _reorg(session: Session, deposit: Deposit, sight: Sight, _: str, now: datetime) -> bool:
    _send_back(session, deposit, sight.block, now)
    return False  # the transaction must be read anew before more can be said


def _send_back(session: Session, deposit: Deposit, instead: Block | None, now: datetime) -> None:
    """Back to watching, as if it had never been seen, with everything booked for it undone."""
    short_before = deposit.units_short
    queries.orphan(session, deposit.id, now=now)
    journals = books.undo(session, deposit)  # from here to the end no statement: the row is half changed
    detail = {
        "block": deposit.block_number,
        "block_hash": deposit.block_hash,
        "instead": instead.hash if instead else None,
        "journal_ids": [str(journal_id) for journal_id in journals],
        "owed": str(deposit.units_short - short_before),
    }
    deposit.index = deposit.units_received = deposit.sender = None
    deposit.block_number = deposit.block_hash = deposit.block_time = deposit.reason = None
    deposit.confirmations_seen = 0
    deposit.incarnation += 1
    deposit.reorged_at = now
    move(session, deposit, "reorged", now=now, **detail)


def _note_inputs(session: Session, deposit: Deposit, sight: Sight, now: datetime) -> None:
    """Remember what a waiting transaction uses up: only so can be told that another took it."""
    tx = sight.chain_tx
    if deposit.current in OPEN and tx is not None and _is_news(deposit, tx):
        deposit.tx_inputs = list(tx.inputs)
        note(session, deposit, "mempool", now=now, sender=tx.sender, inputs=list(tx.inputs)[:INPUTS_NOTED])


def _is_news(deposit: Deposit, tx: ChainTx) -> bool:
    return tx.status is TxStatus.MEMPOOL and list(tx.inputs) != (deposit.tx_inputs or [])


_STEPS: dict[str, Callable[[Session, Deposit, Sight, str, datetime], bool]] = {
    "seen": _see,
    "late": _see,
    "credit": _credit,
    "suspend": _suspend,
    "reject": _end,
    "expire": _end,
    "replace": _end,
    "reorged": _reorg,
}
"""Each says whether more can be concluded from the same sight."""
