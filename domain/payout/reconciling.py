"""Matching what providers' statements say with our payouts and the books, and keeping what differs as breaks.

Each payout is looked at by itself, under its lock, so that its row and its journals are of one moment. Looked at are
those that lines of the time are of, those that moved what we have there in that time, those that should have a line and
have none, and those that a break is open about: so both sides are covered whole. A break whose cause is gone is
explained by us; one that a person has explained isn't opened again while nothing changes.

A line never moves a payout: it asks for a look, so that what providers say is taken in in one way only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import structlog
from sqlalchemy.orm import Session

from core import clock, jobs
from core.breaks import EXPLAINED, Difference
from core.jobs import transaction
from domain.payout import facts, looking, matching, queries, sending_queries, statement_days, statement_queries
from domain.payout.matching import OF_PAYOUT, Facts, Finding, Verdict, Waiting
from domain.payout.models import Payout
from domain.payout.statement_breaks import heal, note, settled_units
from domain.payout.statement_models import PayoutStatementLine
from domain.payout.statement_settings import statements as settings
from domain.payout.statements import MATCHED, NOTED, UNMATCHED

log = structlog.stdlib.get_logger(__name__)

BATCH = 200
_TO_BE_ASKED = frozenset({Waiting.ASKED, Waiting.UNDER_WAY})


@dataclass
class Outcome:
    """Of one matching, by payouts."""

    agreed: int = 0
    differing: int = 0
    waiting: dict[Waiting, int] = field(default_factory=dict)
    uncovered_since: datetime | None = None
    """From then a statement must be read to know of the oldest that has no line."""


def match(provider: str, since: datetime, until: datetime, *, rest: bool = True) -> Outcome:
    """Match what is of that time and, unless a run of another time does it, the `rest`: what has no line, and what a
    break is open about. Safe to repeat, at any time.
    """
    _attribute(provider)
    with transaction() as session:
        days = statement_days.read(session, provider, since, until, broken=rest)
        told = statement_queries.told_of(session, provider, since, until)
        todo = {*told, *(payout_id for day in days for payout_id in day.touched)}
        if rest:
            todo |= statement_queries.untold(session, provider, since - statement_queries.SENT_WITHIN, clock.now())
            todo.update(_broken(session, provider))
    made = Outcome()
    # What was matched before comes last: a job that is cut short has done what is new.
    for payout_id in sorted(todo, key=lambda each: (told.get(each, False), each)):
        with transaction() as session:
            _count(made, examine(session, payout_id, provider))
    with transaction() as session:
        statement_days.match(session, provider, days)
    if made.differing:
        log.error("payout.statement_differs", provider=provider, payouts=made.differing)
    return made


def _count(made: Outcome, found: tuple[Facts, Verdict] | None) -> None:
    if found is None:
        return
    said, verdict = found
    made.agreed += verdict.agrees
    made.differing += bool(verdict.findings)
    if verdict.waits is None:
        return
    made.waiting[verdict.waits] = made.waiting.get(verdict.waits, 0) + 1
    if verdict.waits is Waiting.NOT_COVERED and said.begun_at is not None:
        made.uncovered_since = min(made.uncovered_since or said.begun_at, said.begun_at)


def _broken(session: Session, provider: str) -> Iterator[UUID]:
    for found in statement_queries.open_breaks(session, OF_PAYOUT):
        if found.detail.get("provider") == provider and "payout" in found.detail:
            yield UUID(found.detail["payout"])


# --- a payout -------------------------------------------------------------------------------------------------------


def subject_of(payout: Payout, provider: str) -> str:
    """Of breaks about it: it may have been at several."""
    return f"{payout.subject}:{provider}"


def look_at(
    session: Session, payout: Payout, provider: str, lines: Sequence[PayoutStatementLine]
) -> tuple[Facts, Verdict]:
    """What the three say now. The payout is locked."""
    chosen = settings()
    said = facts.of(session, payout, provider, lines, grace=chosen.grace)
    return said, matching.judge(said, now=clock.now(), grace=chosen.grace, under_way=chosen.under_way)


def examine(session: Session, payout_id: UUID, provider: str) -> tuple[Facts, Verdict] | None:
    """Hold the three against each other, and keep what comes of it. None: there is no such payout."""
    payout = queries.lock(session, payout_id)
    if payout is None:
        return None
    lines = statement_queries.lines_of(session, payout.id, provider)
    said, verdict = look_at(session, payout, provider, lines)
    for finding in verdict.findings:
        note(session, _difference(payout, provider, lines, finding))
    kinds = {finding.kind for finding in verdict.findings}
    over = {matching.BOOKS} - kinds if verdict.waits is not None else OF_PAYOUT - kinds
    heal(session, over, subject_of(payout, provider), "the three agree now")
    why = ", ".join(sorted(kinds)) or (None if verdict.waits is None else str(verdict.waits))
    if verdict.waits in _TO_BE_ASKED and any(line.why != why for line in lines):
        jobs.submit(session, looking.job(payout, looking.LOOK))
    for line in lines:
        line.state, line.why = (MATCHED if why is None else UNMATCHED), why
    session.flush()
    return said, verdict


def _difference(payout: Payout, provider: str, lines: Sequence[PayoutStatementLine], finding: Finding) -> Difference:
    return Difference(
        kind=finding.kind,
        subject=subject_of(payout, provider),
        expected=finding.expected,
        found=finding.found,
        tenant=payout.tenant,
        asset=payout.payout_asset,
        detail={
            "payout": str(payout.id),
            "provider": provider,
            "provider_ref": payout.provider_ref,
            "lines": [line.line for line in lines if line.withdrawn_at is None],
            "units": str(finding.units),
            "fee_units": str(finding.fee_units),
        },
    )


# --- lines ----------------------------------------------------------------------------------------------------------


def _attribute(provider: str) -> None:
    """Find the payouts of lines that have none yet. One that nobody knows in time is a break."""
    after = UUID(int=0)
    while True:
        with transaction() as session:
            found = statement_queries.unattributed(session, provider, after=after, limit=BATCH)
            for line in found:
                _attribute_one(session, line)
            session.flush()
            if not found:
                return
            after = found[-1].id


def _attribute_one(session: Session, line: PayoutStatementLine) -> None:
    subject = line_subject(line)
    known = None
    if line.break_id is None or not statement_queries.settled_breaks(session, matching.UNKNOWN, subject):
        known = sending_queries.told(
            session, provider=line.provider, reference=line.reference, provider_ref=line.provider_ref
        )
    if known is not None:
        line.payout_id = known[0]
        heal(session, {matching.UNKNOWN}, subject, "its payout is known now")
        return
    units = strange_units(session, line)
    if not units:  # withdrawn, or booked by a person
        line.state = NOTED
        heal(session, {matching.UNKNOWN}, subject, "it is told no more")
        return
    if line.reference is None and clock.now() < line.booked_at + settings().grace:
        line.why = str(Waiting.NOT_YET)  # only the provider's name: a look may tell us whose that is
        return
    opened = note(
        session,
        Difference(
            kind=matching.UNKNOWN,
            subject=subject,
            expected="no such line",
            found=f"{line.kind} {line.units} {line.currency}",
            asset=line.currency,
            detail={
                "provider": line.provider,
                "line": line.line,
                "reference": line.reference,
                "provider_ref": line.provider_ref,
                "booked_at": line.booked_at.isoformat(),
                "units": str(units),
            },
        ),
    )
    line.state, line.why = (UNMATCHED if opened.state != EXPLAINED else NOTED), matching.UNKNOWN
    line.break_id = opened.id


def line_subject(line: PayoutStatementLine) -> str:
    return f"statement:{line.provider}:{line.line}"


def strange_units(session: Session, line: PayoutStatementLine) -> int:
    """What a line of no payout adds to our balance there, that nobody has booked."""
    told = 0 if line.withdrawn_at is not None else line.units
    return told - settled_units(session, matching.UNKNOWN, line_subject(line), line.provider, line.currency)
