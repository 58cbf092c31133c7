"""Quotes over the wire."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from core import clock
from core.db import transaction
from domain.quote import service as quotes
from domain.rates import service as rates
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.support.prices import ETH, NGN, USD

BODY = {"from": NGN, "to": ETH, "units_in": "5000000"}


@pytest.fixture(autouse=True)
def _rates(database_url: str) -> None:
    """An ether costs 2,000 dollars, a dollar 1,500 naira."""
    with transaction() as session:
        for asset, currency, price in ((ETH, USD, "2000"), (USD, NGN, "1500")):
            rates.add(session, rates.proposed(asset, currency, price, source="desk", actor="ann"))


def ask(client: httpx.Client, body: Any = BODY, key: str | None = None) -> httpx.Response:
    return client.post("/v1/quotes", json=body, headers={"Idempotency-Key": key or str(uuid4())})


def test_a_quote_tells_the_other_side_exactly(client: httpx.Client) -> None:
    reply = ask(client)
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert reply.headers["location"] == f"/v1/quotes/{made['id']}"
    # 50,000 naira less 250 of ours; the rest by 1,500 by 2,000.
    assert (made["from"], made["to"], made["fixed"]) == (NGN, ETH, "in")
    assert (made["units_in"], made["spread_units"], made["spread_bps"]) == ("5000000", "25000", 50)
    assert made["units_out"] == str(49_750 * 10**18 // 3_000_000)
    assert (made["rate"], made["rate_source"]) == ("1/3000000", "desk / desk")
    left = datetime.fromisoformat(made["expires_at"]) - clock.now()
    assert timedelta(seconds=25) < left <= timedelta(seconds=30)
    assert client.get(f"/v1/quotes/{made['id']}").json() == made
    with transaction() as session:
        quotes.consume(session, made["id"], "shop", "fiat_payment:1")
    used = client.get(f"/v1/quotes/{made['id']}").json()
    assert (used["used_by"], used["used_at"] is not None) == ("fiat_payment:1", True)


def test_a_quote_for_what_is_to_come_out(client: httpx.Client) -> None:
    made = ask(client, {"from": NGN, "to": ETH, "units_out": "1000000000000000"}).json()
    assert (made["fixed"], made["units_out"]) == ("out", "1000000000000000")
    assert made["units_in"] == str(-(-3_000_00 * 10_000 // 9_950))


def test_the_same_request_gets_the_same_quote_and_another_none(client: httpx.Client) -> None:
    first, again = ask(client, key="a"), ask(client, key="a")
    assert again.json() == first.json() and again.headers["idempotency-replayed"] == "true"
    is_problem(ask(client, BODY | {"units_in": "1"}, key="a"), 422, "idempotency-key-reused")
    is_problem(client.post("/v1/quotes", json=BODY), 400, "idempotency-key-missing")
    assert count("quotes") == 1


def test_without_a_usable_rate_nothing_is_promised_and_the_key_is_free(client: httpx.Client) -> None:
    with transaction() as session:
        rates.clear(session, USD, NGN, actor="ann", reason="over")
    problem = is_problem(ask(client, key="b"), 503, "rate-unusable")
    assert problem["reason"] == "unknown"
    assert count("quotes") == 0
    with transaction() as session:
        rates.add(session, rates.proposed(USD, NGN, "1600", source="desk", actor="ann"))
    assert ask(client, key="b").status_code == 201


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"to": "iso4217:XXX"}, "/to"),
        ({"from": "iso4217:XXX"}, "/from"),
        ({"to": NGN}, "/to"),
        ({"units_in": "1"}, "/units_in"),
        ({"units_in": 5}, "/units_in"),
        ({"units_in": "0"}, "/units_in"),
        ({"from": ETH, "to": NGN, "units_in": None, "units_out": "9" * 38}, "/units_out"),
    ],
)
def test_what_cannot_be_quoted_is_pointed_at(client: httpx.Client, change: dict[str, Any], pointer: str) -> None:
    problem = is_problem(ask(client, BODY | change), 422, "invalid-request")
    assert [error["pointer"] for error in problem["errors"]] == [pointer]  # type: ignore[attr-defined]
    assert count("quotes") == 0


@pytest.mark.parametrize("body", [{"from": NGN, "to": ETH}, BODY | {"units_out": "1"}, BODY | {"extra": 1}, []])
def test_a_request_has_one_amount_and_nothing_else(client: httpx.Client, body: object) -> None:
    assert ask(client, body).status_code in (400, 422)
    assert count("quotes") == 0


def test_a_quote_of_another_tenant_does_not_exist(client: httpx.Client, new_key: NewKey) -> None:
    made = ask(client).json()
    theirs = {"Authorization": f"Bearer {new_key('casino').secret}"}
    is_problem(client.get(f"/v1/quotes/{made['id']}", headers=theirs), 404, "not-found")
    is_problem(client.get(f"/v1/quotes/{uuid4()}"), 404, "not-found")
