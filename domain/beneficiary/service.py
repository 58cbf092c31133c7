"""The destination book: what other parts of the platform may ask for.

An entry is one destination in one account's book, sealed (`core.vault`). It can be paid once it is verified: by its
checks alone where nobody can tell whose it is, else by a provider's answer or a person's word.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog
from sqlalchemy import text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock, jobs, vault
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError, TransientError
from core.ids import new_id
from core.jobs import NewJob
from domain.beneficiary import checks, queries, sealing
from domain.beneficiary.banks import Banks, banks, check, refresh
from domain.beneficiary.enquiring import BY_ENQUIRY, verify
from domain.beneficiary.history import move, note, tell_payouts
from domain.beneficiary.models import Beneficiary, BeneficiaryEvent
from domain.beneficiary.states import BENEFICIARY, BeneficiaryState
from ledger import chart
from providers.payout.base import Destination, Kind

__all__ = [
    "Banks",
    "Beneficiary",
    "BeneficiaryEvent",
    "BeneficiaryState",
    "NewBeneficiary",
    "Taken",
    "banks",
    "count_by_key",
    "entry_of",
    "get",
    "get_or_add",
    "history",
    "page",
    "refresh",
    "refuse",
    "remove",
    "reseal",
    "retry",
    "take",
    "verify",
    "verify_by_hand",
]

log = structlog.stdlib.get_logger(__name__)

VERIFY = "payout.verify_beneficiary"
LABEL_LENGTH_MAX = 100
_ADDED_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBeneficiary:
    tenant: str
    account: str
    """Whose book, such as `user:42:available`."""
    destination: Destination
    chain: str | None = None
    """Of an address, in CAIP-2."""
    label: str = ""
    """What its owner calls it. Stands in clear."""
    actor: str
    """`key:<id>`, or `person:<name>`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An entry as a payout takes it over. The destination is in clear: seal it for the payout's own row."""

    id: UUID
    account: str
    kind: Kind
    chain: str | None
    destination: Destination
    fingerprint: str
    masked: str
    state: BeneficiaryState
    failure: str | None
    holder_matches: bool | None
    verified_at: datetime | None
    created_at: datetime


# --- the book --------------------------------------------------------------------------------------------------------


def get_or_add(session: Session, new: NewBeneficiary) -> tuple[Beneficiary, bool]:
    """The live entry of that destination in that book, and whether it was added now.

    An entry that is found stays as it is, its label and its holder's name, too. Raises InvalidRequestError with the
    field at fault (`account`, `label`, `bank_code`, `number`, `holder`, `tag`, `chain`), VaultOffError.
    """
    vault.need()
    chart.owner_account(new.account)
    destination = checks.checked(new.destination, new.chain)
    label = _label(new.label, destination)
    fingerprint = sealing.fingerprint(destination, new.chain)
    for _ in range(_ADDED_TRIES):
        found = queries.live(session, tenant=new.tenant, account=new.account, fingerprint=fingerprint)
        if found is not None:
            return found, False
        check(session, destination)
        added = _added(session, new, destination, label, fingerprint)
        if added is not None:
            return added, True
    raise TransientError("the entry was added and removed at this moment: ask again")


class Wanted(Protocol):
    """A destination that a payout's request brings along."""

    @property
    def destination(self) -> Destination: ...
    @property
    def chain(self) -> str | None: ...


def entry_of(session: Session, wanted: Wanted, /, *, tenant: str, account: str, actor: str) -> UUID:
    """The id of its entry in that book, added if need be. Raises what `get_or_add` raises."""
    new = NewBeneficiary(
        tenant=tenant, account=account, destination=wanted.destination, chain=wanted.chain, actor=actor
    )
    return get_or_add(session, new)[0].id


def _label(label: str, destination: Destination) -> str:
    cleaned = " ".join(label.split())
    if len(cleaned) > LABEL_LENGTH_MAX or not cleaned.isprintable():
        raise InvalidRequestError(f"a label has at most {LABEL_LENGTH_MAX} printable characters", field="label")
    if _letters(destination.number) in _letters(cleaned):
        raise InvalidRequestError("a label stands in clear: leave the number out", field="label")
    return cleaned


