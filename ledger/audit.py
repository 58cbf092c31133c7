"""Audits: the books are proved again and again, in pieces, and what was found is kept until it is proved away.

An incremental audit takes what was sealed since the last audit; a full one takes everything. Both work in steps, each a
short transaction that ends with a cursor, so that nothing is held for long and whoever is killed is followed by one who
goes on from there. An audit stops nothing and mends nothing.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from typing import Literal

from sqlalchemy import text
from sqlalchemy.orm import Session

from core import db
from ledger import invariants, seals
from ledger.invariants import LAST, check_accounts, check_journals, check_totals, check_touched
from ledger.violations import Violation, merged

Kind = Literal["incremental", "full"]
Phase = Literal["journals", "accounts", "totals"]
_PIECES = {"ledger_journals": ("number", 5_000), "ledger_accounts": ("id", 20_000)}
"""What a table is walked by, and how many rows one piece holds: a tenth of a second or so."""
REACH = "seals reach as far as before"
RULES = (*invariants.RULES, *seals.RULES, REACH)
"""All that an audit checks."""
STALLED_AFTER = timedelta(minutes=15)
"""An audit that has not moved for so long is given up, and another may begin."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far an audit came: what is next are the numbers or ids above `after`."""

    audit: int
    phase: Phase = "journals"
    after: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """One step's end: what it found, and where the next begins. No cursor: the audit is finished."""

    cursor: Cursor | None
    violations: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of the books. `violations` are those that no later audit of the same rows has proved away."""

    violations: tuple[Violation, ...]
    since_incremental: timedelta | None
    """Since the last one finished; None: there was none."""
    since_full: timedelta | None
    unsealed: seals.Unsealed


def begin(session: Session, kind: Kind) -> Cursor | None:
    """Begin an audit up to the last seal. None: one of its kind is at work."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtext('ledger_audits'), hashtext(:kind))"), {"kind": kind})
    busy = session.scalar(
        text("""
            SELECT finished_at IS NULL AND reached_at > now() - CAST(:stalled AS interval)
            FROM ledger_audits WHERE kind = :kind ORDER BY id DESC LIMIT 1"""),
        {"kind": kind, "stalled": STALLED_AFTER},
    )
    if busy:
        return None
    upto = seals.sealed_upto(session)
    after = 0
    if kind == "incremental":
        # Behind an audit that was given up half way, the next begins where that one began.
        last = session.scalar(text("SELECT max(upto_number) FROM ledger_audits WHERE finished_at IS NOT NULL"))
        after = min(last or 0, upto)
    audit = session.execute(
        text("INSERT INTO ledger_audits (kind, after_number, upto_number) VALUES (:kind, :after, :upto) RETURNING id"),
        {"kind": kind, "after": after, "upto": upto},
    ).scalar_one()
    return Cursor(audit, "journals", after)


def step(session: Session, cursor: Cursor, *, budget: timedelta) -> Step:
    """Take the audit on for about `budget`, or to its end, in the caller's transaction. Keeps what it finds.

    Run again from the same cursor, it does the same again: a step whose transaction was lost is no harm.
    """
    kind, upto = session.execute(
        text("SELECT kind, upto_number FROM ledger_audits WHERE id = :id"), {"id": cursor.audit}
    ).one()
    ends = time.monotonic() + budget.total_seconds()
    parts: list[Violation] = []
    place: Cursor | None = cursor
    while place is not None and (place is cursor or time.monotonic() < ends):
        found, place = _piece(session, place, kind, upto)
        parts += found
    if place is None:
        parts += _check_reach(session, cursor.audit, upto)
    violations = tuple(merged(parts))
    _keep(session, cursor.audit, violations, finished=place is None)
    return Step(place, violations)


def _piece(session: Session, place: Cursor, kind: Kind, upto: int) -> tuple[list[Violation], Cursor | None]:
    """One piece of the books, and the next one's place."""
    # A piece is few rows of many, whatever the planner believes of a table that it has not looked at yet.
    session.execute(text("SET LOCAL enable_seqscan = off"))
    if place.phase == "journals":
        end = _end(session, "ledger_journals", place.after, upto)
        found = [*check_journals(session, place.after, end), *seals.check_chain(session, place.after, end)]
        if kind == "incremental":
            found += check_touched(session, place.after, end)
        if end < upto:
            return found, replace(place, after=end)
        if kind == "incremental":
            return [*found, *seals.check_ends(session)], None
        return found, Cursor(place.audit, "accounts")
    if place.phase == "accounts":
        end = _end(session, "ledger_accounts", place.after, LAST)
        found = check_accounts(session, place.after, end)
        return found, replace(place, after=end) if end < LAST else Cursor(place.audit, "totals")
    return [*check_totals(session), *seals.check_ends(session)], None


