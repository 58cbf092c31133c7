"""What people decide about a payout that waits for them: maker and checker.

A payout is approved by as many people as it needs, none of whom asked for it or edited it, and each counts once. What
each approves is named by the hash of what he was shown (`content_hash`): an edit, or another screening, makes another
hash, and what was said of the one before counts no more. One person is enough to reject it.
"""

from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvariantError
from core.ids import new_id
from core.jobs import transaction
from domain.payout import history, queries
from domain.payout.content import content_hash
from domain.payout.ending import let_go
from domain.payout.models import Payout, PayoutApproval
from domain.payout.people import because, locked, makers, named, need_seen
from domain.payout.screening import submit
from domain.payout.states import Decision, PayoutState

log = structlog.stdlib.get_logger(__name__)

EXPIRED = "approval_expired"
REJECTED = "rejected_by_hand"
_DECIDABLE = {
    Decision.APPROVE: frozenset({PayoutState.AWAITING_APPROVAL}),
    # What is frozen may never go on: it needs no thaw first to be refused.
    Decision.REJECT: frozenset({PayoutState.AWAITING_APPROVAL, PayoutState.FROZEN}),
}


def approve(
    session: Session,
    payout_id: UUID,
    *,
    approver: str,
    seen_hash: bytes,
    reason: str | None = None,
    tenant: str | None = None,
) -> Payout:
    """Say yes to what was seen. With the last yes that it needs it is approved, and its sending asked for.

    Saying the same again changes nothing. Raises NotFoundError, InvalidRequestError, and ConflictError: it doesn't wait
    for approval, it has changed, its time is over, the approver made or edited it, or has decided otherwise.
    """
    why = None if reason is None else because(reason)
    approver = named(approver)
    payout = locked(session, payout_id, tenant)
    if not _to_decide(session, payout, Decision.APPROVE, approver, seen_hash):
        return payout
    if content_hash(payout) != payout.content_hash:
        raise InvariantError(f"the payout {payout.id} is not what its hash says: nobody knows what was approved")
    now = clock.now()
    if payout.approve_until is not None and payout.approve_until <= now:
        raise ConflictError(f"the time to approve the payout {payout.id} is over")
    _say(session, payout, Decision.APPROVE, approver, why)
    number = given(session, payout)
    detail = {"given": number, "needed": payout.approvals_needed, "seen": seen_hash.hex()}
    if number < payout.approvals_needed:
        history.note(session, payout, "approval", now=now, actor=approver, reason=why, **detail)
        return payout
    payout.approve_until = None
    history.move(session, payout, "approve", now=now, actor=approver, reason=why, **detail)
    submit(session, payout)
    return payout


def reject(
    session: Session, payout_id: UUID, *, approver: str, seen_hash: bytes, reason: str, tenant: str | None = None
) -> Payout:
    """Say no, also to one that is frozen: it ends, and its money is its owner's again. Raises as approve() does."""
    why, approver = because(reason), named(approver)
    payout = locked(session, payout_id, tenant)
    if not _to_decide(session, payout, Decision.REJECT, approver, seen_hash):
        return payout
    _say(session, payout, Decision.REJECT, approver, why)
    let_go(
        session,
        payout,
        "reject",
        now=clock.now(),
        actor=approver,
        reason=why,
        failure=REJECTED,
        seen=seen_hash.hex(),
    )
    return payout


def _to_decide(session: Session, payout: Payout, decision: Decision, approver: str, seen_hash: bytes) -> bool:
    """False if he has said this of this already. Raises ConflictError."""
    for said in queries.approvals(session, payout.id, revision=payout.revision):
        if said.approver == approver:
            if said.decision == decision and said.seen_hash == seen_hash:
                return False
            raise ConflictError(f"{approver} has decided about this revision of the payout {payout.id} already")
    if payout.current not in _DECIDABLE[decision]:
        raise ConflictError(f"the payout {payout.id} is {payout.state}: there is nothing to {decision}")
    need_seen(payout, seen_hash)
    if approver in makers(session, payout):
        raise ConflictError(f"{approver} asked for the payout {payout.id} or edited it: another person decides")
    return True


def _say(session: Session, payout: Payout, decision: Decision, approver: str, why: str | None) -> None:
    session.add(
        PayoutApproval(
            id=new_id(),
            payout_id=payout.id,
            revision=payout.revision,
            approver=approver,
            decision=decision,
            seen_hash=payout.content_hash,
            reason=why,
            decided_at=clock.now(),
        )
    )
    session.flush()


def given(session: Session, payout: Payout) -> int:
    """How many have approved what it says now."""
    said = queries.approvals(session, payout.id, revision=payout.revision)
    return sum(each.decision == Decision.APPROVE and each.seen_hash == payout.content_hash for each in said)


# --- what nobody decides ---------------------------------------------------------------------------------------------


def expire_approvals(*, limit: int = 100) -> int:
    """Reject what nobody approved in time, each in a transaction of its own. Says how many.

    One that can't be keeps no other waiting: a provider has it after all, or, raised as the last of such, its row is
    not what it should be (InvariantError).
    """
    with transaction() as session:
        found = queries.expired(session, now=clock.now(), limit=limit)
    ended, wrong = 0, None
    for payout_id in found:
        try:
            ended += _expire(payout_id)
        except ConflictError as error:
            log.warning("payout.not_expired", payout_id=str(payout_id), error=str(error))
        except InvariantError as error:
            wrong = error
    if wrong is not None:
        raise wrong
    return ended


def _expire(payout_id: UUID) -> bool:
    with transaction() as session:
        payout = queries.lock(session, payout_id)
        now = clock.now()
        if (
            payout is None
            or payout.current is not PayoutState.AWAITING_APPROVAL
            or payout.approve_until is None
            or payout.approve_until > now
        ):
            return False  # somebody decided meanwhile
        number = given(session, payout)
        let_go(
            session,
            payout,
            "reject",
            now=now,
            actor=history.ACTOR,
            reason=f"not approved until {payout.approve_until:%Y-%m-%d %H:%M} UTC",
            failure=EXPIRED,
            given=number,
            needed=payout.approvals_needed,
        )
    return True
