"""What providers pay out to us, held against the payments that it should be for.

A line that fits is booked: what the gateway owed lies in our bank account. One that doesn't is a break, and is tried
again with every later run, since the payment that it is about may only be told of tomorrow; until a person has
explained it. One that is of no payment, a fee or an adjustment, is dealt with once: it belongs into the house's books.
And a payment that no line names in time is a break too.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from config.assets import registry
from core import breaks, clock
from core.breaks import EXPLAINED, Difference
from core.errors import ConflictError
from core.ids import new_id
from core.jobs import transaction
from domain.fiat_payment import postings, queries
from domain.fiat_payment.holding import note_break
from domain.fiat_payment.models import FiatPayment, FiatSettlementLine
from domain.fiat_payment.recording import settle as settle_payment
from domain.fiat_payment.settings import fiat_payment as settings
from ledger import posting
from providers.fiat.base import Gateway, LineKind, SettlementLine

log = structlog.stdlib.get_logger(__name__)

BREAK = "fiat.settlement"
ACTOR = "fiat_webhook"
BATCH = 200
MATCHED, UNMATCHED = "matched", "unmatched"
BOOKED, NOTED = "booked", "noted"
"""Of no payment: in the house's books, or on the list of breaks alone. Nobody looks at it again."""
UNSETTLED, FEE = "fiat.unsettled", "fiat.fee"
"""Kinds of breaks: no line names the payment; its lines tell of less fee than its gateway did."""


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
                if line is not None:
                    deal = _match if line.kind in _OF_PAYMENTS else _keep_of_house
                    unmatched += not deal(session, line)
        if len(found) < BATCH:
            break
        after = found[-1]
    if unmatched:
        log.error("fiat_payment.settlement_differs", provider=gateway.name, lines=unmatched)
    _report_unsettled(gateway.name)
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
        if why == line.why and line.break_id is not None and breaks.get(session, line.break_id).state == EXPLAINED:
            line.state = NOTED  # a person knows of it
            return True
        _note(session, line, why or "", payment)
        return False
    if line.kind == LineKind.PAYMENT and payment.provider_fee_units is None:
        payment.provider_fee_units = line.fee_units  # it has not said before
        settle_payment(session, payment, now=clock.now())
    journal = postings.settle(payment, line)
    if journal is not None:
        line.journal_id = posting.post(session, journal).id
    line.state, line.why, line.payment_id = MATCHED, None, payment.id
    if line.break_id is not None:
        _explain(session, line.break_id, "the line fits a payment now")
    session.flush()
    if line.kind == LineKind.PAYMENT:
        _is_whole(session, payment)
    return True


def _is_whole(session: Session, payment: FiatPayment) -> None:
    """Once its lines have all of it: what was withheld of it is known too."""
    units, fees = queries.settled(session, payment.id, LineKind.PAYMENT)
    if units < payment.paid_units:
        return
    payment.settle_by = None
    for break_id in queries.open_breaks(session, payment.subject, (UNSETTLED,)):
        _explain(session, break_id, "a settlement has named it")
    told = payment.provider_fee_units or 0
    if fees < told:  # the rest stays in the gateway's account: it owes it to us
        note_break(session, payment, FEE, expected=f"a fee of {told}", found=str(fees))


def _note(session: Session, line: FiatSettlementLine, why: str, payment: FiatPayment | None) -> None:
    line.why = why
    line.break_id = breaks.note(
        session,
        Difference(
            kind=BREAK,
            subject=f"settlement:{line.provider}:{line.line}",
            expected=why,
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


def _keep_of_house(session: Session, line: FiatSettlementLine) -> bool:
    """A fee is the house's cost. What was adjusted is between the house and the gateway until a person knows why.

    Once: an adjustment, and what nobody has books for, is a break. True for what needs nobody.
    """
    tenant = settings().house_tenant
    if tenant is None or line.currency not in registry().assets:
        line.state = NOTED
        _note(session, line, "nothing: no payment is known to cost or bring this", None)
        return False
    line.state = BOOKED
    journal = postings.settle_of_house(tenant, line)
    if journal is not None:
        line.journal_id = posting.post(session, journal).id
    if line.kind == LineKind.FEE:
        return True
    _note(session, line, f"nothing: it is booked between the bank and {line.provider}, in the books of {tenant}", None)
    return False


def _report_unsettled(provider: str) -> None:
    """Those that the lines should have named by now: each is a break, once."""
    while True:
        with transaction() as session:
            found = queries.unsettled(session, provider, now=clock.now(), limit=BATCH)
        for payment_id in found:
            with transaction() as session:
                payment = queries.lock(session, payment_id)
                if payment is None or payment.settle_by is None or payment.settle_by > clock.now():
                    continue
                units = queries.settled(session, payment.id, LineKind.PAYMENT)[0]
                note_break(session, payment, UNSETTLED, expected=f"{payment.paid_units} settled", found=str(units))
                payment.settle_by = None
                log.error("fiat_payment.unsettled", payment_id=str(payment_id), provider=provider)
        if len(found) < BATCH:
            return


def _explain(session: Session, break_id: UUID, explanation: str) -> None:
    try:
        breaks.explain(session, break_id, actor=ACTOR, explanation=explanation)
    except ConflictError:
        return  # a person did before


def _payment_of(session: Session, line: FiatSettlementLine) -> FiatPayment | None:
    reference = queries.uuid_of(line.reference)
    found = queries.find(session, provider=line.provider, reference=reference, provider_ref=line.provider_ref)
    return None if found is None else queries.lock(session, found.id)


def _why_not(session: Session, line: FiatSettlementLine, payment: FiatPayment | None) -> str | None:
    """What the books say instead; None if the line fits."""
    if payment is None:
        return "no payment of this reference"
    if payment.provider != line.provider:
        payment.next_look_at = clock.now()  # that one has taken money as well: it is asked how much
        return f"nothing: it is at {payment.provider}"
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


def _takeable(session: Session, payment: FiatPayment) -> int:
    """What came back may be taken again."""
    return -payment.paid_units - queries.settled(session, payment.id, LineKind.CHARGEBACK_REVERSED)[0]


_OF_PAYMENTS: Mapping[LineKind, Callable[[Session, FiatPayment], int]] = {
    LineKind.PAYMENT: lambda _, payment: payment.paid_units,
    LineKind.REFUND: lambda _, payment: -payment.refunded_units,
    # Up to all of it: what was contested and won meanwhile was withheld all the same, and comes back in another line.
    LineKind.CHARGEBACK: _takeable,
    LineKind.CHARGEBACK_REVERSED: _taken,
}
"""What the lines of a kind may come to in all, for one payment."""
