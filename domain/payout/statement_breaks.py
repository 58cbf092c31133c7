"""Breaks about statements: opened, healed, and what people booked to settle them."""

from collections.abc import Collection

import structlog
from sqlalchemy.orm import Session

from core import breaks
from core.breaks import EXPLAINED, Break, Difference
from domain.payout import statement_queries
from domain.payout.history import ACTOR
from ledger import balances, chart

log = structlog.stdlib.get_logger(__name__)


def note(session: Session, difference: Difference) -> Break:
    """Put it on the list, unless a person has explained just this without booking anything. Returns its break."""
    last = statement_queries.last_break(session, difference.kind, difference.subject)
    if (
        last is not None
        and last.state == EXPLAINED
        and last.explained_by != ACTOR
        and last.journal_id is None
        and (last.expected, last.found) == (difference.expected, difference.found)
    ):
        return last
    return session.get_one(Break, breaks.note(session, difference), populate_existing=True)


def heal(session: Session, kinds: Collection[str], subject: str, why: str) -> None:
    """Explain what is open of these, as it is over."""
    if not kinds:
        return
    for found in statement_queries.open_breaks(session, kinds, subject=subject):
        breaks.explain(session, found.id, actor=ACTOR, explanation=why)
        log.info("payout.break_healed", kind=found.kind, subject=subject)


def settled_units(session: Session, kind: str, subject: str, provider: str, asset: str) -> int:
    """What journals added to our balance there to settle breaks of this subject."""
    custody, units = chart.payout_custody(provider), 0
    for found in statement_queries.settled_breaks(session, kind, subject):
        journal = balances.journal(session, found.tenant or "", journal_id=found.journal_id)
        entries = () if journal is None else journal.entries
        units += sum(each.units for each in entries if each.code == custody and each.asset == asset)
    return units
