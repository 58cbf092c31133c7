"""Every SELECT and lock of payouts."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from domain.payout.models import Payout, PayoutEvent
from domain.payout.states import PayoutState


def get(session: Session, payout_id: UUID, *, tenant: str | None = None) -> Payout | None:
    payout = session.get(Payout, payout_id)
    return payout if payout is not None and tenant in (None, payout.tenant) else None


def lock(session: Session, payout_id: UUID, *, tenant: str | None = None) -> Payout | None:
    """The row, read anew, and nobody else's until the transaction ends."""
    payout = session.scalars(
        select(Payout).where(Payout.id == payout_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return payout if payout is not None and tenant in (None, payout.tenant) else None


def page(
    session: Session,
    *,
    tenant: str | None = None,
    states: Collection[PayoutState] = (),
    account: str | None = None,
    beneficiary_id: UUID | None = None,
    batch_id: UUID | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[Payout]:
    """Newest first. `states` empty: all. `before`: the id of the last of the page before."""
    query = select(Payout).order_by(Payout.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(Payout.tenant == tenant)
    if states:
        query = query.where(Payout.state.in_([str(state) for state in states]))
    if account is not None:
        query = query.where(Payout.account == account)
    if beneficiary_id is not None:
        query = query.where(Payout.beneficiary_id == beneficiary_id)
    if batch_id is not None:
        query = query.where(Payout.batch_id == batch_id)
    if before is not None:
        query = query.where(Payout.id < before)
    return session.scalars(query).all()


def history(session: Session, payout_id: UUID) -> Sequence[PayoutEvent]:
    """Oldest first."""
    return session.scalars(select(PayoutEvent).where(PayoutEvent.payout_id == payout_id).order_by(PayoutEvent.id)).all()
