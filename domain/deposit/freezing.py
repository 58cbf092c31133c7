"""Freezing an owner's account when a reorg took money that is spent or under way, and lifting that again.

A frozen account still takes what arrives. Nothing leaves it, so no payout out of money that is gone is captured before
the money is back or a person has looked.
"""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from domain.deposit import queries
from domain.deposit.history import note
from domain.deposit.models import Deposit
from ledger import accounts, balances
from ledger.errors import AccountClosedError

log = structlog.stdlib.get_logger(__name__)

ACTOR = "tx_monitor"
"""How the changes of accounts name us."""


def freeze(session: Session, deposit: Deposit, *, owed: int, now: datetime) -> None:
    """After an undoing: freeze the account if some of the money is owed, or if holds bind what is left in it.

    The undoing's journal has locked the account, so nothing can be captured between the two.
    """
    held = sum(
        account.held
        for account in balances.account(session, deposit.tenant, deposit.account)
        if account.asset == deposit.asset
    )
    if not owed and not held:
        return
    try:
        change = accounts.freeze(
            session,
            tenant=deposit.tenant,
            code=deposit.account,
            asset=deposit.asset,
            reason=f"{deposit.subject} was undone by a reorg: {owed} units owed, {held} held",
            actor=ACTOR,
        )
    except AccountClosedError:
        return  # nothing moves in it anyway
    deposit.freezes = change is not None or _is_ours(session, deposit)
    note(
        session,
        deposit,
        "frozen",
        now=now,
        account=deposit.account,
        owed=str(owed),
        held=str(held),
        was_frozen=change is None,
    )
    log.error("deposit.account_frozen", deposit_id=str(deposit.id), owed=str(owed), held=str(held))


def lift(session: Session, deposit: Deposit, *, now: datetime) -> None:
    """After a credit: unfreeze the account if this deposit froze it, its debt is paid, and no other one's is left."""
    if not deposit.freezes or deposit.units_short:
        return
    deposit.freezes = False
    # Whoever undoes another deposit of the account at this moment comes before this lock, or after our end.
    balances.balance(session, deposit.tenant, deposit.account, deposit.asset, for_update=True)
    if queries.is_frozen_by_others(session, deposit) or not _is_ours(session, deposit):
        return
    accounts.unfreeze(
        session,
        tenant=deposit.tenant,
        code=deposit.account,
        asset=deposit.asset,
        reason=f"{deposit.subject} came back, and what was owed for it is paid",
        actor=ACTOR,
    )
    note(session, deposit, "unfrozen", now=now, account=deposit.account)


def _is_ours(session: Session, deposit: Deposit) -> bool:
    """The account is frozen, and the last to freeze or unfreeze it was us: what a person froze stays frozen."""
    cursor: str | None = None
    while True:
        page = accounts.changes(session, deposit.tenant, deposit.account, asset=deposit.asset, cursor=cursor)
        for change in page.rows:
            if change.change in ("freeze", "unfreeze"):
                return change.change == "freeze" and change.actor == ACTOR
        cursor = page.cursor
        if cursor is None:
            return False
