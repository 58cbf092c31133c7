"""Sending payouts: begin (commit the intent) / call (no transaction open) / record (commit what was answered).

An attempt's id is our reference at the provider and its key. What nobody answered for is looked up by it (looking). No
other attempt is made, here or elsewhere, until the last is proven over; the database holds that one at most is open.
"""

import json
import traceback
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, vault
from core.ids import new_id
from core.jobs import transaction
from domain.payout import books, choosing, freezing, pace, queries, sealing, sending_queries, throttle
from domain.payout import providers as known
from domain.payout.choosing import Choice
from domain.payout.history import ACTOR, move, note
from domain.payout.models import Payout, PayoutAttempt
from domain.payout.recording import WHY_LENGTH_MAX, followed, locked, record, turned_down
from domain.payout.sending_settings import sending as settings
from domain.payout.states import AttemptState, PayoutState, Wait
from ledger.errors import AccountFrozenError
from providers.payout.base import PayoutProvider, PayoutRequest, Refusal, Sent, Standing

log = structlog.stdlib.get_logger(__name__)

SUBMIT = "payout.submit"
ATTEMPTS_MAX = 60
S, A = PayoutState, AttemptState


@dataclass(frozen=True, slots=True)
class Ask:
    """A committed intent: this request, of this provider."""

    attempt_id: UUID
    provider: str
    sends: int
    """Which sending of the attempt it is."""
    request: PayoutRequest = field(repr=False)
    asked_at: datetime


def submit(payout_id: UUID, providers: Mapping[str, PayoutProvider]) -> None:
    """Send it, if it may be sent. Safe to run any number of times, also at once: what is under way is not sent again.

    What it waits for, or that nobody knows, stands in its row, which says when it is looked at next.
    """
    unreached: set[str] = set()
    while True:
        with transaction() as session:
            ask = begin(session, payout_id, able=providers.keys(), unreached=unreached)
        if ask is None:
            return
        standing = ask_for(ask, providers[ask.provider])
        if standing is Standing.NOT_SENT:
            unreached.add(ask.provider)
        elif standing is not Standing.REJECTED:
            return


def ask_for(ask: Ask, provider: PayoutProvider) -> Standing:
    """Call, and write down what was answered. Returns what holds of the attempt then."""
    sent = _call(ask, provider)
    with transaction() as session:
        return answer(session, ask, sent)


def _call(ask: Ask, provider: PayoutProvider) -> Sent:
    """No transaction is open. Whatever goes wrong in here is no answer."""
    if not throttle.wait(ask.provider, provider.abilities.per_second):
        return Sent(standing=Standing.NOT_SENT, why="as many as it takes a second are under way")
    if clock.now() >= ask.asked_at + settings().send_within:
        # Others may have taken this run for dead and proven that there is none: it must not be made true now.
        return Sent(standing=Standing.NOT_SENT, why="this worker was held up")
    try:
        return provider.send(ask.request)
    except Exception as error:  # noqa: BLE001  # whatever it is, it may have got there
        # Its words may repeat what was sent, account number and all. Where it was raised is only code.
        raised_at = "".join(traceback.format_tb(error.__traceback__))
        log.error(  # noqa: TRY400
            "payout.send_failed",
            provider=ask.provider,
            attempt_id=str(ask.attempt_id),
            type=type(error).__name__,
            raised_at=raised_at,
        )
        return Sent(standing=Standing.UNKNOWN, why="the adapter failed")


# --- begin --------------------------------------------------------------------------------------------------------


