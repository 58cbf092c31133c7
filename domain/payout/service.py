"""Payouts: what other parts of the platform may ask for. The steps are beside this module."""

from domain.payout.approving import approve, expire_approvals, given, reject
from domain.payout.batches import NewBatch, create_batch, get_batch
from domain.payout.batches import items as batch_items
from domain.payout.by_hand import Evidence
from domain.payout.by_hand import confirm as confirm_by_hand
from domain.payout.by_hand import record as record_by_hand
from domain.payout.by_hand import take as take_by_hand
from domain.payout.by_hand import withdraw as withdraw_by_hand
from domain.payout.creating import NewPayout, create
from domain.payout.editing import Edit, edit
from domain.payout.looking import dispatch, hear, look, wanted
from domain.payout.models import (
    Payout,
    PayoutApproval,
    PayoutBatch,
    PayoutEvent,
    PayoutListing,
    PayoutProviderRow,
    PayoutRule,
)
from domain.payout.ports import NewDestination, Ports
from domain.payout.proceeding import proceed, waiting_for
from domain.payout.providers import is_down
from domain.payout.providers import refresh as refresh_providers
from domain.payout.queries import approvals, get, history, page, waiting
from domain.payout.ruling import ListName, ListScope, NewRule, listings
from domain.payout.ruling import put as put_on_list
from domain.payout.ruling import rows as rules
from domain.payout.ruling import take_off as take_off_list
from domain.payout.ruling import write as write_rule
from domain.payout.sealing import count_by_key, reseal
from domain.payout.sending_queries import figures, providers
from domain.payout.states import PayoutState, Verdict, Wait
from domain.payout.stopping import cancel, freeze, start_provider, stop_provider, thaw
from domain.payout.submitting import submit

__all__ = [
    "Edit",
    "Evidence",
    "ListName",
    "ListScope",
    "NewBatch",
    "NewDestination",
    "NewPayout",
    "NewRule",
    "Payout",
    "PayoutApproval",
    "PayoutBatch",
    "PayoutEvent",
    "PayoutListing",
    "PayoutProviderRow",
    "PayoutRule",
    "PayoutState",
    "Ports",
    "Verdict",
    "Wait",
    "approvals",
    "approve",
    "batch_items",
    "cancel",
    "confirm_by_hand",
    "count_by_key",
    "create",
    "create_batch",
    "dispatch",
    "edit",
    "expire_approvals",
    "figures",
    "freeze",
    "get",
    "get_batch",
    "given",
    "hear",
    "history",
    "is_down",
    "listings",
    "look",
    "page",
    "proceed",
    "providers",
    "put_on_list",
    "record_by_hand",
    "refresh_providers",
    "reject",
    "reseal",
    "rules",
    "start_provider",
    "stop_provider",
    "submit",
    "take_by_hand",
    "take_off_list",
    "thaw",
    "waiting",
    "waiting_for",
    "wanted",
    "withdraw_by_hand",
    "write_rule",
]
