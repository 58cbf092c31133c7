"""The history of an entry, and the only way its state changes."""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from core import jobs
from core.jobs import NewJob
from domain.beneficiary.models import Beneficiary, BeneficiaryEvent
from domain.beneficiary.states import BENEFICIARY

FOLLOW = "payout.follow_beneficiary"
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


def tell_payouts(session: Session, row: Beneficiary) -> None:
    """Have payouts that wait for this entry go on, or end. Whoever takes it for one waits for what is decided now."""
    jobs.submit(session, NewJob(FOLLOW, {"beneficiary_id": str(row.id)}, tenant=row.tenant, subject=row.subject))


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
