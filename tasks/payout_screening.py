"""Payouts before they are sent: those that wait for their destination or for deposits go on. Sending: tasks.payout."""

from uuid import UUID

from sqlalchemy.orm import Session

from domain.beneficiary import service as beneficiaries
from domain.deposit import service as deposits
from domain.payout import service as payouts
from domain.payout.ports import Ports
from domain.quote import service as quotes
from domain.rates.service import usable
from tasks.base import task, transaction

PORTS = Ports(
    take=beneficiaries.take,
    add=beneficiaries.entry_of,
    consume=quotes.consume,
    rate=usable,
    unsettled=deposits.unsettled,
)
"""What other slices have for payouts."""


@task("payout.proceed")
def proceed(session: Session, payout_id: UUID) -> None:
    """Screen a held payout, or reject it, as soon as its destination is decided about. Safe to run at any time."""
    payouts.proceed(session, payout_id, PORTS)


@task("payout.expire_approvals")
def expire_approvals() -> None:
    """Reject what nobody approved in time."""
    while payouts.expire_approvals():
        pass


@task("payout.follow_beneficiary")
def follow_beneficiary(beneficiary_id: UUID) -> None:
    """Go on with all payouts that wait for what was decided about a destination."""
    with transaction() as session:
        waiting = payouts.waiting_for(session, beneficiary_id)
    for payout_id in waiting:
        with transaction() as session:
            payouts.proceed(session, payout_id, PORTS)
