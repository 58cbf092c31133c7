"""What must be true of the books, checked from the rows alone.

Each check is one statement, so it sees one moment of the books and may run while money moves. It finds the wrong rows
in the order in which they were booked, names the first and counts them all.

Three kinds, so that big books can be walked in pieces. Rules of journals look at those with `after < number <= upto`
and at each entry's predecessor, so that what holds of every range holds of the whole: by induction along its versions,
an account whose entries all follow from the one before, and which agrees with its last one, equals its replay. Rules of
accounts look at a set of rows. The trial balance needs all accounts at one moment.
"""

# ruff: noqa: S608  # statements are put together from constants of this module

from collections.abc import Mapping

from sqlalchemy.orm import Session

from ledger import seals
from ledger.violations import Violation, found

__all__ = ["Violation", "check_accounts", "check_journals", "check_totals", "check_touched", "verify"]

FIRST, LAST = -1, 2**63 - 1
"""A range that holds every number and every id."""

_IN_RANGE = "e.journal_number > :after AND e.journal_number <= :upto"
_ENTRIES = f"(SELECT * FROM ledger_entries e WHERE {_IN_RANGE}) e"
# Of each entry, its journal, its account and the entry before it in that account, any of which may be missing. LATERAL
# with LIMIT: one look into an index for each, so that a piece costs the same however big the books are.
_J = "LEFT JOIN LATERAL (SELECT * FROM ledger_journals WHERE number = e.journal_number LIMIT 1) j ON true"
_A = "LEFT JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = e.account_id LIMIT 1) a ON true"
_P = """LEFT JOIN LATERAL (SELECT * FROM ledger_entries
                           WHERE account_id = e.account_id AND version = e.version - 1 LIMIT 1) p ON true"""
_ENTRY = "e.journal_number AS place, e.position AS position, 'entry ' || e.journal_number || '.' || e.position AS row"
_JOURNAL = "'journal ' || coalesce(cast(j.id AS text), 'with number ' || e.number) AS row"
_ACCOUNT = """a.id AS place, 0 AS position,
    'account ' || a.id || ' ' || a.tenant || '/' || a.code
    || CASE WHEN a.stripes > 1 THEN ' stripe ' || a.stripe ELSE '' END AS row"""

_JOURNALS = {
    "journals sum to zero": f"""
        SELECT e.number AS place, 0 AS position, {_JOURNAL},
               'its entries in ' || coalesce(e.asset, 'no asset') || ' sum to ' || e.total AS message
        FROM (SELECT e.journal_number AS number, a.asset, sum(e.units) AS total
              FROM {_ENTRIES} {_A} GROUP BY 1, 2 HAVING sum(e.units) <> 0) e
        LEFT JOIN ledger_journals j ON j.number = e.number""",
    "postings cancel": f"""
        SELECT number AS place, first AS position, 'entry ' || number || '.' || first AS row,
               CASE WHEN entries <> 2 THEN 'it has no partner'
                    ELSE 'it and its partner are no movement from a source to a destination' END AS message
        FROM (SELECT e.journal_number AS number, min(e.position) AS first, count(*) AS entries
              FROM {_ENTRIES} {_A} GROUP BY e.journal_number, e.position / 2
              HAVING count(*) <> 2 OR sum(e.units) <> 0 OR min(a.asset) IS DISTINCT FROM max(a.asset)
                     OR bool_or(e.units = 0 OR (e.units < 0) <> (e.position % 2 = 0))) e""",
    "journals are whole": """
        SELECT j.number AS place, 0 AS position, 'journal ' || j.id AS row,
               CASE WHEN e.entries = 0 THEN 'it has no entries'
                    WHEN e.entries % 2 <> 0 THEN 'it has ' || e.entries || ' entries, an odd number'
                    ELSE 'its positions have a gap' END AS message
        FROM ledger_journals j
        CROSS JOIN LATERAL (SELECT count(*) AS entries, min(position) AS low, max(position) AS high
                            FROM ledger_entries WHERE journal_number = j.number) e
        WHERE j.number > :after AND j.number <= :upto
          AND (e.entries = 0 OR e.entries % 2 <> 0 OR e.low <> 0 OR e.high + 1 <> e.entries)""",
    "entries fit their account": f"""
        SELECT {_ENTRY},
               'its journal is ' || coalesce('of ' || j.tenant, 'missing')
               || ', its account ' || coalesce('of ' || a.tenant, 'missing') AS message
        FROM {_ENTRIES} {_J} {_A} WHERE a.tenant IS DISTINCT FROM j.tenant OR a.tenant IS NULL""",
    "versions have no gaps": f"""
        SELECT {_ENTRY},
               'account ' || e.account_id || ' goes from version '
               || coalesce((SELECT max(b.version) FROM ledger_entries b
                            WHERE b.account_id = e.account_id AND b.version < e.version), 0)
               || ' to ' || e.version AS message
        FROM {_ENTRIES} {_P} WHERE p.version IS NULL AND e.version <> 1""",
    "running balances": f"""
        SELECT {_ENTRY},
               'balance ' || e.balance || ', but the entry before makes it '
               || coalesce(p.balance, 0) + e.units AS message
        FROM {_ENTRIES} {_P}
        WHERE (p.version IS NOT NULL OR e.version = 1) AND e.balance <> coalesce(p.balance, 0) + e.units""",
    "entries are in order": f"""
        SELECT {_ENTRY},
               CASE WHEN e.booked_at <> j.booked_at
                    THEN 'booked at ' || e.booked_at || ', its journal at ' || j.booked_at
                    ELSE 'it follows entry ' || p.journal_number || '.' || p.position || ', which was booked later'
               END AS message
        FROM {_ENTRIES} {_J} {_P}
        WHERE e.booked_at <> j.booked_at OR e.booked_at < p.booked_at
           OR (e.journal_number, e.position) < (p.journal_number, p.position)""",
    "reversals mirror": """
        SELECT r.number AS place, 0 AS position, 'journal ' || r.id AS row,
               'it does not undo journal ' || r.reverses AS message
        FROM ledger_journals r LEFT JOIN ledger_journals o ON o.id = r.reverses
        WHERE r.number > :after AND r.number <= :upto AND r.reverses IS NOT NULL AND (
            o.id IS NULL OR o.tenant <> r.tenant OR o.number >= r.number OR EXISTS (
                SELECT FROM ledger_entries e LEFT JOIN ledger_accounts a ON a.id = e.account_id
                WHERE e.journal_number IN (r.number, o.number)
                GROUP BY a.tenant, a.code, a.asset HAVING sum(e.units) <> 0))""",
}

