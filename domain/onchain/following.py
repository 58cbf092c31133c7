"""Moving transfers forward, each step in a transaction of its own and every call outside of them.

What a crash leaves is a row that says how far it came; the next run takes it up there. Two runs at once are harmless.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from chains.base import ChainReader
from chains.sending import ChainSender
from chains.signing import Signer
from core import clock
from core.errors import PermanentError, TransientError
from core.jobs import LeaseLostError, transaction
from domain.onchain import ending, looking, pace, planning, queries, sending, signing
from domain.onchain.settings import onchain as settings
from domain.onchain.states import WAITING, TransferState

log = structlog.stdlib.get_logger(__name__)

S = TransferState
TRIES = 3
"""At what others of the same wallet want at the same moment. Then it is left to the next round."""


@dataclass(frozen=True, slots=True)
class Parts:
    """All that is outside."""

    sender: ChainSender
    reader: ChainReader
    signer: Signer


def chain_of(transfer_id: UUID) -> str:
    """Raises PermanentError if there is no such transfer."""
    with transaction() as session:
        transfer = queries.get(session, transfer_id)
    if transfer is None:
        raise PermanentError(f"there is no transfer {transfer_id}")
    return transfer.chain


def send(transfer_id: UUID, parts: Parts) -> None:
    """Move one forward now: take, sign, broadcast. What it can't do now is left to the rounds."""
    _by_itself(transfer_id, lambda: push(transfer_id, parts))


def due(session: Session, now: datetime) -> set[str]:
    """Chains of which transfers are due."""
    return queries.due_chains(session, now)


def follow(chain: str, parts: Parts) -> int:
    """One round over the transfers that are due. Returns how many there were."""
    ends = time.monotonic() + settings().budget.total_seconds()
    now = clock.now()
    with transaction() as session:
        ids = queries.claim_due(session, chain, now=now, until=now + pace.CLAIM, limit=settings().follow_limit)
    left = list(ids)
    seen = _look(ids, parts, over=lambda: time.monotonic() >= ends)
    while left and time.monotonic() < ends:
        transfer_id = left.pop(0)
        if transfer_id in seen:
            is_seen = seen[transfer_id]
            _by_itself(transfer_id, lambda at=transfer_id, known=is_seen: push(at, parts, is_seen=known))  # type: ignore[misc]
    for transfer_id in left:
        with transaction() as session:
            transfer = queries.lock(session, transfer_id)
            if transfer is not None and transfer.next_look_at is not None:
                transfer.next_look_at = clock.now()
    return len(ids)


def _look(ids: Collection[UUID], parts: Parts, *, over: Callable[[], bool]) -> dict[UUID, bool]:
    """All that can be looked at, together or, if one of them is bad, each by itself. Those that can't be are absent."""
    seen = dict.fromkeys(ids, False)
    if not ids:
        return seen
    try:
        return seen | looking.look(ids, parts.reader, parts.sender)
    except (LeaseLostError, OperationalError):
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, the others are looked at
        log.warning("chain.unread", chain=parts.reader.id, error=str(error))
    for transfer_id in ids:
        found: dict[UUID, bool] = {}
        if over() or not _by_itself(
            transfer_id,
            lambda at=transfer_id, into=found: into.update(looking.look([at], parts.reader, parts.sender)),  # type: ignore[misc]
        ):
            del seen[transfer_id]
        else:
            seen |= found
    return seen


def push(transfer_id: UUID, parts: Parts, *, is_seen: bool = False) -> None:
    """As far as it goes without looking at the chain. Raises what the outside raises."""
    with transaction() as session:
        transfer = queries.get(session, transfer_id)
        if transfer is None or transfer.final_at is not None or transfer.current not in WAITING | {S.PLANNED}:
            return
        is_planned = transfer.current is S.PLANNED
    if is_planned:
        _plan(transfer_id, parts)
    is_new = signing.sign(transfer_id, parts.signer)
    if not is_planned and not is_new and planning.outbid(transfer_id, parts.sender):
        is_new = signing.sign(transfer_id, parts.signer)
    sending.broadcast(transfer_id, parts.sender, is_seen=is_seen and not is_new)
    if not is_planned:
        return  # its look has said when the next is due
    with transaction() as session:
        transfer = queries.lock(session, transfer_id)
        if transfer is not None and transfer.current in WAITING | {S.PLANNED}:
            transfer.looks += 1
            transfer.next_look_at = pace.next_look(transfer, now=clock.now())


def _plan(transfer_id: UUID, parts: Parts) -> None:
    """The first version, if nobody else of the wallet is in between. What a dead run left unsigned is signed first."""
    for _ in range(TRIES):
        if planning.plan(transfer_id, parts.sender):
            return
        with transaction() as session:
            transfer = queries.get(session, transfer_id)
            if transfer is None or transfer.current is not S.PLANNED:
                return
            version = queries.unsigned(session, transfer.chain, transfer.wallet)
            if version is not None and version.transfer_id == transfer_id:
                return
            now = clock.now()
            if version is not None and version.asked_at is not None and now < version.asked_at + settings().sign_within:
                return  # it is being signed
        if version is not None:
            signing.sign(version.transfer_id, parts.signer)


def _by_itself(transfer_id: UUID, step: Callable[[], object]) -> bool:
    """One that can't go on must not keep others from it. False: it couldn't."""
    try:
        step()
    except (LeaseLostError, OperationalError):
        raise  # not its fault
    except TransientError as error:
        log.warning("onchain.delayed", transfer_id=str(transfer_id), error=str(error))
        _later(transfer_id)
        return False
    except Exception as error:
        log.exception("onchain.failing", transfer_id=str(transfer_id))
        _later(transfer_id, failed=error)
        return False
    return True


def _later(transfer_id: UUID, *, failed: Exception | None = None) -> None:
    with transaction() as session:
        transfer = queries.lock(session, transfer_id)
        if transfer is None or transfer.final_at is not None:
            return
        transfer.looks += 1
        transfer.next_look_at = pace.after_failure(transfer, now=clock.now())
        if failed is not None:
            found = f"{type(failed).__name__}: {failed}"[: ending.WHY_LENGTH_MAX]
            ending.difference(session, transfer, ending.FAILING, expected="goes on", found=found)
