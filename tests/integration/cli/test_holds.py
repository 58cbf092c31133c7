"""Holds are listed with amounts beside units, and one is shown whole."""

import json
from uuid import UUID

import pytest

from core import db
from core.ids import new_id
from ledger import chart
from ledger.assets import sync_assets
from ledger.posting import Journal, Posting, post
from tests.integration.cli.conftest import Cli
from tests.integration.ledger import held as h
from tests.integration.ledger.books import ALICE, BOB, ETH

ONE = 10**18


@pytest.fixture
def holds(database_url: str) -> list[UUID]:
    """One captured in part, one pending with a deadline."""
    with db.transaction() as session:
        sync_assets(session)
        deposit = Posting(source=chart.custody("eip155:1"), destination=ALICE, asset=ETH, units=3 * ONE)
        post(session, Journal(tenant="acme", reference="deposit:1", category="deposit", postings=(deposit,)))
    first = h.place("acme", "payout:1", ONE, subject="payout:1", metadata={"shop": 7}).id
    h.capture("acme", first, "payout:1:paid", ONE // 2)
    return [first, h.place("acme", "payout:2", ONE, expires_at=h.LATER).id]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_holds_are_listed_with_amounts_and_whole_ids(cli: Cli, holds: list[UUID], columns: int) -> None:
    shown = cli("ledger", "holds", "--tenant", "acme", columns=columns).stdout
    for part in (*map(str, holds), "pending", "posted", "1 ETH", str(ONE), "2100-01-01 00:00:00Z", ALICE, BOB):
        assert part in shown
    assert cli("ledger", "holds", "--tenant", "nobody").stdout == "There are no such holds.\n"


def test_holds_are_chosen_by_account_state_and_subject(cli: Cli, holds: list[UUID]) -> None:
    def listed(*filters: str) -> list[str]:
        document = json.loads(cli("ledger", "holds", "--tenant", "acme", "--json", *filters).stdout)
        return [row["id"] for row in document["holds"]]

    first, second = map(str, holds)
    assert listed() == [second, first]
    assert listed("--state", "pending") == [second]
    assert listed("--subject", "payout:1") == [first]
    assert listed("--account", BOB) == []
    page = json.loads(cli("ledger", "holds", "--tenant", "acme", "--limit", "1", "--json").stdout)
    assert listed("--cursor", page["next_cursor"]) == [first]
    cli("ledger", "holds", "--tenant", "acme", "--state", "gone", status=2)


def test_one_hold_is_shown_whole(cli: Cli, holds: list[UUID]) -> None:
    shown = cli("ledger", "holds", holds[0], "--tenant", "acme").stdout
    for part in (str(holds[0]), "posted", "1 ETH = 10", "0.5 ETH = 5", "payout:1", '"shop": 7'):
        assert part in shown
    row = json.loads(cli("ledger", "holds", holds[0], "--tenant", "acme", "--json").stdout)
    assert (row["units"], row["posted_units"], row["asset"]) == (str(ONE), str(ONE // 2), ETH)
    unknown = new_id()
    told = cli("ledger", "holds", unknown, "--tenant", "acme", status=1).stderr
    assert told == f"tallyrail: there is no hold {unknown}\n"
    cli("ledger", "holds", holds[0], "--tenant", "other", status=1)
    cli("ledger", "holds", holds[0], "--tenant", "acme", "--state", "posted", status=2)
