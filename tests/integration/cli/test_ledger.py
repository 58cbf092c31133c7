"""The books are read with amounts beside units, and a broken book is named."""

import json
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from core import db
from core.ids import new_id
from ledger import chart
from ledger.assets import sync_assets
from ledger.posting import Journal, Posting, post
from tests.integration.cli.conftest import Cli

USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
ETH = "eip155:1/slip44:60"
SUBJECT = "deposit:0190163d-8694-739b-aea5-966c26f8ad91"


@pytest.fixture
def journal(database_url: str) -> UUID:
    with db.transaction() as session:
        sync_assets(session)
        made = [
            post(
                session,
                Journal(
                    tenant="acme",
                    reference=f"{SUBJECT}:{asset}",
                    category="deposit",
                    subject=SUBJECT,
                    effective_at=datetime(2026, 1, 31, tzinfo=UTC),
                    postings=(
                        Posting(
                            source=chart.custody("eip155:1"),
                            destination=chart.user_available("42"),
                            asset=asset,
                            units=units,
                        ),
                    ),
                ),
            ).id
            for asset, units in ((USDT, 1_500_000), (ETH, 2 * 10**18))
        ]
    return made[0]


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
def test_balances_show_amounts_beside_units_and_whole_ids(cli: Cli, journal: UUID, columns: int) -> None:
    assert "1.5 USDT" in cli("ledger", "balances", columns=columns).stdout
    shown = cli("ledger", "balances", "--tenant", "acme", columns=columns).stdout
    for part in (USDT, ETH, "1.5 USDT", "1500000", "2 ETH", "2000000000000000000", "user:42:available"):
        assert part in shown


def test_balances_for_machines_are_strings_of_units(cli: Cli, journal: UUID) -> None:
    found = json.loads(cli("ledger", "balances", "--tenant", "acme", "--prefix", "user:42", "--json").stdout)
    assert {row["asset"]: row["units"] for row in found["accounts"]} == {USDT: "1500000", ETH: "2000000000000000000"}
    [line] = json.loads(cli("ledger", "balances", "--asset", ETH, "--json").stdout)["trial_balance"]
    assert (line["debits"], line["credits"], line["difference"], line["scale"]) == (str(2 * 10**18),) * 2 + ("0", 18)
    cli("ledger", "balances", "--prefix", "user:42", status=2)
    assert cli("ledger", "balances", "--tenant", "nobody").stdout == "Nothing is booked.\n"


def test_pages_of_accounts(cli: Cli, journal: UUID) -> None:
    first = json.loads(cli("ledger", "balances", "--tenant", "acme", "--limit", "3", "--json").stdout)
    rest = json.loads(cli("ledger", "balances", "--tenant", "acme", "--cursor", first["next_cursor"], "--json").stdout)
    assert (len(first["accounts"]), len(rest["accounts"]), rest["next_cursor"]) == (3, 1, None)
    told = cli("ledger", "balances", "--tenant", "acme", "--cursor", "made-up", status=1).stderr
    assert told == "tallyrail: this cursor was not made by this listing\n"


def test_a_journal_is_found_by_id_reference_and_subject(cli: Cli, journal: UUID) -> None:
    by_id = cli("ledger", "journal", journal, "--tenant", "acme").stdout
    by_reference = cli("ledger", "journal", f"{SUBJECT}:{USDT}", "--tenant", "acme").stdout
    assert by_id == by_reference
    for part in (str(journal), SUBJECT, "custody:eip155:1", "1.5 USDT", "1500000"):
        assert part in by_id
    about = json.loads(cli("ledger", "journal", "--subject", SUBJECT, "--tenant", "acme", "--json").stdout)["journals"]
    assert {row["id"] for row in about} > {str(journal)}
    assert about[0]["entries"][0]["units"] in {"1500000", str(2 * 10**18)}
    unknown = new_id()
    told = cli("ledger", "journal", unknown, "--tenant", "acme", status=1).stderr
    assert told == f"tallyrail: acme has no journal '{unknown}'\n"
    cli("ledger", "journal", journal, "--tenant", "other", status=1)
    cli("ledger", "journal", "--subject", "deposit:none", "--tenant", "acme", status=1)
    cli("ledger", "journal", "--tenant", "acme", status=2)


def test_verify_says_that_the_books_hold(cli: Cli, journal: UUID) -> None:
    assert cli("ledger", "verify").stdout == "The books balance: every rule holds.\n"
    assert json.loads(cli("ledger", "verify", "--json").stdout) == {"holds": True, "violations": []}


def test_verify_names_each_violation_and_fails(cli: Cli, journal: UUID, superuser_url: str) -> None:
    with psycopg.connect(superuser_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE ledger_accounts SET balance = balance + 1 WHERE code = 'user:42:available' AND asset = %s", [USDT]
        )
    result = cli("ledger", "verify", status=1)
    assert "trial balance: tenant acme" in result.stdout
    assert "balances equal the replay" in result.stdout
    assert result.stderr.startswith("tallyrail: the books are wrong: ")
    rules = {found["rule"] for found in json.loads(cli("ledger", "verify", "--json", status=1).stdout)["violations"]}
    assert {"trial balance", "balances equal the replay"} <= rules
    assert "do not balance" in cli("ledger", "balances", status=1).stderr
