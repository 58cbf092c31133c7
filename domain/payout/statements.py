"""Reading providers' statements, and keeping their lines.

A line's name is unique at its provider, so that times may overlap and readings may be repeated. What a provider tells
otherwise than before counts from then on. What it tells no more is withdrawn: for some a statement is the list of what
is paid now, and what came back is gone from it.
"""

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from uuid import UUID

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core import clock
from core.errors import PermanentError
from core.ids import new_id
from core.jobs import transaction
from domain.payout.history import ACTOR
from domain.payout.statement_models import PayoutStatement, PayoutStatementLine
from providers.payout.base import PayoutProvider, StatementKind, StatementLine

log = structlog.stdlib.get_logger(__name__)

BATCH = 200
MATCHED, UNMATCHED, NOTED = "matched", "unmatched", "noted"
OF_PROVIDER, OF_FILE = "provider", "file"
_TOLD = ("kind", "reference", "provider_ref", "currency", "units", "fee_units", "booked_at")
"""What a line says."""


def read(provider: PayoutProvider, since: datetime, until: datetime) -> PayoutStatement:
    """Ask for all lines of that time and keep them. Safe to repeat. Raises TransientError, PermanentError.

    What was read before it broke off is kept; it only proves nothing of what isn't there.
    """
    with transaction() as session:
        statement_id = begin(session, provider.name, since, until, source=OF_PROVIDER, actor=ACTOR).id
    lines = provider.statement(since, until)
    told: dict[str, StatementLine] = {}
    added = 0
    while batch := list(islice(lines, BATCH)):  # the provider is asked between the transactions, not within one
        with transaction() as session:
            added += keep(session, provider.name, statement_id, _new(told, batch))
    with transaction() as session:
        statement = session.get_one(PayoutStatement, statement_id)
        statement.lines, statement.added = len(told), added
        statement.withdrawn = _withdraw(session, statement)
        statement.read_at = clock.now()
        session.flush()
        session.expunge(statement)
    log.info("payout.statement_read", provider=provider.name, lines=len(told), new=added, gone=statement.withdrawn)
    return statement


def begin(
    session: Session,
    provider: str,
    since: datetime,
    until: datetime,
    *,
    source: str,
    actor: str,
    file_sha256: bytes | None = None,
) -> PayoutStatement:
    made = PayoutStatement(
        id=new_id(), provider=provider, source=source, actor=actor, since=since, until=until, begun_at=clock.now(),
        file_sha256=file_sha256,
    )  # fmt: skip
    session.add(made)
    session.flush()
    return made


def keep(session: Session, provider: str, statement_id: UUID, lines: Sequence[StatementLine]) -> int:
    """Write down the lines. Returns how many are new, or are told otherwise than before."""
    now = clock.now()
    rows = [
        {
            "id": new_id(),
            "provider": provider,
            "line": line.id,
            **{name: getattr(line, name) for name in _TOLD},
            "kind": str(line.kind),
            "state": UNMATCHED if is_of_payout(line) else NOTED,
            "statement_id": statement_id,
            "created_at": now,
        }
        for line in sorted(lines, key=lambda line: line.id)  # so that two readings wait for each other in one order
    ]
    if not rows:
        return 0
    known = PayoutStatementLine
    new = insert(known).values(rows)
    differs = or_(
        known.withdrawn_at.is_not(None), *(getattr(known, name).is_distinct_from(new.excluded[name]) for name in _TOLD)
    )
    changed = {
        **{name: new.excluded[name] for name in _TOLD},
        "state": new.excluded.state,
        "why": None,
        "payout_id": None,
        "withdrawn_at": None,
        "created_at": new.excluded.created_at,
    }
    upsert = new.on_conflict_do_update(index_elements=["provider", "line"], set_=changed, where=differs)
    added = len(session.execute(upsert.returning(known.id)).all())
    # Of two readings at a time the later one counts, in whatever order their lines come.
    session.execute(
        update(known)
        .where(known.provider == provider, known.line.in_([line.id for line in lines]))
        .values(statement_id=func.greatest(known.statement_id, statement_id))
    )
    return added


def is_of_payout(line: StatementLine) -> bool:
    """Whether there must be a payout of it. A fee may be of one, or of a month; what is `other` never is."""
    if line.kind is StatementKind.FEE:
        return line.reference is not None or line.provider_ref is not None
    return line.kind is not StatementKind.OTHER


def _new(told: dict[str, StatementLine], batch: Sequence[StatementLine]) -> list[StatementLine]:
    """Those of the batch that weren't told in this reading. Raises PermanentError for two lines of one name."""
    found = []
    for line in batch:
        if line.id not in told:
            found.append(line)
        elif told[line.id] != line:
            raise PermanentError(f"the statement has two lines {line.id[:64]!r}")
        told[line.id] = line
    return found


def _withdraw(session: Session, statement: PayoutStatement) -> int:
    """Lines of its time that the provider told before and doesn't tell any more. Those of files it needn't know."""
    line = PayoutStatementLine
    earlier = (
        select(line.id)
        .join(PayoutStatement, PayoutStatement.id == line.statement_id)
        .where(
            line.provider == statement.provider,
            line.booked_at >= statement.since,
            line.booked_at < statement.until,
            line.withdrawn_at.is_(None),
            line.statement_id < statement.id,
            PayoutStatement.source == OF_PROVIDER,
        )
    )
    gone = update(line).where(line.id.in_(earlier)).values(withdrawn_at=clock.now(), state=UNMATCHED, why=None)
    return len(session.execute(gone.returning(line.id)).all())