def _letters(words: str) -> str:
    return re.sub(r"[\W_]", "", words).casefold()


def _added(
    session: Session, new: NewBeneficiary, destination: Destination, label: str, fingerprint: str
) -> Beneficiary | None:
    """None: another request has added it meanwhile."""
    now, row_id = clock.now(), new_id()
    sealed = vault.seal(sealing.PURPOSE, row_id, sealing.content(destination))
    added = session.scalar(
        insert(Beneficiary)
        .values(
            id=row_id,
            tenant=new.tenant,
            account=new.account,
            kind=str(destination.kind),
            chain=new.chain,
            bank=sealing.bank_of(destination),
            fingerprint=fingerprint,
            sealed=sealed.content,
            sealed_by=sealed.by,
            masked=sealing.masked(destination),
            label=label,
            state=BENEFICIARY.initial,
            created_at=now,
            updated_at=now,
        )
        .on_conflict_do_nothing(
            index_elements=["tenant", "account", "fingerprint"], index_where=text("removed_at IS NULL")
        )
        .returning(Beneficiary.id)
    )
    if added is None:
        return None
    row = session.get_one(Beneficiary, row_id)
    note(session, row, "add", now=now, actor=new.actor)
    before = queries.failure_before(session, tenant=new.tenant, account=new.account, fingerprint=fingerprint)
    if before is not None and before not in BY_ENQUIRY:
        # A person's word, or a provider's that it can't be paid, isn't shaken off by removing the entry.
        row.failure = before
        why = "it was refused before it was removed"
        move(session, row, "refuse", now=now, actor="beneficiary", reason=why, failure=before)
    elif destination.kind in checks.ENQUIRED:
        _ask(session, row)
    else:
        row.verified_at = now
        move(session, row, "verify", now=now, actor="beneficiary", by="checks")
    session.flush()
    return row


def _ask(session: Session, row: Beneficiary) -> None:
    """Have its holder asked for, once this is committed."""
    jobs.submit(session, NewJob(VERIFY, {"beneficiary_id": str(row.id)}, tenant=row.tenant, subject=row.subject))


def remove(session: Session, beneficiary_id: UUID, *, actor: str, tenant: str | None = None) -> Beneficiary:
    """Take it out of its book. What it was is not kept; payouts have their own copy. Removing twice is once.

    Raises NotFoundError if there is none, or it is another tenant's.
    """
    row = _locked(session, beneficiary_id, tenant)
    if row.current is BeneficiaryState.REMOVED:
        return row
    now = clock.now()
    row.removed_at, row.sealed, row.sealed_by = now, b"", ""
    move(session, row, "remove", now=now, actor=actor)
    tell_payouts(session, row)
    session.flush()
    return row


def get(session: Session, beneficiary_id: UUID, *, tenant: str | None = None) -> Beneficiary | None:
    """The entry, or None if there is none or it is another tenant's."""
    return queries.get(session, beneficiary_id, tenant=tenant)


def page(
    session: Session,
    *,
    tenant: str | None = None,
    account: str | None = None,
    state: BeneficiaryState | None = None,
    before: UUID | None = None,
    limit: int = 50,
) -> Sequence[Beneficiary]:
    """Newest first, without those removed unless that is the state asked for. `before`: the last of the page before."""
    return queries.page(session, tenant=tenant, account=account, state=state, before=before, limit=limit)


def history(session: Session, beneficiary_id: UUID) -> Sequence[BeneficiaryEvent]:
    """What happened to it, oldest first."""
    return queries.history(session, beneficiary_id)


