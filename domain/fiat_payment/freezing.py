"""Freezing an owner's account when a payment went back after its money was spent, and lifting that again.

Only under the policy `freeze`. A frozen account still takes what arrives; nothing leaves it. Who else wants the account
frozen is the ledger's to know.
"""

from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from domain.fiat_payment.history import note
from domain.fiat_payment.models import FiatPayment
from domain.fiat_payment.settings import Negative
from domain.fiat_payment.settings import fiat_payment as settings
from ledger import freezes

log = structlog.stdlib.get_logger(__name__)

ACTOR = "fiat_webhook"
"""How the changes of accounts name us."""


def freeze(session: Session, payment: FiatPayment, *, owed: int, now: datetime) -> None:
    """After money was taken back that is not there. Its journal has locked the account."""
    log.error("fiat_payment.owed", payment_id=str(payment.id), account=payment.account, owed=str(owed))
    note(session, payment, "owed", now=now, account=payment.account, units=str(owed), asset=payment.credited_asset)
    if settings().negative_balance is not Negative.FREEZE or payment.credited_asset is None:
        return
    change = freezes.place(
        session,
        tenant=payment.tenant,
        code=payment.account,
        asset=payment.credited_asset,
        holder=payment.subject,
        reason=f"{payment.subject} went back to its payer: {owed} units are owed",
        actor=ACTOR,
    )
    was_frozen = change is None or change.before["state"] == "frozen"
    note(session, payment, "frozen", now=now, account=payment.account, was_frozen=was_frozen)


def lift(session: Session, payment: FiatPayment, *, now: datetime) -> None:
    """After money came back: this payment wants the account frozen no longer, if it ever did and its debt is paid."""
    if payment.short_units or payment.credited_asset is None:
        return
    change = freezes.lift(
        session,
        tenant=payment.tenant,
        code=payment.account,
        asset=payment.credited_asset,
        holder=payment.subject,
        reason=f"{payment.subject} came back, and what was owed for it is paid",
        actor=ACTOR,
    )
    if change is None:
        return
    if change.after["state"] == "open":
        note(session, payment, "unfrozen", now=now, account=payment.account)
    else:
        note(session, payment, "freeze_lifted", now=now, account=payment.account, **change.after)