_ALL = "ledger_accounts"
_BY_ID = "(SELECT * FROM ledger_accounts WHERE id > :after AND id <= :upto)"
_TOUCHED = f"""(SELECT a.* FROM (SELECT DISTINCT account_id FROM {_ENTRIES}) e
    CROSS JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = e.account_id LIMIT 1) a)"""
# Over {accounts}: one of the three above.
_ACCOUNTS = {
    "balances equal the replay": f"""
        SELECT {_ACCOUNT},
               CASE WHEN a.booked_at < e.booked_at OR a.booked_at IS NULL THEN 'its last entry was booked after it was'
                    ELSE 'balance ' || a.balance || ' at version ' || a.version || ', but its entries end with '
                         || coalesce(e.balance, 0) || ' at version ' || coalesce(e.version, 0) END AS message
        FROM {{accounts}} a
        LEFT JOIN LATERAL (SELECT version, balance, booked_at FROM ledger_entries
                           WHERE account_id = a.id ORDER BY version DESC LIMIT 1) e ON true
        WHERE a.balance <> coalesce(e.balance, 0) OR a.version <> coalesce(e.version, 0)
           OR (e.version IS NOT NULL AND (a.booked_at < e.booked_at OR a.booked_at IS NULL))""",
    "balances are within bounds": f"""
        SELECT {_ACCOUNT},
               'it shows ' || shown || ' with ' || held || ' held'
               || coalesce(', its floor is ' || floor, '') || coalesce(', its ceiling is ' || ceiling, '') AS message
        FROM (SELECT *, CASE normal_side WHEN 'credit' THEN balance ELSE -balance END AS shown FROM {{accounts}} c) a
        WHERE shown - held < floor OR shown > ceiling""",
    "held equals the pending holds": f"""
        SELECT {_ACCOUNT}, 'held ' || a.held || ', but its pending holds sum to ' || coalesce(h.units, 0) AS message
        FROM {{accounts}} a
        LEFT JOIN LATERAL (SELECT sum(units) AS units FROM ledger_holds
                           WHERE account_id = a.id AND state = 'pending') h ON true
        WHERE a.held <> coalesce(h.units, 0)""",
    "states equal the changes": f"""
        SELECT {_ACCOUNT},
               'it is ' || a.state || ' with freezes of ' || f.holders || ', but its changes end with '
               || coalesce(c.after ->> 'state', 'open') || ' and ' || coalesce(c.after -> 'holders', '[]') AS message
        FROM {{accounts}} a
        CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(holder ORDER BY holder), '[]') AS holders FROM ledger_freezes
                            WHERE tenant = a.tenant AND code = a.code AND asset = a.asset) f
        LEFT JOIN LATERAL (SELECT after FROM ledger_account_changes
                           WHERE tenant = a.tenant AND code = a.code AND asset = a.asset
                                 AND change IN ('freeze', 'lift', 'unfreeze', 'close', 'reopen')
                           ORDER BY id DESC LIMIT 1) c ON true
        WHERE a.state <> coalesce(c.after ->> 'state', 'open') OR f.holders <> coalesce(c.after -> 'holders', '[]')
           OR (a.state = 'frozen' AND f.holders = '[]') OR (a.state = 'open' AND f.holders <> '[]')""",
    "accounts are possible": f"""
        SELECT {_ACCOUNT},
               CASE WHEN state = 'closed' THEN 'it is closed, with balance ' || balance || ' and ' || held || ' held'
                    WHEN held < 0 THEN 'held ' || held
                    ELSE 'it is ' || state || ', of kind ' || kind || ' and side ' || normal_side END AS message
        FROM {{accounts}} a
        WHERE kind NOT IN ('asset', 'liability', 'equity', 'income', 'expense')
           OR normal_side <> CASE WHEN kind IN ('asset', 'expense') THEN 'debit' ELSE 'credit' END
           OR state NOT IN ('open', 'frozen', 'closed') OR held < 0
           OR (state = 'closed' AND (held <> 0 OR (stripes = 1 AND balance <> 0)))
           OR (stripes > 1 AND (floor IS NOT NULL OR ceiling IS NOT NULL OR held <> 0))""",
    "stripes are complete": """
        SELECT a.place, 0 AS position, 'account ' || a.place || ' ' || k.tenant || '/' || k.code AS row,
               'it has ' || a.rows || ' rows for ' || a.stripes
               || ' stripes, or they differ, or it is closed and not empty'
               AS message
        FROM (SELECT DISTINCT tenant, code, asset FROM {accounts} c) k
        CROSS JOIN LATERAL (
            SELECT min(id) AS place, count(*) AS rows, max(stripes) AS stripes,
                   max(stripes) <> count(*) OR min(stripes) <> count(*) OR min(stripe) <> 0
                   OR max(stripe) + 1 <> count(*) OR min(kind) <> max(kind)
                   OR min(normal_side) <> max(normal_side) OR min(state) <> max(state)
                   OR (min(state) = 'closed' AND sum(balance) <> 0) AS wrong
            FROM ledger_accounts WHERE tenant = k.tenant AND code = k.code AND asset = k.asset) a
        WHERE a.wrong""",
}

