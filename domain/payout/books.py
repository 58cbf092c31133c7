"""The books of a payout, inside the transaction that changes its row, so that the one is never without the other.

Its row says where the money is: bound by its hold (nothing begun), in transit (begun), gone (paid). From the begin on
nothing of the owner's account, frozen, empty or closed, can keep a fact from being booked (ADR 24).
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import breaks, jobs
from core.breaks import Difference
from core.errors import InvariantError, TransientError
from domain.payout import freezing, holding, postings
from domain.payout.history import ACTOR, note
from domain.payout.models import Payout, PayoutAttempt
from ledger import balances, chart, holds, posting
from ledger.errors import AccountClosedError, AccountFrozenError, CeilingExceededError, InsufficientFundsError
from ledger.posting import Journal

log = structlog.stdlib.get_logger(__name__)

_ATTEMPTS = 4
"""A refused posting leaves its accounts locked, so the second attempt knows what there is; more if they were opened."""
SUSPENDED, PAID_LATE, PAID_TWICE = "payout.suspended", "payout.paid_late", "payout.paid_twice"
"""Kinds of breaks."""


def begin(session: Session, payout: Payout) -> None:
    """Take the money out of its account, and convert it. Only the first time: it stays in transit between attempts.

    Raises what a capture raises, such as AccountFrozenError, with nothing written.
    """
    if payout.begun_journal_id is not None:
        return
    if payout.hold_id is None:
        raise InvariantError(f"{payout.subject} holds no money")
    payout.begun_journal_id = holds.capture(
        session,
        tenant=payout.tenant,
        hold_id=payout.hold_id,
        reference=postings.begin_reference(payout),
        category="payout.begin",
        subject=payout.subject,
        job_id=_job_id(),
    ).id
    _convert(session, payout)


def pay(session: Session, payout: Payout, provider: str) -> None:
    """It left."""
    if payout.begun_journal_id is None or payout.paid_journal_id is not None:
        raise InvariantError(f"{payout.subject} is not in transit and can't be booked as paid")
    payout.paid_journal_id = _post(session, payout, postings.pay(payout, provider))


def fee(session: Session, payout: Payout, provider: str, told: int) -> None:
    """What the provider has taken for it so far, as it says: booked is what is missing of that, or too much."""
    units = told - payout.provider_fee_units
    if units:
        _post(session, payout, postings.fee(payout, provider, units))
        payout.provider_fee_units = told


def give_back(session: Session, payout: Payout, *, now: datetime) -> None:
    """Its owner's again, from wherever it is: bound, in transit or gone. The provider's fee stays what it was."""
    if payout.begun_journal_id is None:
        holding.void(session, payout)
        return
    if payout.paid_journal_id is not None:
        _reverse(session, payout, payout.paid_journal_id, "unpay")
        payout.paid_journal_id = None
    if payout.converted_journal_id is not None:
        _reverse(session, payout, payout.converted_journal_id, "unconvert")
        payout.converted_journal_id = None
    if not _unbegin(session, payout, payout.begun_journal_id):
        _restore(session, payout, now=now)
    payout.begun_journal_id = None
    if payout.short_units:
        payout.short_units = 0
        freezing.lift(session, payout)


def _unbegin(session: Session, payout: Payout, journal_id: UUID) -> bool:
    """Reverse the capture. False: it was taken in another way, or its account takes nothing."""
    if payout.hold_id is None or holds.hold(session, payout.tenant, payout.hold_id).journal_id != journal_id:
        return False
    try:
        _reverse(session, payout, journal_id, "unbegin")
    except (AccountClosedError, CeilingExceededError):
        return False
    return True


def _restore(session: Session, payout: Payout, *, now: datetime) -> None:
    """First what its owner owes for it, then its owner; or suspense, for a person."""
    for debt, into in _places(session, payout):
        try:
            _post(session, payout, postings.restore(payout, debt=debt, into=into))
        except (AccountClosedError, CeilingExceededError, InsufficientFundsError):
            continue
        if into == postings.SUSPENSE and payout.held_units > debt:
            payout.suspended_units += payout.held_units - debt
            note(session, payout, "suspended", now=now, actor=ACTOR, units=str(payout.held_units - debt))
            _break(session, payout, SUSPENDED, expected=payout.account, found=postings.SUSPENSE)
        return
    raise TransientError("the accounts of a payout changed under every attempt to give it back")


def _places(session: Session, payout: Payout) -> Iterator[tuple[int, str]]:
    owed = chart.owed_by(payout.account)
    debt = 0
    if payout.short_units:
        debt = min(payout.short_units, max(balances.balance(session, payout.tenant, owed, payout.asset), 0))
    yield debt, payout.account
    yield debt, postings.SUSPENSE
    yield 0, postings.SUSPENSE


def retake(session: Session, payout: Payout, *, now: datetime) -> None:
    """It left after all, and was given back: taken as far as there is, and the rest is owed. Never refused."""
    _break(session, payout, PAID_LATE, expected=payout.state, found="paid")
    left = payout.held_units - payout.suspended_units
    taken = left
    for _ in range(_ATTEMPTS):
        try:
            payout.begun_journal_id = _post(session, payout, postings.retake(payout, taken=taken))
        except InsufficientFundsError as error:
            taken = max(min(taken, error.available), 0)
        except (AccountFrozenError, AccountClosedError):
            if not taken:
                raise
            taken = 0  # nothing can be taken out of it, so all of it is owed
        else:
            break
    else:
        raise TransientError("the account of a payout changed under every attempt to take it again")
    payout.suspended_units = 0
    payout.short_units = left - taken
    _convert(session, payout)
    if payout.short_units:
        freezing.freeze(session, payout, owed=payout.short_units, now=now)


def paid_beside(session: Session, payout: Payout, attempt: PayoutAttempt) -> None:
    """A provider paid beside the payout. It is nobody's but ours, until a person says whose."""
    if attempt.extra_journal_id is None:
        attempt.extra_journal_id = _post(session, payout, postings.beside(payout, attempt))
    _break(session, payout, PAID_TWICE, expected=payout.state, found=f"paid by {attempt.provider} too")


