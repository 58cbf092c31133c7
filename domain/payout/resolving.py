"""Two people end what nobody knows: one proposes, another confirms (ADR 25). Proof that comes first, or later, wins."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvalidRequestError, NotFoundError
from core.ids import new_id
from domain.payout import books, limits, postings, queries, sending_queries
from domain.payout.history import move, note
from domain.payout.models import Payout, PayoutAttempt, PayoutResolution
from domain.payout.people import PERSON, named
from domain.payout.recording import followed
from domain.payout.states import AttemptState, PayoutState

log = structlog.stdlib.get_logger(__name__)

PAID, FAILED = "paid", "failed"
EVIDENCE_LENGTH_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What each outcome would book, as (source, destination, asset, units)."""

    paid: list[tuple[str, str, str, int]]
    failed: list[tuple[str, str, str, int]]


def plan(session: Session, payout_id: UUID) -> Plan:
    """For the person who decides. Raises NotFoundError, ConflictError if it isn't unknown."""
    payout, attempt = _unknown(session, payout_id)
    paid = postings.pay(payout, attempt.provider)
    back = [(postings.TRANSIT, payout.account, payout.asset, payout.held_units)]
    if payout.asset != payout.payout_asset:
        moves = postings.convert(payout).postings
        back = [(each.destination, each.source, each.asset, each.units) for each in reversed(moves)] + back
    return Plan([(each.source, each.destination, each.asset, each.units) for each in paid.postings], back)


def propose(session: Session, payout_id: UUID, outcome: str, evidence: Mapping[str, Any], *, actor: str) -> UUID:
    """Say what became of it, and how one knows. Returns the proposal's id.

    `evidence`: at least a `note`. Raises NotFoundError, InvalidRequestError, and ConflictError if it isn't unknown or
    something is proposed already.
    """
    who = _person(actor)
    if outcome not in (PAID, FAILED):
        raise InvalidRequestError("an outcome is paid or failed", field="outcome")
    shown = {key: str(value) for key, value in evidence.items() if str(value).strip()}
    if not shown.get("note") or any(len(each) > EVIDENCE_LENGTH_MAX for each in shown.values()):
        raise InvalidRequestError(f"evidence has a note of at most {EVIDENCE_LENGTH_MAX} characters", field="evidence")
    payout, attempt = _unknown(session, payout_id)
    if sending_queries.open_resolution(session, payout_id) is not None:
        raise ConflictError(f"somebody has proposed already what became of the payout {payout_id}")
    now = clock.now()
    made = PayoutResolution(
        id=new_id(), payout_id=payout_id, outcome=outcome, evidence=shown, proposed_by=who, proposed_at=now
    )
    session.add(made)
    note(session, payout, "proposed", now=now, actor=who, reason=shown["note"], outcome=outcome, sends=attempt.sends)
    return made.id


def confirm(session: Session, payout_id: UUID, outcome: str, *, actor: str) -> Payout:
    """Say the same as who proposed it: then it is so. Raises as `propose`, and ConflictError for the same person."""
    who = _person(actor)
    payout, attempt = _unknown(session, payout_id)
    said_before = sending_queries.open_resolution(session, payout_id)
    if said_before is None:
        raise ConflictError(f"nobody has proposed what became of the payout {payout_id}")
    if named(said_before.proposed_by) == who:
        raise ConflictError(f"{who} proposed it: another person confirms it")
    if said_before.outcome != outcome:
        raise ConflictError(f"{said_before.proposed_by} proposed {said_before.outcome}: confirm that, or withdraw it")
    now = clock.now()
    before = payout.current
    said_before.confirmed_by, said_before.closed_at = who, now
    payout.evidence = {**said_before.evidence, "proposed_by": said_before.proposed_by, "confirmed_by": who}
    said = {"outcome": outcome, "proposed_by": said_before.proposed_by}
    if outcome == PAID:
        attempt.state, attempt.answered_at = AttemptState.ACCEPTED, now
        payout.provider, payout.provider_ref = attempt.provider, attempt.provider_ref
        books.pay(session, payout, attempt.provider)
        move(session, payout, "pay", now=now, actor=who, reason=said_before.evidence["note"], **said)
    else:
        attempt.state, attempt.answered_at = AttemptState.ABSENT, now  # if it is there after all, it is the payout's
        books.give_back(session, payout, now=now)
        limits.release_usage(session, payout)
        payout.failure = "resolved"
        move(session, payout, "fail", now=now, actor=who, reason=said_before.evidence["note"], **said)
    followed(session, payout, before, now=now)
    log.warning("payout.resolved", payout_id=str(payout_id), outcome=outcome)
    return payout


def withdraw(session: Session, payout_id: UUID, *, actor: str, reason: str) -> None:
    """Take the proposal back; anybody may. Raises NotFoundError, InvalidRequestError, ConflictError without one."""
    who = _person(actor)
    if not reason.strip():
        raise InvalidRequestError("a withdrawal says why", field="reason")
    payout, _ = _unknown(session, payout_id)
    said_before = sending_queries.open_resolution(session, payout_id)
    if said_before is None:
        raise ConflictError(f"nobody has proposed what became of the payout {payout_id}")
    now = clock.now()
    said_before.closed_at = now
    note(session, payout, "proposal_withdrawn", now=now, actor=who, reason=reason, outcome=said_before.outcome)


def _person(actor: str) -> str:
    """One spelling of him. Raises InvalidRequestError."""
    who = named(actor)
    if not who.startswith(PERSON):
        raise InvalidRequestError("only people decide what became of a payout", field="actor")
    return who


def _unknown(session: Session, payout_id: UUID) -> tuple[Payout, PayoutAttempt]:
    payout = queries.lock(session, payout_id)
    if payout is None:
        raise NotFoundError(f"there is no payout {payout_id}")
    attempt = sending_queries.unsettled(sending_queries.attempts(session, payout_id))
    if payout.current is not PayoutState.UNKNOWN or attempt is None:
        raise ConflictError(f"the payout {payout_id} is {payout.state}: its provider knows what becomes of it")
    return payout, attempt


def reference(session: Session, payout_id: UUID) -> str:
    """What the provider knows it by, if it knows it. Raises as `plan`."""
    return _unknown(session, payout_id)[1].reference


def proposed(session: Session, payout_id: UUID) -> PayoutResolution | None:
    return sending_queries.open_resolution(session, payout_id)