def take(session: Session, beneficiary_id: UUID, *, tenant: str) -> Taken:
    """The entry for a payout. Until the transaction ends nobody changes it: whoever decides about one that is pending
    sees the payout that waits for it.

    Raises NotFoundError (none, or another tenant's), ConflictError (removed), both with the field `beneficiary_id`;
    InvariantError if its row is not as it was written.
    """
    row = queries.lock(session, beneficiary_id, tenant=tenant, share=True)
    if row is None:
        raise NotFoundError(f"there is no beneficiary {beneficiary_id}", field="beneficiary_id")
    if row.current is BeneficiaryState.REMOVED:
        raise ConflictError(f"the beneficiary {beneficiary_id} was removed", field="beneficiary_id")
    return Taken(
        id=row.id,
        account=row.account,
        kind=Kind(row.kind),
        chain=row.chain,
        destination=sealing.opened(row),
        fingerprint=row.fingerprint,
        masked=row.masked,
        state=row.current,
        failure=row.failure,
        holder_matches=row.holder_matches,
        verified_at=row.verified_at,
        created_at=row.created_at,
    )


# --- what people decide ----------------------------------------------------------------------------------------------


def verify_by_hand(session: Session, beneficiary_id: UUID, *, actor: str, reason: str) -> Beneficiary:
    """Let it be paid, whatever was or wasn't told of its holder. `actor`: `person:<name>`.

    Raises NotFoundError, ConflictError.
    """
    row = _decidable(session, beneficiary_id, "verify")
    now = clock.now()
    row.failure, row.verified_by, row.verified_at = None, actor, now
    move(session, row, "verify", now=now, actor=actor, reason=reason)
    tell_payouts(session, row)
    session.flush()
    return row


def refuse(
    session: Session, beneficiary_id: UUID, *, actor: str, reason: str, failure: str = "refused_by_hand"
) -> Beneficiary:
    """Let it not be paid any more. `actor`: a person, or the provider that learned that it is closed.

    Raises NotFoundError, ConflictError.
    """
    row = _decidable(session, beneficiary_id, "refuse")
    row.failure, row.verified_at = failure, None
    move(session, row, "refuse", now=clock.now(), actor=actor, reason=reason, failure=failure)
    tell_payouts(session, row)
    session.flush()
    return row


def retry(session: Session, beneficiary_id: UUID, *, actor: str, reason: str) -> Beneficiary:
    """Have the holder of a refused one asked for again. Raises NotFoundError, ConflictError."""
    row = _decidable(session, beneficiary_id, "retry")
    if Kind(row.kind) not in checks.ENQUIRED:
        raise ConflictError(f"nobody can be asked whose a destination {row.kind} is")
    row.failure, row.holder_matches, row.verified_by = None, None, None
    move(session, row, "retry", now=clock.now(), actor=actor, reason=reason)
    _ask(session, row)
    session.flush()
    return row


def _locked(session: Session, beneficiary_id: UUID, tenant: str | None = None) -> Beneficiary:
    row = queries.lock(session, beneficiary_id, tenant=tenant)
    if row is None:
        raise NotFoundError(f"there is no beneficiary {beneficiary_id}")
    return row


def _decidable(session: Session, beneficiary_id: UUID, event: str) -> Beneficiary:
    row = _locked(session, beneficiary_id)
    if not BENEFICIARY.can(row.current, event):
        raise ConflictError(f"the beneficiary {beneficiary_id} is {row.state}: there is nothing to {event}")
    return row


# --- keys ------------------------------------------------------------------------------------------------------------


def count_by_key(session: Session) -> dict[str, int]:
    """How many entries each key has sealed, by its id."""
    return queries.count_by_key(session)


def reseal(session: Session, *, after: UUID | None = None, limit: int = 500) -> UUID | None:
    """Seal entries of other keys by the first one, oldest first. Returns the last that was tried; None: there are none.

    An entry that can't be opened is left as it is, and logged. Raises VaultOffError.
    """
    rows = queries.lock_sealed_otherwise(session, vault.current(), after=after, limit=limit)
    for row in rows:
        try:
            sealed = vault.seal(sealing.PURPOSE, row.id, sealing.content(sealing.opened(row)))
        except InvariantError as error:
            log.error("beneficiary.not_resealed", beneficiary_id=str(row.id), error=str(error))  # noqa: TRY400  # says all
            continue
        row.sealed, row.sealed_by = sealed.content, sealed.by
    session.flush()
    return rows[-1].id if rows else None
