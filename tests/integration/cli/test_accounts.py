"""Accounts are frozen, closed and bounded by a person: the plan first, the deed with --commit, and a record."""

import json
from typing import Any

import pytest
from typer.testing import Result

from core import db
from ledger import accounts as books
from ledger import chart
from ledger.assets import sync_assets
from ledger.errors import AccountFrozenError
from ledger.posting import Journal, Posting, book
from tests.integration.cli.conftest import Cli
from tests.integration.ledger.books import ALICE, BOB, ETH

WHERE = ("--tenant", "acme", "--asset", ETH)
WHY = ("--reason", "police letter 7")


@pytest.fixture
def funded(database_url: str) -> str:
    with db.transaction() as session:
        sync_assets(session)
    pay("deposit:1", chart.custody("eip155:1"), ALICE, 100)
    return "acme"


def pay(reference: str, source: str, destination: str, units: int = 1) -> None:
    posting = Posting(source=source, destination=destination, asset=ETH, units=units)
    book(Journal(tenant="acme", reference=reference, category="test", postings=(posting,)))


def noted(code: str = ALICE) -> list[str]:
    with db.transaction() as session:
        return [change.change for change in books.changes(session, "acme", code).rows]


def act(cli: Cli, change: str, *more: Any, code: str = ALICE, status: int = 0) -> Result:
    return cli("accounts", change, code, *WHERE, *WHY, *more, status=status)


def test_a_freeze_is_planned_and_then_done(cli: Cli, funded: str) -> None:
    plan = act(cli, "freeze").stdout
    for part in (
        f"{ALICE} of acme in {ETH}",
        "open",
        "frozen",
        "ada: police letter 7",
        "Nothing was done. Add --commit",
    ):
        assert part in plan
    pay("pay:1", ALICE, BOB)
    assert noted() == []
    assert "Done, as change" in act(cli, "freeze", "--commit").stdout
    with pytest.raises(AccountFrozenError):
        pay("pay:2", ALICE, BOB)
    assert "is so already" in act(cli, "freeze", "--commit").stdout
    assert noted() == ["freeze"]
    act(cli, "freeze", "--commit", "--actor", "grace")
    assert "frozen by person:ada, person:grace" in act(cli, "unfreeze").stdout
    act(cli, "unfreeze", "--commit", "--actor", "grace")
    pay("pay:2", ALICE, BOB)


def test_a_plan_says_what_would_be_refused(cli: Cli, funded: str) -> None:
    told = act(cli, "close", status=1).stderr
    assert told == f"tallyrail: {ALICE} has a balance of 100 units of {ETH} and 0 held: it must be empty to be closed\n"
    told = act(cli, "limit", "--ceiling", "99", status=1).stderr
    assert f"{ALICE} can't have a ceiling of 99 units" in told
    assert "has no account user:eve:available" in act(cli, "unfreeze", code="user:eve:available", status=1).stderr
    assert "no place for 'moon:1'" in act(cli, "freeze", code="moon:1", status=1).stderr
    assert noted() == []


def test_an_account_is_opened_by_the_deed_and_not_by_the_plan(cli: Cli, funded: str) -> None:
    act(cli, "freeze", code=BOB)
    assert "has no account" in act(cli, "unfreeze", "--commit", code=BOB, status=1).stderr
    act(cli, "freeze", "--commit", code=BOB)
    pay("pay:1", ALICE, BOB)
    with pytest.raises(AccountFrozenError):
        pay("pay:2", BOB, ALICE)


def test_an_empty_account_is_closed_and_opened_again(cli: Cli, funded: str) -> None:
    pay("empty", ALICE, BOB, 100)
    act(cli, "close", "--commit")
    act(cli, "reopen", "--commit")
    pay("back", BOB, ALICE, 100)
    assert noted() == ["reopen", "close"]


def test_limits_are_set_and_lifted(cli: Cli, funded: str) -> None:
    plan = act(cli, "limit", "--floor", "-50", "--commit").stdout
    assert "ceiling none, floor 0" in plan and "ceiling none, floor -50" in plan
    pay("credit", ALICE, BOB, 150)
    row = json.loads(act(cli, "limit", "--floor", "none", "--ceiling", "7", "--commit", "--json").stdout)
    assert row["committed"] is True
    assert (row["change"]["before"], row["change"]["after"]) == (
        {"floor": "-50", "ceiling": None},
        {"floor": None, "ceiling": "7"},
    )
    assert json.loads(act(cli, "limit", "--ceiling", "7", "--commit", "--json").stdout) == {
        "change": None,
        "committed": False,
    }
    for wrong in ((), ("--floor", "1.5"), ("--ceiling", "all"), ("--floor", "9" * 39)):
        act(cli, "limit", *wrong, status=2)


def test_who_and_why_is_asked_for_and_kept(cli: Cli, funded: str) -> None:
    cli("accounts", "freeze", ALICE, *WHERE, "--commit", status=2)
    cli("accounts", "freeze", ALICE, *WHERE, "--reason", " ", "--commit", status=2)
    act(cli, "freeze", "--commit", "--actor", "grace")
    act(cli, "unfreeze", "--commit")
    shown = cli("accounts", "changes", ALICE, "--tenant", "acme").stdout
    for part in ("freeze", "unfreeze", "open", "frozen", "grace", "ada", "police letter 7"):
        assert part in shown
    page = json.loads(cli("accounts", "changes", ALICE, "--tenant", "acme", "--limit", "1", "--json").stdout)
    assert [row["actor"] for row in page["changes"]] == ["ada"]
    rest = cli("accounts", "changes", ALICE, "--tenant", "acme", "--cursor", page["next_cursor"], "--json").stdout
    assert [(row["actor"], row["before"]) for row in json.loads(rest)["changes"]] == [("grace", {"state": "open"})]
    assert cli("accounts", "changes", BOB, "--tenant", "acme").stdout == f"Nobody has changed {BOB}.\n"
