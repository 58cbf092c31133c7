"""Every SELECT and lock of seeds and draws."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from domain.fairness.models import FairnessDraw, FairnessSeed
from domain.fairness.states import SeedState

_ONE_CHANGES = text("SELECT pg_advisory_xact_lock(hashtextextended('fairness_seeds ' || :tenant || ' ' || :owner, 0))")


def lock_owner(session: Session, tenant: str, owner: str) -> None:
    """Whoever gives an owner another seed waits here for others that do. Draws don't pass by here.

    A lock of rows would not do: who waits for a row sees what became of it, but not the row that took its place.
    """
    session.execute(_ONE_CHANGES, {"tenant": tenant, "owner": owner})


def live(session: Session, tenant: str, owner: str, *, lock: bool = False) -> dict[SeedState, FairnessSeed]:
    """The owner's committed and active seed, as far as there are any."""
    query = select(FairnessSeed).where(
        FairnessSeed.tenant == tenant, FairnessSeed.owner == owner, FairnessSeed.state != SeedState.REVEALED
    )
    if lock:
        # Draws hold the active one: what they took is seen here, or they wait and find another.
        query = query.order_by(FairnessSeed.id).with_for_update().execution_options(populate_existing=True)
    return {row.current: row for row in session.scalars(query)}


def take_nonces(session: Session, tenant: str, owner: str, count: int) -> FairnessSeed | None:
    """Move the active seed's next nonce on, in one statement. None if the owner has no active seed."""
    of_owner = (FairnessSeed.tenant == tenant, FairnessSeed.owner == owner, FairnessSeed.state == SeedState.ACTIVE)
    taken = (
        update(FairnessSeed)
        .where(*of_owner)
        .values(next_nonce=FairnessSeed.next_nonce + count)
        .returning(FairnessSeed)
        .execution_options(populate_existing=True)
    )
    while True:
        seed = session.scalars(taken).one_or_none()
        # Who waited while the seed was rotated finds it revealed, and doesn't see the new one: that takes a statement
        # that began later.
        if seed is not None or session.scalar(select(FairnessSeed.id).where(*of_owner)) is None:
            return seed


def seed(session: Session, tenant: str, seed_id: UUID) -> FairnessSeed | None:
    return session.scalars(
        select(FairnessSeed).where(FairnessSeed.tenant == tenant, FairnessSeed.id == seed_id)
    ).one_or_none()


def seeds(
    session: Session,
    *,
    tenant: str | None,
    owner: str | None,
    state: SeedState | None,
    before: UUID | None,
    limit: int,
) -> Sequence[FairnessSeed]:
    """Newest first."""
    query = select(FairnessSeed).order_by(FairnessSeed.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(FairnessSeed.tenant == tenant)
    if owner is not None:
        query = query.where(FairnessSeed.owner == owner)
    if state is not None:
        query = query.where(FairnessSeed.state == state)
    if before is not None:
        query = query.where(FairnessSeed.id < before)
    return session.scalars(query).all()


def lock_sealed_otherwise(session: Session, by: str, *, after: UUID | None, limit: int) -> Sequence[FairnessSeed]:
    """Seeds that another key sealed, oldest first."""
    query = select(FairnessSeed).where(FairnessSeed.sealed_by != by)
    if after is not None:
        query = query.where(FairnessSeed.id > after)
    return session.scalars(query.order_by(FairnessSeed.id).limit(limit).with_for_update()).all()


def count_sealed_otherwise(session: Session, by: str) -> int:
    query = select(func.count()).select_from(FairnessSeed).where(FairnessSeed.sealed_by != by)
    return int(session.scalar(query) or 0)


def draw(session: Session, tenant: str, draw_id: UUID) -> FairnessDraw | None:
    return session.scalars(
        select(FairnessDraw).where(FairnessDraw.tenant == tenant, FairnessDraw.id == draw_id)
    ).one_or_none()


def draws(session: Session, tenant: str, seed_id: UUID, *, before: UUID | None, limit: int) -> Sequence[FairnessDraw]:
    """Highest nonces first: draws are numbered by their seed, and not by when their ids were made."""
    query = select(FairnessDraw).where(FairnessDraw.tenant == tenant, FairnessDraw.seed_id == seed_id)
    if before is not None:
        last = select(FairnessDraw.first_nonce).where(FairnessDraw.id == before, FairnessDraw.seed_id == seed_id)
        query = query.where(FairnessDraw.first_nonce < last.scalar_subquery())
    return session.scalars(query.order_by(FairnessDraw.first_nonce.desc()).limit(limit)).all()
