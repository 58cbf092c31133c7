"""How a payout ends that did not leave: its money is its owner's again, and the limits forget it."""

from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from core.errors import ConflictError
from domain.payout import books, limits, sending_queries
from domain.payout.history import move
from domain.payout.models import Payout


def let_go(
    session: Session,
    payout: Payout,
    event: str,
    *,
    now: datetime,
    actor: str,
    reason: str,
    failure: str | None = None,
    **detail: Any,
) -> None:
    """`event`: reject or cancel. Whoever calls has the payout's row locked, and has seen that no provider has it.

    Its money is bound in its account or, where a provider has refused it before, in transit: it comes back from either.
    Raises ConflictError if a provider that refused it has it after all.
    """
    if sending_queries.there(sending_queries.attempts(session, payout.id)) is not None:
        raise ConflictError(f"a provider has the payout {payout.id} after all: thaw it, and it goes on with that")
    books.give_back(session, payout, now=now)
    limits.release_usage(session, payout)
    payout.failure, payout.approve_until, payout.next_look_at = failure, None, None
    payout.waits_for, payout.waits_since = None, None
    move(session, payout, event, now=now, actor=actor, reason=reason, **detail)
