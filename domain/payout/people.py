"""What every step has in common that a person answers for: the row, who he is, and why he does it."""

import re
from uuid import UUID

from sqlalchemy.orm import Session

from core.errors import ConflictError, InvalidRequestError, NotFoundError
from domain.payout import queries
from domain.payout.models import Payout
from domain.payout.states import PayoutState

PERSON = "person:"
REASON_LENGTH_MAX = 500
_NAMED = re.compile(r"(person|key):\S[^\n]{0,79}")


def locked(session: Session, payout_id: UUID, tenant: str | None) -> Payout:
    """The payout, nobody else's until the transaction ends. Raises NotFoundError if there is none or it is another
    tenant's.
    """
    payout = queries.lock(session, payout_id, tenant=tenant)
    if payout is None:
        raise NotFoundError(f"there is no payout {payout_id}")
    return payout


def named(actor: str) -> str:
    """One spelling of `person:<name>` or `key:<id>`: the same person must not be two. Raises InvalidRequestError."""
    name = " ".join(actor.casefold().split())
    if not _NAMED.fullmatch(name) or not name.isprintable():
        raise InvalidRequestError(f"{actor[:80]!r} names nobody: person:<name> or key:<id>", field="actor")
    return name


def makers(session: Session, payout: Payout) -> set[str]:
    """Who had a hand in what it says, and so has none in approving it."""
    return {named(each) for each in {payout.maker, *queries.editors(session, payout.id)}}


def because(reason: str) -> str:
    """A reason that says something. Raises InvalidRequestError."""
    words = reason.strip()
    if not words or len(words) > REASON_LENGTH_MAX or not words.isprintable():
        raise InvalidRequestError(
            f"say why, in at most {REASON_LENGTH_MAX} printable characters on one line", field="reason"
        )
    return words


def need_seen(payout: Payout, seen_hash: bytes) -> None:
    """Raises ConflictError if it is another than the caller was shown."""
    if seen_hash != payout.content_hash:
        raise ConflictError(
            f"the payout {payout.id} has changed since you saw it: read it again, and decide about that",
            field="seen_hash",
        )


def need_unpaid(payout: Payout, who: str) -> None:
    """Raises ConflictError if people may have paid it outside: what has left is not let go, frozen or changed.

    One that somebody may be paying at this moment is stopped by people only, who can ask each other.
    """
    if not payout.by_hand or payout.current is not PayoutState.APPROVED:
        return
    if payout.evidence is not None:
        raise ConflictError(
            f"{payout.evidence['recorded_by']} has recorded that the payout {payout.id} was paid by hand: "
            "confirm that, or withdraw the record first"
        )
    if not who.startswith(PERSON):
        raise ConflictError(f"people are paying the payout {payout.id} by hand: only a person stops it")
