"""Taking in what a provider says of an attempt, from wherever it came: our own call, a look, a webhook's look.

The newest question's answer counts; an older one changes nothing. Told twice is told once. What is said of an attempt
that was proven over is believed all the same: then the payout is taken up again where it can be, or the money that a
provider paid beside it is booked as ours, and a person hears of it.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import InvariantError, NotFoundError
from core.jobs import NewJob
from domain.payout import books, limits, pace, queries, sending_queries
from domain.payout.content import content_hash
from domain.payout.history import ACTOR, ENDS, move, note
from domain.payout.models import Payout, PayoutAttempt
from domain.payout.sending_settings import sending as settings
from domain.payout.states import PAYOUT, UNSETTLED_ATTEMPTS, AttemptState, PayoutState
from providers.payout.base import Refusal, Remittance, RemittanceState

log = structlog.stdlib.get_logger(__name__)

S, A = PayoutState, AttemptState
OPEN = frozenset({S.SUBMITTING, S.SUBMITTED, S.UNKNOWN})
"""An attempt of it may be there, and its end isn't told yet."""
MENDABLE = frozenset({Refusal.FUNDS, Refusal.LIMIT, Refusal.PROVIDER})
"""Another try, or another provider, may get it there."""
AMOUNT, REFERENCE, REFUSED, SENT_TWICE, FLAPS = (
    "payout.amount",
    "payout.reference",
    "payout.refused",
    "payout.sent_twice",
    "payout.flaps",
)
"""Kinds of breaks."""
WHY_LENGTH_MAX = 200
REFUSE_BENEFICIARY = "payout.refuse_beneficiary"


def record(session: Session, attempt_id: UUID, told: Remittance, *, asked_at: datetime, source: str) -> Payout:
    """Take in what the provider says of the attempt, and do what follows, in the caller's transaction.

    `asked_at`: when the question was asked. `source`: `send` or `find`, for the history. Any order, any number of
    times: the same books. Raises NotFoundError if there is no such attempt, InvariantError if it is told of another.
    """
    payout, attempt = locked(session, attempt_id)
    if told.reference != attempt.reference:
        raise InvariantError(f"{payout.subject} was told of {told.reference[:64]!r}")
    if not _is_it(session, payout, attempt, told):
        return payout
    if attempt.asked_at is not None and asked_at < attempt.asked_at:
        log.info("payout.older_news", payout_id=str(payout.id), told=told.state)
        return payout
    attempt.asked_at = asked_at
    if attempt.provider_ref is None:
        attempt.provider_ref = told.provider_ref
    now = clock.now()
    before = payout.current
    match told.state:
        case RemittanceState.PENDING:
            _pending(session, payout, attempt, now=now, source=source)
        case RemittanceState.PAID:
            _paid(session, payout, attempt, now=now, source=source)
        case RemittanceState.FAILED | RemittanceState.RETURNED:
            _not_paid(session, payout, attempt, told, now=now, source=source)
    if told.fee_units is not None and _has_cost(payout, attempt):
        books.fee(session, payout, attempt.provider, told.fee_units)
    followed(session, payout, before, now=now)
    return payout


def locked(session: Session, attempt_id: UUID) -> tuple[Payout, PayoutAttempt]:
    """The attempt, and its payout, whose lock is the attempt's, too. Raises NotFoundError."""
    payout_id = sending_queries.payout_of(session, attempt_id)
    payout = None if payout_id is None else queries.lock(session, payout_id)
    attempt = session.get(PayoutAttempt, attempt_id, populate_existing=True)
    if payout is None or attempt is None:
        raise NotFoundError(f"there is no attempt {attempt_id}")
    return payout, attempt


def followed(session: Session, payout: Payout, before: PayoutState, *, now: datetime) -> None:
    """What any change of state brings along: when to look next, and the end of not knowing."""
    if payout.current is before:
        return
    payout.looks = 0
    payout.next_look_at = pace.next_look(payout, now=now)
    if payout.current not in (S.UNKNOWN, S.SUBMITTING):
        payout.unknown_since = None
    if payout.current is not S.UNKNOWN:
        overtaken = sending_queries.open_resolution(session, payout.id)
        if overtaken is not None:
            overtaken.closed_at = now
    if payout.current is S.APPROVED:
        payout.next_look_at = now  # begin says what it waits for
    session.flush()


