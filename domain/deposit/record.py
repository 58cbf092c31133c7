"""Recording what was seen: each step moves the state, posts and writes history in the caller's one transaction."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.orm import Session

from chains.base import Block, ChainTx, Transfer, TxStatus
from chains.errors import DisagreementError
from core.errors import TransientError
from domain.deposit import agreement, books, freezing, queries, tags, valuation, verdicts
from domain.deposit.agreement import Testimony
from domain.deposit.history import move, note, wait
from domain.deposit.models import Deposit
from domain.deposit.pace import next_poll
from domain.deposit.states import DEPOSIT, IN_A_BLOCK, OPEN, DepositState, Mode, Reason, Wait
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
    price(session, deposit, now=now)
    _hear(session, deposit, sight, now)
    for _ in range(STEPS_MAX):
        event = verdicts.next_event(deposit, sight)
        if event is None or not _STEPS[event](session, deposit, sight, event, now):
            break
    _note_inputs(session, deposit, sight, now)
    if deposit.current in IN_A_BLOCK:
        deposit.confirmations_seen = verdicts.confirmations(deposit, sight) or deposit.confirmations_seen
    if verdicts.is_final(deposit, sight, now=now) and _is_as_scanned(session, deposit):
        deposit.final_at = now
    deposit.next_poll_at = next_poll(deposit, now=now)


def has_news(deposit: Deposit, sight: Sight, *, now: datetime) -> bool:
    """Whether recording this sight would write anything but the time of the next look."""
    return (
        verdicts.next_event(deposit, sight) is not None
        or sight.witness is not None
        or (deposit.current is DepositState.PENDING and verdicts.is_unpriced(deposit))
        or (deposit.current in IN_A_BLOCK and verdicts.has_progressed(deposit, sight))
        or (deposit.current in OPEN and sight.chain_tx is not None and _is_news(deposit, sight.chain_tx))
        or verdicts.is_final(deposit, sight, now=now)
    )


def _is_as_scanned(session: Session, deposit: Deposit) -> bool:
    """The scan has not read another block in the place of the deposit's. It would not notice that this one goes."""
    if deposit.block_number is None:
        return True
    return queries.stored_hash(session, deposit.chain, deposit.block_number) in (None, deposit.block_hash)


def _facts(deposit: Deposit) -> tuple[object, ...]:
    return (deposit.state, deposit.incarnation, deposit.chain_tx, deposit.block_hash)


_CLAIM = text(
    """
    INSERT INTO deposit_transfers (chain, chain_tx, index, block_hash, block_number, deposit_id, units, attributed_at)
    SELECT :chain, chain_tx, index, block_hash, block_number, deposit_id, units, :now
    FROM unnest(cast(:txs AS text[]), cast(:indices AS bigint[]), cast(:hashes AS text[]), cast(:numbers AS bigint[]),
                cast(:deposits AS uuid[]), cast(:units AS numeric[]))
      AS found (chain_tx, index, block_hash, block_number, deposit_id, units)
    ON CONFLICT (chain, chain_tx, index) WHERE orphaned_at IS NULL DO NOTHING
    """
)


def claim(session: Session, deposit: Deposit, transfer: Transfer, *, now: datetime) -> bool:
    """Attribute the transfer to the deposit. False if it is another's: of two at once, one waits for the other."""
    return claim_all(session, [(deposit, transfer)], now=now) == 1


def claim_all(session: Session, found: Sequence[tuple[Deposit, Transfer]], *, now: datetime) -> int:
    """As `claim`, for each of them. Returns how many were nobody's before."""
    if not found:
        return 0
    done = session.execute(
        _CLAIM,
        {
            "chain": found[0][0].chain,
            "now": now,
            "txs": [transfer.chain_tx for _, transfer in found],
            "indices": [transfer.index for _, transfer in found],
            "hashes": [transfer.block_hash for _, transfer in found],
            "numbers": [transfer.block_number for _, transfer in found],
            "deposits": [deposit.id for deposit, _ in found],
            "units": [str(transfer.units) for _, transfer in found],
        },
    )
    return int(done.rowcount)  # type: ignore[attr-defined]  # has a count


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
    price(session, deposit, now=now)


