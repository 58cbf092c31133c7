"""The history of a transfer, and the only way its state changes."""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from domain.onchain.models import OnchainEvent, OnchainTransfer
from domain.onchain.states import FAILED, TRANSFER, TransferState

log = structlog.stdlib.get_logger(__name__)

ACTOR = "onchain"
"""How the history names us."""
ENDS = FAILED | {TransferState.CONFIRMED}


def move(
    session: Session,
    transfer: OnchainTransfer,
    event: str,
    *,
    now: datetime,
    actor: str = ACTOR,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """The only way a transfer's state changes. Whoever calls has its row locked."""
    before = transfer.state
    transfer.state = TRANSFER.then(transfer.current, event)
    transfer.ended_at = now if transfer.current in ENDS else None
    transfer.looks = 0
    _keep(session, transfer, event, now=now, before=before, actor=actor, reason=reason, detail=detail)
    log.info("onchain.moved", transfer_id=str(transfer.id), transfer_event=event, state=transfer.state)


def note(
    session: Session,
    transfer: OnchainTransfer,
    event: str,
    *,
    now: datetime,
    actor: str = ACTOR,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """Something worth knowing that leaves the state as it is."""
    _keep(session, transfer, event, now=now, before=transfer.state, actor=actor, reason=reason, detail=detail)


def _keep(
    session: Session,
    transfer: OnchainTransfer,
    event: str,
    *,
    now: datetime,
    before: str,
    actor: str,
    reason: str | None,
    detail: dict[str, Any],
) -> None:
    transfer.updated_at = now
    session.add(
        OnchainEvent(
            transfer_id=transfer.id,
            at=now,
            event=event,
            state_before=before,
            state_after=transfer.state,
            actor=actor,
            reason=reason,
            detail=detail,
        )
    )
    session.flush()  # the history's numbers are its order
