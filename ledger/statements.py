"""The statements behind `post`. Set-based: their number doesn't depend on how many postings a journal has.

Locks are taken in one order, so that posts over the same accounts queue up and never deadlock:
1. an account that is missing is opened while no account is locked, missing ones sorted by code and asset;
2. accounts are locked sorted by id, all in one statement, and only if all of them exist;
3. the reference is claimed last, by the insert of the journal, when there is nothing left to wait for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from sqlalchemy import CursorResult, text
from sqlalchemy.orm import Session

from core.errors import InvalidRequestError
from ledger.chart import Side, rule

Key = tuple[str, str]
"""An account within its tenant: (code, asset)."""


@dataclass(frozen=True, slots=True)
class State:
    """An account as it stands. `balance` is the raw sum of its units; `id` is None while it doesn't exist."""

    id: int | None
    code: str
    asset: str
    normal_side: Side
    floor: int | None
    balance: int
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One entry to be written: signed units, and the account's raw balance and version after it."""

    key: Key
    units: int
    balance: int
    version: int
    position: int


@dataclass(frozen=True, slots=True)
class Seen:
    journal_id: UUID | None
    content_hash: bytes | None
    states: list[State]


# NO KEY: entries' foreign keys on the same accounts, checked by other transactions, needn't wait for this. LATERAL: one
# look into the index for each account, in this order, whatever the planner believes about the size of the table.
_LOCK = text("""
    WITH known AS MATERIALIZED (
        SELECT a.id
        FROM unnest(CAST(:codes AS text[]), CAST(:assets AS text[])) AS k (code, asset)
        CROSS JOIN LATERAL (
            SELECT id FROM ledger_accounts WHERE tenant = :tenant AND code = k.code AND asset = k.asset LIMIT 1
        ) a
    )
    SELECT a.id, a.code, a.asset, a.normal_side, a.floor, a.balance, a.version
    FROM (
        SELECT id FROM known
        WHERE (SELECT count(*) FROM known) = :expected
          AND NOT EXISTS (SELECT FROM ledger_journals WHERE tenant = :tenant AND reference = :reference)
        ORDER BY id
    ) k
    CROSS JOIN LATERAL (SELECT * FROM ledger_accounts WHERE id = k.id FOR NO KEY UPDATE) a
""")

_LOOK = text("""
    SELECT j.id AS journal_id, j.content_hash, k.code, k.asset, s.id IS NOT NULL AS asset_known,
           a.id, a.normal_side, a.floor, a.balance, a.version
    FROM unnest(CAST(:codes AS text[]), CAST(:assets AS text[])) AS k (code, asset)
    LEFT JOIN ledger_assets s ON s.id = k.asset
    LEFT JOIN ledger_accounts a ON a.tenant = :tenant AND a.code = k.code AND a.asset = k.asset
    LEFT JOIN ledger_journals j ON j.tenant = :tenant AND j.reference = :reference
""")

_OPEN = text("""
    INSERT INTO ledger_accounts (tenant, code, asset, kind, normal_side, floor)
    SELECT :tenant, k.code, k.asset, k.kind, k.normal_side, k.floor
    FROM unnest(CAST(:codes AS text[]), CAST(:assets AS text[]), CAST(:kinds AS text[]), CAST(:sides AS text[]),
                CAST(:floors AS numeric[])) WITH ORDINALITY AS k (code, asset, kind, normal_side, floor, place)
    ORDER BY k.place
    ON CONFLICT (tenant, code, asset) DO NOTHING
""")

