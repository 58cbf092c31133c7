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
from domain.payout.facts import CLOCKS as STATEMENT_MARGIN
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
from domain.payout.reconciling import match as match_statement
from domain.payout.refusals import counted as refusals
from domain.payout.ruling import ListName, ListScope, NewRule, listings
from domain.payout.ruling import put as put_on_list
from domain.payout.ruling import rows as rules
from domain.payout.ruling import take_off as take_off_list
from domain.payout.ruling import write as write_rule
from domain.payout.sealing import count_by_key, reseal
from domain.payout.sending_queries import figures, providers
from domain.payout.settling import Into, Settlement
from domain.payout.settling import plan as plan_settlement
from domain.payout.settling import settle as settle_break
from domain.payout.statement_days import begins_of as days_of
from domain.payout.statement_file import StatementFile
from domain.payout.statement_file import bring as bring_statement
from domain.payout.statement_file import brought as statement_brought
from domain.payout.statement_file import parsed as parse_statement
from domain.payout.statement_queries import known as statement_providers
from domain.payout.statement_queries import oldest_open as oldest_break
from domain.payout.statement_queries import told_by as statements_of
from domain.payout.statement_report import Report, Sums
from domain.payout.statement_report import report as statement_report
from domain.payout.statements import read as read_statement
from domain.payout.states import PayoutState, Verdict, Wait
from domain.payout.stopping import cancel, freeze, start_provider, stop_provider, thaw
from domain.payout.submitting import submit

__all__ = [
    "STATEMENT_MARGIN",
    "Edit",
    "Evidence",
    "Into",
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
    "Report",
    "Settlement",
    "StatementFile",
    "Sums",
    "Verdict",
    "Wait",
    "approvals",
    "approve",
    "batch_items",
    "bring_statement",
    "cancel",
    "confirm_by_hand",
    "count_by_key",
    "create",
    "create_batch",
    "days_of",
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
    "match_statement",
    "oldest_break",
    "page",
    "parse_statement",
    "plan_settlement",
    "proceed",
    "providers",
    "put_on_list",
    "read_statement",
    "record_by_hand",
    "refresh_providers",
    "refusals",
    "reject",
    "reseal",
    "rules",
    "settle_break",
    "start_provider",
    "statement_brought",
    "statement_providers",
    "statement_report",
    "statements_of",
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
