"""When a provider is asked about a payment again, and until when."""

from datetime import datetime, timedelta

from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.settings import DAY
from domain.fiat_payment.settings import fiat_payment as settings
from domain.fiat_payment.states import UNPAID

FIRST = timedelta(seconds=5)
SLOWEST = timedelta(minutes=10)
DOUBLINGS = 7
"""After which the pause is the slowest."""


def next_look(payment: FiatPayment, *, now: datetime, refunding: bool = False) -> datetime | None:
    """The next question after `looks` of them; None: whatever happens now, a webhook or a settlement has to say it.

    Soon at first and then ever slower, while a payer may pay; daily once he has, since chargebacks come late.
    """
    pause = min(FIRST * 2 ** min(payment.looks, DOUBLINGS), SLOWEST)
    if payment.current in UNPAID:
        return now + pause if now < given_up_at(payment) else None
    if now >= payment.created_at + settings().paid_watch:
        return None
    return now + (pause if refunding else DAY)


def given_up_at(payment: FiatPayment) -> datetime:
    """When one that was never paid is asked about no more."""
    return payment.expires_at + settings().late_watch
