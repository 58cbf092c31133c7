"""What people and Prometheus are shown of transfers, and the tables under it."""

import json
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from typer.testing import CliRunner

from api import onchain_metrics
from cli.main import app
from core import db
from core.db import Base, transaction
from domain.onchain.states import TransferState
from tests.integration.onchain.lab import Lab
from tests.support.evm import CHAIN

TABLES = {name for name in Base.metadata.tables if name.startswith("onchain_")}


def tallyrail(*arguments: str) -> Any:
    result = CliRunner().invoke(app, ["onchain", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_people_see_and_cancel(lab: Lab) -> None:
    payout = lab.payout()
    lab.send()
    planned = lab.payout()
    ids = [str(lab.transfer(each).id) for each in (payout, planned)]
    listed = tallyrail("list", "--chain", CHAIN)["transfers"]
    assert [(each["id"], each["state"], each["versions"]) for each in listed] == [
        (ids[1], "planned", 0),
        (ids[0], "sent", 1),
    ]
    assert lab.transfer(payout).recipient not in json.dumps(listed)
    shown = tallyrail("show", ids[0])
    assert [each["event"] for each in shown["history"]] == ["sign", "send"]
    assert shown["versions"][0]["chain_tx"] == lab.versions(payout)[0].chain_tx
    reason = ("--reason", "asked for twice", "--actor", "ann")
    assert tallyrail("cancel", ids[1], *reason)["state"] == "planned"  # the plan only
    assert tallyrail("cancel", ids[1], *reason, "--commit")["state"] == "cancelled"
    assert lab.transfer(planned).current is TransferState.CANCELLED
    history = tallyrail("show", ids[1])["history"]
    assert (history[0]["event"], history[0]["actor"], history[0]["reason"]) == (
        "cancel_asked",
        "person:ann",
        "asked for twice",
    )


def test_figures_tell_what_waits_and_what_the_wallet_has(lab: Lab) -> None:
    payout = lab.payout()
    lab.send()
    lab.desk.later(minutes=5)
    lab.desk.refresh()
    with transaction() as session:
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in onchain_metrics.families(session)
            for sample in family.samples
        }
    assert found["tallyrail_onchain_transfers", CHAIN, "sent"] == 1
    assert 300 <= found["tallyrail_onchain_oldest_seconds", CHAIN, "sent"] < 400
    assert found["tallyrail_onchain_wallet_coin_units", CHAIN] == 10**24
    assert found["tallyrail_onchain_wallet_fee_units", CHAIN] == lab.versions(payout)[0].fee_max


def test_models_and_tables_are_in_step(database_url: str) -> None:
    assert len(TABLES) == 5
    with db.engine().connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, _: kind != "table" or str(name) in TABLES,
                "include_object": lambda item, _name, kind, *_: kind != "table" or item.name in TABLES,
            },
        )
        assert compare_metadata(context, Base.metadata) == []
