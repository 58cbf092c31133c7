"""Every SELECT of what the screening looks at."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from core.ids import first_id_at
from domain.payout.models import Payout, PayoutEvent, PayoutListing, PayoutRule
from domain.payout.rules import Past
from domain.payout.states import UNSENT, PayoutState

PAST_MAX = 1_000
"""Payouts that rules look back at, each way: what had more than this in their time is found by fewer."""


def of_account(session: Session, payout: Payout, *, since: datetime) -> Sequence[Past]:
    """Others of its account, newest first."""
    return _past(session, payout, since, Payout.account == payout.account)


def to_destination(session: Session, payout: Payout, *, since: datetime) -> Sequence[Past]:
    """Others of its tenant to where it goes, whatever account they are of; newest first."""
    return _past(session, payout, since, Payout.destination_fingerprint == payout.destination_fingerprint)


def _past(session: Session, payout: Payout, since: datetime, like: ColumnElement[bool]) -> Sequence[Past]:
    query = (
        select(
            Payout.account,
            Payout.destination_fingerprint,
            Payout.asset,
            Payout.units,
            Payout.value_cents,
            Payout.created_at,
        )
        .where(Payout.tenant == payout.tenant, like, Payout.id >= first_id_at(since), Payout.id != payout.id)
        .order_by(Payout.id.desc())
        .limit(PAST_MAX)
    )
    return [
        Past(account=row[0], destination=row[1], asset=row[2], units=row[3], value_cents=row[4], at=row[5])
        for row in session.execute(query)
    ]


def requests(
    session: Session, *, tenant: str, account: str, since: datetime, besides: UUID, limit: int
) -> Sequence[tuple[UUID, datetime]]:
    """The newest requests of an account since then, newest first: (payout or batch, when). A batch is one."""
    request = func.coalesce(Payout.batch_id, Payout.id)
    rows = session.execute(
        select(request, func.max(Payout.created_at))
        .where(
            Payout.tenant == tenant,
            Payout.account == account,
            Payout.id >= first_id_at(since),
            Payout.created_at > since,
            Payout.id != besides,
        )
        .group_by(request)
        .order_by(func.max(Payout.created_at).desc())
        .limit(limit + 1)
    )
    return [(row[0], row[1]) for row in rows]


def has_paid(session: Session, *, tenant: str, account: str) -> bool:
    """Whether anything of this account ever reached its destination."""
    found = select(Payout.id).where(
        Payout.tenant == tenant, Payout.account == account, Payout.state == PayoutState.PAID
    )
    return session.scalar(found.limit(1)) is not None


def count_paid(session: Session, *, tenant: str, most: int) -> int:
    """How many of the tenant were paid, counted up to `most`."""
    paid = select(Payout.id).where(Payout.tenant == tenant, Payout.state == PayoutState.PAID).limit(most).subquery()
    return session.scalar(select(func.count()).select_from(paid)) or 0


def unsent_to(session: Session, beneficiary_id: UUID) -> Sequence[UUID]:
    """Oldest first: those that still wait for something before they are sent."""
    return session.scalars(
        select(Payout.id)
        .where(Payout.beneficiary_id == beneficiary_id, Payout.state.in_(sorted(map(str, UNSENT))))
        .order_by(Payout.id)
    ).all()


def last_event(session: Session, payout_id: UUID, event: str) -> PayoutEvent | None:
    return session.scalars(
        select(PayoutEvent)
        .where(PayoutEvent.payout_id == payout_id, PayoutEvent.event == event)
        .order_by(PayoutEvent.id.desc())
        .limit(1)
    ).one_or_none()


# --- rules and lists -------------------------------------------------------------------------------------------------


def rules(session: Session, *, tenant: str | None, all_tenants: bool = False) -> Sequence[PayoutRule]:
    """Those of everybody and of this tenant, by name."""
    query = select(PayoutRule).order_by(PayoutRule.name, PayoutRule.id)
    if not all_tenants:
        query = query.where(or_(PayoutRule.tenant.is_(None), PayoutRule.tenant == tenant))
    return session.scalars(query).all()


def lock_rule(session: Session, *, tenant: str | None, name: str) -> PayoutRule | None:
    same = PayoutRule.tenant.is_(None) if tenant is None else PayoutRule.tenant == tenant
    return session.scalars(
        select(PayoutRule).where(same, PayoutRule.name == name).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()


def listed(session: Session, *, tenant: str, account: str, destination: str) -> Sequence[PayoutListing]:
    """What stands on a list now of an account and a destination: for everybody, or for this tenant."""
    return session.scalars(
        select(PayoutListing).where(
            PayoutListing.removed_at.is_(None),
            or_(PayoutListing.tenant.is_(None), PayoutListing.tenant == tenant),
            or_(
                (PayoutListing.scope == "account") & (PayoutListing.key == account),
                (PayoutListing.scope == "destination") & (PayoutListing.key == destination),
            ),
        )
    ).all()


def live_listing(session: Session, *, tenant: str | None, scope: str, key: str) -> PayoutListing | None:
    same = PayoutListing.tenant.is_(None) if tenant is None else PayoutListing.tenant == tenant
    return session.scalars(
        select(PayoutListing)
        .where(same, PayoutListing.scope == scope, PayoutListing.key == key, PayoutListing.removed_at.is_(None))
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()


def listings(session: Session, *, tenant: str | None, removed: bool, limit: int) -> Sequence[PayoutListing]:
    """Newest first. `tenant` None: all."""
    query = select(PayoutListing).order_by(PayoutListing.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(or_(PayoutListing.tenant.is_(None), PayoutListing.tenant == tenant))
    if not removed:
        query = query.where(PayoutListing.removed_at.is_(None))
    return session.scalars(query).all()