# The clock is read here, after the locks are held, so that booked_at never runs backwards along an account's versions.
# No entry is written and no balance moved unless the journal's row is new.
_WRITE = text("""
    WITH booked AS MATERIALIZED (SELECT clock_timestamp() AS at),
    journal AS (
        INSERT INTO ledger_journals (id, tenant, reference, content_hash, category, effective_at, booked_at,
                                     correlation_id, job_id, subject, metadata, reverses)
        SELECT CAST(:id AS uuid), CAST(:tenant AS text), CAST(:reference AS text), CAST(:content_hash AS bytea),
               CAST(:category AS text), coalesce(CAST(:effective_at AS timestamptz), booked.at), booked.at,
               CAST(:correlation_id AS text), CAST(:job_id AS uuid), CAST(:subject AS text),
               CAST(:metadata AS jsonb), CAST(:reverses AS uuid)
        FROM booked
        ON CONFLICT DO NOTHING
        RETURNING id
    ),
    moved AS (
        UPDATE ledger_accounts a SET balance = m.balance, version = m.version
        FROM journal, unnest(CAST(:account_ids AS bigint[]), CAST(:account_balances AS numeric[]),
                             CAST(:account_versions AS bigint[])) AS m (id, balance, version)
        WHERE a.id = m.id
    )
    INSERT INTO ledger_entries (journal_id, account_id, asset, units, balance, version, position)
    SELECT journal.id, e.account_id, e.asset, e.units, e.balance, e.version, e.position
    FROM journal, unnest(CAST(:entry_accounts AS bigint[]), CAST(:entry_assets AS text[]),
                         CAST(:entry_units AS numeric[]), CAST(:entry_balances AS numeric[]),
                         CAST(:entry_versions AS bigint[]), CAST(:entry_positions AS int[]))
                  AS e (account_id, asset, units, balance, version, position)
    ORDER BY e.position
""")


def lock(session: Session, tenant: str, reference: str, keys: Sequence[Key]) -> list[State] | None:
    """The accounts, locked; None, with nothing locked, if one of them is missing or the reference is booked."""
    rows = session.execute(_LOCK, _wanted(tenant, reference, keys) | {"expected": len(keys)}).all()
    return [_state(row) for row in rows] or None


def look(session: Session, tenant: str, reference: str, keys: Sequence[Key]) -> Seen:
    """The journal of this reference, if there is one, and the accounts as they stand or would be opened."""
    rows = session.execute(_LOOK, _wanted(tenant, reference, keys)).all()
    if rows[0].journal_id is not None:
        return Seen(rows[0].journal_id, bytes(rows[0].content_hash), [])
    states = []
    for row in rows:
        if row.id is not None:
            states.append(_state(row))
            continue
        if not row.asset_known:
            raise InvalidRequestError(f"the asset {row.asset[:200]!r} is unknown", field="asset")
        made = rule(row.code)
        states.append(State(None, row.code, row.asset, made.normal_side, made.floor, balance=0, version=0))
    return Seen(None, None, states)


def open_accounts(session: Session, tenant: str, missing: Sequence[State]) -> None:
    ordered = sorted(missing, key=lambda state: (state.code, state.asset))
    if not ordered:
        return
    session.execute(
        _OPEN,
        {
            "tenant": tenant,
            "codes": [state.code for state in ordered],
            "assets": [state.asset for state in ordered],
            "kinds": [rule(state.code).kind.value for state in ordered],
            "sides": [state.normal_side.value for state in ordered],
            "floors": [None if state.floor is None else Decimal(state.floor) for state in ordered],
        },
    )


def write(session: Session, journal: dict[str, Any], states: Sequence[State], moves: Sequence[Move]) -> bool:
    """Journal, entries and new balances in one statement. False, with nothing written, if a unique index says no."""
    ids = {(state.code, state.asset): state.id for state in states}
    last = {ids[move.key]: move for move in moves}  # a later move of the same account replaces an earlier one
    result = session.execute(
        _WRITE,
        journal
        | {
            "account_ids": list(last),
            "account_balances": [Decimal(move.balance) for move in last.values()],
            "account_versions": [move.version for move in last.values()],
            "entry_accounts": [ids[move.key] for move in moves],
            "entry_assets": [move.key[1] for move in moves],
            "entry_units": [Decimal(move.units) for move in moves],
            "entry_balances": [Decimal(move.balance) for move in moves],
            "entry_versions": [move.version for move in moves],
            "entry_positions": [move.position for move in moves],
        },
    )
    return cast("CursorResult[Any]", result).rowcount > 0


def _wanted(tenant: str, reference: str, keys: Sequence[Key]) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "reference": reference,
        "codes": [code for code, _ in keys],
        "assets": [asset for _, asset in keys],
    }


def _state(row: Any) -> State:
    return State(
        row.id,
        row.code,
        row.asset,
        Side(row.normal_side),
        None if row.floor is None else int(row.floor),
        int(row.balance),
        row.version,
    )
