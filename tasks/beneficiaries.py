"""The destination book: whose an account is, and which banks there are."""

from uuid import UUID

from domain.beneficiary import service
from providers.payout.registry import providers
from tasks.base import task


@task("payout.verify_beneficiary")
def verify_beneficiary(beneficiary_id: UUID) -> None:
    """Ask a provider whose account it is. Safe to run any number of times."""
    service.verify(beneficiary_id, providers())


@task("payout.refresh_banks")
def refresh_banks() -> None:
    """Read the lists of banks anew."""
    service.refresh(providers())
