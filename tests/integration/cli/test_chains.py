"""Operators see what was read and what was not, and have it read once more."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from core import clock, db
from core.jobs import Job
from domain.deposit.scan_models import ChainCoverage, ChainCursor, ChainRescan
from tests.integration.cli.conftest import Cli

CHAIN = "eip155:1"
RESCAN = ("chains", "rescan", CHAIN, "--from", "110", "--to", "140", "--reason", "support ticket 7")


@pytest.fixture(autouse=True)
def scanned(database_url: str) -> None:
    """Blocks 100 to 199 but for 120 to 129."""
    now = clock.now()
    with db.transaction() as session:
        session.add(
            ChainCursor(
                chain=CHAIN, first_block=100, next_block=200, last_read_at=now, head_number=204,
                head_time=now - timedelta(seconds=9), head_at=now,
            )
        )  # fmt: skip
        session.add_all(
            ChainCoverage(chain=CHAIN, first_block=first, last_block=last, last_hash="0xab", by="scan", addresses=3)
            for first, last in ((100, 119), (130, 199))
        )


@pytest.mark.parametrize("columns", [60, 200])
def test_coverage_names_what_was_passed_over(cli: Cli, columns: int) -> None:
    shown = cli("chains", "coverage", CHAIN, status=1, columns=columns).stdout
    assert "Passed over" in shown
    assert "0xab" in shown
    found = json.loads(cli("chains", "coverage", CHAIN, "--json", status=1).stdout)
    assert found["gaps"] == [{"first_block": 120, "last_block": 129, "blocks": 10}]
    assert [(row["first_block"], row["last_block"]) for row in found["coverage"]] == [(130, 199), (100, 119)]
    with db.transaction() as session:
        session.add(ChainCoverage(chain=CHAIN, first_block=120, last_block=129, by="rescan", addresses=3))
    assert "No block was passed over." in cli("chains", "coverage", CHAIN).stdout
    told = cli("chains", "coverage", "eip155:999", status=1).stderr
    assert told == "tallyrail: the chain eip155:999 has not been scanned yet\n"


def test_a_rescan_shows_its_plan_and_is_asked_for_with_commit(cli: Cli) -> None:
    plan = cli(*RESCAN).stdout
    assert "110 to 140" in plan
    assert plan.endswith("Nothing was done. Add --commit to do it.\n")
    assert cli("chains", "rescans").stdout == "Nothing was scanned once more yet.\n"
    done = cli(*RESCAN, "--commit").stdout
    with db.transaction() as session:
        [rescan] = session.scalars(select(ChainRescan)).all()
        [job] = session.scalars(select(Job)).all()
    assert f"Asked for, as rescan {rescan.id}." in done
    assert (rescan.first_block, rescan.last_block, rescan.actor, rescan.reason) == (110, 140, "ada", "support ticket 7")
    assert (job.task, job.subject) == ("tx_monitor.rescan", f"rescan:{rescan.id}")
    assert str(rescan.id) in cli("chains", "rescans", CHAIN).stdout
    assert json.loads(cli("chains", "rescans", "eip155:56", "--json").stdout)["rescans"] == []


def test_a_rescan_of_what_is_still_to_be_scanned_is_refused_in_the_plan(cli: Cli) -> None:
    told = cli("chains", "rescan", CHAIN, "--from", "110", "--to", "200", "--reason", "x", status=1).stderr
    assert told == "tallyrail: block 200 of eip155:1 is still to be scanned: the last that was is 199\n"


def test_a_restart_above_the_cursor_says_what_it_passes_over(cli: Cli) -> None:
    plan = cli("chains", "restart", CHAIN, "--from-block", "250", "--reason", "x").stdout
    assert "50 blocks, until a rescan" in plan
    assert "until a rescan" not in cli("chains", "restart", CHAIN, "--from-block", "200", "--reason", "x").stdout


def test_the_list_tells_of_gaps_and_of_a_chain_that_stands_still(cli: Cli) -> None:
    [row] = json.loads(cli("chains", "list", "--json").stdout)["chains"]
    assert (row["state"], row["gap_blocks"], row["lag_blocks"], row["head_number"]) == ("running", 10, 5, 204)
    assert 9 <= row["head_age"] < 60
    with db.transaction() as session:
        session.execute(text("UPDATE chain_cursors SET head_time = now() - interval '1 hour'"))
    assert "stalled" in cli("chains", "list").stdout
