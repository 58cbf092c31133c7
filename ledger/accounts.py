"""What a person does to an account: freeze, close, bound and annotate it. Each change is noted for ever.

- frozen: what arrives is booked, and nothing leaves but the reversal of a journal. Holds can be voided, not captured.
  It is so as long as anybody wants it: a person, or what `ledger.freezes` is told of.
- closed: nothing moves. Only an empty account can be closed.

A change takes hold of all rows of the account (its stripes, in order), so it stands between two posts, never within
one. Everything works in the caller's transaction, and what is refused is written nowhere.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, LiteralString

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError, NotFoundError, TallyrailError
from core.money import UNITS_MAX
from ledger import calls
from ledger.chart import rule
from ledger.errors import AccountClosedError, AccountNotEmptyError, LimitCrossedError
from ledger.models import LedgerAccountChange
from ledger.paging import Page, bad_cursor, bigint, bounded, opened, sealed
from ledger.posting import scalar_of

_CONTROL: LiteralString = "SELECT ledger_control(%s::text, %s::text, %s::text, %s::text, %s::jsonb, %s::text, %s::text)"
_OPENING = ("freeze", "limit", "annotate")
"""What can be done before the first money arrives."""


class Keep(Enum):
    """A limit that stays as it is; None is no limit."""

    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Change:
    """`before` and `after` hold what it is about: the limits (units as text, None for none), the metadata, or a state.

    Beside the state, `holders` are those who want the account frozen, if anybody does.
    """

    id: int
    tenant: str
    code: str
    asset: str
    change: str
    """freeze, lift (a holder's own freeze), unfreeze (everybody's), close, reopen, limit or annotate."""
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    reason: str
    actor: str
    at: datetime


def freeze(session: Session, *, tenant: str, code: str, asset: str, reason: str, actor: str) -> Change | None:
    """From now on nothing leaves the account, until a person unfreezes it. None if this person has frozen it already.

    The person is a holder of the freeze beside any others. Opens an account that doesn't exist yet. Raises
    InvalidRequestError (account, asset, reason or actor) and AccountClosedError.
    """
    return control(session, "freeze", {}, tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def unfreeze(session: Session, *, tenant: str, code: str, asset: str, reason: str, actor: str) -> Change | None:
    """A person lifts all freezes, whoever's: `before` of the change says whose. None if it was not frozen.

    Raises InvalidRequestError, NotFoundError and AccountClosedError.
    """
    return control(session, "unfreeze", {}, tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def close(session: Session, *, tenant: str, code: str, asset: str, reason: str, actor: str) -> Change | None:
    """From now on nothing moves in the account. None if it was closed already.

    Raises InvalidRequestError, NotFoundError, and AccountNotEmptyError while it has a balance or holds.
    """
    return control(session, "close", {}, tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def reopen(session: Session, *, tenant: str, code: str, asset: str, reason: str, actor: str) -> Change | None:
    """Make a closed account open, or frozen where somebody wants it so. None if it was not closed.

    Raises InvalidRequestError and NotFoundError.
    """
    return control(session, "reopen", {}, tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def limit(
    session: Session,
    *,
    tenant: str,
    code: str,
    asset: str,
    reason: str,
    actor: str,
    floor: int | Keep | None = Keep.KEEP,
    ceiling: int | Keep | None = Keep.KEEP,
) -> Change | None:
    """Set the least that the balance less what is held may be, and the most that the balance may be; None removes.

    In units on the account's normal side; a negative floor is a credit line. Opens an account that doesn't exist yet.
    Returns None if nothing changed. Raises InvalidRequestError (also for an account in several rows, and for a floor
    above the ceiling) and LimitCrossedError where the account is outside the limit already.
    """
    wanted: dict[str, str | None] = {}
    for name, bound in (("floor", floor), ("ceiling", ceiling)):
        if isinstance(bound, Keep):
            continue
        if bound is not None and (not isinstance(bound, int) or isinstance(bound, bool) or abs(bound) > UNITS_MAX):
            raise InvalidRequestError(f"a {name} is an integer of at most 38 digits", field=name)
        wanted[name] = None if bound is None else str(bound)
    if not wanted:
        raise InvalidRequestError("give a floor or a ceiling", field="floor")
    return control(session, "limit", wanted, tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def annotate(
    session: Session, *, tenant: str, code: str, asset: str, reason: str, actor: str, metadata: Mapping[str, Any]
) -> Change | None:
    """Set these keys of the account's metadata; None removes a key, and others stay. None if nothing changed.

    Opens an account that doesn't exist yet. Raises InvalidRequestError.
    """
    return control(session, "annotate", metadata, tenant=tenant, code=code, asset=asset, reason=reason, actor=actor)


def changes(
    session: Session,
    tenant: str,
    code: str,
    *,
    asset: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page[Change]:
    """What was done to the code's accounts, newest first; in one asset or in all."""
    query = select(LedgerAccountChange.__table__).where(
        LedgerAccountChange.tenant == tenant, LedgerAccountChange.code == code
    )
    if asset is not None:
        query = query.where(LedgerAccountChange.asset == asset)
    if cursor is not None:
        match opened(cursor):
            case int(last) if bigint(last) and last > 0:
                query = query.where(LedgerAccountChange.id < last)
            case _:
                raise bad_cursor()
    limit = bounded(limit)
    rows = session.execute(query.order_by(LedgerAccountChange.id.desc()).limit(limit + 1)).all()
    made = tuple(Change(**row._mapping) for row in rows[:limit])  # noqa: SLF001  # a Row's public way to its names
    return Page(made, sealed(made[-1].id) if len(rows) > limit else None)


