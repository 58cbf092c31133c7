"""`tallyrail beneficiaries` and `tallyrail vault`."""

import json
from uuid import uuid4

import pytest
from sqlalchemy import text

from core.db import transaction
from domain.beneficiary import service
from tests.integration.beneficiary.conftest import NEW_KEY, OLD_KEY, UseKeys, vault_keys
from tests.integration.beneficiary.desk import ADA, UPI, add, enquiries, events, read
from tests.integration.beneficiary.scripted import ScriptedProvider
from tests.integration.cli.conftest import Cli

__all__ = ["vault_keys"]
pytestmark = pytest.mark.usefixtures("vault_keys")


def test_destinations_are_listed_and_shown_masked(cli: Cli) -> None:
    assert "no such beneficiaries" in cli("beneficiaries", "list").stdout
    service.refresh({"acme": ScriptedProvider()})
    first, second = add(label="Mum"), add(**UPI)
    listed = cli("beneficiaries", "list", columns=400).stdout
    assert "058 ******6785" in listed and "ad***@okaxis" in listed and "Mum" in listed
    page = json.loads(cli("beneficiaries", "list", "--limit", 1, "--json").stdout)
    rest = json.loads(cli("beneficiaries", "list", "--cursor", page["next_cursor"], "--json").stdout)
    assert [row["id"] for row in page["beneficiaries"] + rest["beneficiaries"]] == [str(second), str(first)]
    shown = cli("beneficiaries", "show", first).stdout
    assert "Guaranty Trust Bank" in shown and "add" in shown
    raw = cli("beneficiaries", "show", first, "--json").stdout
    assert json.loads(raw)["history"][0]["actor"] == "key:1"
    everything = listed + shown + raw + json.dumps(page) + json.dumps(rest)
    assert [secret for secret in (str(ADA["number"]), "Obi", "ada.obi") if secret in everything] == []
    assert "there is no beneficiary" in cli("beneficiaries", "show", uuid4(), status=1).stderr


def test_a_decision_is_a_plan_until_it_is_committed_and_has_its_reason(cli: Cli) -> None:
    beneficiary = add()
    asked = ("beneficiaries", "verify", beneficiary, "--reason", "called the bank")
    plan = cli(*asked).stdout
    assert "Nothing was done" in plan and "058 ******6785" in plan and read(beneficiary).state == "pending"
    assert "It is verified." in cli(*asked, "--commit").stdout
    assert events(beneficiary)[-1] == ("verify", "verified", "person:ada")
    assert "nothing to verify" in cli(*asked, "--commit", status=1).stderr
    done = cli(
        "beneficiaries", "refuse", beneficiary, "--reason", "fraud", "--actor", "bob", "--commit", "--json"
    ).stdout
    assert (json.loads(done)["failure"], json.loads(done)["committed"]) == ("refused_by_hand", True)
    assert "--reason" in cli("beneficiaries", "refuse", beneficiary, "--reason", " ", status=2).stderr
    cli("beneficiaries", "retry", beneficiary, "--reason", "again", "--commit")
    assert len(enquiries()) == 2
    assert "It is removed." in cli("beneficiaries", "remove", beneficiary, "--commit").stdout
    assert read(beneficiary).sealed == b""


def test_banks_are_listed_and_asked_for(cli: Cli) -> None:
    assert "No list is known" in cli("beneficiaries", "banks").stdout
    service.refresh({"acme": ScriptedProvider()})
    assert "Paycom" in cli("beneficiaries", "banks", "--refresh").stdout
    with transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM jobs WHERE task = 'payout.refresh_banks'")) == 1


def test_a_key_is_changed(cli: Cli, vault_keys: UseKeys) -> None:
    for user in range(3):
        add(account=f"user:{user}:available")
    vault_keys(NEW_KEY, OLD_KEY)
    rows = json.loads(cli("vault", "status", "--json").stdout)["keys"]
    assert [(row["what"], row["rows"], row["standing"]) for row in rows] == [
        ("beneficiaries", 0, "sealing"),
        ("beneficiaries", 3, "opening"),
        ("payouts", 0, "sealing"),
        ("payouts", 0, "opening"),
    ]
    assert "3 rows are sealed by another key" in cli("vault", "reseal").stdout
    assert "Of 3 rows that another key had sealed, 0 are not" in cli("vault", "reseal", "--commit").stdout
    vault_keys(NEW_KEY)
    assert "missing" not in cli("vault", "status").stdout


def test_a_key_that_was_taken_out_too_soon_is_seen(cli: Cli, vault_keys: UseKeys) -> None:
    add()
    vault_keys(NEW_KEY)
    assert "put it back" in cli("vault", "status", status=1).stderr
    assert "Of 1 rows" in cli("vault", "reseal", "--commit", status=1).stdout
    assert read(add(account="user:7:available")).state == "pending"
