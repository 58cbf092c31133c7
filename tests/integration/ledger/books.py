"""Short words for what the ledger's tests do again and again."""

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from core.db import transaction
from ledger.chart import rule
from ledger.invariants import verify
from ledger.posting import Journal, Posted, Posting, post

ETH = "eip155:1/slip44:60"
USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
EUR = "iso4217:EUR"

ALICE, BOB = "user:alice:available", "user:bob:available"
CUSTODY, SUSPENSE, FEES = "custody:eip155:1", "suspense:deposits", "house:fees"


def new_tenant() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def move(source: str, destination: str, units: int, asset: str = ETH) -> Posting:
    return Posting(source=source, destination=destination, asset=asset, units=units)


def journal(tenant: str, reference: str, *postings: Posting, **more: Any) -> Journal:
    return Journal(tenant=tenant, reference=reference, category=more.pop("category", "test"), postings=postings, **more)


def book(tenant: str, reference: str, *postings: Posting, **more: Any) -> Posted:
    """Post in a transaction of its own."""
    with transaction() as session:
        return post(session, journal(tenant, reference, *postings, **more))


def raw_balances(session: Session, tenant: str) -> dict[tuple[str, str], tuple[int, int]]:
    """(code, asset) -> (raw balance, number of entries) of every account that has been moved."""
    rows = session.execute(
        text("""
            SELECT code, asset, sum(balance) AS balance, sum(version) AS version
            FROM ledger_accounts WHERE tenant = :tenant GROUP BY code, asset HAVING sum(version) > 0"""),
        {"tenant": tenant},
    )
    return {(row.code, row.asset): (int(row.balance), int(row.version)) for row in rows}


def references(session: Session, tenant: str) -> dict[str, uuid.UUID]:
    """Every journal's id by its reference."""
    rows = session.execute(text("SELECT reference, id FROM ledger_journals WHERE tenant = :tenant"), {"tenant": tenant})
    return {row.reference: row.id for row in rows}


def counts(session: Session) -> tuple[int, int]:
    """How many journals and entries there are."""
    row = session.execute(
        text("SELECT (SELECT count(*) FROM ledger_journals), (SELECT count(*) FROM ledger_entries)")
    ).one()
    return row[0], row[1]


def assert_sound() -> None:
    with transaction() as session:
        assert verify(session) == []


class Model:
    """The books as a Python dictionary: what the ledger must agree with."""

    def __init__(self) -> None:
        self.accounts: dict[tuple[str, str], tuple[int, int]] = {}

    def accepts(self, postings: Sequence[Posting]) -> bool:
        """Book the postings, whole or not at all."""
        after = dict(self.accounts)
        for posting in postings:
            for code, units in ((posting.source, -posting.units), (posting.destination, posting.units)):
                balance, version = after.get((code, posting.asset), (0, 0))
                after[code, posting.asset] = (balance + units, version + 1)
                made = rule(code)
                shown = made.normal_side.sign * (balance + units)
                if made.floor is not None and made.normal_side.sign * units < 0 and shown < made.floor:
                    return False
        self.accounts = after
        return True
