"""Every SELECT and lock of the destination book."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from domain.beneficiary.models import BankList, Beneficiary, BeneficiaryEvent
from domain.beneficiary.states import BeneficiaryState


def get(session: Session, beneficiary_id: UUID, *, tenant: str | None = None) -> Beneficiary | None:
    row = session.get(Beneficiary, beneficiary_id)
    return row if row is not None and tenant in (None, row.tenant) else None


def lock(
    session: Session, beneficiary_id: UUID, *, tenant: str | None = None, share: bool = False
) -> Beneficiary | None:
    """`share`: others may read it alike, and whoever would change it waits."""
    row = session.scalars(
        select(Beneficiary).where(Beneficiary.id == beneficiary_id).with_for_update(read=share),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return row if row is not None and tenant in (None, row.tenant) else None


def live(session: Session, *, tenant: str, account: str, fingerprint: str) -> Beneficiary | None:
    """The entry of that destination in that book, unless it was removed."""
    return session.scalars(
        select(Beneficiary).where(
            Beneficiary.tenant == tenant,
            Beneficiary.account == account,
            Beneficiary.fingerprint == fingerprint,
            Beneficiary.removed_at.is_(None),
        )
    ).one_or_none()


def failure_before(session: Session, *, tenant: str, account: str, fingerprint: str) -> str | None:
    """Why that destination's last entry in that book stood refused when it was removed. None: it didn't."""
    return session.scalars(
        select(Beneficiary.failure)
        .where(
            Beneficiary.tenant == tenant,
            Beneficiary.account == account,
            Beneficiary.fingerprint == fingerprint,
            Beneficiary.removed_at.is_not(None),
        )
        .order_by(Beneficiary.removed_at.desc(), Beneficiary.id.desc())
        .limit(1)
    ).one_or_none()


def page(
    session: Session,
    *,
    tenant: str | None,
    account: str | None,
    state: BeneficiaryState | None,
    before: UUID | None,
    limit: int,
) -> Sequence[Beneficiary]:
    query = select(Beneficiary).order_by(Beneficiary.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(Beneficiary.tenant == tenant)
    if account is not None:
        query = query.where(Beneficiary.account == account)
    query = query.where(Beneficiary.removed_at.is_(None) if state is None else Beneficiary.state == state)
    if before is not None:
        query = query.where(Beneficiary.id < before)
    return session.scalars(query).all()


def history(session: Session, beneficiary_id: UUID) -> Sequence[BeneficiaryEvent]:
    """Oldest first."""
    return session.scalars(
        select(BeneficiaryEvent).where(BeneficiaryEvent.beneficiary_id == beneficiary_id).order_by(BeneficiaryEvent.id)
    ).all()


def bank_lists(session: Session, kind: str) -> Sequence[BankList]:
    return session.scalars(select(BankList).where(BankList.kind == kind).order_by(BankList.provider)).all()


# --- keys ------------------------------------------------------------------------------------------------------------


def count_by_key(session: Session) -> dict[str, int]:
    rows = session.execute(
        select(Beneficiary.sealed_by, func.count())
        .where(Beneficiary.removed_at.is_(None))
        .group_by(Beneficiary.sealed_by)
    )
    return {row[0]: row[1] for row in rows}


def lock_sealed_otherwise(session: Session, by: str, *, after: UUID | None, limit: int) -> Sequence[Beneficiary]:
    """Sealed by another key than this, oldest first. Rows another run holds are skipped, not waited for."""
    query = select(Beneficiary).where(Beneficiary.sealed_by != by, Beneficiary.removed_at.is_(None))
    if after is not None:
        query = query.where(Beneficiary.id > after)
    return session.scalars(query.order_by(Beneficiary.id).limit(limit).with_for_update(skip_locked=True)).all()
