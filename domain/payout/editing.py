"""Editing a payout whose sending has not begun: how much, what its recipient reads, and where it goes.

An edited payout is another revision. Its hold is replaced, limits count it anew, it is screened again, and what was
said of it before counts no more; whoever edited it is none of its approvers. All that is one transaction: an edit that
the account, a limit or a rule refuses leaves everything as it was.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core import clock
from core.errors import ConflictError, InvalidRequestError
from domain.payout import creating, history, holding, limits, screening, sealing
from domain.payout.content import content_hash
from domain.payout.models import Payout
from domain.payout.people import because, locked, named, need_seen, need_unpaid
from domain.payout.ports import Ports, Taken
from domain.payout.states import PayoutState
from domain.payout.stopping import ask_to_proceed

EDITABLE = frozenset({PayoutState.AWAITING_APPROVAL, PayoutState.APPROVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is to be otherwise; None: as it is."""

    units: int | None = None
    """Of the asset, without our fee, which is computed anew. Not of one by quote: that promises an amount."""
    narration: str | None = None
    beneficiary_id: UUID | None = None
    """Of the same account's book."""


def edit(
    session: Session,
    payout_id: UUID,
    change: Edit,
    ports: Ports,
    *,
    editor: str,
    seen_hash: bytes,
    reason: str,
    tenant: str | None = None,
) -> Payout:
    """Change it and decide about it anew: it is approved, waits for approval or for its destination, or is frozen.

    Raises NotFoundError, InvalidRequestError with the field at fault (also LimitExceededError, PayoutRefusedError) and
    ConflictError (not editable, changed since it was seen, too little in its account, a destination that is refused).
    Whoever calls rolls back then.
    """
    why, who = because(reason), named(editor)
    payout = locked(session, payout_id, tenant)
    if payout.current not in EDITABLE or payout.begun_journal_id is not None:
        begun = ", and was sent before" if payout.current in EDITABLE else ""
        raise ConflictError(f"the payout {payout.id} is {payout.state}{begun}: it can't be edited")
    need_unpaid(payout, who)
    need_seen(payout, seen_hash)
    taken = ports.take(session, change.beneficiary_id or payout.beneficiary_id, tenant=payout.tenant)
    creating.need_usable(taken, payout.account)
    now, before = clock.now(), _told(payout)
    holding.void(session, payout)
    limits.release_usage(session, payout)
    _apply(payout, change, taken)
    if (after := _told(payout)) == before:
        raise InvalidRequestError("that would change nothing: give units, narration or beneficiary_id")
    creating.need_able(session, payout)
    _revise(payout)
    changed = {name: [before[name], after[name]] for name in after if before[name] != after[name]}
    history.move(session, payout, "edit", now=now, actor=who, reason=why, revision=payout.revision, changed=changed)
    _decide_anew(session, payout, ports, taken, now=now)
    return payout


def _told(payout: Payout) -> dict[str, Any]:
    """What an edit may change, as the history tells it: of the destination only what is masked."""
    return {
        "units": str(payout.units),
        "fee_units": str(payout.fee_units),
        "narration": payout.narration,
        "beneficiary_id": str(payout.beneficiary_id),
        "destination": payout.destination_masked,
    }


def _apply(payout: Payout, change: Edit, taken: Taken) -> None:
    """Raises InvalidRequestError."""
    if change.units is not None and change.units != payout.units:
        if payout.quote_id is not None:
            raise InvalidRequestError("its quote promised this amount: cancel it, and ask for another", field="units")
        creating.check_units(payout.asset, change.units)
        payout.units = payout.payout_units = change.units
        payout.fee_units = creating.fee_of(payout.asset, change.units)
    if change.narration is not None:
        creating.check_words(change.narration, payout.purpose)
        payout.narration = change.narration
    if taken.id != payout.beneficiary_id:
        creating.need_fit(taken, payout.payout_asset)
        sealed = sealing.seal(payout.id, taken.destination)
        payout.beneficiary_id = taken.id
        payout.destination_kind, payout.destination_fingerprint = str(taken.kind), taken.fingerprint
        payout.destination_sealed, payout.destination_sealed_by = sealed.content, sealed.by
        payout.destination_masked = taken.masked


def _revise(payout: Payout) -> None:
    """Nothing of what was decided before holds of it."""
    payout.revision += 1
    payout.findings, payout.score, payout.approvals_needed, payout.approve_until = [], 0, 0, None
    payout.waits_for, payout.waits_since, payout.next_look_at = None, None, None


def _decide_anew(session: Session, payout: Payout, ports: Ports, taken: Taken, *, now: datetime) -> None:
    """As when it was asked for: money first, then limits, then rules."""
    payout.value_cents = limits.value_of(session, payout.asset, payout.units, ports)
    payout.content_hash = content_hash(payout)
    holding.place(session, payout)
    limits.count(session, payout, now=now)
    if creating.is_verified(taken):
        screening.screen(session, payout, ports, taken, now=now)
    else:
        screening.refuse_denied(session, payout)
        ask_to_proceed(session, payout)
    session.flush()
