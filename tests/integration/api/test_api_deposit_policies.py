"""Asking for a deposit on other terms than its asset's, and what operators read of what is held up."""

from typing import Any

import httpx
import pytest
from sqlalchemy import text

from api import metrics
from core import clock, db
from domain.deposit.scan_models import ChainNode
from tests.integration.api.conftest import CHAIN, count, is_problem

ETH, USD = "eip155:1/slip44:60", "iso4217:USD"


@pytest.fixture
def body(hot_wallet: str) -> dict[str, Any]:
    return {"asset": ETH, "account": "user:42:available", "address": hot_wallet, "chain_tx": "0x" + "7e" * 32}


def _post(client: httpx.Client, body: object, key: str = "k") -> httpx.Response:
    return client.post("/v1/deposits", json=body, headers={"Idempotency-Key": key})


def test_without_terms_of_its_own_its_assets_hold(client: httpx.Client, body: dict[str, Any]) -> None:
    made = _post(client, body).json()
    assert (made["value"], made["tolerance_bps"], made["accepts"], made["waits_for"]) == (None, 0, [], None)


def test_a_value_and_policies_are_kept_and_told(client: httpx.Client, body: dict[str, Any]) -> None:
    value = {"currency": USD, "units": "1999", "tolerance_bps": 500}
    reply = _post(client, body | {"value": value, "late": "credit", "overpaid": "credit", "underpaid": "suspend"})
    assert reply.status_code == 202, reply.text
    made = reply.json()
    assert made["value"] == {"currency": USD, "units": "1999"}
    assert (made["units"], made["tolerance_bps"], made["accepts"]) == (None, 500, ["overpaid", "late"])
    read = client.get(made["links"]["deposit"]).json()
    assert {name: read[name] for name in ("value", "tolerance_bps", "accepts")} == {
        name: made[name] for name in ("value", "tolerance_bps", "accepts")
    }
    assert _post(client, body | {"value": value | {"units": 1999}}).status_code == 422  # the key is of another request


@pytest.mark.parametrize(
    ("pointer", "wrong"),
    [
        ("/value", {"value": {"currency": "iso4217:XXX", "units": "1"}}),
        ("/value", {"value": {"currency": ETH, "units": "1"}}),
        ("/value/units", {"value": {"currency": USD, "units": "0"}}),
        ("/value/units", {"value": {"currency": USD, "units": 19.99}}),
        ("/value/tolerance_bps", {"value": {"currency": USD, "units": "1", "tolerance_bps": 10_001}}),
        ("", {"value": {"currency": USD, "units": "1"}, "units": "1000000000000000000"}),
        ("", {"value": {"currency": USD, "units": "1"}, "tolerance_bps": 5}),
        ("/late", {"late": "forget"}),
        ("/tolerance_bps", {"tolerance_bps": -1}),
    ],
)
def test_terms_that_cannot_be_are_pointed_at(
    client: httpx.Client, body: dict[str, Any], pointer: str, wrong: dict[str, Any]
) -> None:
    document = is_problem(_post(client, body | wrong), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == pointer  # type: ignore[index]
    assert count("deposits") == 0


def test_what_waits_and_how_nodes_do_are_metrics(
    client: httpx.Client, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "READ_EVERY", 0.0)
    made = _post(client, body).json()
    assert "tallyrail_deposits_waiting{" not in client.get("/metrics").text
    health: dict[str, Any] = {"chain": CHAIN, "process": "one:1", "calls": 7, "failures": 1, "updated_at": clock.now()}
    with db.transaction() as session:
        session.execute(
            text("UPDATE deposits SET waits_for = 'agreement', waits_since = now() - interval '1 hour' WHERE id = :id"),
            {"id": made["id"]},
        )
        session.add(ChainNode(**health, label="a.example", latency_ms=12))
        session.add(ChainNode(**health, label="b.example", failing_since=clock.now(), trouble="disagrees"))
    told = client.get("/metrics").text
    assert f'tallyrail_deposits_waiting{{chain="{CHAIN}",for="agreement"}} 1.0' in told
    [line] = [line for line in told.splitlines() if line.startswith("tallyrail_deposits_waiting_oldest_seconds{")]
    assert 3_600 <= float(line.split()[-1]) < 3_700
    assert f'tallyrail_chain_node_up{{chain="{CHAIN}",node="a.example"}} 1.0' in told
    assert f'tallyrail_chain_node_up{{chain="{CHAIN}",node="b.example"}} 0.0' in told
    assert f'tallyrail_chain_node_latency_ms{{chain="{CHAIN}",node="a.example"}} 12.0' in told
    assert f'tallyrail_chain_node_trouble{{chain="{CHAIN}",node="b.example",trouble="disagrees"}} 1.0' in told
    assert client.get(made["links"]["deposit"]).json()["waits_for"] == "agreement"
