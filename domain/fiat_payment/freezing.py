"""Freezing an owner's account when a payment went back after its money was spent, and lifting that again.

Only under the policy `freeze`. A frozen account still takes what arrives; nothing leaves it.
"""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from domain.fiat_payment import queries
from domain.fiat_payment.history import note
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.settings import Negative
from domain.fiat_payment.settings import fiat_payment as settings
from ledger import accounts, balances
from ledger.errors import AccountClosedError

log = structlog.stdlib.get_logger(__name__)

ACTOR = "fiat_webhook"
"""How the changes of accounts name us."""


def freeze(session: Session, payment: FiatPayment, *, owed: int, now: datetime) -> None:
    """After money was taken back that is not there. Its journal has locked the account."""
    log.error("fiat_payment.owed", payment_id=str(payment.id), account=payment.account, owed=str(owed))
    note(session, payment, "owed", now=now, account=payment.account, units=str(owed), asset=payment.credited_asset)
    if settings().negative_balance is not Negative.FREEZE or payment.credited_asset is None:
        return
    try:
        change = accounts.freeze(
            session,
            tenant=payment.tenant,
            code=payment.account,
            asset=payment.credited_asset,
            reason=f"{payment.subject} went back to its payer: {owed} units are owed",
            actor=ACTOR,
        )
    except AccountClosedError:
        return  # nothing moves in it anyway
    payment.freezes = change is not None or _is_ours(session, payment)
    note(session, payment, "frozen", now=now, account=payment.account, was_frozen=change is None)


def lift(session: Session, payment: FiatPayment, *, now: datetime) -> None:
    """After money came back: unfreeze the account if this payment froze it, its debt is paid, no other's is left."""
    if not payment.freezes or payment.short_units or payment.credited_asset is None:
        return
    payment.freezes = False
    # Whoever takes another payment of the account back at this moment comes before this lock, or after our end.
    balances.balance(session, payment.tenant, payment.account, payment.credited_asset, for_update=True)
    if queries.is_frozen_by_others(session, payment) or not _is_ours(session, payment):
        return
    accounts.unfreeze(
        session,
        tenant=payment.tenant,
        code=payment.account,
        asset=payment.credited_asset,
        reason=f"{payment.subject} came back, and what was owed for it is paid",
        actor=ACTOR,
    )
    note(session, payment, "unfrozen", now=now, account=payment.account)


def _is_ours(session: Session, payment: FiatPayment) -> bool:
    """The account is frozen, and the last to freeze or unfreeze it was us: what a person froze stays frozen."""
    cursor: str | None = None
    while True:
        page = accounts.changes(session, payment.tenant, payment.account, asset=payment.credited_asset, cursor=cursor)
        for change in page.rows:
            if change.change in ("freeze", "unfreeze"):
                return change.change == "freeze" and change.actor == ACTOR
        cursor = page.cursor
        if cursor is None:
            return False
