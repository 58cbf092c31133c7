"""Every SELECT and lock of payments by card, bank and wallet."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, or_, select, tuple_
from sqlalchemy.orm import Session

from core.breaks import OPEN, Break
from domain.fiat_payment.models import (
    FiatAttempt,
    FiatGateway,
    FiatPayment,
    FiatPaymentEvent,
    FiatRefund,
    FiatSettlementLine,
)
from domain.fiat_payment.states import OPEN_REFUNDS, AttemptState, PaymentState, RefundState


def get(session: Session, payment_id: UUID, *, tenant: str | None = None) -> FiatPayment | None:
    payment = session.get(FiatPayment, payment_id)
    return payment if payment is not None and tenant in (None, payment.tenant) else None


def lock(session: Session, payment_id: UUID) -> FiatPayment | None:
    return session.scalars(
        select(FiatPayment).where(FiatPayment.id == payment_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()


def find(session: Session, *, provider: str, reference: UUID | None, provider_ref: str | None) -> FiatPayment | None:
    """By our reference, else by the provider's. Also if the payment has left this provider for another meanwhile."""
    of_provider = select(FiatPayment).where(FiatPayment.provider == provider)
    was_asked = FiatPayment.id == FiatAttempt.payment_id, FiatAttempt.provider == provider
    if reference is not None:
        for query in (
            of_provider.where(FiatPayment.id == reference),
            of_provider.where(FiatPayment.duplicate_of == reference),
            select(FiatPayment).where(*was_asked, FiatPayment.id == reference).limit(1),
        ):
            found = session.scalars(query).one_or_none()
            if found is not None:
                return found
    if provider_ref is None:
        return None
    found = session.scalars(of_provider.where(FiatPayment.provider_ref == provider_ref)).one_or_none()
    if found is not None:
        return found
    left = select(FiatPayment).where(*was_asked, FiatAttempt.provider_ref == provider_ref)
    return session.scalars(left.limit(1)).one_or_none()


