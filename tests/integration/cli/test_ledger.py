"""The books are read with amounts beside units, and a broken book is named."""

import json
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest

from core import db
from core.ids import new_id
from ledger import accounts, chart, freezes
from ledger.assets import sync_assets
from ledger.holds import NewHold, place
from ledger.posting import Journal, Posting, post
from tests.integration.cli.conftest import Cli

USDT = "eip155:1/erc20:0xdac17f958d2ee523a2206206994597c13d831ec7"
ETH = "eip155:1/slip44:60"
USER, CUSTODY = "user:42:available", "custody:eip155:1"
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


def test_an_account_shows_what_is_held_and_what_is_free_in_each_asset(cli: Cli, journal: UUID) -> None:
    with db.transaction() as session:
        hold = NewHold(tenant="acme", reference="h", source=USER, destination="house:fees", asset=USDT, units=500_000)
        place(session, hold)
        accounts.freeze(session, tenant="acme", code=USER, asset=ETH, reason="a letter", actor="ada")
        freezes.place(
            session, tenant="acme", code=USER, asset=ETH, holder="deposit:7", reason="a reorg", actor="tx_monitor"
        )
        accounts.annotate(
            session, tenant="acme", code=USER, asset=ETH, reason="test", actor="ada", metadata={"risk": "high"}
        )
    shown = cli("ledger", "account", USER, "--tenant", "acme").stdout
    for part in (
        USER,
        "liability",
        "frozen",
        "1.5 USDT",
        "0.5 USDT",
        "1 USDT",
        "2 ETH",
        '"risk": "high"',
        "a letter",
        "deposit:7",
    ):
        assert part in shown
    found = json.loads(cli("ledger", "account", USER, "--tenant", "acme", "--json").stdout)
    usdt, eth = found["balances"]
    assert (usdt["units"], usdt["held"], usdt["available"], usdt["floor"]) == ("1500000", "500000", "1000000", "0")
    assert (eth["asset"], eth["state"], eth["metadata"], eth["entries"]) == (ETH, "frozen", {"risk": "high"}, 1)
    assert [(one["holder"], one["reason"], one["actor"]) for one in eth["freezes"]] == [
        ("person:ada", "a letter", "ada"),
        ("deposit:7", "a reorg", "tx_monitor"),
    ]
    assert usdt["freezes"] == []
    custody = json.loads(cli("ledger", "account", CUSTODY, "--tenant", "acme", "--asset", ETH, "--json").stdout)
    assert [(one["units"], one["available"]) for one in custody["balances"]] == [(str(2 * 10**18), None)]


def test_an_account_as_of_a_time_by_either_clock(cli: Cli, journal: UUID) -> None:
    def units(*asked: object) -> list[str]:
        told = cli("ledger", "account", USER, "--tenant", "acme", "--asset", ETH, "--json", *asked).stdout
        return [one["units"] for one in json.loads(told)["balances"]]

    # It happened in January and was booked a moment ago.
    assert units("--at", "1h") == ["0"]
    assert units("--at", "1h", "--clock", "effective") == [str(2 * 10**18)]
    assert units("--at", "2026-01-31", "--clock", "effective") == [str(2 * 10**18)]
    assert units("--at", "2026-01-30T23:59:59Z", "--clock", "effective") == ["0"]
    assert units("--at", "0s", "--clock", "booked") == [str(2 * 10**18)]
    shown = cli("ledger", "account", USER, "--tenant", "acme", "--at", "2026-02-01", "--clock", "effective").stdout
    for part in ("2026-02-01 00:00:00Z", "effective", "1.5 USDT", "2 ETH"):
        assert part in shown
    before = json.loads(cli("ledger", "balances", "--at", "1h", "--json").stdout)
    assert before["trial_balance"] == []
    now = json.loads(cli("ledger", "balances", "--at", "0s", "--json").stdout)["trial_balance"]
    assert now == json.loads(cli("ledger", "balances", "--json").stdout)["trial_balance"]


def test_totals_stand_beside_the_accounts_under_a_prefix(cli: Cli, journal: UUID) -> None:
    found = json.loads(cli("ledger", "balances", "--tenant", "acme", "--prefix", "user:", "--json").stdout)
    assert [(one["asset"], one["kind"], one["accounts"], one["units"]) for one in found["totals"]] == [
        (USDT, "liability", 1, "1500000"),
        (ETH, "liability", 1, str(2 * 10**18)),
    ]
    assert "All of user:" in cli("ledger", "balances", "--tenant", "acme", "--prefix", "user:").stdout


