"""The books are proved from the command line, in pieces, and against heads that were kept elsewhere."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from core import db
from ledger import audit as proofs
from ledger import seals
from ledger.assets import sync_assets
from ledger.posting import book
from tests.integration.cli.conftest import Cli
from tests.integration.ledger import books as b
from tests.integration.ledger.books import ALICE, CUSTODY


@pytest.fixture
def sealed(database_url: str) -> None:
    """Eight sealed journals, and one that is not."""
    with db.transaction() as session:
        sync_assets(session)
    for place in range(8):
        book(b.journal("acme", f"d:{place}", b.move(CUSTODY, ALICE, 5)))
    upto = seals.settle()
    assert upto is not None
    seals.seal(upto)
    book(b.journal("acme", "d:8", b.move(CUSTODY, ALICE, 5)))


def corrupt(superuser_url: str, *statements: str) -> None:
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in statements:
            assert connection.execute(statement.encode()).rowcount != 0


def export(cli: Cli, path: Path) -> dict[str, Any]:
    shown = cli("ledger", "heads", "--json").stdout
    path.write_text(shown)
    document: dict[str, Any] = json.loads(shown)
    return document


def test_the_books_are_proved_in_pieces_whatever_their_size(
    cli: Cli, sealed: None, monkeypatch: pytest.MonkeyPatch, superuser_url: str
) -> None:
    monkeypatch.setattr(proofs, "_PIECES", {"ledger_journals": ("number", 2), "ledger_accounts": ("id", 3)})
    assert cli("ledger", "verify").stdout == "The books balance: every rule holds.\n"
    corrupt(superuser_url, "UPDATE ledger_entries SET units = units * 2 WHERE position = 1")
    shown = cli("ledger", "verify", status=1).stdout
    [line] = [line for line in shown.splitlines() if line.startswith("journals sum to zero: journal ")]
    assert line.endswith("sum to 5 (and 8 more)")  # found in five pieces, told once


def test_what_was_booked_since_the_last_seal_can_be_proved_alone(cli: Cli, sealed: None, superuser_url: str) -> None:
    corrupt(superuser_url, "UPDATE ledger_journals SET subject = 'x' WHERE reference = 'd:1'")
    assert cli("ledger", "verify", "--since-seal").stdout == "The books balance: every rule holds.\n"
    assert "chain is unbroken: journal " in cli("ledger", "verify", status=1).stdout
    corrupt(superuser_url, f"UPDATE ledger_accounts SET balance = 0 WHERE code = '{ALICE}'")
    assert "balances equal the replay" in cli("ledger", "verify", "--since-seal", status=1).stdout


def test_exported_heads_prove_history(cli: Cli, sealed: None, superuser_url: str, tmp_path: Path) -> None:
    kept = tmp_path / "heads.json"
    exported = export(cli, kept)
    assert [head["shard"] for head in exported["heads"]] == [0, 1, 2, 3]
    assert exported["heads"][0]["hash"] in cli("ledger", "heads").stdout
    assert cli("ledger", "verify", "--heads", kept).stdout == "The books balance: every rule holds.\n"
    corrupt(
        superuser_url,
        "UPDATE ledger_journals SET subject = 'x' WHERE reference = 'd:1'",
        "DELETE FROM ledger_links",
        "DELETE FROM ledger_seals",
    )
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        for shard in range(4):
            connection.execute("SELECT ledger_seal(%s, (SELECT max(number) FROM ledger_journals), 1000)", [shard])
    assert cli("ledger", "verify").stdout == "The books balance: every rule holds.\n"  # a chain made anew is a chain
    result = cli("ledger", "verify", "--heads", kept, "--json", status=1)
    [violation] = json.loads(result.stdout)["violations"]
    assert violation["rule"] == "exported heads"
    assert violation["row"].startswith("shard ")
    assert "tallyrail: the books are wrong: 1 of the rules" in result.stderr


def test_a_file_that_holds_no_heads_is_refused(cli: Cli, sealed: None, tmp_path: Path) -> None:
    missing, other = tmp_path / "none.json", tmp_path / "other.json"
    assert "can't be read" in cli("ledger", "verify", "--heads", missing, status=1).stderr
    for content in ("", "[]", "{}", '{"heads": [{"shard": 1}]}'):
        other.write_text(content)
        assert "holds no heads" in cli("ledger", "verify", "--heads", other, status=1).stderr


def test_nothing_is_sealed_yet(cli: Cli, database_url: str) -> None:
    assert cli("ledger", "heads").stdout == "Nothing is sealed.\n"
    assert json.loads(cli("ledger", "heads", "--json").stdout) == {"heads": []}


def test_what_the_audits_found_is_told(cli: Cli, sealed: None, superuser_url: str) -> None:
    told = cli("ledger", "audits").stdout
    assert "Last full audit  never" in told
    assert "1 journals" in told
    corrupt(superuser_url, f"UPDATE ledger_accounts SET balance = 0 WHERE code = '{ALICE}'")
    with db.transaction() as session:
        cursor = proofs.begin(session, "full")
        assert cursor is not None
        proofs.step(session, cursor, budget=proofs.STALLED_AFTER)
    result = cli("ledger", "audits", status=1)
    assert "s ago" in result.stdout
    assert "balances equal the replay: account " in result.stdout
    told = json.loads(cli("ledger", "audits", "--json", status=1).stdout)
    assert {violation["rule"] for violation in told["violations"]} == {"balances equal the replay", "trial balance"}
    assert told["unsealed"]["journals"] == 1


def test_a_full_audit_is_asked_for_as_a_job(cli: Cli, sealed: None) -> None:
    made = cli("ledger", "audit").stdout.strip()
    [job] = json.loads(cli("jobs", "list", "--json").stdout)["jobs"]
    assert (job["id"], job["task"], job["args"]) == (made, "maintenance.audit_ledger", {"kind": "full"})
