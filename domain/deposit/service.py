"""Deposits: what other parts of the platform may ask for. The steps are in the modules beside this one."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from domain.deposit import queries
from domain.deposit.addresses import register_addresses
from domain.deposit.create import NewDeposit, create, create_many
from domain.deposit.follow import chain_of, look, poll
from domain.deposit.models import ChainCursor, Deposit, DepositEvent
from domain.deposit.release import release
from domain.deposit.scan import restart as restart_scan
from domain.deposit.scan import scan
from domain.deposit.states import DepositState, Mode, Reason

__all__ = [
    "ChainCursor",
    "Deposit",
    "DepositEvent",
    "DepositState",
    "Mode",
    "NewDeposit",
    "Reason",
    "chain_of",
    "count_by_state",
    "create",
    "create_many",
    "failing_chains",
    "get",
    "history",
    "look",
    "page",
    "poll",
    "register_addresses",
    "release",
    "restart_scan",
    "scan",
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
) -> Sequence[Deposit]:
    """Newest first. `before` is the id of the last deposit of the page before."""
    return queries.page(session, tenant=tenant, state=state, before=before, limit=limit)


def count_by_state(session: Session) -> dict[str, int]:
    """How many deposits that are not final are in each state."""
    return queries.count_live(session)


def failing_chains(session: Session, *, longer_than: timedelta) -> Sequence[ChainCursor]:
    """Chains whose nodes have not answered for this long, and those whose scan is stopped."""
    return queries.failing_chains(session, longer_than=longer_than, now=clock.now())
