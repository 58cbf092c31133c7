"""`tallyrail payouts`: what people look at, and what they decide."""

import json
from uuid import uuid4

import pytest

from core import clock
from core.db import transaction
from domain.payout.models import PayoutProviderRow
from tests.integration.cli.conftest import Cli
from tests.integration.payout.counter import events, fund, held, read, said, seen, waiting

pytestmark = pytest.mark.usefixtures("funded")


@pytest.fixture
def funded(database_url: str) -> None:
    fund(100_000)


def test_the_queue_is_what_waits_for_people_the_next_to_expire_first(cli: Cli) -> None:
    assert "Nothing waits" in cli("payouts", "list", "--waiting").stdout
    assert "no such payouts" in cli("payouts", "list").stdout
    first, second = waiting(needed=2, findings=[{"rule": "new_destination", "verdict": "review"}]), waiting()
    waiting(needed=0)
    cli("payouts", "approve", first, "--seen", seen(first).hex(), "--commit")
    queue = cli("payouts", "list", "--waiting").stdout
    assert queue.index(str(first)) < queue.index(str(second))
    assert "1 of 2" in queue and "0 of 1" in queue and "71h" not in queue and "2d 23h" in queue
    assert "new_destination" in queue and "its value" in queue and "DE****3000" in queue
    assert len(json.loads(cli("payouts", "list", "--waiting", "--json").stdout)["payouts"]) == 2
    page = json.loads(cli("payouts", "list", "--limit", 2, "--json").stdout)
    rest = json.loads(cli("payouts", "list", "--cursor", page["next_cursor"], "--json").stdout)
    assert [row["state"] for row in page["payouts"] + rest["payouts"]] == [
        "approved",
        "awaiting_approval",
        "awaiting_approval",
    ]
    only = cli("payouts", "list", "--state", "approved").stdout
    assert "10 EUR" in only and str(first) not in only
    assert "--waiting goes with" in cli("payouts", "list", "--waiting", "--state", "held", status=2).stderr


def test_an_approval_is_of_what_show_told(cli: Cli) -> None:
    payout = waiting(needed=2, maker="person:ada")
    shown = cli("payouts", "show", payout).stdout
    assert seen(payout).hex() in shown and "winnings" in shown and "0 of 2" in shown
    asked = ("payouts", "approve", payout, "--actor", "bob", "--seen", seen(payout).hex())
    assert "Nothing was done" in cli(*asked).stdout and said(payout) == []
    assert "--seen must say" in cli("payouts", "approve", payout, "--commit", status=2).stderr
    assert "is no hash" in cli("payouts", "approve", payout, "--seen", "xyz", status=2).stderr
    stale = cli("payouts", "approve", payout, "--actor", "bob", "--seen", "00" * 32, "--commit", status=1)
    assert "has changed since you saw it" in stale.stderr
    own = cli("payouts", "approve", payout, "--seen", seen(payout).hex(), "--commit", status=1)  # as ada
    assert "another person decides" in own.stderr
    assert "It is awaiting_approval." in cli(*asked, "--commit").stdout
    done = cli("payouts", "approve", payout, "--actor", "eve", "--seen", seen(payout).hex(), "--commit", "--json")
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["committed"]) == ("approved", True)
    shown = cli("payouts", "show", payout).stdout
    assert "person:bob" in shown and "2 of 2" in shown
    assert json.loads(cli("payouts", "show", payout, "--json").stdout)["approvals"][1]["approver"] == "person:eve"
    assert "there is no payout" in cli("payouts", "show", uuid4(), status=1).stderr


def test_rejecting_freezing_thawing_and_cancelling_have_their_reasons(cli: Cli) -> None:
    first, second = waiting(), waiting()
    assert "--reason" in cli("payouts", "reject", first, "--reason", " ", status=2).stderr
    reject = ("payouts", "reject", first, "--reason", "not theirs", "--seen", seen(first).hex())
    assert "It is rejected." in cli(*reject, "--commit").stdout
    for verb, state in (("freeze", "frozen"), ("thaw", "held"), ("cancel", "cancelled")):
        asked = ("payouts", verb, second, "--reason", "asked to")
        assert "Nothing was done" in cli(*asked).stdout
        assert f"It is {state}." in cli(*asked, "--commit").stdout
        assert events(second)[-1][2] == "person:ada"
    assert held() == (0, 100_000)
    assert "can't be frozen" in cli("payouts", "freeze", first, "--reason", "late", "--commit", status=1).stderr


def test_two_people_pay_by_hand(cli: Cli) -> None:
    payout = waiting(needed=0)
    assert "It is approved." in cli("payouts", "take-by-hand", payout, "--reason", "no provider", "--commit").stdout
    told = ("--reference", "FT26-0001", "--note", "at the counter", "--seen", seen(payout).hex())
    record = ("payouts", "record-by-hand", payout, *told, "--paid-on")
    assert "is no day" in cli(*record, "yesterday", status=2).stderr
    assert "Nothing was done" in cli(*record, clock.now().date()).stdout
    for again in ("withdraw", ""):
        assert "It is approved." in cli(*record, clock.now().date(), "--commit").stdout
        if again:
            cli("payouts", "withdraw-by-hand", payout, "--reason", "wrong line", "--commit")
    confirm = ("payouts", "confirm-by-hand", payout, "--reason", "on the statement", "--commit")
    assert "another person confirms" in cli(*confirm, status=1).stderr
    confirmed = cli(*confirm, "--actor", "bob").stdout
    assert "FT26-0001" in confirmed and "It is paid." in confirmed
    assert read(payout).state == "paid" and "person:bob" in cli("payouts", "show", payout).stdout


def test_a_provider_is_stopped_and_started(cli: Cli) -> None:
    asked = ("payouts", "stop-provider", "acme", "--reason", "they are down")
    assert "no worker has ever had" in cli(*asked, "--commit", status=1).stderr
    with transaction() as session:
        session.add(PayoutProviderRow(name="acme", currencies={}, kinds=[], seen_at=clock.now()))
    assert "Nothing was done" in cli(*asked).stdout
    assert "It is stopped by person:ada." in cli(*asked, "--commit").stdout
    start = ("payouts", "start-provider", "acme", "--reason", "they are back")
    assert "It is sent to." in cli(*start, "--commit").stdout


def test_an_edit_needs_what_was_seen_and_leaves_nothing_if_it_is_refused(cli: Cli) -> None:
    payout = waiting()
    edit = ("payouts", "edit", payout, "--units", "900", "--reason", "typo", "--seen", seen(payout).hex())
    assert "Nothing was done" in cli(*edit).stdout
    assert "there is no beneficiary" in cli(*edit, "--commit", status=1).stderr  # of the destination book's own
    assert read(payout).revision == 1 and held() == (1_010, 98_990)
