"""Posting for a deposit, inside the transaction that moves its state, so that the one is never without the other."""

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from sqlalchemy.orm import Session

from core import jobs
from core.errors import TransientError
from domain.deposit import postings
from domain.deposit.models import Deposit
from ledger import posting
from ledger.errors import AccountClosedError, AccountFrozenError, InsufficientFundsError
from ledger.posting import Journal

_ATTEMPTS = 4
"""A refused posting leaves its accounts locked, so the second attempt knows what there is; more if they were opened."""


def credit(session: Session, deposit: Deposit) -> None:
    """Book what arrived to its owner, first against the debt that this deposit's own reversal left."""
    deposit.journal_id = _pay_owner(session, deposit, postings.credit)


def suspend(session: Session, deposit: Deposit) -> None:
    """Book what arrived to suspense."""
    deposit.journal_id = _post(session, postings.suspend(deposit))


def release(session: Session, deposit: Deposit) -> None:
    """Book what is in suspense to its owner."""
    deposit.release_journal_id = _pay_owner(session, deposit, postings.release)


def undo(session: Session, deposit: Deposit) -> list[UUID]:
    """Take back whatever this incarnation booked. Never refused: what the owner has spent becomes what they owe."""
    undone = []
    if deposit.journal_id is not None:
        held_in_suspense = deposit.current == "suspended"
        if not held_in_suspense:
            units = deposit.units_received or 0
            journal_id, taken = _up_to(session, units, lambda taken: postings.undo_owner(deposit, taken=taken))
            deposit.units_short += units - taken
            undone.append(journal_id)
        if held_in_suspense or deposit.release_journal_id is not None:
            undone.append(_post(session, postings.undo_suspense(deposit)))
    deposit.journal_id = deposit.release_journal_id = None
    deposit.units_recovered = 0
    return undone


def _pay_owner(session: Session, deposit: Deposit, journal: Callable[..., Journal]) -> UUID:
    most = min(deposit.units_short, deposit.units_received or 0)
    journal_id, recovered = _up_to(session, most, lambda recovered: journal(deposit, recovered=recovered))
    deposit.units_recovered = recovered
    deposit.units_short -= recovered
    return journal_id


def _up_to(session: Session, most: int, journal: Callable[[int], Journal]) -> tuple[UUID, int]:
    """Post with as much as the account with the floor allows, `most` at most. Returns how much that was."""
    units = most
    for _ in range(_ATTEMPTS):
        try:
            return _post(session, journal(units)), units
        except InsufficientFundsError as error:
            units = min(units, error.available)
        except (AccountFrozenError, AccountClosedError):
            if not units:
                raise
            units = 0  # nothing can be taken out of it, so all of it is owed
    raise TransientError("the accounts of a deposit changed under every attempt to book it")


def _post(session: Session, journal: Journal) -> UUID:
    job = jobs.current.get()
    return posting.post(session, replace(journal, job_id=job.id if job else None)).id