def _is_it(session: Session, payout: Payout, attempt: PayoutAttempt, told: Remittance) -> bool:
    """Whether it is what we asked for. Of anything else nothing is believed, and a person looks."""
    if (told.currency, told.units) != (payout.payout_asset, payout.payout_units):
        expected, found = f"{payout.payout_units} {payout.payout_asset}", f"{told.units} {told.currency[:64]}"
        books.difference(session, payout, AMOUNT, expected=expected, found=found)
        log.error("payout.amount", payout_id=str(payout.id), expected=expected, found=found)
        return False
    theirs = told.provider_ref
    if attempt.provider_ref not in (None, theirs) or sending_queries.is_taken(session, attempt, theirs):
        books.difference(session, payout, REFERENCE, expected=attempt.provider_ref or "-", found=theirs[:64])
        log.error("payout.reference", payout_id=str(payout.id), found=theirs[:64])
        return False
    return True


# --- what it says -------------------------------------------------------------------------------------------------


def _pending(session: Session, payout: Payout, attempt: PayoutAttempt, *, now: datetime, source: str) -> None:
    if attempt.current is A.FAILED and payout.current in ENDS:
        # It may be a word that we don't know. Until it is paid, nothing is taken from its owner again.
        books.difference(session, payout, FLAPS, expected=payout.state, found="pending")
        return
    # Paid, then pending: the books stay as they are until it has failed.
    if _is_ours_now(session, payout, attempt, now=now) and PAYOUT.can(payout.current, "accept"):
        if payout.begun_journal_id is None:
            _retake(session, payout, now=now)
        payout.provider, payout.provider_ref = attempt.provider, attempt.provider_ref
        move(session, payout, "accept", now=now, actor=_by(attempt), source=source)


def _paid(session: Session, payout: Payout, attempt: PayoutAttempt, *, now: datetime, source: str) -> None:
    if not _is_ours_now(session, payout, attempt, now=now):
        books.paid_beside(session, payout, attempt)
        return
    if payout.current is S.PAID:
        payout.provider_ref = payout.provider_ref or attempt.provider_ref
        return
    books.not_beside(session, payout, attempt)
    if payout.begun_journal_id is None:
        _retake(session, payout, now=now)
    payout.provider, payout.provider_ref = attempt.provider, attempt.provider_ref
    payout.failure = None
    books.pay(session, payout, attempt.provider)
    move(session, payout, "pay", now=now, actor=_by(attempt), source=source)


def _retake(session: Session, payout: Payout, *, now: datetime) -> None:
    """It was given up, and left all the same: its money is taken again, and the limits count it again."""
    books.retake(session, payout, now=now)
    payout.evidence = None  # of those who said that it had not left
    limits.recount(session, payout, now=now)


def _not_paid(
    session: Session, payout: Payout, attempt: PayoutAttempt, told: Remittance, *, now: datetime, source: str
) -> None:
    books.not_beside(session, payout, attempt)
    if attempt.current not in UNSETTLED_ATTEMPTS:
        if sending_queries.is_there_after_all(attempt):
            attempt.state = A.FAILED  # it was, and is over
        return
    attempt.state, attempt.answered_at = A.FAILED, now
    attempt.refusal = None if told.refusal is None else str(told.refusal)
    attempt.why = told.why[:WHY_LENGTH_MAX] if told.why else None
    came_back = told.state is RemittanceState.RETURNED
    if payout.current is S.PAID and not payout.by_hand:
        books.give_back(session, payout, now=now)
        limits.release_usage(session, payout)
        payout.failure = attempt.refusal
        move(session, payout, "return", now=now, actor=_by(attempt), source=source, refusal=attempt.refusal)
    elif payout.current in OPEN:
        turned_down(session, payout, attempt, now=now, came_back=came_back)