def control(
    session: Session,
    change: str,
    wanted: Mapping[str, Any],
    *,
    tenant: str,
    code: str,
    asset: str,
    reason: str,
    actor: str,
) -> Change | None:
    """Make a change and note it. None where it was so already, also a lift in an account that doesn't exist."""
    rule(code)
    for name, words in (("tenant", tenant), ("reason", reason), ("actor", actor)):
        if not words.strip():
            raise InvalidRequestError(f"a change of an account needs a {name}", field=name)
    connection = session.connection()
    scalar = scalar_of(connection)
    parameters = (tenant, code, asset, change, json.dumps(dict(wanted)), reason, actor)
    answer = scalar(_CONTROL, parameters)
    if answer is not None and "missing" in answer and change in _OPENING:
        with connection.begin_nested():  # what is refused takes the account that was opened for it along
            calls.open_accounts(scalar, tenant, [(code, asset)])
            answer = scalar(_CONTROL, parameters)
            if answer is not None and "refused" in answer:
                raise _refusal(code, asset, answer)
    if answer is None or ("missing" in answer and change == "lift"):
        return None
    if "missing" in answer:
        raise NotFoundError(f"{tenant} has no account {code} in {asset[:200]}", field="account")
    if "refused" in answer:
        raise _refusal(code, asset, answer)
    row = session.execute(select(LedgerAccountChange.__table__).where(LedgerAccountChange.id == answer["id"])).one()
    return Change(**row._mapping)  # noqa: SLF001


def _refusal(code: str, asset: str, found: Mapping[str, Any]) -> TallyrailError:
    match found["refused"]:
        case "closed":
            return AccountClosedError(code, asset)
        case "not_empty":
            return AccountNotEmptyError(code, asset, balance=int(found["balance"]), held=int(found["held"]))
        case "striped":
            return InvalidRequestError(f"{code} is kept in several rows and can't have limits", field="account")
        case "crossed":
            return InvalidRequestError("the floor would be above the ceiling", field="floor")
        case name:
            return LimitCrossedError(
                code,
                asset,
                limit=name,
                bound=int(found["bound"]),
                balance=int(found["balance"]),
                held=int(found["held"]),
            )
