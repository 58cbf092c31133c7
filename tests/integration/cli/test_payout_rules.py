"""`tallyrail payouts` about rules and lists."""

import json

import pytest

from domain.payout.errors import PayoutRefusedError
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.cli.conftest import Cli
from tests.integration.payout_asking.conftest import desk
from tests.integration.payout_asking.desk import SHOP, USER, Desk

__all__ = ["desk", "vault_keys"]
WHY = ("--reason", "many accounts, one bank")


def test_a_rule_is_a_plan_until_it_is_committed_and_then_speaks(cli: Cli, desk: Desk) -> None:
    desk.fund(50_000)
    there = desk.destination()
    written = ("payouts", "write-rule", "often", "velocity", '{"count": 1, "seconds": 60}', *WHY)
    assert "Nothing was done" in cli(*written).stdout
    assert "no rules but those" in cli("payouts", "rules").stdout
    for wrong, status in (('{"count": 0, "seconds": 60}', 1), ("[]", 2), ("{", 2)):
        assert cli("payouts", "write-rule", "often", "velocity", wrong, *WHY, status=status).stderr
    cli(*written, "--score", 40, "--actor", "ada", "--commit")
    [row] = json.loads(cli("payouts", "rules", "--json").stdout)["rules"]
    assert row["parameters"] == {"count": 1, "seconds": 60, "of": "account"} and row["actor"] == "person:ada"
    assert "often" not in str(desk.ask(beneficiary_id=there).findings)
    assert "often" in str(desk.ask(beneficiary_id=there).findings)
    # A tenant's own stands in place of everybody's; here it refuses by its score.
    cli(*written, "--score", 100, "--tenant", SHOP, "--commit")
    with pytest.raises(PayoutRefusedError):
        desk.ask(beneficiary_id=there)
    cli(*written, "--score", 100, "--tenant", SHOP, "--off", "--commit")
    assert "often" not in str(desk.ask(beneficiary_id=there).findings)


def test_lists_say_who_is_refused_and_who_is_known(cli: Cli, desk: Desk) -> None:
    desk.fund(50_000)
    there = desk.destination()
    made = desk.ask(beneficiary_id=there)
    denied = ("payouts", "deny", "--destination-of", made.id, *WHY)
    assert "Nothing was done" in cli(*denied).stdout
    desk.ask(beneficiary_id=there)
    cli(*denied, "--commit")
    with pytest.raises(PayoutRefusedError):
        desk.ask(beneficiary_id=there)
    cli("payouts", "allow", "--account", USER, *WHY, "--commit")
    rows = json.loads(cli("payouts", "lists", "--json").stdout)["listings"]
    assert [(row["list"], row["scope"]) for row in rows] == [("allow", "account"), ("deny", "destination")]
    assert "allow" in cli("payouts", "lists", columns=300).stdout
    cli("payouts", "unlist", "--destination", made.destination_fingerprint, "--commit")
    assert "first_of_account" not in str(desk.ask(beneficiary_id=there).findings)
    assert "on no list" in cli("payouts", "unlist", "--destination-of", made.id, "--commit", status=1).stderr
    removed = json.loads(cli("payouts", "lists", "--removed", "--json").stdout)["listings"]
    assert [row["list"] for row in removed if row["removed_by"]] == ["deny"]
    assert "say one of" in cli("payouts", "deny", *WHY, status=2).stderr
