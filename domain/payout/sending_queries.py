"""Every SELECT and lock of sending: attempts, what is due, providers, resolutions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from domain.payout.models import Payout, PayoutAttempt, PayoutProviderRow, PayoutResolution
from domain.payout.states import OPEN, UNSETTLED_ATTEMPTS, AttemptState


def attempts(session: Session, payout_id: UUID) -> Sequence[PayoutAttempt]:
    """Oldest first, read anew. Its payout's lock is theirs, too."""
    return session.scalars(
        select(PayoutAttempt).where(PayoutAttempt.payout_id == payout_id).order_by(PayoutAttempt.number),
        execution_options={"populate_existing": True},
    ).all()


def unsettled(attempts: Sequence[PayoutAttempt]) -> PayoutAttempt | None:
    """The one that there may be a payout of; the database holds that there is one at most."""
    return next((each for each in attempts if each.current in UNSETTLED_ATTEMPTS), None)


def is_there_after_all(attempt: PayoutAttempt) -> bool:
    """Whether its provider has named one of it though it was proven over, and hasn't said since that it failed.

    It isn't open, as another was when it was told of.
    """
    over = (AttemptState.REJECTED, AttemptState.NOT_SENT, AttemptState.ABSENT)
    return attempt.provider_ref is not None and attempt.current in over


def there(attempts: Sequence[PayoutAttempt]) -> PayoutAttempt | None:
    """What keeps another from being made, and the payout from being given up: one that is open, or there after all."""
    return unsettled(attempts) or next((each for each in attempts if is_there_after_all(each)), None)


def payout_of(session: Session, attempt_id: UUID) -> UUID | None:
    return session.scalars(select(PayoutAttempt.payout_id).where(PayoutAttempt.id == attempt_id)).one_or_none()


def is_taken(session: Session, attempt: PayoutAttempt, provider_ref: str) -> bool:
    """Whether another attempt has the provider's name for this one."""
    return bool(
        session.scalar(
            select(
                exists().where(
                    PayoutAttempt.provider == attempt.provider,
                    PayoutAttempt.provider_ref == provider_ref,
                    PayoutAttempt.id != attempt.id,
                )
            )
        )
    )


def told(
    session: Session, *, provider: str, reference: str | None, provider_ref: str | None
) -> tuple[UUID, UUID] | None:
    """The payout and the attempt that a provider speaks of: by our reference or, without one, by theirs."""
    query = select(PayoutAttempt.payout_id, PayoutAttempt.id).where(PayoutAttempt.provider == provider)
    if reference is not None:
        try:
            query = query.where(PayoutAttempt.id == UUID(reference))
        except ValueError:
            return None  # none of our references looks like that
    elif provider_ref is not None:
        query = query.where(PayoutAttempt.provider_ref == provider_ref)
    else:
        return None
    row = session.execute(query).one_or_none()
    return None if row is None else (row.payout_id, row.id)


def lock_due(session: Session, *, now: datetime, limit: int) -> Sequence[Payout]:
    """The longest due first. Those that somebody works on are left for the next round."""
    return session.scalars(
        select(Payout)
        .where(Payout.next_look_at <= now)
        .order_by(Payout.next_look_at, Payout.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def is_due(session: Session, now: datetime) -> bool:
    return bool(session.scalar(select(exists().where(Payout.next_look_at <= now))))


def providers(session: Session) -> Sequence[PayoutProviderRow]:
    return session.scalars(
        select(PayoutProviderRow).order_by(PayoutProviderRow.name), execution_options={"populate_existing": True}
    ).all()


def open_resolution(session: Session, payout_id: UUID) -> PayoutResolution | None:
    return session.scalars(
        select(PayoutResolution).where(PayoutResolution.payout_id == payout_id, PayoutResolution.closed_at.is_(None))
    ).one_or_none()


def resolutions(session: Session, payout_id: UUID) -> Sequence[PayoutResolution]:
    """Oldest first."""
    return session.scalars(
        select(PayoutResolution).where(PayoutResolution.payout_id == payout_id).order_by(PayoutResolution.id)
    ).all()


# --- figures -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figures:
    by_state: Mapping[str, int]
    """Of those that may still leave."""
    unknown_since: datetime | None
    """Since when nobody knows of the oldest."""
    submitted_since: datetime | None
    """When the oldest that a provider has was first sent."""
    waiting: Mapping[str, tuple[int, datetime]]
    """What approved ones wait for -> how many, and since when."""
    providers: Sequence[PayoutProviderRow]


def figures(session: Session) -> Figures:
    """For metrics: each part reads a partial index, never the history."""
    counted = session.execute(
        select(Payout.state, func.count()).where(Payout.state.in_([str(each) for each in OPEN])).group_by(Payout.state)
    )
    counts = {state: count for state, count in counted}  # noqa: C416  # a Row is no pair to mypy
    waiting = session.execute(
        select(Payout.waits_for, func.count(), func.min(Payout.waits_since))
        .where(Payout.state == "approved", Payout.waits_for.is_not(None))
        .group_by(Payout.waits_for)
    )
    return Figures(
        by_state={str(state): counts.get(str(state), 0) for state in sorted(OPEN)},
        unknown_since=session.scalar(select(func.min(Payout.unknown_since)).where(Payout.unknown_since.is_not(None))),
        submitted_since=session.scalar(select(func.min(Payout.submitted_at)).where(Payout.state == "submitted")),
        waiting={str(reason): (count, since) for reason, count, since in waiting if since is not None},
        providers=providers(session),
    )
