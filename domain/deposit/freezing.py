"""Freezing an owner's account when a reorg took money that is spent or under way, and lifting that again.

A frozen account still takes what arrives. Nothing leaves it, so no payout out of money that is gone is captured before
the money is back or a person has looked. Who else wants the account frozen is the ledger's to know.
"""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from domain.deposit.history import note
from domain.deposit.models import Deposit
from ledger import balances, freezes

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
    change = freezes.place(
        session,
        tenant=deposit.tenant,
        code=deposit.account,
        asset=deposit.asset,
        holder=deposit.subject,
        reason=f"{deposit.subject} was undone by a reorg: {owed} units owed, {held} held",
        actor=ACTOR,
    )
    note(
        session,
        deposit,
        "frozen",
        now=now,
        account=deposit.account,
        owed=str(owed),
        held=str(held),
        was_frozen=change is None or change.before["state"] == "frozen",
    )
    log.error("deposit.account_frozen", deposit_id=str(deposit.id), owed=str(owed), held=str(held))


def lift(session: Session, deposit: Deposit, *, now: datetime) -> None:
    """After a credit: this deposit wants its account frozen no longer, if it ever did and its debt is paid."""
    if deposit.reorged_at is None or deposit.units_short:
        return
    change = freezes.lift(
        session,
        tenant=deposit.tenant,
        code=deposit.account,
        asset=deposit.asset,
        holder=deposit.subject,
        reason=f"{deposit.subject} came back, and what was owed for it is paid",
        actor=ACTOR,
    )
    if change is None:
        return
    if change.after["state"] == "open":
        note(session, deposit, "unfrozen", now=now, account=deposit.account)
    else:
        note(session, deposit, "freeze_lifted", now=now, account=deposit.account, **change.after)
