"""Rates over the wire."""

import json
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction

import httpx
import pytest

from core import clock
from core.db import transaction
from domain.rates import service as rates
from domain.rates.settings import rates as settings
from tests.integration.api.conftest import is_problem
from tests.integration.rates.conftest import Says
from tests.support.prices import ETH, ETH_USD, NGN, USD, USD_NGN


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("RATE_PAIRS", json.dumps([[ETH, USD], [USD, NGN]]))
    settings.cache_clear()
    yield
    settings.cache_clear()


def refresh(*prices: str) -> None:
    """A round in which three sources tell these of an ether, and 1537.25 naira for a dollar."""
    sources = [Says(name) for name in "abc"]
    for source, price in zip(sources, prices, strict=True):
        source.told = {ETH_USD: price, USD_NGN: "1537.25"}
    rates.refresh(sources)


def test_rates_are_listed_with_what_keeps_them_from_being_used(client: httpx.Client) -> None:
    assert client.get("/v1/rates").json() == {"rates": []}
    refresh("2000", "2001.5", "2003")
    refresh("2000", "", "")
    eth, naira = client.get("/v1/rates").json()["rates"]
    assert (eth["asset"], eth["currency"], eth["usable"], eth["reason"]) == (ETH, USD, False, "too_few_sources")
    assert (eth["rate"]["price"], eth["sources"], eth["set_until"]) == ("2001.5", 1, None)
    assert (naira["usable"], naira["reason"], naira["spread_bps"]) == (True, None, 0)
    assert naira["rate"]["price"] == "1537.25"


def test_a_rate_is_told_in_either_direction_and_through_others(client: httpx.Client) -> None:
    refresh("2000", "2000", "2000")

    def read(asset: str, currency: str) -> Fraction:
        reply = client.get("/v1/rates/usable", params={"asset": asset, "currency": currency})
        assert reply.status_code == 200, reply.text
        told = reply.json()
        assert (told["asset"], told["currency"]) == (asset, currency)
        return Fraction(int(told["numerator"]), int(told["denominator"]))

    assert read(ETH, USD) == Fraction(2_000_00, 10**18)
    assert read(ETH, USD) * read(USD, ETH) == 1
    assert read(ETH, NGN) == Fraction("1537.25") * 2_000_00 / 10**18


def test_while_there_is_no_usable_rate_it_says_why(client: httpx.Client) -> None:
    def problem() -> object:
        reply = client.get("/v1/rates/usable", params={"asset": ETH, "currency": USD})
        assert reply.headers["retry-after"] == "30"
        return is_problem(reply, 503, "rate-unusable")["reason"]

    assert problem() == "unknown"
    refresh("2000", "2000", "2000")
    refresh("1962", "2000", "2038")
    assert problem() == "spread"
    refresh("3000", "3000", "3000")
    assert problem() == "jump"


def test_what_a_person_set_is_told_with_its_end(client: httpx.Client) -> None:
    with transaction() as session:
        rate = rates.proposed(ETH, USD, "1500", source="desk", actor="ann", lasts=timedelta(hours=1))
        rates.add(session, rate)
    [standing] = client.get("/v1/rates").json()["rates"]
    assert (standing["usable"], standing["rate"]["price"], standing["rate"]["source"]) == (True, "1500", "desk")
    assert standing["set_until"] > clock.now().isoformat()


@pytest.mark.parametrize(
    ("query", "pointed"),
    [
        ({"asset": "iso4217:XXX", "currency": USD}, "/asset"),
        ({"asset": ETH, "currency": "iso4217:XXX"}, "/currency"),
        ({"asset": ETH}, "currency"),
        ({"asset": "", "currency": USD}, "asset"),
    ],
)
def test_what_is_no_pair_is_refused(client: httpx.Client, query: dict[str, str], pointed: str) -> None:
    problem = is_problem(client.get("/v1/rates/usable", params=query), 422, "invalid-request")
    assert pointed in str(problem["errors"])


def test_metrics_tell_of_each_pair_what_alerts_need(client: httpx.Client, api_url: str) -> None:
    refresh("2000", "2001", "2002")
    refresh("2000", "", "")
    told = httpx.get(f"{api_url}/metrics").text
    labels = f'{{asset="{ETH}",currency="{USD}"}}'
    found = {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in told.splitlines() if labels in line}
    assert found.pop("tallyrail_rate_age_seconds") < 60
    assert found == {
        "tallyrail_rate_usable": 0,
        "tallyrail_rate_spread_bps": 0,
        "tallyrail_rate_sources": 1,
        "tallyrail_rate_override": 0,
        "tallyrail_rate_changes_total": 2,
    }
