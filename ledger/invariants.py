"""What must be true of the books, checked from the rows alone.

Each check is one statement, so it sees one moment of the books and may run while money moves. It finds the wrong rows
in the order in which they were booked, names the first and counts them all.
"""

from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    row: str
    """The first wrong row."""
    message: str
    count: int
    """How many rows break the rule."""

    def __str__(self) -> str:
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"{self.rule}: {self.row}: {self.message}{more}"


# Each gives (place to order by, row, message) for every wrong row.
_CHECKS = {
    "journals sum to zero": """
        SELECT min(id) AS place, 'journal ' || journal_id AS row,
               'its entries in ' || asset || ' sum to ' || sum(units) AS message
        FROM ledger_entries GROUP BY journal_id, asset HAVING sum(units) <> 0""",
    "journals are whole": """
        SELECT 0 AS place, 'journal ' || j.id AS row, 'it has no entries' AS message
        FROM ledger_journals j WHERE NOT EXISTS (SELECT FROM ledger_entries e WHERE e.journal_id = j.id)
        UNION ALL
        SELECT min(id), 'journal ' || journal_id, 'its positions have a gap'
        FROM ledger_entries GROUP BY journal_id HAVING max(position) + 1 <> count(*) OR count(*) % 2 <> 0""",
    "versions have no gaps": """
        SELECT id AS place, 'entry ' || id AS row,
               'account ' || account_id || ' goes from version ' || version - step || ' to ' || version AS message
        FROM (SELECT id, account_id, version,
                     version - coalesce(lag(version) OVER (PARTITION BY account_id ORDER BY version), 0) AS step
              FROM ledger_entries) e
        WHERE step <> 1""",
    "running balances": """
        SELECT id AS place, 'entry ' || id AS row,
               'balance ' || balance || ', but the entry before makes it ' || before + units AS message
        FROM (SELECT id, units, balance,
                     coalesce(lag(balance) OVER (PARTITION BY account_id ORDER BY version), 0) AS before
              FROM ledger_entries) e
        WHERE balance <> before + units""",
    "balances equal the replay": """
        SELECT a.id AS place, 'account ' || a.id || ' ' || a.tenant || '/' || a.code AS row,
               'balance ' || a.balance || ' at version ' || a.version || ', but its '
               || coalesce(e.number, 0) || ' entries sum to ' || coalesce(e.total, 0) AS message
        FROM ledger_accounts a
        LEFT JOIN (SELECT account_id, count(*) AS number, sum(units) AS total FROM ledger_entries GROUP BY 1) e
               ON e.account_id = a.id
        WHERE a.balance <> coalesce(e.total, 0) OR a.version <> coalesce(e.number, 0)""",
    "floors hold": """
        SELECT id AS place, 'account ' || id || ' ' || tenant || '/' || code AS row,
               'balance ' || shown || ' is below its floor ' || floor AS message
        FROM (SELECT *, CASE normal_side WHEN 'credit' THEN balance ELSE -balance END AS shown FROM ledger_accounts) a
        WHERE shown < floor""",
    "entries fit their account": """
        SELECT e.id AS place, 'entry ' || e.id AS row,
               'it is in ' || e.asset || ' of ' || coalesce(j.tenant, 'no journal') || ', its account in '
               || coalesce(a.asset || ' of ' || a.tenant, 'no account') AS message
        FROM ledger_entries e
        LEFT JOIN ledger_accounts a ON a.id = e.account_id
        LEFT JOIN ledger_journals j ON j.id = e.journal_id
        WHERE a.asset IS DISTINCT FROM e.asset OR a.tenant IS DISTINCT FROM j.tenant OR a.tenant IS NULL""",
    "reversals mirror": """
        SELECT 0 AS place, 'journal ' || r.id AS row, 'it does not undo journal ' || r.reverses AS message
        FROM ledger_journals r
        WHERE r.reverses IS NOT NULL AND EXISTS (
            SELECT FROM ledger_entries e WHERE e.journal_id IN (r.id, r.reverses)
            GROUP BY e.account_id HAVING sum(e.units) <> 0)""",
    "trial balance": """
        SELECT 0 AS place, 'tenant ' || tenant AS row,
               'the accounts in ' || asset || ' sum to ' || sum(balance) AS message
        FROM ledger_accounts GROUP BY tenant, asset HAVING sum(balance) <> 0""",
}


def verify(session: Session) -> list[Violation]:
    """Prove the books from the rows alone. An empty list means that every rule holds."""
    found = []
    for rule, check in _CHECKS.items():
        first = session.execute(
            text(f"SELECT row, message, count(*) OVER () AS number FROM ({check}) c ORDER BY place, row LIMIT 1")  # noqa: S608  # constants
        ).one_or_none()
        if first is not None:
            found.append(Violation(rule, first.row, first.message, first.number))
    return found
