"""`tallyrail webhooks`: read without a payer's data, replayed and ignored only with --commit."""

import json
from datetime import timedelta
from uuid import UUID

from core import db
from core.ids import new_id
from domain.webhook import service
from tests.integration.cli.conftest import Cli
from tests.integration.webhook.desk import age, kept, receipt
from tests.support.jobs import statuses

BODY = json.dumps(
    {
        "id": "evt_1",
        "type": "charge.completed",
        "data": {"amount": 5000, "currency": "NGN", "customer": {"email": "payer@example.com", "phone": 4471234},
                 "card": {"last4": "4242"}, "items": [{"reference": "pay-1", "narration": "for Ann Payer"}],
                 "ok": True, "nothing": None, "rate": 1.5},
    }
).encode()  # fmt: skip
PAYER = ("payer@example.com", "4471234", "4242", "Ann Payer", "1.5")


def rows(cli: Cli, *filters: object) -> list[str]:
    return [row["id"] for row in json.loads(cli("webhooks", "list", *filters, "--json").stdout)["webhooks"]]


def waiting(receipt_id: UUID) -> UUID:
    with db.transaction() as session:
        service.wait(session, receipt_id, note="unknown: paid reference pay-1, theirs pi_1")
    return receipt_id


def test_they_are_listed_newest_first_and_by_filters(cli: Cli) -> None:
    assert "There are no such webhooks" in cli("webhooks", "list").stdout
    one, two = str(kept(b"1")), str(waiting(kept(b"2", provider="razorpay")))
    assert rows(cli) == [two, one]
    assert rows(cli, "--provider", "stripe") == rows(cli, "--state", "received") == rows(cli, "--before", two) == [one]
    assert rows(cli, "--limit", 1) == rows(cli, "--state", "waiting") == [two]
    table = cli("webhooks", "list", columns=240).stdout
    assert one in table and "unknown: paid reference pay-1" in table
    cli("webhooks", "list", "--state", "lost", status=2)


def test_a_payer_is_shown_only_to_who_asks_for_it(cli: Cli) -> None:
    one = kept(BODY, headers={"content-type": "application/json"})
    for told in (cli("webhooks", "show", one).stdout, cli("webhooks", "show", one, "--json").stdout):
        assert "charge.completed" in told and "evt_1" in told and "5000" in told and "pay-1" in told
        assert [word for word in PAYER if word in told] == []
        assert "narration" in told, "that there is something is shown"
    assert json.loads(cli("webhooks", "show", one, "--raw", "--json").stdout)["body"] == BODY.decode()
    raw = cli("webhooks", "show", one, "--raw").stdout
    assert [word for word in PAYER if word not in raw] == []
    assert "queued" in cli("webhooks", "show", one, columns=240).stdout, "its job"


def test_what_is_no_json_and_what_is_gone(cli: Cli) -> None:
    odd = kept(b"\x1b[31m\xff not json")
    assert "15 bytes that are no JSON" in cli("webhooks", "show", odd).stdout
    assert "\x1b" not in cli("webhooks", "show", odd, "--raw").stdout
    with db.transaction() as session:
        service.settle(session, odd, "handle")
    age(odd, 10_000)
    with db.transaction() as session:
        service.remove_old(session, keep=timedelta(days=1), limit=10)
    assert "its time was over" in cli("webhooks", "show", odd).stdout
    assert "was deleted" in cli("webhooks", "replay", odd, "--commit", status=1).stderr
    assert "there is no webhook" in cli("webhooks", "show", new_id(), status=1).stderr


def test_it_is_replayed_only_with_commit(cli: Cli) -> None:
    one = waiting(kept(b"{}"))
    assert "Nothing was done" in cli("webhooks", "replay", one).stdout
    assert receipt(one).state == "waiting" and statuses() == {"queued": 1}
    told = cli("webhooks", "replay", one, "--commit").stdout
    assert "stripe, waiting: handled once more, for ada" in told
    assert (receipt(one).state, receipt(one).note) == ("received", "replayed by ada")
    assert statuses() == {"queued": 2}
    made = json.loads(cli("webhooks", "replay", one, "--commit", "--actor", "grace", "--json").stdout)
    assert (made["committed"], made["note"]) == (True, "replayed by grace")


def test_it_is_ignored_only_with_commit_and_a_reason(cli: Cli) -> None:
    one = waiting(kept(b"{}"))
    cli("webhooks", "ignore", one, status=2)
    cli("webhooks", "ignore", one, "--reason", " ", "--commit", status=2)
    assert "Nothing was done" in cli("webhooks", "ignore", one, "--reason", "another shop").stdout
    assert receipt(one).state == "waiting"
    cli("webhooks", "ignore", one, "--reason", "another shop", "--commit")
    assert (receipt(one).state, receipt(one).note) == ("ignored", "by ada: another shop")
    assert "is ignored" in cli("webhooks", "ignore", one, "--reason", "again", "--commit", status=1).stderr
