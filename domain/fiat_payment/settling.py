"""What providers pay out to us, held against the payments that it should be for.

A line that fits is booked: what the gateway owed lies in our bank account. One that doesn't is a break, and is tried
again with every later run, since the payment that it is about may only be told of tomorrow.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import breaks, clock
from core.breaks import Difference
from core.errors import ConflictError
from core.ids import new_id
from core.jobs import transaction
from domain.fiat_payment import postings, queries
from domain.fiat_payment.models import FiatPayment, FiatSettlementLine
from domain.fiat_payment.recording import settle as settle_payment
from ledger import posting
from providers.fiat.base import Gateway, LineKind, SettlementLine

log = structlog.stdlib.get_logger(__name__)

BREAK = "fiat.settlement"
ACTOR = "fiat_webhook"
BATCH = 200
MATCHED, UNMATCHED = "matched", "unmatched"


def settle(gateway: Gateway, since: datetime, until: datetime) -> int:
    """Read all lines of that time and match what can be. Safe to repeat. Returns how many fit nothing.

    Raises TransientError, PermanentError.
    """
    lines = iter(gateway.settlements(since, until))
    while batch := list(islice(lines, BATCH)):  # the provider is asked between the transactions, not within one
        with transaction() as session:
            keep(session, gateway.name, batch)
    unmatched, after = 0, UUID(int=0)
    while True:
        with transaction() as session:
            found = queries.unmatched(session, gateway.name, after=after, limit=BATCH)
        for line_id in found:
            # One commit each: what is booked locks the gateway's account, which others lock after their payment.
            with transaction() as session:
                line = queries.lock_unmatched(session, line_id)
                unmatched += line is not None and not _match(session, line)
        if len(found) < BATCH:
            break
        after = found[-1]
    if unmatched:
        log.error("fiat_payment.settlement_differs", provider=gateway.name, lines=unmatched)
    return unmatched


def keep(session: Session, provider: str, lines: Sequence[SettlementLine]) -> None:
    """Write down the lines that are new."""
    now = clock.now()
    rows = [
        {
            "id": new_id(),
            "provider": provider,
            "line": line.id,
            "settlement": line.settlement,
            "kind": line.kind,
            "reference": line.reference,
            "provider_ref": line.provider_ref,
            "currency": line.currency,
            "units": line.units,
            "fee_units": line.fee_units,
            "settled_at": line.settled_at,
            "state": UNMATCHED,
            "created_at": now,
        }
        for line in lines
    ]
    if rows:
        statement = insert(FiatSettlementLine).values(rows)
        session.execute(statement.on_conflict_do_nothing(index_elements=["provider", "line"]))


def _match(session: Session, line: FiatSettlementLine) -> bool:
    payment = _payment_of(session, line)
    why = _why_not(session, line, payment)
    if why is not None or payment is None:
        line.why = why
        line.break_id = breaks.note(
            session,
            Difference(
                kind=BREAK,
                subject=f"settlement:{line.provider}:{line.line}",
                expected=why or "",
                found=f"{line.kind} {line.units} less {line.fee_units} {line.currency}",
                tenant=None if payment is None else payment.tenant,
                asset=line.currency,
                detail={
                    "settlement": line.settlement,
                    "reference": line.reference,
                    "provider_ref": line.provider_ref,
                    "payment": None if payment is None else str(payment.id),
                },
            ),
        )
        return False
    if line.kind == LineKind.PAYMENT and payment.provider_fee_units is None:
        payment.provider_fee_units = line.fee_units  # it has not said before
        settle_payment(session, payment, now=clock.now())
    journal = postings.settle(payment, line)
    if journal is not None:
        line.journal_id = posting.post(session, journal).id
    line.state, line.why, line.payment_id = MATCHED, None, payment.id
    if line.break_id is not None:
        _explain(session, line.break_id)
    session.flush()
    return True


def _explain(session: Session, break_id: UUID) -> None:
    try:
        breaks.explain(session, break_id, actor=ACTOR, explanation="the line fits a payment now")
    except ConflictError:
        return  # a person did before


def _payment_of(session: Session, line: FiatSettlementLine) -> FiatPayment | None:
    reference = queries.uuid_of(line.reference)
    found = queries.find(session, provider=line.provider, reference=reference, provider_ref=line.provider_ref)
    return None if found is None else queries.lock(session, found.id)


def _why_not(session: Session, line: FiatSettlementLine, payment: FiatPayment | None) -> str | None:
    """What the books say instead; None if the line fits."""
    if line.kind not in _OF_PAYMENTS:
        return "nothing: no payment is known to cost or bring this"
    if payment is None:
        return "no payment of this reference"
    if line.currency != payment.paid_currency:
        return payment.paid_currency
    before, fees = queries.settled(session, payment.id, line.kind)
    left = _OF_PAYMENTS[LineKind(line.kind)](session, payment) - before
    if line.units * left <= 0 or abs(line.units) > abs(left):
        return f"{left} of this kind"
    fee = payment.provider_fee_units
    if line.kind == LineKind.PAYMENT and fee is not None and fees + line.fee_units > fee:
        return f"a fee of {fee - fees}"
    return None


def _taken(session: Session, payment: FiatPayment) -> int:
    return -queries.settled(session, payment.id, LineKind.CHARGEBACK)[0]


_OF_PAYMENTS: Mapping[LineKind, Callable[[Session, FiatPayment], int]] = {
    LineKind.PAYMENT: lambda _, payment: payment.paid_units,
    LineKind.REFUND: lambda _, payment: -payment.refunded_units,
    # Up to all of it: what was contested and won meanwhile was withheld all the same, and comes back in another line.
    LineKind.CHARGEBACK: lambda _, payment: -payment.paid_units,
    LineKind.CHARGEBACK_REVERSED: _taken,
}
"""What the lines of a kind may come to in all, for one payment."""
