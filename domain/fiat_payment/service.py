"""Payments by card, bank and wallet: what other parts of the platform may ask for. The steps are beside this module."""

from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from domain.fiat_payment import queries
from domain.fiat_payment.holding import let_through
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.recording import record, settle
from domain.fiat_payment.states import Source

__all__ = ["FiatPayment", "Source", "find_payment", "record", "release"]


def find_payment(
    session: Session, *, provider: str, reference: str | None, provider_ref: str | None
) -> FiatPayment | None:
    """The payment whose order at this provider that is, by our reference or by theirs. None: nobody knows it yet."""
    return queries.find(session, provider=provider, reference=_uuid(reference), provider_ref=provider_ref)


def _uuid(reference: str | None) -> UUID | None:
    try:
        return None if reference is None else UUID(reference)
    except ValueError:
        return None  # not one of ours


def release(session: Session, payment_id: UUID, *, actor: str, reason: str, at_moment: bool = False) -> FiatPayment:
    """Credit a held payment as it was paid, because a person decided so.

    Raises NotFoundError, and ConflictError if it isn't held.
    """
    payment = let_through(session, payment_id, actor=actor, reason=reason, at_moment=at_moment)
    settle(session, payment, now=clock.now())
    return payment
