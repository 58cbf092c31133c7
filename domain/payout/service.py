"""Payouts: what other parts of the platform may ask for. The steps are beside this module."""

from domain.payout.batches import NewBatch, create_batch, get_batch
from domain.payout.batches import items as batch_items
from domain.payout.creating import NewPayout, create
from domain.payout.looking import dispatch, hear, look, wanted
from domain.payout.models import Payout, PayoutBatch, PayoutEvent
from domain.payout.ports import NewDestination, Ports
from domain.payout.proceeding import proceed, waiting_for
from domain.payout.providers import refresh as refresh_providers
from domain.payout.queries import get, history, page
from domain.payout.sealing import count_by_key, reseal
from domain.payout.states import PayoutState, Wait
from domain.payout.submitting import submit

__all__ = [
    "NewBatch",
    "NewDestination",
    "NewPayout",
    "Payout",
    "PayoutBatch",
    "PayoutEvent",
    "PayoutState",
    "Ports",
    "Wait",
    "batch_items",
    "count_by_key",
    "create",
    "create_batch",
    "dispatch",
    "get",
    "get_batch",
    "hear",
    "history",
    "look",
    "page",
    "proceed",
    "refresh_providers",
    "reseal",
    "submit",
    "waiting_for",
    "wanted",
]
