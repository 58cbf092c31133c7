"""Following deposits along the chain: many read in one go with no transaction open, each recorded in its own."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError

from chains.base import ChainReader, ChainTx, Head
from config.assets import registry
from core import clock, jobs
from core.errors import PermanentError, TransientError
from core.jobs import SYSTEM_TENANT, LeaseLostError, NewJob, transaction
from domain.deposit import agreement, queries, quiet, verdicts
from domain.deposit.create import LOOK
from domain.deposit.models import Deposit
from domain.deposit.nodes import note_failure, note_read
from domain.deposit.pace import next_poll
from domain.deposit.quiet import vouched
from domain.deposit.record import has_news, record
from domain.deposit.scan_models import ChainCursor
from domain.deposit.settings import deposit as settings
from domain.deposit.states import OPEN, DepositState, Mode
from domain.deposit.verdicts import Sight

log = structlog.stdlib.get_logger(__name__)

AFTER_FAILURE = timedelta(seconds=5)
READ_FAILURES_MAX = 40
"""Failed readings of one round, and the rest of it is left for a later one. One bad deposit among 200 costs 9."""


def chain_of(deposit_id: UUID) -> str:
    """Where the deposit is to be looked for. Raises PermanentError if there is no such deposit."""
    with transaction() as session:
        deposit = queries.get(session, deposit_id)
    if deposit is None:
        raise PermanentError(f"there is no deposit {deposit_id}")
    return deposit.chain


def look(reader: ChainReader, deposit_id: UUID) -> None:
    """Look at one deposit now, whether it is due or not. A node that doesn't answer leaves it to the poll.

    Raises TransientError, so that the job runs again, only for a deposit that was set apart: no poll looks at it.
    """
    with transaction() as session:
        deposit = queries.get(session, deposit_id)
        cursor = queries.cursor(session, reader.id)
    if deposit is None:
        raise PermanentError(f"there is no deposit {deposit_id}")
    if deposit.final_at is not None:
        return
    if _is_unknown(deposit):
        raise PermanentError(f"the asset {deposit.asset} is not in the registry any more")
    try:
        sights = read(reader, [deposit], cursor=cursor)
    except TransientError as error:
        if deposit.next_poll_at is None:
            raise  # it was set apart: nothing else looks at it
        log.warning("deposit.left_to_the_poll", deposit_id=str(deposit_id), error=str(error))
        return
    with transaction() as session:
        record(session, deposit, sights[deposit.id], now=clock.now())


def poll(reader: ChainReader) -> int:
    """Look at every deposit of the chain that is due, and say how many that were. A node that is down delays them."""
    ends = time.monotonic() + settings().budget.total_seconds()

    def over() -> bool:
        return time.monotonic() >= ends

    looked_at = _put_off_quiet(reader, over)
    while not over():
        now = clock.now()
        until = now + settings().claim
        with transaction() as session:
            due = queries.claim_due(session, reader.id, now=now, until=until, limit=settings().poll_limit)
            cursor = queries.cursor(session, reader.id)
        if not due:
            break
        due = _set_apart_unknown(due)
        if not due:
            continue
        try:
            sights, unreadable = _read_what_can_be(reader, due, cursor=cursor, over=over)
        except TransientError as error:
            log.warning("chain.unread", chain=reader.id, error=str(error))
            with transaction() as session:
                # The cursor before the deposits, as the scan locks them: the other way round they would deadlock.
                note_failure(session, reader.id, error, by="poll", now=now)
                queries.give_back(session, [deposit.id for deposit in due], until=until, at=now + AFTER_FAILURE)
            return looked_at
        silent = {deposit.id: next_poll(deposit, now=now) for deposit in due if _is_quiet(deposit, sights, now)}
        for deposit in due:
            if deposit.id in silent:
                continue
            if deposit.id in sights:
                _record_alone(deposit, sights[deposit.id])
            elif deposit.id in unreadable:
                set_apart(deposit.id)
        left = [deposit.id for deposit in due if deposit.id not in sights and deposit.id not in unreadable]
        looked_at += len(due) - len(left)
        with transaction() as session:
            note_read(session, reader.id, by="poll", now=now)  # before the deposits, as above
            queries.put_off(session, silent, until=until)
            queries.give_back(session, left, until=until, at=now + AFTER_FAILURE)
    return looked_at


def _set_apart_unknown(due: Sequence[Deposit]) -> list[Deposit]:
    """The deposits that can be judged. An asset may leave the registry with any number that were paid in it: what is
    known beforehand to fail must not pass for a fault of the node.
    """
    unknown = {deposit.id for deposit in due if _is_unknown(deposit)}
    for deposit_id in unknown:
        set_apart(deposit_id)
    return [deposit for deposit in due if deposit.id not in unknown]


def _is_unknown(deposit: Deposit) -> bool:
    """It has a transaction, to be judged by an asset that is not in the registry any more."""
    return deposit.chain_tx is not None and deposit.asset not in registry().assets


def _put_off_quiet(reader: ChainReader, over: Callable[[], bool]) -> int:
    """Those of which there is no news, together. What fails here fails or succeeds again for each by itself."""
    put_off = 0
    # Where most of a round has news, asking about it again for the sake of the rest would take all the time there is.
    for step, most in ((quiet.put_off_resting, 1), (quiet.put_off_unseen, quiet.UNSEEN_AT_ONCE // 2)):
        part = most
        try:
            while part >= most and not over():
                part = step(reader, now=clock.now())
                put_off += part
        except TransientError as error:
            log.warning("chain.unread", chain=reader.id, error=str(error))
            return put_off
    return put_off


def _read_what_can_be(
    reader: ChainReader, deposits: Sequence[Deposit], *, cursor: ChainCursor | None, over: Callable[[], bool]
) -> tuple[dict[UUID, Sight], set[UUID]]:
    """Sights of all that can be read, and those that can't be (a receipt that no node hands out): they must not cost
    the others theirs. Of neither are those that it took too long to come to. Raises if none can be read.
    """
    sights: dict[UUID, Sight] = {}
    unreadable: set[UUID] = set()
    # In any order: many bad ones that stand together would end every round before it came to a good one.
    parts, failures = [random.sample(deposits, len(deposits))], 0
    failure: Exception | None = None
    while parts:
        part = parts.pop()
        try:
            sights |= read(reader, part, cursor=cursor)
        except Exception as error:  # noqa: BLE001  # whatever it is, the others are read
            failures, failure = failures + 1, error
            asked_to_wait = isinstance(error, TransientError) and error.retry_after is not None
            if asked_to_wait or failures > READ_FAILURES_MAX or over():
                log.warning("chain.partly_unread", chain=reader.id, failures=failures, error=str(error))
                break
            if failures == 1:
                reader.head()  # raises if it is the node that is away
            if len(part) > 1:
                parts += [part[len(part) // 2 :], part[: len(part) // 2]]
            else:
                unreadable.add(part[0].id)
    if failure is not None and not sights and (len(deposits) > 1 or isinstance(failure, TransientError)):
        raise failure
    return sights, unreadable


def _is_quiet(deposit: Deposit, sights: Mapping[UUID, Sight], now: datetime) -> bool:
    """Nothing is to be written of it but when it is looked at again, and that is one statement for all such."""
    if deposit.id not in sights:
        return False
    try:
        return not has_news(deposit, sights[deposit.id], now=now)
    except Exception:  # noqa: BLE001  # recording it fails as well, by itself, and sets it apart
        return False


def _record_alone(deposit: Deposit, sight: Sight) -> None:
    """One bad row must not stop the others: it is handed to a job of its own, which a person will find."""
    try:
        with transaction() as session:
            record(session, deposit, sight, now=clock.now())
    except (LeaseLostError, OperationalError):
        raise  # not the row's fault
    except TransientError as error:
        log.warning("deposit.delayed", deposit_id=str(deposit.id), error=str(error))  # until its claim runs out
    except Exception:
        log.exception("deposit.unrecorded", deposit_id=str(deposit.id))
        set_apart(deposit.id)


def set_apart(deposit_id: UUID, *, gone: bool = False) -> None:
    """Give the deposit to a job of its own, whose dead letter a person will find. `gone`: its block is, so that it is
    not final, whatever was thought.
    """
    log.error("deposit.set_apart", deposit_id=str(deposit_id))
    with transaction() as session:
        row = queries.lock(session, deposit_id)
        if row is not None and gone:
            row.final_at = None
        if row is not None and row.final_at is None:
            row.next_poll_at = None
            jobs.submit(
                session,
                NewJob(
                    LOOK,
                    {"deposit_id": str(row.id)},
                    # Ours, and not its tenant's, who could cancel it: nothing else looks at the deposit now.
                    tenant=SYSTEM_TENANT,
                    subject=row.subject,
                    correlation_id=row.correlation_id,
                ),
            )


# --- reading -----------------------------------------------------------------------------------------------------


def read(reader: ChainReader, deposits: Sequence[Deposit], *, cursor: ChainCursor | None) -> dict[UUID, Sight]:
    """What the chain says of these deposits now, in a few round trips however many they are.

    `cursor` is the scan's, read before the chain is.

    What lies in a block stays true as long as the block is part of the chain, so a deposit in a block costs no more
    than its header. Raises TransientError if the node doesn't answer, or contradicts itself.
    """
    followed = [deposit for deposit in deposits if deposit.chain_tx is not None]
    scanned_until, next_block = (cursor.read_until, cursor.next_block) if cursor is not None else (None, None)
    sights = {deposit.id: Sight(read_until=scanned_until) for deposit in deposits}
    if not followed:
        return sights
    head = reader.head()
    sought = [deposit for deposit in followed if deposit.current in OPEN]
    txs = _txs(reader, sought)
    heights = {deposit.id: _height(deposit, txs) for deposit in followed}
    blocks = reader.blocks(sorted({head.latest.number, *(height for height in heights.values() if height is not None)}))
    vouched(reader, head, blocks)
    outrun = _outrun(reader, sought, txs, head)
    for deposit in followed:
        height = heights[deposit.id]
        sights[deposit.id] = Sight(
            head=head,
            chain_tx=txs.get(deposit.id),
            block=None if height is None else blocks.get(height),
            outrun=deposit.id in outrun,
            read_until=head.latest.time if deposit.by is Mode.TX else scanned_until,
            next_block=next_block,
        )
    return sights | _witnessed(reader, followed, sights)


def _txs(reader: ChainReader, sought: Sequence[Deposit]) -> dict[UUID, ChainTx]:
    """The transaction of each, as one endpoint tells it; where one has told what two deny, as two tell it alike."""
    trusting = {deposit.chain_tx for deposit in sought if deposit.chain_tx and deposit.disputed_at is None}
    disputed = {deposit.chain_tx for deposit in sought if deposit.chain_tx and deposit.disputed_at is not None}
    told = reader.chain_txs(list(trusting)) if trusting else {}
    agreed = agreement.ask(reader, disputed)
    txs: dict[UUID, ChainTx] = {}
    for deposit in sought:
        tx = (told if deposit.disputed_at is None else agreed)[deposit.chain_tx or ""]
        if isinstance(tx, ChainTx):
            txs[deposit.id] = tx
    return txs


def _witnessed(reader: ChainReader, followed: Sequence[Deposit], sights: Mapping[UUID, Sight]) -> dict[UUID, Sight]:
    """The sights of those that only a second endpoint keeps from being booked, with what it says."""
    asked = {
        deposit.id: deposit.chain_tx
        for deposit in followed
        if deposit.chain_tx is not None and verdicts.wants_witness(deposit, sights[deposit.id])
    }
    told = agreement.ask(reader, set(asked.values()))
    return {deposit_id: replace(sights[deposit_id], witness=told[chain_tx]) for deposit_id, chain_tx in asked.items()}


def _height(deposit: Deposit, txs: Mapping[UUID, ChainTx]) -> int | None:
    if deposit.current in OPEN:
        return txs[deposit.id].block_number if deposit.id in txs else None
    return deposit.block_number


def _outrun(reader: ChainReader, sought: Sequence[Deposit], txs: Mapping[UUID, ChainTx], head: Head) -> set[UUID]:
    """The deposits whose inputs another transaction has used, as deep in the chain as a credit would have to lie."""
    at: dict[int, dict[UUID, frozenset[str]]] = defaultdict(dict)
    for deposit in sought:
        if deposit.current is not DepositState.WATCHING or deposit.by is not Mode.TX or deposit.id not in txs:
            continue
        tx = txs[deposit.id]
        inputs = frozenset(tx.inputs or deposit.tx_inputs or ())
        depth = verdicts.needed(deposit)
        block = head.finalized if depth is None else head.latest.number - depth + 1
        if tx.block_hash is None and inputs and block is not None and block >= 0:
            at[block][deposit.id] = inputs
    found: set[UUID] = set()
    for block, those in at.items():
        try:
            spent = reader.spent(frozenset().union(*those.values()), block=block)
        except TransientError as error:
            # A node may have forgotten the state that far back. Such a deposit expires instead.
            log.warning("chain.inputs_unread", chain=reader.id, block=block, error=str(error))
            continue
        found |= {deposit_id for deposit_id, inputs in those.items() if inputs & spent}
    return found
