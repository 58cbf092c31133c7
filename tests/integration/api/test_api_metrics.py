"""What Prometheus reads of the books."""

import re
import time

import httpx
import psycopg
import pytest
from sqlalchemy import text

from api import metrics
from core import db
from ledger import audit, seals
from ledger.assets import sync_assets
from ledger.posting import book
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, CUSTODY


def figures(client: httpx.Client) -> dict[str, float]:
    """The ledger's lines by name and labels."""
    lines = re.findall(r"^(tallyrail_ledger_\S*(?:\{[^}]*\})?) (\S+)$", client.get("/metrics").text, flags=re.MULTILINE)
    return {name.removeprefix("tallyrail_ledger_"): float(value) for name, value in lines}


def audited(kind: audit.Kind) -> None:
    with db.transaction() as session:
        cursor = audit.begin(session, kind)
        assert cursor is not None
        assert audit.step(session, cursor, budget=audit.STALLED_AFTER).cursor is None


def test_metrics_tell_whether_the_books_hold(
    client: httpx.Client, superuser_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "READ_EVERY", 0.0)
    with db.transaction() as session:
        sync_assets(session)
    for place in range(3):
        book(b.journal("acme", f"d:{place}", b.move(CUSTODY, ALICE, 5)))
    told = figures(client)
    assert {name for name in told if name.startswith("violations")} == {
        f'violations{{rule="{rule}"}}' for rule in audit.RULES
    }
    assert sum(value for name, value in told.items() if name.startswith("violations")) == 0
    assert told['audit_age_seconds{kind="full"}'] == told['audit_age_seconds{kind="incremental"}'] == float("inf")
    assert told["unsealed_journals"] == 3
    assert 0 < told["unsealed_oldest_seconds"] < 60

    upto = seals.settle()
    assert upto is not None
    seals.seal(upto)
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute("UPDATE ledger_accounts SET balance = balance + 1 WHERE code = %s", [ALICE])
    audited("incremental")
    audited("full")
    told = figures(client)
    assert told['violations{rule="balances equal the replay"}'] == 1
    assert told['violations{rule="trial balance"}'] == 1
    assert told['violations{rule="chain is unbroken"}'] == 0
    assert 0 < told['audit_age_seconds{kind="full"}'] < 60
    assert 0 < told['audit_age_seconds{kind="incremental"}'] < 60
    assert told["unsealed_journals"] == told["unsealed_oldest_seconds"] == 0


def test_reading_the_books_for_metrics_is_cheap(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked every two seconds at most, and must stay in the milliseconds with audits of months."""
    monkeypatch.setattr(metrics, "READ_EVERY", 0.0)
    with db.transaction() as session:
        session.execute(
            text("""
                INSERT INTO ledger_audits (kind, after_number, upto_number, finished_at)
                SELECT CASE n % 1000 WHEN 0 THEN 'full' ELSE 'incremental' END, 0, n, now()
                FROM generate_series(1, 50000) n""")
        )
    with db.transaction() as session:
        audit.status(session)
        begun = time.perf_counter()
        for _ in range(5):
            audit.status(session)
        assert (time.perf_counter() - begun) / 5 < 0.05
