"""When a payout is looked at again. What is under way soon and then ever slower, what has ended thinly."""

from datetime import datetime, timedelta

from domain.payout.models import Payout
from domain.payout.sending_settings import sending as settings
from domain.payout.states import PayoutState

S = PayoutState
FIRST, SLOWEST = timedelta(seconds=2), timedelta(minutes=10)
UNDER_WAY, WAITING = timedelta(seconds=15), timedelta(seconds=30)
DOUBLINGS = 12
ENDED = (timedelta(hours=1), timedelta(days=1), timedelta(days=3), timedelta(days=7), timedelta(days=14))
"""After its end: banks send back what was paid, and providers take their word back."""
_FIRST = {S.UNKNOWN: FIRST, S.SUBMITTED: UNDER_WAY, S.APPROVED: WAITING}


def pause(payout: Payout, first: timedelta) -> timedelta:
    """After `looks` of them."""
    doubled: int = 2 ** min(payout.looks, DOUBLINGS)
    return min(first * doubled, SLOWEST)


def next_look(payout: Payout, *, now: datetime) -> datetime | None:
    """None: never again. Each look raises `looks`; each new state begins from 0."""
    state = payout.current
    if state is S.SUBMITTING:
        return now + settings().unknown_after
    if state in _FIRST:
        return now + pause(payout, _FIRST[state])
    if state in (S.PAID, S.FAILED, S.RETURNED) and payout.submitted_at is not None and payout.ended_at is not None:
        ended = payout.ended_at
        return next((ended + after for after in ENDED if ended + after > now), None)
    return None
