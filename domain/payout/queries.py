"""Every SELECT and lock of payouts."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from domain.payout.models import Payout, PayoutApproval, PayoutEvent, PayoutProviderRow
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


# --- what people say of it -------------------------------------------------------------------------------------------


def approvals(session: Session, payout_id: UUID, *, revision: int | None = None) -> Sequence[PayoutApproval]:
    """Oldest first; of all revisions, or of one."""
    query = select(PayoutApproval).where(PayoutApproval.payout_id == payout_id).order_by(PayoutApproval.id)
    return session.scalars(query if revision is None else query.where(PayoutApproval.revision == revision)).all()


def editors(session: Session, payout_id: UUID) -> set[str]:
    """Who ever edited it."""
    query = select(PayoutEvent.actor).where(PayoutEvent.payout_id == payout_id, PayoutEvent.event == "edit")
    return set(session.scalars(query))


def waiting(session: Session, *, tenant: str | None = None, limit: int = 50) -> Sequence[Payout]:
    """What waits for people, the one whose time is over first before the others."""
    query = select(Payout).where(Payout.state == PayoutState.AWAITING_APPROVAL)
    if tenant is not None:
        query = query.where(Payout.tenant == tenant)
    return session.scalars(query.order_by(Payout.approve_until, Payout.id).limit(limit)).all()


def expired(session: Session, *, now: datetime, limit: int) -> Sequence[UUID]:
    """Those that nobody approved in time, the longest overdue first."""
    return session.scalars(
        select(Payout.id)
        .where(Payout.state == PayoutState.AWAITING_APPROVAL, Payout.approve_until <= now)
        .order_by(Payout.approve_until)
        .limit(limit)
    ).all()


def shown_by(session: Session, tenant: str, reference: str) -> UUID | None:
    """The payout that a bank's reference shows to have been paid by hand."""
    return session.scalars(
        select(Payout.id).where(
            Payout.tenant == tenant, Payout.by_hand, Payout.evidence["reference"].astext == reference
        )
    ).one_or_none()


def lock_provider(session: Session, name: str) -> PayoutProviderRow | None:
    return session.scalars(
        select(PayoutProviderRow).where(PayoutProviderRow.name == name).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
