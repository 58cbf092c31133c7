"""Sending payouts, and asking what became of them. The destination book: tasks.beneficiaries."""

from uuid import UUID

from sqlalchemy.orm import Session

from domain.payout import service
from tasks.base import task
from tasks.onchain import providers


@task("payout.submit")
def submit(payout_id: UUID) -> None:
    """Send one approved payout. Safe to run any number of times: what is under way is not sent again."""
    service.submit(payout_id, providers())


@task("payout.look")
def look(payout_id: UUID, attempt_id: UUID | None = None) -> None:
    """Ask the provider about one payout now."""
    service.look(payout_id, providers(), attempt_id=attempt_id)


@task("payout.poll")
def poll(session: Session) -> None:
    """Ask for a look at each payout that is due, and for sending those that waited."""
    service.dispatch(session)


@task("payout.refresh_providers")
def refresh_providers() -> None:
    """Write down what this deployment's providers can do, and what we have there."""
    service.refresh_providers(providers())
