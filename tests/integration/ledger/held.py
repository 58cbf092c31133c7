"""Short words for what the tests of holds do again and again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from ledger import holds
from ledger.holds import Hold, NewHold, Placed
from ledger.posting import Posted
from tests.integration.ledger.books import ALICE, BOB, ETH

LATER = datetime(2100, 1, 1, tzinfo=UTC)


def new_hold(tenant: str, reference: str, units: int = 40, **more: Any) -> NewHold:
    given = {"source": ALICE, "destination": BOB, "asset": ETH} | more
    return NewHold(tenant=tenant, reference=reference, units=units, **given)


def place(tenant: str, reference: str, units: int = 40, **more: Any) -> Placed:
    """In a transaction of its own, as all here."""
    with transaction() as session:
        return holds.place(session, new_hold(tenant, reference, units, **more))


def capture(tenant: str, hold_id: UUID, reference: str, units: int | None = None, **more: Any) -> Posted:
    with transaction() as session:
        return holds.capture(session, tenant=tenant, hold_id=hold_id, reference=reference, units=units, **more)


def void(tenant: str, hold_id: UUID) -> bool:
    with transaction() as session:
        return holds.void(session, tenant=tenant, hold_id=hold_id)


def expire(limit: int = 100) -> int:
    with transaction() as session:
        return holds.expire_due(session, limit)


def hold(tenant: str, hold_id: UUID) -> Hold:
    with transaction() as session:
        return holds.hold(session, tenant, hold_id)


def pass_deadline(superuser_url: str, *hold_ids: UUID, ago: timedelta = timedelta(seconds=1)) -> None:
    """As if time had gone by: only a superuser who sets the triggers aside can move a deadline."""
    with psycopg.connect(superuser_url) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE ledger_holds SET expires_at = now() - %s WHERE id = ANY (%s)", (ago, list(hold_ids)))


def account(session: Session, tenant: str, code: str = ALICE, asset: str = ETH) -> tuple[int, int]:
    """(balance on the credit side, held)"""
    row = session.execute(
        text("""SELECT sum(balance) AS balance, sum(held) AS held FROM ledger_accounts
                WHERE tenant = :tenant AND code = :code AND asset = :asset"""),
        {"tenant": tenant, "code": code, "asset": asset},
    ).one()
    return int(row.balance or 0), int(row.held or 0)


def written(session: Session) -> list[Any]:
    """Everything that a refused operation must leave as it was. An account's clock is no promise of it."""
    columns = {
        "ledger_holds": "*",
        "ledger_accounts": "id, code, asset, balance, version, held, floor, ceiling, state, metadata",
        "ledger_journals": "*",
        "ledger_account_changes": "*",
        "ledger_freezes": "*",
    }
    return [session.execute(text(f"SELECT {of} FROM {table} ORDER BY 1")).all() for table, of in columns.items()]
