"""What the three accounts say of one payout at one provider: its row, the statement's lines, the books."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from domain.payout import sending_queries, statement_queries
from domain.payout.matching import Facts, Moved
from domain.payout.models import Payout, PayoutAttempt
from domain.payout.recording import OPEN
from domain.payout.statement_models import PayoutStatementLine
from domain.payout.states import UNSETTLED_ATTEMPTS, AttemptState, PayoutState
from ledger import balances, chart

SETTLE, SETTLE_FEE, MEND = "payout.settle", "payout.settle_fee", "payout.mend"
"""Categories of journals by which people settle differences: with the statement, its fees, and of the books alone."""
CLOCKS = timedelta(hours=1)
"""That theirs may be ahead of ours or behind, and more."""
_PAGE = 1_000


def of(
    session: Session, payout: Payout, provider: str, lines: Sequence[PayoutStatementLine], *, grace: timedelta
) -> Facts:
    """The payout is locked, so nothing of it changes meanwhile."""
    attempts = [each for each in sending_queries.attempts(session, payout.id) if each.provider == provider]
    live = [line for line in lines if line.withdrawn_at is None]
    ours = [line for line in live if line.currency == payout.payout_asset]
    books, settled = _booked(session, payout, provider)
    begun_at = min((each.first_sent_at for each in attempts), default=None)
    ended_at = _ended_at(payout, attempts, provider)
    return Facts(
        state=payout.state,
        currency=payout.payout_asset,
        row=_row(payout, attempts, provider),
        books=books,
        settled=settled,
        told=Moved(-sum(line.units + line.fee_units for line in ours), sum(line.fee_units for line in ours)),
        strange=[f"{line.units} {line.currency}" for line in live if line.currency != payout.payout_asset],
        lines=len(live),
        told_at=max((line.created_at for line in live), default=None),
        booked_at=max((line.booked_at for line in live), default=None),
        is_under_way=payout.current in OPEN and any(each.current in UNSETTLED_ATTEMPTS for each in attempts),
        asked_at=max((each.asked_at for each in attempts if each.asked_at is not None), default=None),
        begun_at=begun_at,
        ended_at=ended_at,
        covered=not live and _covered(session, provider, begun_at, ended_at, grace=grace),
    )


def _row(payout: Payout, attempts: Sequence[PayoutAttempt], provider: str) -> Moved:
    """What its row, and those of its attempts, say that the provider has less of ours."""
    is_there = payout.provider == provider and not payout.by_hand
    paid = int(is_there and payout.current is PayoutState.PAID)
    beside = sum(each.extra_journal_id is not None for each in attempts)
    return Moved(payout.payout_units * (paid + beside), payout.provider_fee_units if is_there else 0)


def _booked(session: Session, payout: Payout, provider: str) -> tuple[int, Moved]:
    """What the journals about it took out of what we have there: for itself, and to settle differences."""
    custody = chart.payout_custody(provider)
    own, settled = 0, Moved()
    cursor: str | None = None
    while True:
        page = balances.journals_about(session, payout.tenant, payout.subject, cursor=cursor, limit=_PAGE)
        for journal in page.rows:
            entries = [each for each in journal.entries if each.code == custody and each.asset == payout.payout_asset]
            out = -sum(each.units for each in entries)
            if journal.category == SETTLE:
                settled += Moved(gone=out)
            elif journal.category == SETTLE_FEE:
                settled += Moved(fee=out)
            else:
                own += out
        cursor = page.cursor
        if cursor is None:
            return own, settled


def _ended_at(payout: Payout, attempts: Sequence[PayoutAttempt], provider: str) -> datetime | None:
    if payout.current is PayoutState.PAID and payout.provider == provider:
        return payout.ended_at
    answered = [each.answered_at for each in attempts if each.current is AttemptState.ACCEPTED]
    return max((at for at in answered if at is not None), default=None)


def _covered(
    session: Session, provider: str, begun_at: datetime | None, ended_at: datetime | None, *, grace: timedelta
) -> bool:
    """Whether one statement, read late enough, has all of its life: some date a line by its end, some by its begin."""
    if begun_at is None or ended_at is None:
        return False
    return statement_queries.covers(
        session, provider, begun_at - CLOCKS, ended_at + CLOCKS, read_after=ended_at + grace
    )
