"""Who wants an account frozen. It is frozen as long as somebody does.

A holder is a subject, such as `deposit:<id>` or `payout:<id>`, or a person, `person:<name>`. Each holds the account for
itself: two that have nothing to do with each other freeze one account, and when the one's cause is gone the other's
still holds. People freeze and unfreeze by `ledger.accounts`; what they freeze, nothing here lifts. An unfreezing by a
person takes everybody's freeze away, since a person has looked; each may freeze again, for a new cause.

All of it happens under the locks of the account's rows, in the caller's transaction, and is noted among its changes.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError
from ledger.accounts import Change, control
from ledger.models import LedgerAccountChange, LedgerFreeze

PERSON = "person:"
"""How the holders begin that are people."""


@dataclass(frozen=True, slots=True)
class Freeze:
    """That a holder wants an account frozen. It ends when this is gone."""

    tenant: str
    code: str
    asset: str
    holder: str
    reason: str
    actor: str
    at: datetime


def place(
    session: Session, *, tenant: str, code: str, asset: str, holder: str, reason: str, actor: str
) -> Change | None:
    """The holder wants the account frozen from now on. None if it does already.

    Opens an account that doesn't exist yet. A closed one will be frozen when it is opened again. Raises
    InvalidRequestError (account, asset, holder, reason or actor).
    """
    return control(
        session, "freeze", _of(holder), tenant=tenant, code=code, asset=asset, reason=reason, actor=actor
    )  # fmt: skip


def lift(
    session: Session, *, tenant: str, code: str, asset: str, holder: str, reason: str, actor: str
) -> Change | None:
    """The holder wants it no longer; the account is open again if nobody else does. None if it did not.

    `after` of the change says how the account stands now. Raises InvalidRequestError.
    """
    return control(session, "lift", _of(holder), tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def of_account(session: Session, tenant: str, code: str) -> tuple[Freeze, ...]:
    """Who wants the code's accounts frozen, by asset, the longest first."""
    note = LedgerAccountChange
    rows = session.execute(
        select(LedgerFreeze.asset, LedgerFreeze.holder, note.reason, note.actor, note.at)
        .join(note, note.id == LedgerFreeze.change_id)
        .where(LedgerFreeze.tenant == tenant, LedgerFreeze.code == code)
        .order_by(LedgerFreeze.asset, note.id, LedgerFreeze.holder)
    )
    return tuple(Freeze(tenant, code, *row) for row in rows)


def holders(session: Session, prefix: str) -> frozenset[str]:
    """The holders, whose name begins like this, of whatever accounts: `deposit:` gives all deposits that are some."""
    found = select(LedgerFreeze.holder).where(LedgerFreeze.holder.startswith(prefix, autoescape=True))
    return frozenset(session.scalars(found))


def _of(holder: str) -> dict[str, str]:
    if not holder.strip() or holder.startswith(PERSON):
        raise InvalidRequestError(f"a freeze is a subject's, and {holder[:200]!r} is none", field="holder")
    return {"holder": holder}
