"""What a person may decide about a deposit."""

from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from domain.deposit import books, freezing, queries
from domain.deposit.history import move
from domain.deposit.models import Deposit
from domain.deposit.states import DEPOSIT


def release(session: Session, deposit_id: UUID, *, actor: str, reason: str) -> Deposit:
    """Give a suspended deposit's money to its account, and record who decided it and why.

    Raises NotFoundError if there is no such deposit, ConflictError if it isn't suspended.
    """
    if not actor.strip() or not reason.strip():
        raise InvalidRequestError("a release says who decided it and why", field="reason")
    deposit = queries.lock(session, deposit_id)
    if deposit is None:
        raise NotFoundError(f"there is no deposit {deposit_id}")
    if not DEPOSIT.can(deposit.current, "release"):
        raise ConflictError(f"the deposit {deposit_id} is {deposit.state}; only a suspended one can be released")
    books.release(session, deposit)
    now = clock.now()
    move(
        session,
        deposit,
        "release",
        now=now,
        actor=actor,
        note=reason,
        units=str(deposit.units_received),
        journal_id=str(deposit.release_journal_id),
    )
    freezing.lift(session, deposit, now=now)
    return deposit
