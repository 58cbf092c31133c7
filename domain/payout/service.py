"""Payouts: what other parts of the platform may ask for. The steps are beside this module."""

from domain.payout.models import Payout, PayoutEvent
from domain.payout.queries import get, history, page
from domain.payout.states import PayoutState, Wait

__all__ = [
    "Payout",
    "PayoutEvent",
    "PayoutState",
    "Wait",
    "get",
    "history",
    "page",
]