def _end(session: Session, table: str, after: int, upto: int) -> int:
    """Where the piece ends that begins behind `after`: by rows, so that no gap in the numbers is walked through."""
    column, most = _PIECES[table]
    query = f"SELECT {column} FROM {table} WHERE {column} > :after ORDER BY {column} OFFSET :most LIMIT 1"  # noqa: S608  # constants
    beyond = session.scalar(text(query), {"after": after, "most": most})
    return upto if beyond is None else min(beyond - 1, upto)


def _check_reach(session: Session, audit: int, upto: int) -> list[Violation]:
    """The seals never reach less far than an audit has seen: if they do, their end was cut off."""
    seen = session.scalar(text("SELECT max(upto_number) FROM ledger_audits WHERE id < :id"), {"id": audit}) or 0
    if seen <= upto:
        return []
    message = f"everything up to number {seen} was sealed once, and is up to {upto} now: the end was cut off"
    return [Violation(REACH, f"number {upto + 1}", message, 1)]


def _keep(session: Session, audit: int, violations: Sequence[Violation], *, finished: bool) -> None:
    before = session.execute(
        text("SELECT violations FROM ledger_audits WHERE id = :id FOR UPDATE"), {"id": audit}
    ).scalar_one()
    known = merged([*(Violation(**one) for one in before), *violations])
    session.execute(
        text("""
            UPDATE ledger_audits SET reached_at = clock_timestamp(), violations = CAST(:violations AS jsonb),
                   finished_at = CASE WHEN :finished THEN clock_timestamp() END
            WHERE id = :id"""),
        {"id": audit, "violations": json.dumps([asdict(one) for one in known]), "finished": finished},
    )


# A finding stands until a full audit that began after it, and reached as far, has ended. One still at work adds to it.
_STANDING = """
    SELECT a.violations FROM ledger_audits a
    WHERE a.violations <> '[]' AND NOT EXISTS (
        SELECT FROM ledger_audits f
        WHERE f.kind = 'full' AND f.finished_at IS NOT NULL AND f.id > a.id AND f.upto_number >= a.upto_number
          AND f.started_at >= a.reached_at)
    ORDER BY a.id"""


def status(session: Session) -> Status:
    """What the audits say now. A few looks into indexes."""
    standing = session.scalars(text(_STANDING)).all()
    ages = {
        kind: session.scalar(
            text("""
                SELECT clock_timestamp() - finished_at FROM ledger_audits
                WHERE kind = :kind AND finished_at IS NOT NULL ORDER BY id DESC LIMIT 1"""),
            {"kind": kind},
        )
        for kind in ("incremental", "full")
    }
    violations = merged(Violation(**one) for kept in standing for one in kept)
    return Status(tuple(violations), ages["incremental"], ages["full"], seals.unsealed(session))


def remove_old(session: Session, *, keep: timedelta) -> int:
    """Delete audits older than `keep` that found nothing; the last finished one of each kind stays."""
    return int(
        session.execute(
            text("""
                DELETE FROM ledger_audits a
                WHERE started_at < now() - CAST(:keep AS interval) AND violations = '[]' AND EXISTS (
                    SELECT FROM ledger_audits b WHERE b.kind = a.kind AND b.id > a.id AND b.finished_at IS NOT NULL
                       AND b.upto_number >= a.upto_number)"""),
            {"keep": keep},
        ).rowcount  # type: ignore[attr-defined]  # has a count
    )


def walk(*, after: int = 0, full: bool = True) -> Iterator[tuple[Phase, int, list[Violation]]]:
    """Prove the books in pieces, each in a transaction of its own: for people, nothing of it is kept.

    Gives the phase, behind which journal's number or account's id the piece begins, and what it found, piece by piece.
    Journals go up to the last one booked, sealed or not. With `full` all accounts and the trial balance follow,
    otherwise the accounts that the journals touched come with them.
    """
    place: Cursor | None = Cursor(0, "journals", after)
    while place is not None:
        here = place
        with db.transaction() as session:
            found, place = _piece(session, here, "full" if full else "incremental", LAST)
        yield here.phase, here.after, found