def lock_second(session: Session, payment_id: UUID, *, provider: str) -> FiatPayment | None:
    """What this provider took of a payment that another one took too."""
    return session.scalars(
        select(FiatPayment)
        .where(FiatPayment.duplicate_of == payment_id, FiatPayment.provider == provider)
        .with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()


def left(session: Session, payment: FiatPayment) -> Mapping[str, str | None]:
    """Providers that were asked for its order, and that neither it nor a second payment is at; and their references."""
    seconds = select(FiatPayment.provider).where(FiatPayment.duplicate_of == payment.id)
    rows = session.execute(
        select(FiatAttempt.provider, func.max(FiatAttempt.provider_ref))
        .where(
            FiatAttempt.payment_id == payment.id,
            FiatAttempt.provider != payment.provider,
            FiatAttempt.provider.not_in(seconds),
        )
        .group_by(FiatAttempt.provider)
    )
    return {row[0]: row[1] for row in rows}


def now(session: Session) -> datetime:
    """By PostgreSQL's clock, which all processes share: for what is compared with what another process wrote."""
    found: datetime = session.scalars(select(func.clock_timestamp())).one()
    return found


def uuid_of(reference: str | None) -> UUID | None:
    """Our reference as the id that it is; None for what is none of ours."""
    try:
        return None if reference is None else UUID(reference)
    except ValueError:
        return None


def page(
    session: Session,
    *,
    tenant: str | None,
    state: PaymentState | None,
    account: str | None,
    held: bool,
    before: UUID | None,
    limit: int,
) -> Sequence[FiatPayment]:
    query = select(FiatPayment).order_by(FiatPayment.id.desc()).limit(limit)
    if tenant is not None:
        query = query.where(FiatPayment.tenant == tenant)
    if state is not None:
        query = query.where(FiatPayment.state == state)
    if account is not None:
        query = query.where(FiatPayment.account == account)
    if held:
        query = query.where(FiatPayment.hold_reason.is_not(None))
    if before is not None:
        query = query.where(FiatPayment.id < before)
    return session.scalars(query).all()


def history(session: Session, payment_id: UUID) -> Sequence[FiatPaymentEvent]:
    """Oldest first."""
    return session.scalars(
        select(FiatPaymentEvent).where(FiatPaymentEvent.payment_id == payment_id).order_by(FiatPaymentEvent.id)
    ).all()


def attempts(session: Session, payment_id: UUID) -> Sequence[FiatAttempt]:
    """Oldest first. Read anew: another run may have written one."""
    return session.scalars(
        select(FiatAttempt).where(FiatAttempt.payment_id == payment_id).order_by(FiatAttempt.number),
        execution_options={"populate_existing": True},
    ).all()


# --- looking at the provider -----------------------------------------------------------------------------------------


def lock_due(session: Session, *, now: datetime, limit: int) -> Sequence[FiatPayment]:
    """Oldest first. Rows another worker holds are skipped, not waited for."""
    return session.scalars(
        select(FiatPayment)
        .where(FiatPayment.next_look_at <= now)
        .order_by(FiatPayment.next_look_at, FiatPayment.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def waiting_pairs(session: Session) -> Sequence[tuple[str, str]]:
    """What those that wait for a rate are to be converted from, and into."""
    rows = session.execute(
        select(FiatPayment.paid_currency, FiatPayment.credit_asset).where(FiatPayment.waits_for.is_not(None)).distinct()
    )
    return [(row[0], row[1]) for row in rows]


def waiting(session: Session, pairs: Collection[tuple[str, str]], *, limit: int) -> Sequence[UUID]:
    """Those that wait for these rates, the one that has waited longest first."""
    return session.scalars(
        select(FiatPayment.id)
        .where(
            FiatPayment.waits_for.is_not(None),
            tuple_(FiatPayment.paid_currency, FiatPayment.credit_asset).in_(list(pairs)),
        )
        .order_by(FiatPayment.waits_since)
        .limit(limit)
    ).all()


def with_open_refunds(session: Session, payment_ids: Collection[UUID]) -> set[UUID]:
    """Those of the payments with a refund under way."""
    if not payment_ids:
        return set()
    return set(
        session.scalars(
            select(FiatRefund.payment_id).where(
                FiatRefund.payment_id.in_(payment_ids), FiatRefund.state.in_(OPEN_REFUNDS)
            )
        )
    )


def is_due(session: Session, *, now: datetime) -> bool:
    due = select(FiatPayment.id).where(or_(FiatPayment.next_look_at <= now, FiatPayment.waits_for.is_not(None)))
    return session.scalar(due.limit(1)) is not None


# --- refunds ---------------------------------------------------------------------------------------------------------


def get_refund(session: Session, refund_id: UUID) -> FiatRefund | None:
    return session.get(FiatRefund, refund_id)


def lock_refund(session: Session, refund_id: UUID) -> tuple[FiatPayment, FiatRefund] | None:
    """Its payment first, then itself, and accounts only after both: as everywhere."""
    payment_id = session.scalar(select(FiatRefund.payment_id).where(FiatRefund.id == refund_id))
    payment = None if payment_id is None else lock(session, payment_id)
    refund = session.scalars(
        select(FiatRefund).where(FiatRefund.id == refund_id).with_for_update(),
        execution_options={"populate_existing": True},
    ).one_or_none()
    return None if payment is None or refund is None else (payment, refund)


def refunds(session: Session, payment_id: UUID) -> Sequence[FiatRefund]:
    """Oldest first."""
    return session.scalars(select(FiatRefund).where(FiatRefund.payment_id == payment_id).order_by(FiatRefund.id)).all()


def holding_refunds(session: Session, payment_id: UUID) -> Sequence[FiatRefund]:
    """Those that keep their owner from spending the money, oldest first."""
    return session.scalars(
        select(FiatRefund)
        .where(FiatRefund.payment_id == payment_id, FiatRefund.hold_id.is_not(None))
        .order_by(FiatRefund.id)
        .with_for_update()
    ).all()


def open_refunds(session: Session, payment_id: UUID) -> Sequence[FiatRefund]:
    return session.scalars(
        select(FiatRefund)
        .where(FiatRefund.payment_id == payment_id, FiatRefund.state.in_(OPEN_REFUNDS))
        .order_by(FiatRefund.id)
    ).all()


# --- gateways --------------------------------------------------------------------------------------------------------


def gateways(session: Session) -> Sequence[FiatGateway]:
    return session.scalars(select(FiatGateway).order_by(FiatGateway.name)).all()


def tells_settlements(session: Session, provider: str | None) -> bool:
    """Whether what it pays out can be held against its payments."""
    found = session.scalar(select(FiatGateway.settlements).where(FiatGateway.name == provider))
    return bool(found)


# --- settlement ------------------------------------------------------------------------------------------------------


def settled(session: Session, payment_id: UUID, kind: str) -> tuple[int, int]:
    """Units and fees of the lines of this kind that were matched with the payment."""
    row = session.execute(
        select(
            func.coalesce(func.sum(FiatSettlementLine.units), 0),
            func.coalesce(func.sum(FiatSettlementLine.fee_units), 0),
        ).where(
            FiatSettlementLine.payment_id == payment_id,
            FiatSettlementLine.kind == kind,
            FiatSettlementLine.state == "matched",
        )
    ).one()
    return int(row[0]), int(row[1])


def unmatched(session: Session, provider: str, *, after: UUID, limit: int) -> Sequence[UUID]:
    """Lines that fit nothing yet, oldest first."""
    return session.scalars(
        select(FiatSettlementLine.id)
        .where(
            FiatSettlementLine.provider == provider,
            FiatSettlementLine.state == "unmatched",
            FiatSettlementLine.id > after,
        )
        .order_by(FiatSettlementLine.id)
        .limit(limit)
    ).all()


def unsettled(session: Session, provider: str, *, now: datetime, limit: int) -> Sequence[UUID]:
    """Those that a settlement should have named by now, the one that has waited longest first."""
    return session.scalars(
        select(FiatPayment.id)
        .where(FiatPayment.provider == provider, FiatPayment.settle_by <= now)
        .order_by(FiatPayment.settle_by)
        .limit(limit)
    ).all()


def lock_unmatched(session: Session, line_id: UUID) -> FiatSettlementLine | None:
    """None if it fits something by now, or another worker is at it."""
    return session.scalars(
        select(FiatSettlementLine)
        .where(FiatSettlementLine.id == line_id, FiatSettlementLine.state == "unmatched")
        .with_for_update(skip_locked=True)
    ).one_or_none()


# --- figures ---------------------------------------------------------------------------------------------------------


def count_live(session: Session) -> dict[str, int]:
    """Those that may still become something, by state. Credited ones are not counted: there is no end of them."""
    live = (PaymentState.CREATED, PaymentState.PENDING, PaymentState.PAID, PaymentState.DISPUTED)
    found = dict.fromkeys(map(str, live), 0)
    rows = session.execute(
        select(FiatPayment.state, func.count())
        .where(FiatPayment.state.in_([str(state) for state in live]))
        .group_by(FiatPayment.state)
    )
    return found | {row[0]: row[1] for row in rows}


def count_held(session: Session) -> dict[str, int]:
    rows = session.execute(
        select(FiatPayment.hold_reason, func.count())
        .where(FiatPayment.hold_reason.is_not(None))
        .group_by(FiatPayment.hold_reason)
    )
    return {str(row[0]): row[1] for row in rows}


def oldest_unknown(session: Session) -> datetime | None:
    """When the order or refund was asked for that nobody has known the outcome of for longest."""
    open_states = (AttemptState.ASKING, AttemptState.UNKNOWN)
    orders = session.scalar(select(func.min(FiatAttempt.asked_at)).where(FiatAttempt.state.in_(open_states)))
    unknown = (RefundState.ASKING, RefundState.UNKNOWN)
    refunds = session.scalar(select(func.min(FiatRefund.asked_at)).where(FiatRefund.state.in_(unknown)))
    return min((at for at in (orders, refunds) if at is not None), default=None)


def oldest_waiting(session: Session) -> datetime | None:
    return session.scalar(select(func.min(FiatPayment.waits_since)).where(FiatPayment.waits_for.is_not(None)))


def open_breaks(session: Session, subject: str, kinds: Collection[str]) -> Sequence[UUID]:
    return session.scalars(
        select(Break.id).where(Break.subject == subject, Break.kind.in_(kinds), Break.state == OPEN)
    ).all()
