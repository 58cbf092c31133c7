"""Deposits: what other parts of the platform may ask for. The steps are in the modules beside this one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from domain.deposit import queries
from domain.deposit.addresses import OwnAddress, Route, addresses_of, own_address, register_addresses
from domain.deposit.coverage import Gap, gaps
from domain.deposit.create import NewDeposit, create, create_many
from domain.deposit.destinations import payment_uri
from domain.deposit.follow import chain_of, look, poll
from domain.deposit.models import Deposit, DepositEvent
from domain.deposit.nodes import NodeState, keep_health, node_states
from domain.deposit.pace import period
from domain.deposit.policies import Value
from domain.deposit.release import release
from domain.deposit.rescan import chain_of_rescan, rescan
from domain.deposit.rescan import request as request_rescan
from domain.deposit.scan import restart as restart_scan
from domain.deposit.scan import scan
from domain.deposit.scan_models import ChainCoverage, ChainCursor, ChainRescan
from domain.deposit.scan_queries import coverage, rescans
from domain.deposit.scan_queries import rescan as get_rescan
from domain.deposit.states import DepositState, Mode, Reason, Wait
from domain.deposit.status import FAILING_LATELY, ChainStatus, statuses, wanted
from domain.deposit.valuation import use_rates

__all__ = [
    "FAILING_LATELY",
    "ChainCoverage",
    "ChainCursor",
    "ChainRescan",
    "ChainStatus",
    "Deposit",
    "DepositEvent",
    "DepositState",
    "Gap",
    "Mode",
    "NewDeposit",
    "NodeState",
    "OwnAddress",
    "Reason",
    "Route",
    "Value",
    "Wait",
    "Waiting",
    "addresses_of",
    "chain_of",
    "chain_of_rescan",
    "count_by_state",
    "count_waiting",
    "coverage",
    "create",
    "create_many",
    "failing_chains",
    "gaps",
    "get",
    "get_rescan",
    "history",
    "keep_health",
    "look",
    "node_states",
    "own_address",
    "page",
    "payment_uri",
    "period",
    "poll",
    "register_addresses",
    "release",
    "request_rescan",
    "rescan",
    "rescans",
    "restart_scan",
    "scan",
    "statuses",
    "unsettled",
    "use_rates",
    "wanted",
]


def get(session: Session, deposit_id: UUID, *, tenant: str | None = None) -> Deposit | None:
    """The deposit, or None if there is none or it is another tenant's."""
    return queries.get(session, deposit_id, tenant=tenant)


def history(session: Session, deposit_id: UUID) -> Sequence[DepositEvent]:
    """What happened to it, oldest first."""
    return queries.history(session, deposit_id)


def page(
    session: Session,
    *,
    tenant: str | None = None,
    state: DepositState | None = None,
    before: UUID | None = None,
    limit: int = 50,
    owed: bool = False,
    waiting: bool = False,
) -> Sequence[Deposit]:
    """Newest first. `before` is the id of the last deposit of the page before.

    `owed`: those whose undoing left a debt or a frozen account. `waiting`: those that wait for a node or a rate.
    """
    return queries.page(session, tenant=tenant, state=state, before=before, limit=limit, owed=owed, waiting=waiting)


def unsettled(session: Session, tenant: str, account: str, asset: str) -> int:
    """Units of the account that deposits have credited and that a chain may still undo."""
    return queries.unsettled(session, tenant, account, asset)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deposits of a chain that are not booked for want of the same."""

    chain: str
    what: Wait
    count: int
    since: datetime
    """The one that has waited longest."""


def count_waiting(session: Session) -> Sequence[Waiting]:
    """What is held up: because nodes disagree, no second one answers, or no rate is known."""
    return [Waiting(chain, Wait(what), count, since) for chain, what, count, since in queries.count_waiting(session)]


def count_by_state(session: Session) -> dict[str, int]:
    """How many deposits that are not final are in each state, and all that are suspended: they wait for a person."""
    return queries.count_live(session)


def failing_chains(session: Session, *, longer_than: timedelta) -> Sequence[ChainCursor]:
    """Chains whose nodes have not answered for this long, and those whose scan is stopped."""
    return queries.failing_chains(session, longer_than=longer_than, now=clock.now())
