"""The history of an entry, and the only way its state changes."""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from domain.beneficiary.models import Beneficiary, BeneficiaryEvent
from domain.beneficiary.states import BENEFICIARY

log = structlog.stdlib.get_logger(__name__)


def move(
    session: Session,
    row: Beneficiary,
    event: str,
    *,
    now: datetime,
    actor: str,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """The only way a state changes."""
    row.state = BENEFICIARY.then(row.current, event)
    note(session, row, event, now=now, actor=actor, reason=reason, **detail)
    log.info("beneficiary.moved", beneficiary_id=str(row.id), beneficiary_event=event, state=row.state)


def note(
    session: Session,
    row: Beneficiary,
    event: str,
    *,
    now: datetime,
    actor: str,
    reason: str | None = None,
    **detail: Any,
) -> None:
    """Something worth knowing that leaves the state as it is. Nothing of the destination belongs in it."""
    row.updated_at = now
    session.add(
        BeneficiaryEvent(
            beneficiary_id=row.id, at=now, event=event, state_after=row.state, actor=actor, reason=reason, detail=detail
        )
    )
