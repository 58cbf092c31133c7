"""The history of a payment, and the only way its state changes."""

from datetime import datetime
from typing import Any

import structlog
from sqlalchemy.orm import Session

from domain.fiat_payment.models import FiatPayment, FiatPaymentEvent
from domain.fiat_payment.states import FIAT_PAYMENT

log = structlog.stdlib.get_logger(__name__)


def move(session: Session, payment: FiatPayment, event: str, *, now: datetime, **detail: Any) -> None:
    """The only way a payment's state changes."""
    before = payment.current
    payment.state = FIAT_PAYMENT.then(before, event)
    _keep(session, payment, event, now=now, before=before, detail=detail)
    log.info("fiat_payment.moved", payment_id=str(payment.id), payment_event=event, state=payment.state)


def note(session: Session, payment: FiatPayment, event: str, *, now: datetime, **detail: Any) -> None:
    """Something worth knowing that leaves the state as it is."""
    _keep(session, payment, event, now=now, before=payment.state, detail=detail)


def _keep(
    session: Session, payment: FiatPayment, event: str, *, now: datetime, before: str, detail: dict[str, Any]
) -> None:
    payment.updated_at = now
    session.add(
        FiatPaymentEvent(
            payment_id=payment.id, at=now, event=event, state_before=before, state_after=payment.state, detail=detail
        )
    )
