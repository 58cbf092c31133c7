"""What happens to payouts that wait before they are screened: their destination is decided about, or what froze them is
over.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, NotFoundError
from domain.payout import creating, queries, screening, screening_queries, sending_queries
from domain.payout.content import content_hash
from domain.payout.ending import let_go
from domain.payout.errors import PayoutRefusedError
from domain.payout.history import ACTOR, move
from domain.payout.models import Payout
from domain.payout.ports import Ports, Taken
from domain.payout.states import UNSENT, PayoutState

REFUSED, REMOVED, SCREENED_OUT = "destination_refused", "destination_removed", "refused_by_rules"


def proceed(session: Session, payout_id: UUID, ports: Ports) -> None:
    """Go on with a payout as far as it can: screened if its destination is verified, rejected if that is refused.

    Safe to run any number of times, in any state.
    """
    payout = queries.lock(session, payout_id)
    if payout is None or payout.current not in UNSENT:
        return  # it is being sent, or over: what becomes of it is its provider's word
    if payout.begun_journal_id is not None and payout.current is not PayoutState.HELD:
        return  # it was sent before, and only a person who froze and thawed it has it looked at again
    now = clock.now()
    if payout.current is PayoutState.HELD and _is_there(session, payout):
        _go_on(session, payout, now=now)
        return
    taken = _entry(session, payout, ports)
    if taken is not None and taken.state == "refused":
        _reject(session, payout, REFUSED, f"its destination is refused: {taken.failure}", now=now)
        return
    if payout.current is PayoutState.FROZEN and not _thaws(session, payout, ports, now=now):
        return
    if payout.current is not PayoutState.HELD:
        return
    if taken is None:
        _reject(session, payout, REMOVED, "its destination was removed before it was screened", now=now)
    elif creating.is_verified(taken):
        _screen(session, payout, ports, taken, now=now)


def waiting_for(session: Session, beneficiary_id: UUID) -> Sequence[UUID]:
    """The payouts that what is decided about a destination matters to."""
    return screening_queries.unsent_to(session, beneficiary_id)


def _is_there(session: Session, payout: Payout) -> bool:
    return sending_queries.there(sending_queries.attempts(session, payout.id)) is not None


def _go_on(session: Session, payout: Payout, *, now: datetime) -> None:
    """A provider has it after all, and a person thawed it: whatever rules or its destination's entry say now, that is
    what it goes on with.
    """
    payout.by_hand = False
    payout.content_hash = content_hash(payout)
    for event in ("screen", "approve"):
        move(session, payout, event, now=now, actor=ACTOR, reason="a provider has it after all")
    screening.submit(session, payout)


def _entry(session: Session, payout: Payout, ports: Ports) -> Taken | None:
    """None: it was removed. What was screened before has its own copy and goes on."""
    try:
        return ports.take(session, payout.beneficiary_id, tenant=payout.tenant)
    except (ConflictError, NotFoundError):
        return None


def _thaws(session: Session, payout: Payout, ports: Ports, *, now: datetime) -> bool:
    """Thaw what the screening froze if the deposits are final. What a person froze, a person thaws."""
    frozen = screening_queries.last_event(session, payout.id, "freeze")
    if frozen is None or frozen.detail.get("by") != screening.SCREENING:
        return False
    if screening.is_unsettled(session, payout, ports):
        screening.look_again(session, payout, frozen_at=frozen.at, now=now)
        return False
    move(session, payout, "thaw", now=now, actor=ACTOR, reason="the deposits are final")
    return True


def _screen(session: Session, payout: Payout, ports: Ports, taken: Taken, *, now: datetime) -> None:
    try:
        screening.screen(session, payout, ports, taken, now=now)
    except PayoutRefusedError as error:
        _reject(session, payout, SCREENED_OUT, "the screening refuses it", now=now, rules=error.rules)


def _reject(
    session: Session, payout: Payout, failure: str, reason: str, *, now: datetime, rules: Sequence[str] = ()
) -> None:
    if payout.evidence is not None:
        return  # a person has written down that it was paid: money that has left is not let go
    let_go(session, payout, "reject", now=now, actor=ACTOR, reason=reason, failure=failure, rules=list(rules))
