"""Sealing and proving the chain, for tests."""

from sqlalchemy.orm import Session

from ledger import seals
from ledger.invariants import FIRST, LAST
from ledger.violations import Violation


def seal_now() -> int:
    """Settle and seal everything. Returns how many journals were sealed."""
    upto = seals.settle()
    assert upto is not None
    sealed, whole = seals.seal(upto)
    assert whole
    return sealed


def chain(session: Session, after: int = FIRST, upto: int = LAST) -> list[Violation]:
    return [*seals.check_chain(session, after, upto), *seals.check_ends(session)]