def turned_down(
    session: Session, payout: Payout, attempt: PayoutAttempt, *, now: datetime, came_back: bool = False
) -> None:
    """It certainly isn't there: refused, or failed. What follows of that is `Refusal`'s.

    The attempt says why, and is over. `came_back`: it had left, for all that we know.
    """
    refusal = Refusal(attempt.refusal) if attempt.refusal is not None else None
    payout.failure = attempt.refusal
    said = {"provider": attempt.provider, "refusal": attempt.refusal, "why": attempt.why}
    by = _by(attempt)
    tries = [each for each in sending_queries.attempts(session, payout.id) if each.current in (A.REJECTED, A.FAILED)]
    if refusal in MENDABLE and len(tries) < settings().attempts_max:
        move(session, payout, "refuse", now=now, actor=by, **said)
        return
    if refusal is Refusal.DESTINATION or refusal in MENDABLE or came_back:
        books.give_back(session, payout, now=now)
        limits.release_usage(session, payout)
        move(session, payout, "return" if came_back else "fail", now=now, actor=by, **said)
        if refusal is Refusal.DESTINATION:
            _tell_book(session, payout, attempt)
        return
    # Our adapter or our contract is wrong, or nobody says what is: neither another try nor an end follows from that.
    move(session, payout, "refuse", now=now, actor=by, **said)
    move(session, payout, "freeze", now=now, actor=ACTOR, reason="a provider doesn't understand what we ask of it")
    books.difference(session, payout, REFUSED, expected="sent", found=f"{attempt.provider}: {attempt.why or '-'}")
    log.error("payout.refused", payout_id=str(payout.id), provider=attempt.provider, why=attempt.why)


def _tell_book(session: Session, payout: Payout, attempt: PayoutAttempt) -> None:
    """What no provider can pay isn't asked for again: its entry is refused, and with it what waits for it."""
    args = {"beneficiary_id": str(payout.beneficiary_id), "provider": attempt.provider, "why": attempt.why}
    jobs.submit(
        session,
        NewJob(
            REFUSE_BENEFICIARY,
            args,
            tenant=payout.tenant,
            subject=payout.subject,
            correlation_id=payout.correlation_id,
        ),
    )


# --- whose it is --------------------------------------------------------------------------------------------------


def _is_ours_now(session: Session, payout: Payout, attempt: PayoutAttempt, *, now: datetime) -> bool:
    """There is one at the provider. Whether it is what this payout goes on with, which it is made if it can be.

    Also where it can't be, the attempt is open again: while it is, nobody makes another.
    """
    was_open = attempt.current in UNSETTLED_ATTEMPTS
    if attempt.current is not A.ACCEPTED:
        told: dict[str, Any] = {"provider": attempt.provider, "attempt": attempt.number, "was": attempt.state}
        if not was_open:  # it was proven over, and is there after all
            log.error("payout.there_after_all", payout_id=str(payout.id), state=payout.state, **told)
            note(session, payout, "there_after_all", now=now, actor=_by(attempt), **told)
        other = sending_queries.unsettled(sending_queries.attempts(session, payout.id))
        if other is not None and other.id != attempt.id:
            if attempt.current is A.FAILED:
                attempt.state = A.REJECTED  # it isn't over: see sending_queries.is_there_after_all
            return _is_one_too_many(session, payout, attempt)
        attempt.state, attempt.answered_at = A.ACCEPTED, now
        session.flush()
    if payout.by_hand and payout.current is S.APPROVED and payout.evidence is None:
        # People were to pay it, and none says that he has. One may be at it: he finds that he can't record it.
        _is_one_too_many(session, payout, attempt)
        payout.by_hand = False
        payout.content_hash = content_hash(payout)
        note(session, payout, "by_provider", now=now, actor=_by(attempt), attempt=attempt.number)
    if payout.by_hand:
        return _is_one_too_many(session, payout, attempt)
    if payout.current is S.APPROVED:
        move(session, payout, "submit", now=now, actor=ACTOR, provider=attempt.provider, attempt=attempt.number)
    if payout.current in OPEN or payout.current in (S.FAILED, S.RETURNED) or (payout.current is S.PAID and was_open):
        return True
    return _is_one_too_many(session, payout, attempt)


def _is_one_too_many(session: Session, payout: Payout, attempt: PayoutAttempt) -> bool:
    books.difference(session, payout, SENT_TWICE, expected=payout.state, found=f"{attempt.provider} has one, too")
    return False


def _has_cost(payout: Payout, attempt: PayoutAttempt) -> bool:
    """A fee is the payout's once it was paid by this attempt, also if it came back."""
    if payout.provider != attempt.provider or payout.provider_ref != attempt.provider_ref:
        return False
    return payout.current is S.PAID or (payout.current is S.RETURNED and bool(payout.provider_fee_units))


def _by(attempt: PayoutAttempt) -> str:
    return f"provider:{attempt.provider}"
