"""Payouts that people pay outside: at the bank's counter, or where no provider of ours reaches.

One person pays and writes down the evidence, another looks at it and confirms. Only then do the books and the payout
say that it left. What is recorded is neither edited, cancelled nor frozen: it may have left. No provider is ever given
a payout that is paid by hand.
"""

import re
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from core import clock, jobs
from core.errors import ConflictError, InvalidRequestError, InvariantError
from domain.payout import books, history, postings, queries, sending_queries
from domain.payout.content import content_hash
from domain.payout.models import Payout
from domain.payout.people import PERSON, because, locked, named, need_seen
from domain.payout.states import PayoutState
from ledger import chart, posting
from ledger.posting import Journal, Posting

_REFERENCE = re.compile(r"[!-~](?:[ -~]{0,98}[!-~])?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
CURRENCY = "iso4217:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What shows that it was paid. Nothing of the destination belongs in it: it stands in clear."""

    reference: str
    """The bank's, or the chain transaction's hash. One shows one payout."""
    paid_on: date
    note: str
    file_sha256: str | None = None
    """Of the receipt, which is kept elsewhere."""


def take(session: Session, payout_id: UUID, *, actor: str, reason: str) -> Payout:
    """Have an approved payout paid by people: from now on no provider is given it. Taking it twice is once.

    Raises NotFoundError, InvalidRequestError, and ConflictError unless it is approved, and so certainly at no provider.
    """
    why, who = because(reason), _person(actor)
    payout = locked(session, payout_id, None)
    if payout.current is not PayoutState.APPROVED:
        raise ConflictError(
            f"the payout {payout.id} is {payout.state}: only an approved one is taken to be paid by hand"
        )
    if payout.by_hand:
        return payout
    if sending_queries.there(sending_queries.attempts(session, payout.id)) is not None:
        raise ConflictError(f"a provider has the payout {payout.id} after all: it goes on with that")
    payout.by_hand = True
    payout.waits_for, payout.waits_since, payout.next_look_at = None, None, None
    payout.content_hash = content_hash(payout)
    history.note(session, payout, "by_hand", now=clock.now(), actor=who, reason=why)
    return payout


def record(session: Session, payout_id: UUID, evidence: Evidence, *, actor: str, seen_hash: bytes) -> Payout:
    """Write down that it was paid. `seen_hash`: of what was paid. The same again changes nothing.

    Raises NotFoundError, InvalidRequestError with the field at fault (`reference`, `paid_on`, `note`, `file_sha256`),
    and ConflictError: it is not one to pay by hand, has changed, is recorded already, or its evidence shows another.
    """
    who = _person(actor)
    payout = locked(session, payout_id, None)
    told = _checked(payout, evidence)
    if payout.evidence is not None and payout.by_hand:
        if {name: payout.evidence.get(name) for name in told} == told and payout.evidence["recorded_by"] == who:
            return payout
        raise ConflictError(
            f"{payout.evidence['recorded_by']} has recorded already how the payout {payout.id} was paid"
        )
    _need_payable(payout)
    need_seen(payout, seen_hash)
    shown = queries.shown_by(session, payout.tenant, evidence.reference)
    if shown is not None:
        raise ConflictError(f"{evidence.reference!r} shows that the payout {shown} was paid", field="reference")
    now = clock.now()
    payout.evidence = {**told, "recorded_by": who, "recorded_at": now.isoformat()}
    history.note(session, payout, "recorded", now=now, actor=who, reason=evidence.note, **told)
    return payout


def withdraw(session: Session, payout_id: UUID, *, actor: str, reason: str) -> Payout:
    """Take a record back that nobody has confirmed: it was not paid after all.

    Raises NotFoundError, InvalidRequestError, and ConflictError if there is none to take back.
    """
    why, who = because(reason), _person(actor)
    payout = locked(session, payout_id, None)
    _need_payable(payout)
    recorded = _recorded(payout)
    payout.evidence = None
    history.note(
        session, payout, "record_withdrawn", now=clock.now(), actor=who, reason=why, reference=recorded["reference"]
    )
    return payout


def confirm(session: Session, payout_id: UUID, *, actor: str, reason: str) -> Payout:
    """Say that the evidence shows it: it is paid, out of our bank account or our custody. The same again is once.

    Raises NotFoundError, InvalidRequestError, ConflictError (nothing is recorded, or by the same person) and, with
    nothing written, AccountFrozenError while its account is frozen: the hold is captured only now.
    """
    why, who = because(reason), _person(actor)
    payout = locked(session, payout_id, None)
    if payout.current is PayoutState.PAID and payout.evidence and payout.evidence.get("confirmed_by") == who:
        return payout
    _need_payable(payout)
    recorded = _recorded(payout)
    if recorded["recorded_by"] == who:
        raise ConflictError(f"{who} recorded how the payout {payout.id} was paid: another person confirms it")
    now = clock.now()
    books.begin(session, payout)
    _pay(session, payout)
    payout.evidence = {**recorded, "confirmed_by": who, "confirmed_at": now.isoformat()}
    history.move(session, payout, "pay_by_hand", now=now, actor=who, reason=why, reference=recorded["reference"])
    return payout


def pay(payout: Payout) -> Journal:
    """Transit -> our bank account or custody, and fees: what `postings.pay` is for a provider. Pure."""
    moves = [
        Posting(
            source=chart.payouts_in_transit(),
            destination=source_of(payout.payout_asset),
            asset=payout.payout_asset,
            units=payout.payout_units,
        )
    ]
    if payout.fee_units:
        moves.append(
            Posting(
                source=chart.payouts_in_transit(), destination=chart.fees(), asset=payout.asset, units=payout.fee_units
            )
        )
    return Journal(
        tenant=payout.tenant,
        reference=postings.reference(payout, "pay_by_hand"),
        category="payout.pay_by_hand",
        postings=moves,
        subject=payout.subject,
        correlation_id=payout.correlation_id,
        metadata={"reference": (payout.evidence or {}).get("reference")},
        job_id=job.id if (job := jobs.current.get()) else None,
    )


def source_of(asset: str) -> str:
    """What people pay an asset out of: our bank account of the currency, or what we hold on the chain."""
    return chart.bank(asset) if asset.startswith(CURRENCY) else chart.custody(asset.partition("/")[0])


def _pay(session: Session, payout: Payout) -> None:
    if payout.begun_journal_id is None or payout.paid_journal_id is not None:
        raise InvariantError(f"{payout.subject} is not in transit and can't be booked as paid")
    posted = posting.post(session, pay(payout))
    if not posted.created:
        raise InvariantError(f"the payment of {payout.subject} is booked, and its row doesn't know of it")
    payout.paid_journal_id = posted.id
    payout.settled += 1


def _person(actor: str) -> str:
    """Keys pay nothing by hand. Raises InvalidRequestError."""
    who = named(actor)
    if not who.startswith(PERSON):
        raise InvalidRequestError("only people pay by hand", field="actor")
    return who


def _need_payable(payout: Payout) -> None:
    if payout.current is not PayoutState.APPROVED or not payout.by_hand:
        how = "by hand" if payout.by_hand else "by a provider"
        raise ConflictError(f"the payout {payout.id} is {payout.state}, to be paid {how}")


def _recorded(payout: Payout) -> dict[str, Any]:
    if payout.evidence is None:
        raise ConflictError(f"nobody has recorded that the payout {payout.id} was paid")
    return payout.evidence


def _checked(payout: Payout, evidence: Evidence) -> dict[str, Any]:
    """The evidence as it is kept. Raises InvalidRequestError."""
    if not _REFERENCE.fullmatch(evidence.reference):
        raise InvalidRequestError("the bank's reference has 1 to 100 printable ASCII characters", field="reference")
    if not payout.created_at.date() <= evidence.paid_on <= clock.now().date():
        raise InvalidRequestError("it was paid on a day since it was asked for, until today", field="paid_on")
    if evidence.file_sha256 is not None and not _SHA256.fullmatch(evidence.file_sha256):
        raise InvalidRequestError("a SHA-256 is 64 hexadecimal digits", field="file_sha256")
    return {
        "reference": evidence.reference,
        "paid_on": evidence.paid_on.isoformat(),
        "note": because(evidence.note),
        "file_sha256": evidence.file_sha256,
    }
