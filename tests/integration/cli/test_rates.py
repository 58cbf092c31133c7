"""`tallyrail rates`, and what is known of a moment."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from core import clock
from core.db import transaction
from domain.rates import service as rates
from domain.rates.settings import rates as settings
from tests.integration.cli.conftest import Cli
from tests.integration.rates.conftest import Says
from tests.support.prices import ETH_USD, NGN, USD_NGN

ETH, USD = "eip155:1/slip44:60", "iso4217:USD"
TOLD = ("--source", "an exchange", "--reason", "the feed is away")


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATE_PAIRS", json.dumps([[ETH, USD], [USD, NGN]]))
    settings.cache_clear()
    yield
    settings.cache_clear()


def refresh(*prices: str) -> None:
    sources = [Says(name) for name in "abc"]
    for source, price in zip(sources, prices, strict=True):
        source.told = {ETH_USD: price, USD_NGN: "1500"}
    rates.refresh(sources)


def test_a_rate_is_set_with_its_source_and_reason_and_only_with_commit(cli: Cli) -> None:
    plan = cli("rates", "set", ETH, USD, "2000.50", *TOLD).stdout
    assert "2000.5" in plan and "Nothing was done" in plan
    assert "no such rates" in cli("rates", "history").stdout
    made = json.loads(cli("rates", "set", ETH, USD, "2000.50", *TOLD, "--commit", "--json").stdout)
    assert (made["numerator"], made["denominator"], made["actor"]) == ("4001", str(2 * 10**16), "ada")
    again = cli("rates", "set", ETH, USD, "2100", *TOLD, "--at", "5m").stdout
    assert "2000.5 at" in again
    [kept] = json.loads(cli("rates", "history", "--asset", ETH, "--json").stdout)["rates"]
    assert kept["id"] == made["id"] and kept["reason"] == "the feed is away"
    assert "2000.5" in cli("rates", "history", "--currency", USD).stdout
    assert "no such rates" in cli("rates", "history", "--currency", ETH).stdout
    cli("rates", "set", ETH, USD, "2.000,50", *TOLD, status=1)
    cli("rates", "set", ETH, USD, "1", "--source", "x", "--reason", " ", status=2)


def test_a_rate_is_set_for_as_long_as_it_takes_and_not_for_ever(cli: Cli) -> None:
    cli("rates", "set", ETH, USD, "2000", *TOLD, "--for", "3h", "--commit")
    [standing] = json.loads(cli("rates", "list", "--json").stdout)["rates"]
    assert (standing["usable"], standing["price"]) == (True, "2000")
    with transaction() as session:
        [row] = rates.page(session)
    assert row.expires_at is not None and row.expires_at - row.observed_at == timedelta(hours=3)
    cli("rates", "set", ETH, USD, "2000", *TOLD, "--for", "8d", status=1)
    cli("rates", "set", ETH, USD, "2000", *TOLD, "--for", "ever", status=2)


def test_what_was_set_is_cleared_and_only_with_commit(cli: Cli) -> None:
    assert "Nothing is set" in cli("rates", "clear", ETH, USD, "--reason", "over").stdout
    refresh("1990", "1990", "1990")
    cli("rates", "set", ETH, USD, "2000", *TOLD, "--commit")
    assert "Nothing was done" in cli("rates", "clear", ETH, USD, "--reason", "over").stdout
    assert json.loads(cli("rates", "show", ETH, USD, "--json").stdout)["price"] == "2000"
    cleared = cli("rates", "clear", ETH, USD, "--reason", "the feed is back", "--commit").stdout
    assert "Cleared" in cleared and "ada" in cleared
    assert json.loads(cli("rates", "show", ETH, USD, "--json").stdout)["price"] == "1990"
    last = json.loads(cli("rates", "history", "--json").stdout)["rates"][0]
    assert (last["cleared_by"], last["cleared_because"]) == ("ada", "the feed is back")


def test_rates_are_listed_and_shown_with_why_they_cannot_be_used(cli: Cli) -> None:
    assert "no such rates" in cli("rates", "list").stdout
    refresh("2000", "2001", "9999")
    listed = cli("rates", "list", columns=300).stdout
    assert "2000.5" not in listed and "2001" in listed and "yes" in listed
    refresh("2000", "", "")
    assert "too few sources" in cli("rates", "list", "--asset", ETH, columns=300).stdout
    assert "too few" not in cli("rates", "list", "--currency", NGN, columns=300).stdout
    shown = cli("rates", "show", ETH, USD, columns=300).stdout
    assert "no: too few sources" in shown and "outlier" in shown
    through = json.loads(cli("rates", "show", NGN, USD, "--json").stdout)
    assert (through["usable"], through["numerator"], through["denominator"]) == (True, "1", "1500")
    assert "outlier" in cli("rates", "history", "--prices", "--asset", ETH, columns=300).stdout
    first = json.loads(cli("rates", "history", "--prices", "--limit", "3", "--json").stdout)
    rest = json.loads(cli("rates", "history", "--prices", "--cursor", first["next_cursor"], "--json").stdout)
    assert (len(first["prices"]), len(rest["prices"])) == (3, 7)
    cli("rates", "show", "iso4217:XXX", USD, status=1)


def test_what_money_was_moved_by_then_is_shown(cli: Cli) -> None:
    cli("rates", "set", ETH, USD, "2000", *TOLD, "--at", "2h", "--commit")
    then = json.loads(cli("rates", "show", ETH, USD, "--at", "110m", "--json").stdout)
    assert (then["usable"], then["price"]) == (True, "2000")
    assert json.loads(cli("rates", "show", ETH, USD, "--json").stdout)["reason"] == "unknown"


def test_what_was_known_of_a_moment_is_what_was_set_for_it_last(database_url: str) -> None:
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
