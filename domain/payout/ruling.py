"""The rules of the screening as rows, and the lists: written by people, validated before they are."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy.orm import Session

from core import clock
from core.errors import InvalidRequestError, NotFoundError
from core.ids import new_id
from domain.payout import rules, screening_queries
from domain.payout.models import PayoutListing, PayoutRule
from domain.payout.people import because, named
from domain.payout.states import Verdict
from ledger import chart

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
ListName = Literal["deny", "allow"]
ListScope = Literal["account", "destination"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRule:
    tenant: str | None
    """None: for all. A tenant's own stands in place of everybody's of the same name."""
    name: str
    kind: str
    parameters: Mapping[str, Any]
    verdict: Verdict
    score: int
    actor: str
    reason: str
    enabled: bool = True


def write(session: Session, new: NewRule) -> PayoutRule:
    """Make the rule, or change the one of this name. Raises InvalidRequestError, with the field at fault."""
    if not _NAME.fullmatch(new.name):
        raise InvalidRequestError("a rule is named like many-to-one: a-z, 0-9, - and _", field="name")
    if new.name in {rule.name for rule in rules_of_settings()}:
        raise InvalidRequestError(f"{new.name} is a rule of the settings", field="name")
    checked = rules.rule(new.name, new.kind, new.parameters, new.verdict, new.score)
    if new.kind not in rules.row_kinds():
        raise InvalidRequestError(f"{new.kind} follows from settings and lists", field="kind")
    now = clock.now()
    row = screening_queries.lock_rule(session, tenant=new.tenant, name=new.name)
    if row is None:
        row = PayoutRule(id=new_id(), tenant=new.tenant, name=new.name)
        session.add(row)
    row.kind, row.parameters = new.kind, checked.parameters()
    row.verdict, row.score, row.enabled = str(new.verdict), new.score, new.enabled
    row.actor, row.reason, row.updated_at = named(new.actor), because(new.reason), now
    session.flush()
    return row


def rules_of_settings() -> Sequence[rules.Rule]:
    """Those that settings and lists make."""
    return rules.built_in(cooling_seconds=1, first_by_hand=1)


def rows(session: Session, *, tenant: str | None) -> Sequence[PayoutRule]:
    """All of a tenant and of everybody; of all tenants if None; by name."""
    return screening_queries.rules(session, tenant=tenant, all_tenants=tenant is None)


# --- lists -----------------------------------------------------------------------------------------------------------


def put(
    session: Session,
    *,
    tenant: str | None,
    name: ListName,
    scope: ListScope,
    key: str,
    actor: str,
    reason: str,
) -> PayoutListing:
    """Put an account or a destination on a list; it leaves the other one. It is on one list at most.

    `key`: the account's code, or the destination's fingerprint. Raises InvalidRequestError.
    """
    if scope == "account":
        chart.owner_account(key)
    elif not _FINGERPRINT.fullmatch(key):
        raise InvalidRequestError("a destination is listed by its fingerprint", field="key")
    who, why, now = named(actor), because(reason), clock.now()
    before = screening_queries.live_listing(session, tenant=tenant, scope=scope, key=key)
    if before is not None:
        if before.list == name:
            return before
        before.removed_at, before.removed_by = now, who
        session.flush()
    row = PayoutListing(
        id=new_id(), tenant=tenant, list=name, scope=scope, key=key, actor=who, reason=why, created_at=now
    )
    session.add(row)
    session.flush()
    return row


def take_off(session: Session, *, tenant: str | None, scope: ListScope, key: str, actor: str) -> PayoutListing:
    """Take it off the list that it is on. Raises NotFoundError."""
    row = screening_queries.live_listing(session, tenant=tenant, scope=scope, key=key)
    if row is None:
        raise NotFoundError(f"this {scope} is on no list of {tenant or 'all tenants'}")
    row.removed_at, row.removed_by = clock.now(), named(actor)
    session.flush()
    return row


def listings(
    session: Session, *, tenant: str | None = None, removed: bool = False, limit: int = 100
) -> Sequence[PayoutListing]:
    """What stands on lists, newest first. `removed`: and what once did."""
    return screening_queries.listings(session, tenant=tenant, removed=removed, limit=limit)
