"""Balances as of a time, by either of the ledger's clocks.

*Booked* says what the books showed at that moment: it never changes afterwards. *Effective* says what had happened
outside by that moment, as far as we know today: an event that is booked late moves it.
"""

from datetime import datetime
from enum import StrEnum

from sqlalchemy import text
from sqlalchemy.orm import Session

from ledger.chart import Side
from ledger.paging import moment


class Clock(StrEnum):
    BOOKED = "booked"
    """When we wrote it."""
    EFFECTIVE = "effective"
    """When it happened outside."""


def balance_at(
    session: Session, tenant: str, code: str, asset: str, at: datetime, *, clock: Clock = Clock.BOOKED
) -> int:
    """The account's balance at a moment, with all of this very moment, on its normal side in the asset's units.

    Halves the account's versions, so its cost hardly grows with the entries. By the effective clock it also looks at
    each journal, of any account, that stands between its two times at this moment. A post that is under way at the
    moment counts once it has committed. Raises InvalidRequestError for a time without a zone.
    """
    row = session.execute(
        _BALANCE,
        {
            "tenant": tenant,
            "code": code,
            "asset": asset,
            "at": moment(at, field="at"),
            "effective": clock is Clock.EFFECTIVE,
        },
    ).one_or_none()
    return 0 if row is None else Side(row.normal_side).sign * int(row.balance)


# One statement, and so one view of the books: what one part counts, the other can't miss.
_BALANCE = text("""
    SELECT a.normal_side,
           coalesce(sum(e.balance), 0)
           + CASE WHEN CAST(:effective AS boolean) THEN ledger_effective_shift(array_agg(a.id), :at) ELSE 0 END
           AS balance
    FROM ledger_accounts a
    CROSS JOIN LATERAL (SELECT ledger_version_at(a.id, :at) AS version LIMIT 1) v
    LEFT JOIN LATERAL (
        SELECT balance FROM ledger_entries WHERE account_id = a.id AND version = v.version LIMIT 1
    ) e ON true
    WHERE a.tenant = :tenant AND a.code = :code AND a.asset = :asset
    GROUP BY a.normal_side
""")
