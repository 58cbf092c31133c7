"""The history of a deposit, and the only way its state changes."""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from domain.deposit import queries
from domain.deposit.models import Deposit, DepositEvent
from domain.deposit.states import DEPOSIT, DepositState, Wait

log = structlog.stdlib.get_logger(__name__)

WAITS = {Wait.AGREEMENT: "disagreed", Wait.SECOND_NODE: "no_second_node", Wait.RATE: "unpriced"}
"""The event that says what a deposit waits for."""


def move(session: Session, deposit: Deposit, event: str, *, now: datetime, **detail: Any) -> None:
    """The only way a deposit's state changes."""
    before = deposit.current
    deposit.state = DEPOSIT.then(before, event)
    deposit.updated_at = now
    if deposit.current is not DepositState.PENDING:
        deposit.waits_for = deposit.waits_since = None
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


def wait(session: Session, deposit: Deposit, what: Wait, *, now: datetime, **detail: Any) -> None:
    """It is not booked for want of this. A line of its history says so, once an incarnation however often we look."""
    if deposit.waiting_for is what:
        return
    deposit.waits_for, deposit.waits_since = what, deposit.waits_since or now
    deposit.updated_at = now
    event = WAITS[what]
    if not queries.has_event(session, deposit.id, event, since=deposit.reorged_at or deposit.created_at):
        note(session, deposit, event, now=now, **detail)
    log.warning("deposit.waits", deposit_id=str(deposit.id), chain=deposit.chain, waits_for=what)
