"""A person settles a break about statements: a journal books the difference, once, and the break is explained by it.

What the provider has less of ours than our books say goes to `house:payout_fees`, or to `suspense:payouts` until it is
known whose it is; what it has more comes from there. Fees are always the house's. It is computed anew under the locks,
and must be what the person saw.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import breaks, clock
from core.breaks import Break
from core.errors import ConflictError, InvalidRequestError, InvariantError, NotFoundError
from domain.payout import facts, queries, reconciling, statement_days, statement_queries
from domain.payout.history import note
from domain.payout.matching import BALANCE, BOOKS, KINDS, UNKNOWN
from domain.payout.models import Payout
from domain.payout.statements import NOTED
from ledger import chart, posting
from ledger.posting import Journal, Posting

log = structlog.stdlib.get_logger(__name__)

PERSON = "person:"


class Into(StrEnum):
    """Whose the difference is."""

    FEES = "fees"
    SUSPENSE = "suspense"


_ACCOUNTS = {Into.FEES: chart.payout_fees(), Into.SUSPENSE: chart.payout_suspense()}


class Move(NamedTuple):
    category: str
    counter: str
    units: int
    """What it adds to our account at the provider."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What settling a break books now."""

    break_id: UUID
    kind: str
    subject: str
    """Of the journals."""
    tenant: str
    provider: str
    asset: str
    moves: tuple[Move, ...]

    @property
    def units(self) -> int:
        """What it adds to our account there in all."""
        return sum(move.units for move in self.moves)

    def journals(self) -> list[Journal]:
        custody = chart.payout_custody(self.provider)
        return [
            Journal(
                tenant=self.tenant,
                reference=f"break:{self.break_id}" if number == 0 else f"break:{self.break_id}:{number}",
                category=move.category,
                postings=[
                    Posting(
                        source=custody if move.units > 0 else move.counter,
                        destination=move.counter if move.units > 0 else custody,
                        asset=self.asset,
                        units=abs(move.units),
                    )
                ],
                subject=self.subject,
                metadata={"break": str(self.break_id), "kind": self.kind, "provider": self.provider},
            )
            for number, move in enumerate(self.moves)
        ]


def plan(session: Session, break_id: UUID, into: Into, *, tenant: str | None = None) -> Settlement:
    """What it would book. Locks what it is about.

    `tenant`: in whose books, needed where the break is of no payout. Raises NotFoundError, InvalidRequestError, and
    ConflictError if it is explained, or over, or if the provider is still being asked.
    """
    found = breaks.get(session, break_id)
    if found.kind not in KINDS:
        raise InvalidRequestError(f"a break {found.kind} isn't about statements", field="break")
    if found.kind == UNKNOWN:
        return _of_line(session, found, into, tenant)
    if found.kind == BALANCE:
        return _of_day(session, found, into, tenant)
    return _of_payout(session, found, into, tenant)


def settle(
    session: Session,
    break_id: UUID,
    into: Into,
    *,
    units: int,
    actor: str,
    reason: str,
    tenant: str | None = None,
) -> Settlement:
    """Book it, and explain the break. `units`: what the person saw that it adds to our account there.

    Raises as `plan`, and ConflictError if it isn't these units any more.
    """
    if not actor.startswith(PERSON) or not actor.removeprefix(PERSON).strip():
        raise InvalidRequestError("only people settle breaks", field="actor")
    made = plan(session, break_id, into, tenant=tenant)
    if made.units != units:
        raise ConflictError(f"it is {made.units} units now, not {units}")
    found = breaks.explain(session, break_id, actor=actor.removeprefix(PERSON), explanation=reason)
    for journal in made.journals():
        posted = posting.post(session, journal)
        if not posted.created:
            raise InvariantError(f"{journal.reference} is booked, and its break is open")
        found.journal_id = found.journal_id or posted.id
    found.tenant = made.tenant
    session.flush()
    _follow(session, found, made, actor=actor, reason=reason)
    log.warning("payout.break_settled", kind=made.kind, subject=made.subject, units=str(units), into=str(into))
    return made


def _follow(session: Session, found: Break, made: Settlement, *, actor: str, reason: str) -> None:
    if made.kind == UNKNOWN:
        line = statement_queries.lock_line(session, made.provider, found.detail["line"])
        if line is not None:
            line.state = NOTED
    elif made.kind != BALANCE:
        payout = _payout(session, found)
        said = {"break": str(found.id), "kind": made.kind, "units": str(made.units), "journal": str(found.journal_id)}
        note(session, payout, "settled", now=clock.now(), actor=actor, reason=reason, **said)
        reconciling.examine(session, payout.id, made.provider)


def _of_payout(session: Session, found: Break, into: Into, tenant: str | None) -> Settlement:
    payout = _payout(session, found)
    breaks.locked(session, found.id)
    if tenant not in (None, payout.tenant):
        raise InvalidRequestError(f"its payout is of {payout.tenant}", field="tenant")
    provider = found.detail["provider"]
    lines = statement_queries.lines_of(session, payout.id, provider)
    _, verdict = reconciling.look_at(session, payout, provider, lines)
    finding = next((each for each in verdict.findings if each.kind == found.kind), None)
    if finding is None:
        raise ConflictError(
            "it is over, or its provider is being asked again: `tallyrail reconcile payouts` says how it stands"
        )
    own = facts.MEND if found.kind == BOOKS else facts.SETTLE
    moves = (
        Move(own, _ACCOUNTS[into], finding.units),
        Move(facts.SETTLE_FEE, chart.payout_fees(), finding.fee_units),
    )
    if not any(move.units for move in moves):
        raise ConflictError("it is in another currency: there is nothing to book here; explain it")
    return Settlement(
        found.id, found.kind, payout.subject, payout.tenant, provider, payout.payout_asset,
        tuple(move for move in moves if move.units),
    )  # fmt: skip


def _of_line(session: Session, found: Break, into: Into, tenant: str | None) -> Settlement:
    line = statement_queries.lock_line(session, found.detail["provider"], found.detail["line"])
    breaks.locked(session, found.id)
    units = 0 if line is None or line.payout_id is not None else reconciling.strange_units(session, line)
    if line is None or not units:
        raise ConflictError("it is over: its payout is known, or it is told no more")
    move = Move(facts.SETTLE, _ACCOUNTS[into], units)
    books = _needed(session, tenant, found)
    return Settlement(found.id, found.kind, found.subject, books, line.provider, line.currency, (move,))


def _of_day(session: Session, found: Break, into: Into, tenant: str | None) -> Settlement:
    breaks.locked(session, found.id)
    day = statement_days.of_subject(session, found.subject)
    units = statement_days.unbooked(session, day)
    if not units:
        raise ConflictError("it is over: lines and books agree")
    move = Move(facts.SETTLE, _ACCOUNTS[into], units)
    return Settlement(
        found.id, found.kind, found.subject, _needed(session, tenant, found), day.provider, day.currency, (move,)
    )


def _needed(session: Session, tenant: str | None, found: Break) -> str:
    chosen = tenant or found.tenant
    if chosen is None:
        raise InvalidRequestError("it is of no payout: say in whose books, --tenant", field="tenant")
    if chosen not in statement_queries.tenants(session):
        raise InvalidRequestError(f"{chosen[:80]!r} has no payouts", field="tenant")
    return chosen


def _payout(session: Session, found: Break) -> Payout:
    payout = queries.lock(session, UUID(found.detail["payout"]))
    if payout is None:
        raise NotFoundError(f"there is no payout {found.detail['payout']}")
    return payout
