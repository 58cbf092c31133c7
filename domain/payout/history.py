"""The history of a payout, and the only way its state changes."""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from domain.payout.models import Payout, PayoutEvent
from domain.payout.states import PAYOUT, PayoutState

log = structlog.stdlib.get_logger(__name__)

ACTOR = "payout"
"""How the history names us."""
ENDS = frozenset(
    {PayoutState.PAID, PayoutState.FAILED, PayoutState.RETURNED, PayoutState.REJECTED, PayoutState.CANCELLED}
)


def move(
    session: Session,
    payout: Payout,
    event: str,
    *,
    now: datetime,
    actor: str,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """The only way a payout's state changes. Whoever calls has its row locked, or has just made it."""
    before = payout.current
    payout.state = PAYOUT.then(before, event)
    payout.ended_at = now if payout.current in ENDS else None
    _keep(session, payout, event, now=now, before=before, actor=actor, reason=reason, detail=detail)
    log.info("payout.moved", payout_id=str(payout.id), payout_event=event, state=payout.state)


def note(
    session: Session,
    payout: Payout,
    event: str,
    *,
    now: datetime,
    actor: str,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """Something worth knowing that leaves the state as it is. Nothing of the destination belongs in it."""
    _keep(session, payout, event, now=now, before=payout.state, actor=actor, reason=reason, detail=detail)


def _keep(
    session: Session,
    payout: Payout,
    event: str,
    *,
    now: datetime,
    before: str,
    actor: str,
    reason: str | None,
    detail: dict[str, Any],
) -> None:
    payout.updated_at = now
    session.add(
        PayoutEvent(
            payout_id=payout.id,
            at=now,
            event=event,
            state_before=before,
            state_after=payout.state,
            actor=actor,
            reason=reason,
            detail=detail,
        )
    )
    # Written in the order in which it was said: the history's numbers are its order.
    session.flush()