def begin(session: Session, payout_id: UUID, *, able: Collection[str], unreached: Collection[str] = ()) -> Ask | None:
    """The intent, which the caller commits before the call. None: nothing is to be sent now.

    `able`: the providers that this process has. `unreached`: those that it could not reach a moment ago.
    """
    payout = queries.lock(session, payout_id)
    if payout is None or payout.current not in (S.APPROVED, S.SUBMITTING):
        return None
    now = clock.now()
    attempts = sending_queries.attempts(session, payout_id)
    open_ = sending_queries.there(attempts)
    if payout.current is S.SUBMITTING and open_ is not None and open_.current is A.ASKING:
        lose(session, payout, open_, now=now)  # the run that wrote it is dead, or knows better soon
        return None
    if payout.current is not S.APPROVED or payout.by_hand:
        return None
    if open_ is not None:
        _take_up(session, payout, open_, now=now)
        return None
    choice = choosing.choose(session, payout, attempts, able=able, unreached=unreached, now=now)
    if freezing.is_frozen(session, payout) or not _takes_its_money(session, payout, choice):
        _freeze(session, payout, now=now)
    elif choice.provider is None:
        _wait(session, payout, choice.wait or Wait.PROVIDER, until=choice.until, now=now)
    else:
        return _intend(session, payout, attempts, choice.provider, now=now)
    return None


def _takes_its_money(session: Session, payout: Payout, choice: Choice) -> bool:
    """False: its account was frozen a moment ago. The capture has the last word."""
    if choice.provider is None:
        return True
    try:
        books.begin(session, payout)
    except AccountFrozenError:
        return False
    return True


def _intend(
    session: Session, payout: Payout, attempts: Sequence[PayoutAttempt], provider: str, *, now: datetime
) -> Ask:
    ask = _attempt(session, payout, attempts, provider, now=now)
    payout.provider, payout.provider_ref = ask.provider, None
    payout.waits_for = payout.waits_since = None
    payout.submitted_at = payout.submitted_at or now
    before = payout.current
    move(session, payout, "submit", now=now, actor=ACTOR, provider=ask.provider, attempt=str(ask.attempt_id))
    followed(session, payout, before, now=now)
    return ask


def _attempt(
    session: Session, payout: Payout, attempts: Sequence[PayoutAttempt], provider: str, *, now: datetime
) -> Ask:
    """The last one once more, if it never got there; else a new one, under a new key."""
    last = attempts[-1] if attempts else None
    if last is not None and last.current is A.NOT_SENT and last.provider == provider:
        request = request_of(payout, last.id)
        if last.request_hash == hash_of(request, payout):
            last.state, last.sends = A.ASKING, last.sends + 1
            last.first_sent_at = last.last_sent_at = now  # nothing of it ever got there
            session.flush()
            return Ask(last.id, provider, last.sends, request, now)
    attempt_id = new_id()
    request = request_of(payout, attempt_id)
    session.add(
        PayoutAttempt(
            id=attempt_id,
            payout_id=payout.id,
            number=len(attempts) + 1,
            provider=provider,
            request_hash=hash_of(request, payout),
            state=A.ASKING,
            sends=1,
            first_sent_at=now,
            last_sent_at=now,
        )
    )
    session.flush()
    return Ask(attempt_id, provider, 1, request, now)


def request_of(payout: Payout, attempt_id: UUID) -> PayoutRequest:
    return PayoutRequest(
        reference=str(attempt_id),
        currency=payout.payout_asset,
        units=payout.payout_units,
        destination=sealing.opened(payout),
        narration=payout.narration,
        purpose=payout.purpose,
    )


def hash_of(request: PayoutRequest, payout: Payout) -> bytes:
    """Of all that is asked. Keyed, since account numbers are few enough to be tried out."""
    to = request.destination
    asked = [
        request.reference,
        request.currency,
        str(request.units),
        request.narration,
        request.purpose,
        [str(to.kind), to.number, to.bank_code, to.holder, to.tag],
        payout.destination_fingerprint,
    ]
    return bytes.fromhex(vault.fingerprint("payout.request", json.dumps(asked, separators=(",", ":"))))


def _take_up(session: Session, payout: Payout, attempt: PayoutAttempt, *, now: datetime) -> None:
    """It was told of while it stood frozen or was decided anew: an attempt is there, and no other is made."""
    before = payout.current
    if sending_queries.is_there_after_all(attempt):
        attempt.state, attempt.answered_at = A.ACCEPTED, now
        session.flush()
    books.begin(session, payout)
    move(session, payout, "submit", now=now, actor=ACTOR, provider=attempt.provider, attempt=str(attempt.id))
    payout.provider, payout.provider_ref = attempt.provider, attempt.provider_ref
    if attempt.extra_journal_id is not None:
        books.not_beside(session, payout, attempt)
        books.pay(session, payout, attempt.provider)
        move(session, payout, "pay", now=now, actor=f"provider:{attempt.provider}")
    elif attempt.current is A.ACCEPTED:
        move(session, payout, "accept", now=now, actor=f"provider:{attempt.provider}")
    else:
        lose(session, payout, attempt, now=now)
    followed(session, payout, before, now=now)