def test_entries_come_newest_first_in_pages(cli: Cli, journal: UUID) -> None:
    first = json.loads(cli("ledger", "entries", USER, "--tenant", "acme", "--limit", "1", "--json").stdout)
    more = ("--cursor", first["next_cursor"])
    rest = json.loads(cli("ledger", "entries", USER, "--tenant", "acme", *more, "--json").stdout)
    both = first["entries"] + rest["entries"]
    assert [(row["asset"], row["units"], row["balance"]) for row in both] == [
        (ETH, str(2 * 10**18), str(2 * 10**18)),
        (USDT, "1500000", "1500000"),
    ]
    assert rest["next_cursor"] is None
    shown = cli("ledger", "entries", USER, "--tenant", "acme", "--limit", "1", columns=80).stdout
    for part in (f"{SUBJECT}:{ETH}", "2 ETH", "2000000000000000000", f"More: --cursor {first['next_cursor']}"):
        assert part in shown
    assert cli("ledger", "entries", USER, "--tenant", "other").stdout == "There are no such entries.\n"


def test_a_statement_stands_between_its_opening_and_its_closing_balance(cli: Cli, journal: UUID) -> None:
    with db.transaction() as session:
        fee = Posting(source=USER, destination="house:fees", asset=USDT, units=250_000)
        post(session, Journal(tenant="acme", reference="fee:1", category="fee", postings=(fee,)))
    asked = ("ledger", "statement", USER, "--tenant", "acme", "--asset", USDT)
    shown = cli(*asked, "--since", "1h", columns=100).stdout
    for part in ("Opening  0 USDT = 0 units", "Closing  1.25 USDT = 1250000 units", "Debits   0.25 USDT", "Lines    2"):
        assert part in shown
    first = json.loads(cli(*asked, "--limit", "1", "--json").stdout)
    rest = json.loads(cli(*asked, "--cursor", first["next_cursor"], "--json").stdout)
    assert [line["balance"] for line in first["lines"] + rest["lines"]] == ["1500000", "1250000"]
    assert (rest["opening"], rest["closing"], rest["entries"]) == ("0", "1250000", 2)
    assert (first["debits"], rest["debits"], rest["credits"]) == ("0", "250000", "1500000")
    assert "Debits so far" in cli(*asked, "--limit", "1").stdout
    later = json.loads(cli(*asked, "--since", "0s", "--json").stdout)
    assert (later["opening"], later["closing"], later["lines"]) == ("1250000", "1250000", [])
    assert "Nothing was booked in this period." in cli(*asked, "--since", "0s").stdout
    # One asset needs no naming.
    fees = json.loads(cli("ledger", "statement", "house:fees", "--tenant", "acme", "--json").stdout)
    assert (fees["asset"], fees["closing"]) == (USDT, "250000")


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        (["account", "nonsense"], 1, "the chart of accounts has no place for 'nonsense'"),
        (["account", "user:nobody:available"], 1, "acme has no account user:nobody:available"),
        (["account", USER, "--asset", "iso4217:EUR"], 1, "no account user:42:available in iso4217:EUR"),
        (["account", USER, "--clock", "booked"], 2, "give --at"),
        (["account", USER, "--at", "soon"], 2, "'soon' is no time"),
        (["entries", "nonsense"], 1, "no place"),
        (["entries", USER, "--cursor", "x"], 1, "this cursor was not made by this listing"),
        (["statement", USER], 2, "has 2 assets: give --asset"),
        (["statement", USER, "--asset", ETH, "--since", "1h", "--until", "2h"], 1, "ends before it begins"),
        (["statement", USER, "--asset", ETH, "--since", "1h", "--cursor", "x"], 2, "names its period"),
        (["statement", USER, "--asset", ETH, "--cursor", "x"], 1, "this cursor was not made"),
        (["statement", "user:nobody:available"], 1, "acme has no account user:nobody:available"),
        (["balances", "--prefix", "user:", "--at", "1h"], 2, "--at is for the trial balance"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_sentence(
    cli: Cli, journal: UUID, asked: list[str], status: int, told: str
) -> None:
    said = cli("ledger", *asked, "--tenant", "acme", status=status).stderr
    assert told in said
    if status == 1:
        assert said.startswith("tallyrail: ")
        assert said.count("\n") == 1


def test_journals_about_a_subject_come_in_pages(cli: Cli, journal: UUID) -> None:
    asked = ("ledger", "journal", "--subject", SUBJECT, "--tenant", "acme")
    first = json.loads(cli(*asked, "--limit", "1", "--json").stdout)
    rest = json.loads(cli(*asked, "--cursor", first["next_cursor"], "--json").stdout)
    found = [row["reference"] for row in first["journals"] + rest["journals"]]
    assert found == [f"{SUBJECT}:{USDT}", f"{SUBJECT}:{ETH}"]
    assert rest["next_cursor"] is None
    assert f"More: --cursor {first['next_cursor']}" in cli(*asked, "--limit", "1").stdout


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
