"""Frozen accounts: whether one is, and freezing one whose owner owes us for a payout that left after all."""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from domain.payout.history import ACTOR, note
from domain.payout.models import Payout
from domain.payout.sending_settings import Negative
from domain.payout.sending_settings import sending as settings
from ledger import balances, freezes

log = structlog.stdlib.get_logger(__name__)


def is_frozen(session: Session, payout: Payout) -> bool:
    """Whether anything may leave its account now. The capture, which is refused on a frozen one, has the last word."""
    rows = balances.account(session, payout.tenant, payout.account)
    return any(row.state == "frozen" for row in rows if row.asset == payout.asset)


def freeze(session: Session, payout: Payout, *, owed: int, now: datetime) -> None:
    """After money was taken that is not there. Its journal has locked the account."""
    log.error("payout.owed", payout_id=str(payout.id), account=payout.account, owed=str(owed))
    note(session, payout, "owed", now=now, actor=ACTOR, account=payout.account, units=str(owed))
    if settings().negative_balance is not Negative.FREEZE:
        return
    freezes.place(
        session,
        tenant=payout.tenant,
        code=payout.account,
        asset=payout.asset,
        holder=payout.subject,
        reason=f"{payout.subject} left after it was given back: {owed} units are owed",
        actor=ACTOR,
    )


def lift(session: Session, payout: Payout) -> None:
    """After it came back once more: what its owner owed for it is paid."""
    freezes.lift(
        session,
        tenant=payout.tenant,
        code=payout.account,
        asset=payout.asset,
        holder=payout.subject,
        reason=f"{payout.subject} came back, and what was owed for it is paid",
        actor=ACTOR,
    )
