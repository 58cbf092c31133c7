"""The destination book: whose an account is, and which banks there are."""

from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core.errors import ConflictError, NotFoundError
from domain.beneficiary import service
from providers.payout.registry import providers
from tasks.base import task

log = structlog.stdlib.get_logger(__name__)

BY_PROVIDER = "refused_by_provider"


@task("payout.verify_beneficiary")
def verify_beneficiary(beneficiary_id: UUID) -> None:
    """Ask a provider whose account it is. Safe to run any number of times."""
    service.verify(beneficiary_id, providers())


@task("payout.refuse_beneficiary")
def refuse_beneficiary(session: Session, beneficiary_id: UUID, provider: str, why: str | None = None) -> None:
    """Pay there no more: a provider has learned that nobody can. One that was removed or refused meanwhile stays so."""
    reason = f"a payout to it was refused: {why or 'without a code'}"
    try:
        service.refuse(session, beneficiary_id, actor=f"provider:{provider}", reason=reason, failure=BY_PROVIDER)
    except (NotFoundError, ConflictError) as error:
        log.info("beneficiary.not_refused", beneficiary_id=str(beneficiary_id), why=str(error))


@task("payout.refresh_banks")
def refresh_banks() -> None:
    """Read the lists of banks anew."""
    service.refresh(providers())