def not_beside(session: Session, payout: Payout, attempt: PayoutAttempt) -> None:
    if attempt.extra_journal_id is not None:
        _reverse(session, payout, attempt.extra_journal_id, "unbeside")
        attempt.extra_journal_id = None


def _convert(session: Session, payout: Payout) -> None:
    if payout.asset != payout.payout_asset:
        payout.converted_journal_id = _post(session, payout, postings.convert(payout))


def _post(session: Session, payout: Payout, journal: Journal) -> UUID:
    posted = posting.post(session, replace(journal, job_id=_job_id()))
    if not posted.created:
        raise InvariantError(f"{journal.reference} is booked, and its payout's row doesn't know of it")
    payout.settled += 1
    return posted.id


def _reverse(session: Session, payout: Payout, journal_id: UUID, event: str) -> None:
    posting.reverse(
        session,
        tenant=payout.tenant,
        reference=postings.reference(payout, event),
        journal_id=journal_id,
        category=f"payout.{event}",
        correlation_id=payout.correlation_id,
        job_id=_job_id(),
    )
    payout.settled += 1


def _job_id() -> UUID | None:
    job = jobs.current.get()
    return job.id if job else None


def _break(session: Session, payout: Payout, kind: str, *, expected: str, found: str) -> None:
    difference(session, payout, kind, expected=expected, found=found)
    log.error(kind, payout_id=str(payout.id), found=found)


def difference(session: Session, payout: Payout, kind: str, *, expected: str, found: str) -> None:
    """Put what differs on the list of breaks."""
    breaks.note(
        session,
        Difference(
            kind=kind,
            subject=payout.subject,
            expected=expected,
            found=found,
            tenant=payout.tenant,
            asset=payout.asset,
            detail={"provider": payout.provider, "provider_ref": payout.provider_ref},
        ),
    )
