"""Asking providers about payouts: what nobody knows of, what is under way, and thinly what has ended.

What leaves `unknown` (ADR 25): the provider knows it; or it certainly has none, since `absent_after` its last sending
it finds none; or two people (resolving). Within `key_window` it may be sent again, under its key and with its body, as
that makes none twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import PermanentError, TransientError
from core.jobs import NewJob, transaction
from domain.payout import books, freezing, pace, queries, sending_queries, submitting
from domain.payout.history import ACTOR, move, note
from domain.payout.models import Payout, PayoutAttempt, PayoutProviderRow
from domain.payout.recording import followed, locked, record
from domain.payout.sending_settings import sending as settings
from domain.payout.states import AttemptState, PayoutState
from domain.payout.submitting import Ask
from providers.payout.base import Abilities, PayoutProvider

log = structlog.stdlib.get_logger(__name__)

S, A = PayoutState, AttemptState
LOOK = "payout.look"
LOOK_ATTEMPTS_MAX = 3
UNREADABLE, MISSING = "payout.unreadable", "payout.missing_there"
"""Kinds of breaks."""
MARGIN_MAX = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Question:
    attempt_id: UUID
    provider: str
    provider_ref: str | None
    sent_at: datetime
    sends: int


# --- who is due ---------------------------------------------------------------------------------------------------


def wanted(session: Session, now: datetime) -> bool:
    return sending_queries.is_due(session, now)


def dispatch(session: Session) -> int:
    """One job for each payout that is due, and the time of its next look. Returns how many."""
    now = clock.now()
    due = sending_queries.lock_due(session, now=now, limit=settings().poll_limit)
    new = []
    for payout in due:
        payout.looks += 1
        payout.next_look_at = pace.next_look(payout, now=now)
        new.append(job(payout, submitting.SUBMIT if payout.current is S.APPROVED else LOOK))
    jobs.submit_many(session, new)
    return len(new)


def job(payout: Payout, task: str, **args: str) -> NewJob:
    return NewJob(
        task,
        {"payout_id": str(payout.id), **args},
        tenant=payout.tenant,
        subject=payout.subject,
        correlation_id=payout.correlation_id,
        attempts_max=submitting.ATTEMPTS_MAX if task == submitting.SUBMIT else LOOK_ATTEMPTS_MAX,
    )


def hear(session: Session, *, provider: str, reference: str | None, provider_ref: str | None) -> bool:
    """A webhook speaks of one: ask for a look at it. False: nobody knows it here, or not yet."""
    found = sending_queries.told(session, provider=provider, reference=reference, provider_ref=provider_ref)
    if found is None:
        return False
    payout = queries.get(session, found[0])
    if payout is not None:
        jobs.submit(session, job(payout, LOOK, attempt_id=str(found[1])))
    return payout is not None


# --- looking ------------------------------------------------------------------------------------------------------


def look(payout_id: UUID, providers: Mapping[str, PayoutProvider], *, attempt_id: UUID | None = None) -> None:
    """Ask about one payout now, or about that attempt of it. Safe to run any number of times.

    That a provider can't be reached is no failure: the next look is due anyway.
    """
    with transaction() as session:
        questions = _questions(session, payout_id, attempt_id)
    for question in questions:
        provider = providers.get(question.provider)
        if provider is None:
            log.warning("payout.no_provider", payout_id=str(payout_id), provider=question.provider)
            continue
        _ask(question, provider)


def _questions(session: Session, payout_id: UUID, attempt_id: UUID | None) -> Sequence[Question]:
    payout = queries.lock(session, payout_id)
    if payout is None:
        return ()
    now = clock.now()
    attempts = sending_queries.attempts(session, payout_id)
    open_ = sending_queries.unsettled(attempts)
    if open_ is not None and open_.current is A.ASKING and payout.current is S.SUBMITTING and attempt_id is None:
        if now < open_.last_sent_at + settings().unknown_after:
            return ()  # its call is under way
        submitting.lose(session, payout, open_, now=now)
    if attempt_id is not None:
        asked = [each for each in attempts if each.id == attempt_id]
    elif open_ is not None and payout.current is not S.PAID:
        asked = [open_]
    else:  # it has ended: what was said of each may yet turn out otherwise
        asked = [each for each in attempts if each.current is not A.NOT_SENT]
    return [Question(each.id, each.provider, each.provider_ref, each.first_sent_at, each.sends) for each in asked]


def _ask(question: Question, provider: PayoutProvider) -> None:
    asked_at = clock.now()
    try:
        found = provider.find(str(question.attempt_id), provider_ref=question.provider_ref, sent_at=question.sent_at)
    except TransientError as error:
        log.warning("payout.not_asked", attempt_id=str(question.attempt_id), error=str(error))
        return
    except PermanentError as error:
        _unreadable(question, str(error))
        return
    with transaction() as session:
        if found is not None:
            record(session, question.attempt_id, found, asked_at=asked_at, source="find")
            return
        ask = _not_found(session, question, provider.abilities, asked_at=asked_at)
    if ask is not None:
        submitting.ask_for(ask, provider)


def _unreadable(question: Question, why: str) -> None:
    """Such as several of one reference. Nothing follows from it but that a person looks."""
    log.error("payout.unreadable", attempt_id=str(question.attempt_id), error=why)
    with transaction() as session:
        payout, _ = locked(session, question.attempt_id)
        books.difference(session, payout, UNREADABLE, expected=payout.state, found=f"{question.provider}: {why[:200]}")


# --- not found ----------------------------------------------------------------------------------------------------


def _not_found(session: Session, question: Question, able: Abilities, *, asked_at: datetime) -> Ask | None:
    """What follows of that the provider knows none. An intent to send it again is committed by the caller."""
    payout, attempt = locked(session, question.attempt_id)
    now = clock.now()
    if attempt.current is A.ACCEPTED and payout.current in (S.SUBMITTED, S.PAID):
        books.difference(session, payout, MISSING, expected=payout.state, found=f"{question.provider} knows none")
        log.error("payout.missing_there", payout_id=str(payout.id), provider=question.provider)
        return None
    if payout.current is not S.UNKNOWN or attempt.current is not A.UNKNOWN or attempt.sends != question.sends:
        return None  # it was answered, or sent again, after the question
    if is_absent(attempt, able, asked_at=asked_at):
        before = payout.current
        attempt.state, attempt.answered_at, attempt.asked_at = A.ABSENT, now, asked_at
        move(session, payout, "absent", now=now, actor=ACTOR, provider=attempt.provider)
        followed(session, payout, before, now=now)
        jobs.submit(session, job(payout, submitting.SUBMIT))
        return None
    if not may_be_sent_again(attempt, able, now=now) or _is_stopped(session, payout, attempt):
        return None
    request = submitting.request_of(payout, attempt.id)
    if submitting.hash_of(request, payout) != attempt.request_hash:
        note(session, payout, "not_resent", now=now, actor=ACTOR, reason="it would not be what was asked before")
        log.error("payout.changed_under_way", payout_id=str(payout.id))
        return None
    before = payout.current
    attempt.lost, attempt.resends = True, attempt.resends + 1
    attempt.state, attempt.sends, attempt.last_sent_at = A.ASKING, attempt.sends + 1, now
    move(session, payout, "resend", now=now, actor=ACTOR, provider=attempt.provider, sends=attempt.sends)
    followed(session, payout, before, now=now)
    return Ask(attempt.id, attempt.provider, attempt.sends, request, now)


def is_absent(attempt: PayoutAttempt, able: Abilities, *, asked_at: datetime) -> bool:
    """Whether that none was found then proves that there is none, and will be none."""
    if able.absent_after is None:
        return False
    # What is kept is the intent's time: its call may have come so much later.
    return asked_at >= attempt.last_sent_at + settings().send_within + able.absent_after + margin(able.absent_after)


def may_be_sent_again(attempt: PayoutAttempt, able: Abilities, *, now: datetime) -> bool:
    """Whether its key is certainly known still, so that sending it again makes no second one."""
    if attempt.resends >= settings().resends_max:
        return False
    # Each further one after twice the time, so that what is late there is found first.
    if now < attempt.last_sent_at + settings().unknown_window * 2**attempt.resends:
        return False
    window = able.key_window
    return window is None or now < attempt.first_sent_at + window - margin(window) - settings().send_within


def margin(window: timedelta) -> timedelta:
    """Clocks differ, and requests take their time."""
    return min(window / 10, MARGIN_MAX)


def _is_stopped(session: Session, payout: Payout, attempt: PayoutAttempt) -> bool:
    """A person said that nothing is sent there, or its account was frozen meanwhile: it is only looked up."""
    row = session.get(PayoutProviderRow, attempt.provider, populate_existing=True)
    return (row is not None and row.stopped_by is not None) or freezing.is_frozen(session, payout)