def price(session: Session, deposit: Deposit, *, now: datetime) -> None:
    """Weigh what arrived by its value at the time of its block; where no rate of then is known, wait for one."""
    if deposit.current is not DepositState.PENDING or not verdicts.is_unpriced(deposit):
        return
    units, at = deposit.units_received, deposit.block_time
    if units is None or at is None:
        return
    rate = valuation.rate_of(session, deposit, at)
    if rate is None:
        wait(session, deposit, Wait.RATE, now=now, currency=deposit.value_currency, at=at.isoformat())
        return
    deposit.reason = verdicts.weigh(deposit, units, at, rate)
    deposit.priced_at = deposit.updated_at = now
    deposit.waits_for = deposit.waits_since = None
    note(
        session,
        deposit,
        "priced",
        now=now,
        currency=deposit.value_currency,
        # In whole units of the currency, cut: for people. The verdict was reached without a division.
        value=str(units * rate.numerator // rate.denominator),
        numerator=str(rate.numerator),
        denominator=str(rate.denominator),
        observed_at=rate.observed_at.isoformat(),
        source=rate.source,
        reason=deposit.reason,
    )


def _rest_on(deposit: Deposit, number: int, block_hash: str, time: datetime, reason: Reason | None) -> None:
    deposit.block_number, deposit.block_hash, deposit.block_time = number, block_hash, time
    deposit.confirmations_seen = 0
    deposit.depth_needed = verdicts.needed(deposit) or 0
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
    rate = valuation.rate_of(session, deposit, block.time)
    not_for = tags.not_for(session, deposit, tx)
    finding = verdicts.find(deposit, tx, block, claimed=claimed, not_for=not_for, rate=rate)
    while finding.transfer is not None and not claim(session, deposit, finding.transfer, now=now):
        claimed |= {finding.transfer.index}
        finding = verdicts.find(deposit, tx, block, claimed=claimed, not_for=not_for, rate=rate)
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
    freezing.lift(session, deposit, now=now)
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


def _end(session: Session, deposit: Deposit, sight: Sight, event: str, now: datetime) -> bool:
    if event == "expire" and verdicts.has_lapsed(deposit, sight):
        deposit.reason = Reason.TX_EXPIRED
    move(session, deposit, event, now=now, reason=deposit.reason)
    return True


def _reorg(session: Session, deposit: Deposit, sight: Sight, _: str, now: datetime) -> bool:
    _send_back(session, deposit, sight.block, now)
    return False  # the transaction must be read anew before more can be said


def _overrule(session: Session, deposit: Deposit, sight: Sight, event: str, now: datetime) -> bool:
    """One endpoint told us something that two others tell otherwise: from now on only two are believed."""
    told = sight.witness if isinstance(sight.witness, ChainTx) else None
    log.error("deposit.overruled", deposit_id=str(deposit.id), chain=deposit.chain, chain_tx=deposit.chain_tx)
    deposit.disputed_at = now
    _undo_all(
        session,
        deposit,
        event,
        now,
        index=deposit.index,
        units=str(deposit.units_received),
        sender=deposit.sender,
        instead=None if told is None else {"block_hash": told.block_hash, "status": told.status},
    )
    return False


def _send_back(session: Session, deposit: Deposit, instead: Block | None, now: datetime) -> None:
    """What a reorg does. Where the money can't all be taken back, or holds bind it, its account is frozen."""
    was_credited = deposit.current is DepositState.CREDITED
    owed = _undo_all(session, deposit, "reorged", now, instead=instead.hash if instead else None)
    if was_credited:
        freezing.freeze(session, deposit, owed=owed, now=now)


def _undo_all(session: Session, deposit: Deposit, event: str, now: datetime, **told: Any) -> int:
    """Back to watching, as if it had never been seen, with everything booked for it undone. Returns what is owed."""
    short_before = deposit.units_short
    queries.orphan(session, deposit.id, now=now)
    journals = books.undo(session, deposit)  # from here to the end no statement: the row is half changed
    owed = deposit.units_short - short_before
    detail = {
        "block": deposit.block_number,
        "block_hash": deposit.block_hash,
        "journal_ids": [str(journal_id) for journal_id in journals],
        "owed": str(owed),
    }
    deposit.index = deposit.units_received = deposit.sender = None
    deposit.block_number = deposit.block_hash = deposit.block_time = deposit.reason = None
    deposit.priced_at = deposit.agreed_at = None
    deposit.confirmations_seen = 0
    deposit.incarnation += 1
    deposit.reorged_at = now
    move(session, deposit, event, now=now, **detail | told)
    return owed


def _hear(session: Session, deposit: Deposit, sight: Sight, now: datetime) -> None:
    """Keep what two endpoints say of a deposit that one must not decide. That they overrule it is an event's matter."""
    witness = sight.witness
    if witness is None or deposit.current is not DepositState.PENDING or not agreement.is_needed(deposit):
        return
    # Nothing that names a node: tenants read the history.
    if isinstance(witness, TransientError):
        what = Wait.AGREEMENT if isinstance(witness, DisagreementError) else Wait.SECOND_NODE
        wait(session, deposit, what, now=now)
        return
    told = agreement.testimony(deposit, witness, needed=verdicts.needed(deposit))
    if told is Testimony.ABSENT:
        wait(session, deposit, Wait.AGREEMENT, now=now, status=witness.status)
    elif told is Testimony.SHALLOW:
        wait(session, deposit, Wait.SECOND_NODE, now=now)
    elif told is Testimony.ALIKE:
        deposit.agreed_at = deposit.updated_at = now
        deposit.waits_for = deposit.waits_since = None
        note(session, deposit, "agreed", now=now, block=deposit.block_number, block_hash=deposit.block_hash)


def _note_inputs(session: Session, deposit: Deposit, sight: Sight, now: datetime) -> None:
    """Remember what a waiting transaction uses up: only so can be told that another took it."""
    tx = sight.chain_tx
    if deposit.current in OPEN and tx is not None and _is_news(deposit, tx):
        deposit.tx_inputs = list(tx.inputs)
        deposit.tx_valid_until = tx.valid_until
        note(session, deposit, "mempool", now=now, sender=tx.sender, inputs=list(tx.inputs)[:INPUTS_NOTED])


def _is_news(deposit: Deposit, tx: ChainTx) -> bool:
    if tx.status is not TxStatus.MEMPOOL:
        return False
    return list(tx.inputs) != (deposit.tx_inputs or []) or tx.valid_until != deposit.tx_valid_until


_STEPS: dict[str, Callable[[Session, Deposit, Sight, str, datetime], bool]] = {
    "seen": _see,
    "late": _see,
    "credit": _credit,
    "suspend": _suspend,
    "reject": _end,
    "expire": _end,
    "replace": _end,
    "reorged": _reorg,
    "overruled": _overrule,
}
"""Each says whether more can be concluded from the same sight."""
