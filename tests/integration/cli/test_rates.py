"""`tallyrail rates`, and what is known of a moment."""

import json
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from core import clock
from core.db import transaction
from domain.rates import service as rates
from tests.integration.cli.conftest import Cli

ETH, USD = "eip155:1/slip44:60", "iso4217:USD"
TOLD = ("--source", "an exchange", "--reason", "the feed is away")


def test_a_rate_is_set_with_its_source_and_reason_and_only_with_commit(cli: Cli) -> None:
    plan = cli("rates", "set", ETH, USD, "2000.50", *TOLD).stdout
    assert "2000.5" in plan and "Nothing was done" in plan
    assert "no such rates" in cli("rates", "list").stdout
    made = json.loads(cli("rates", "set", ETH, USD, "2000.50", *TOLD, "--commit", "--json").stdout)
    assert (made["numerator"], made["denominator"], made["actor"]) == ("4001", str(2 * 10**16), "ada")
    again = cli("rates", "set", ETH, USD, "2100", *TOLD, "--at", "5m").stdout
    assert "2000.5 at" in again
    [kept] = json.loads(cli("rates", "list", "--asset", ETH, "--json").stdout)["rates"]
    assert kept["id"] == made["id"] and kept["reason"] == "the feed is away"
    assert "2000.5" in cli("rates", "list", "--currency", USD).stdout
    assert "no such rates" in cli("rates", "list", "--currency", ETH).stdout
    cli("rates", "set", ETH, USD, "2.000,50", *TOLD, status=1)
    cli("rates", "set", ETH, USD, "1", "--source", "x", "--reason", " ", status=2)


def test_what_was_known_of_a_moment_is_the_newest_before_it_that_is_not_too_old(database_url: str) -> None:
    now = clock.now()

    def told(price: str, minutes: int) -> None:
        with transaction() as session:
            at = now - timedelta(minutes=minutes)
            rates.add(session, rates.proposed(ETH, USD, price, source="an exchange", actor="ann", observed_at=at))

    for price, minutes in (("3", 10), ("1", 30), ("2", 20), ("4", 10)):  # in the order they became known
        told(price, minutes)
    with transaction() as session:

        def known(minutes: int) -> str | None:
            found = rates.rate_at(session, ETH, USD, now - timedelta(minutes=minutes))
            return None if found is None else rates.price(found)

        assert [known(minutes) for minutes in (0, 10, 11, 20, 29, 30, 31)] == ["4", "4", "2", "2", "1", "1", None]
        assert known(-4) == "4"
        assert known(-5) is None  # it was set for a quarter of an hour
        inverse = rates.rate_at(session, USD, ETH, now)
        assert inverse is not None and inverse.fraction == 10**18 // 400


def test_what_money_was_judged_by_cannot_be_rewritten(cli: Cli) -> None:
    cli("rates", "set", ETH, USD, "2000", *TOLD, "--commit")
    for statement in ("UPDATE asset_rates SET numerator = 1", "DELETE FROM asset_rates"):
        with pytest.raises(ProgrammingError, match="permission denied"), transaction() as session:
            session.execute(text(statement))