_TOTALS = {
    "trial balance": """
        SELECT 0 AS place, 0 AS position, 'tenant ' || tenant AS row,
               'the accounts in ' || asset || ' sum to ' || sum(balance) AS message
        FROM ledger_accounts GROUP BY tenant, asset HAVING sum(balance) <> 0""",
}


RULES = (*_JOURNALS, *_ACCOUNTS, *_TOTALS)


def verify(session: Session) -> list[Violation]:
    """Prove the books from the rows alone. An empty list means that every rule holds.

    Reads all of them in a few statements; `ledger.audit.walk` does the same in pieces.
    """
    return [
        *check_journals(session, FIRST, LAST),
        *found(session, _over(_ALL), {}),
        *check_totals(session),
        *seals.check_chain(session, FIRST, LAST),
        *seals.check_ends(session),
    ]


def check_journals(session: Session, after: int, upto: int) -> list[Violation]:
    """The rules of the journals with `after < number <= upto` and of their entries."""
    return found(session, _JOURNALS, {"after": after, "upto": upto})


def check_accounts(session: Session, after: int, upto: int) -> list[Violation]:
    """The rules of the account rows with `after < id <= upto`."""
    return found(session, _over(_BY_ID), {"after": after, "upto": upto})


def check_touched(session: Session, after: int, upto: int) -> list[Violation]:
    """The rules of the accounts in which the journals with `after < number <= upto` moved something."""
    return found(session, _over(_TOUCHED), {"after": after, "upto": upto})


def check_totals(session: Session) -> list[Violation]:
    """What only all accounts together can show."""
    return found(session, _TOTALS, {})


def _over(accounts: str) -> Mapping[str, str]:
    return {rule: check.format(accounts=accounts) for rule, check in _ACCOUNTS.items()}
