"""What ends a transfer, and what comes with it: whoever asked for it is told, and what it held is free."""

from collections.abc import Collection
from datetime import datetime

import structlog
from sqlalchemy.orm import Session

from core import breaks
from core.breaks import Difference
from domain.onchain import queries
from domain.onchain.history import move
from domain.onchain.models import OnchainTransfer
from domain.onchain.ports import ports
from providers.payout.base import Refusal

log = structlog.stdlib.get_logger(__name__)

UNDONE, OUTRUN, AMOUNT, NOTHING_MOVED, FAILING = (
    "onchain.undone",
    "onchain.outrun",
    "onchain.amount",
    "onchain.nothing_moved",
    "onchain.failing",
)
"""Kinds of breaks."""
WHY_LENGTH_MAX = 200


def end(
    session: Session,
    transfer: OnchainTransfer,
    event: str,
    *,
    failure: Refusal,
    why: str,
    now: datetime,
    words: str | None = None,
    keep: Collection[str] = (),
) -> None:
    """It did not pay, which is proven. The caller has its lock. `keep`: inputs that nobody else may use.

    `why` is told to others, so it has nothing of its destination; `words`, which may have, stay in the history.
    """
    transfer.failure, transfer.why = str(failure), why[:WHY_LENGTH_MAX]
    move(session, transfer, event, now=now, reason=(words or why)[:WHY_LENGTH_MAX])
    settle(session, transfer, now=now, keep=keep)
    tell(session, transfer)


def settle(session: Session, transfer: OnchainTransfer, *, now: datetime, keep: Collection[str] = ()) -> None:
    """Nothing will change any more."""
    transfer.final_at = now
    transfer.next_look_at = None
    transfer.waits_since = None
    let_go(session, transfer, now=now, but=keep)


def let_go(session: Session, transfer: OnchainTransfer, *, now: datetime, but: Collection[str] = ()) -> None:
    wallet = queries.lock_wallet(session, transfer.chain, transfer.wallet)
    wallet.takes += 1
    queries.release(session, transfer, now=now, but=but)


def tell(session: Session, transfer: OnchainTransfer) -> None:
    """In the transaction that changes what `find` says, so that the one is never without the other."""
    ports().tell(session, provider=transfer.chain, reference=transfer.reference)


def difference(session: Session, transfer: OnchainTransfer, kind: str, *, expected: str, found: str) -> None:
    """Put it on the list of what a person must look at."""
    log.error(kind, transfer_id=str(transfer.id), chain=transfer.chain, found=found)
    breaks.note(
        session,
        Difference(
            kind=kind,
            subject=transfer.subject,
            expected=expected,
            found=found,
            tenant=transfer.tenant,
            asset=transfer.asset,
            detail={"chain": transfer.chain, "reference": transfer.reference},
        ),
    )
