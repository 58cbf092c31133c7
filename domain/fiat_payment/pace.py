"""When a provider is asked about a payment again, and until when.

A paid one is told of by webhooks; it is asked about in case one was lost. Most disputes begin within weeks, and card
schemes give a payer 120 days for most reasons, so the questions thin out: nine of them in place of 120.
"""

from datetime import datetime, timedelta

from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.settings import DAY
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import UNPAID, PaymentState

FIRST = timedelta(seconds=5)
SLOWEST = timedelta(minutes=10)
DOUBLINGS = 7
"""After which the pause is the slowest."""
PAID_DAYS = (1, 2, 4, 7, 14, 30, 60, 90)
"""After a payment was made: when one that is paid is asked about. The last time is the end of FIAT_PAID_WATCH."""
_DOUBLINGS_MAX = 20


def next_look(payment: FiatPayment, *, now: datetime, refunding: bool = False) -> datetime | None:
    """The next question after `looks` of them; None: whatever happens now, a webhook or a settlement has to say it.

    Soon at first and then ever slower, while a payer may pay. Once he has, by PAID_DAYS; while a refund is under way,
    ever slower down to daily; while it is contested, daily, however long that takes.
    """
    if payment.current in UNPAID:
        pause = min(FIRST * (1 << min(payment.looks, DOUBLINGS)), SLOWEST)
        return now + pause if now < given_up_at(payment) else None
    if refunding:
        return now + min(FIRST * (1 << min(payment.looks, _DOUBLINGS_MAX)), DAY)
    if payment.current is PaymentState.DISPUTED:
        return now + DAY
    end = payment.created_at + settings().paid_watch
    for day in PAID_DAYS:
        at = payment.created_at + timedelta(days=day)
        if now < at < end:
            return at
    return end if now < end else None


def given_up_at(payment: FiatPayment) -> datetime:
    """When one that was never paid is asked about no more."""
    return payment.expires_at + settings().late_watch