def _freeze(session: Session, payout: Payout, *, now: datetime) -> None:
    before = payout.current
    payout.waits_for = payout.waits_since = None
    move(session, payout, "freeze", now=now, actor=ACTOR, reason="its account is frozen")
    followed(session, payout, before, now=now)


def _wait(session: Session, payout: Payout, wait: Wait, *, until: datetime | None, now: datetime) -> None:
    if payout.waiting is not wait:
        payout.waits_for, payout.waits_since = wait, now
        note(session, payout, "waits", now=now, actor=ACTOR, **{"for": str(wait)})
        log.warning("payout.waits", payout_id=str(payout.id), waits_for=wait)
    payout.next_look_at = until or now + pace.SLOWEST
    payout.updated_at = now


def lose(session: Session, payout: Payout, attempt: PayoutAttempt, *, now: datetime) -> None:
    """From now on nobody knows. Only proof or two people end that (ADR 25)."""
    attempt.state = A.UNKNOWN
    payout.unknown_since = payout.unknown_since or now
    before = payout.current
    move(session, payout, "lose", now=now, actor=ACTOR, provider=attempt.provider, sends=attempt.sends)
    followed(session, payout, before, now=now)


# --- record -------------------------------------------------------------------------------------------------------


def answer(session: Session, ask: Ask, sent: Sent) -> Standing:
    """Write down what the provider said. Returns what holds of the attempt now."""
    payout, attempt = locked(session, ask.attempt_id)
    now = clock.now()
    standing = sent.standing
    if standing is Standing.ACCEPTED and sent.remittance is None:
        standing = Standing.UNKNOWN  # it says yes, and not to what
    is_well = standing is Standing.ACCEPTED or (
        standing is Standing.REJECTED and sent.refusal not in (Refusal.PROVIDER, None)
    )
    known.answered(session, ask.provider, ok=is_well)
    if standing is Standing.ACCEPTED and sent.remittance is not None:
        record(session, attempt.id, sent.remittance, asked_at=ask.asked_at, source="send")
        if attempt.current is A.ASKING:  # of another amount than asked for
            lose(session, payout, attempt, now=now)
        return Standing.ACCEPTED
    if attempt.current not in (A.ASKING, A.UNKNOWN) or attempt.sends != ask.sends:
        # A look was there first, or it was sent again meanwhile: this answer is about the past.
        if standing is Standing.REJECTED and attempt.current is A.ACCEPTED:
            log.error("payout.refused_and_there", payout_id=str(payout.id), provider=ask.provider)
        return Standing.UNKNOWN
    attempt.why = sent.why[:WHY_LENGTH_MAX] if sent.why else None
    if standing is Standing.UNKNOWN or attempt.lost:
        # Sent again after a try of which nobody knows, a refusal of this one proves nothing of that.
        if payout.current is S.SUBMITTING:
            lose(session, payout, attempt, now=now)
        return Standing.UNKNOWN
    _not_there(session, payout, attempt, sent, now=now)
    return standing


def _not_there(session: Session, payout: Payout, attempt: PayoutAttempt, sent: Sent, *, now: datetime) -> None:
    """Refused, or it did not get there: proven."""
    before = payout.current
    attempt.answered_at = now
    if sent.standing is Standing.NOT_SENT:
        attempt.state = A.NOT_SENT
        event = "not_sent" if before is S.SUBMITTING else "absent"
        move(session, payout, event, now=now, actor=ACTOR, provider=attempt.provider, why=attempt.why)
    else:
        attempt.state = A.REJECTED
        attempt.refusal = None if sent.refusal is None else str(sent.refusal)
        turned_down(session, payout, attempt, now=now)
    followed(session, payout, before, now=now)
