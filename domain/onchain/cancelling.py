"""What a person may do about a transfer: have it pay nobody, if that can still be had."""

from uuid import UUID

from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.jobs import NewJob
from domain.onchain import ending, queries
from domain.onchain.history import note
from domain.onchain.models import OnchainTransfer
from domain.onchain.provider import SEND
from domain.onchain.states import OPEN, TransferState
from providers.payout.base import Refusal

S = TransferState
REASON_LENGTH_MAX = 500


def cancel(session: Session, transfer_id: UUID, *, actor: str, reason: str) -> OnchainTransfer:
    """At once, if nobody was asked to sign it; else by a version that pays nobody, which competes with those that pay.

    Asking twice is once. Raises NotFoundError, InvalidRequestError (reason), and ConflictError once it is in a block.
    """
    why = reason.strip()
    if not why or len(why) > REASON_LENGTH_MAX:
        raise InvalidRequestError(f"a reason has 1 to {REASON_LENGTH_MAX} characters", field="reason")
    transfer = queries.lock(session, transfer_id)
    if transfer is None:
        raise NotFoundError(f"there is no transfer {transfer_id}")
    if transfer.current is S.CANCELLED or (transfer.cancel_asked_at is not None and transfer.current in OPEN):
        return transfer
    if transfer.current not in OPEN or transfer.current is S.MINED:
        raise ConflictError(f"the transfer {transfer_id} is {transfer.state}: it can't be cancelled any more")
    now = clock.now()
    note(session, transfer, "cancel_asked", now=now, actor=actor, reason=why)
    versions = queries.versions(session, transfer_id)
    if transfer.current is S.PLANNED and all(version.asks == 0 for version in versions):
        for version in versions:
            version.refused_at, version.refusal = now, "cancelled"
        ending.end(session, transfer, "cancel", failure=Refusal.PROVIDER, why="a person cancelled it", now=now)
        return transfer
    transfer.cancel_asked_at = now
    transfer.next_look_at = now
    jobs.submit(
        session,
        NewJob(SEND, {"transfer_id": str(transfer.id)}, tenant=transfer.tenant, subject=transfer.subject),
    )
    return transfer
