"""Payouts over the wire: asked for once, refused as problems, read without what they must not tell."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import NewKey, is_problem
from tests.integration.beneficiary.conftest import vault_keys
from tests.integration.payout_asking.conftest import desk
from tests.integration.payout_asking.desk import USD, USER, Desk

__all__ = ["desk", "vault_keys"]
NUMBER = "acct_1AbCdEfGhIjKlMn"


@pytest.fixture
def app(desk: Desk, api_url: str, new_key: NewKey) -> Iterator[httpx.Client]:
    """An app whose user has money."""
    scopes = ["payouts:read", "payouts:write"]
    desk.fund(100_000)
    headers = {"Authorization": f"Bearer {new_key(scopes=scopes).secret}"}
    with httpx.Client(base_url=api_url, headers=headers) as client:
        yield client


def body(**given: Any) -> dict[str, Any]:
    asked = {"account": USER, "asset": USD, "units": "1000", "destination": {"kind": "stripe", "number": NUMBER}}
    return asked | given


def ask(app: httpx.Client, key: str = "k1", **given: Any) -> httpx.Response:
    return app.post("/v1/payouts", json=body(**given), headers={"Idempotency-Key": key})


def test_a_payout_is_asked_for_once_and_told_masked(app: httpx.Client, desk: Desk, new_key: NewKey) -> None:
    first, again = ask(app, metadata={"order": 7}), ask(app, metadata={"order": 7})
    assert (first.status_code, again.json()) == (202, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    is_problem(ask(app, units="1001"), 422, "idempotency-key-reused")
    made = first.json()
    assert first.headers["location"] == made["links"]["payout"] == f"/v1/payouts/{made['id']}"
    assert (made["state"], made["units"], made["payout_asset"]) == ("awaiting_approval", "1000", USD)
    assert made["metadata"] == {"order": 7} and made["destination_masked"] == "acct_****KlMn"
    found = app.get(first.headers["location"]).json()
    assert [each["rule"] for each in found["findings"]] == ["new_destination", "first_of_account"]
    assert found["content_hash"] == made["content_hash"] and found["value_cents"] == "1000"
    events = app.get(made["links"]["events"])
    assert [each["event"] for each in events.json()["events"]] == ["create", "hold", "screen", "ask"]
    assert NUMBER not in first.text + events.text and "fingerprint" not in first.text
    assert desk.held() == 1_000
    theirs = {"Authorization": f"Bearer {new_key(tenant='other', scopes=['payouts:read']).secret}"}
    for address in (made["links"]["payout"], made["links"]["events"]):
        is_problem(app.get(address, headers=theirs), 404, "not-found")
    assert app.get("/v1/payouts", headers=theirs).json()["payouts"] == []


def test_refusals_are_problems_of_their_own(app: httpx.Client, desk: Desk) -> None:
    desk.set(PAYOUT_REQUESTS_HOURLY="1", PAYOUT_LIMIT_EACH="50000", PAYOUT_LIMIT_ACCOUNT_DAY="50000")
    limit = is_problem(ask(app, units="50001"), 422, "limit-exceeded")
    assert (limit["limit"], limit["most"], limit["would_be"]) == ("each", "50000", "50001")
    is_problem(ask(app, units="100001"), 409, "insufficient-funds")
    bad = is_problem(ask(app, destination={"kind": "stripe", "number": "acct_?"}), 422, "invalid-request")
    assert "'/destination'" in str(bad["errors"])
    is_problem(ask(app, beneficiary_id=str(uuid4())), 422, "invalid-request")  # one of the two
    upi = {"kind": "upi", "number": "ada@okaxis", "holder": "Ada Obi"}
    assert "/payout_asset" in str(is_problem(ask(app, destination=upi), 422, "invalid-request")["errors"])
    is_problem(ask(app, units=1.5), 422, "invalid-request")
    desk.nothing_is_left()
    assert ask(app).status_code == 202  # under the key that was refused before
    slower = ask(app, "k2")
    is_problem(slower, 429, "rate-limited")
    assert 3_500 < int(slower.headers["retry-after"]) <= 3_600
    desk.set(PAYOUT_REQUESTS_HOURLY="10")
    desk.put("account", USER, "deny")
    refused = is_problem(ask(app, "k3"), 403, "payout-refused")
    assert "deny" not in str(refused["detail"]) and "errors" not in refused


def test_a_batch_tells_what_came_of_each_item(app: httpx.Client, desk: Desk) -> None:
    items = [body(), body(units="60000"), body(units="2000")]
    asked = {"count": 3, "totals": {USD: "63000"}, "items": items}

    def send(key: str, **given: Any) -> httpx.Response:
        return app.post("/v1/payouts/batches", json=asked | given, headers={"Idempotency-Key": key})

    wrong = is_problem(send("b0", totals={USD: "63001"}), 422, "invalid-request")
    assert "'/totals'" in str(wrong["errors"])
    desk.nothing_is_left()
    first, again = send("b1"), send("b1")
    assert (first.status_code, again.json()) == (202, first.json())
    told = first.json()
    assert (told["made"], told["refused"], [item["item"] for item in told["items"]]) == (2, 1, [0, 1, 2])
    assert told["items"][1]["problem"]["type"] == "/problems/limit-exceeded" and told["items"][1]["payout_id"] is None
    assert app.get(first.headers["location"]).json() == told
    listed = app.get("/v1/payouts", params={"batch_id": told["id"], "limit": 1}).json()
    assert listed["payouts"][0]["id"] == told["items"][2]["payout_id"]
    rest = app.get("/v1/payouts", params={"cursor": listed["next_cursor"], "state": "awaiting_approval"}).json()
    assert [each["id"] for each in rest["payouts"]] == [told["items"][0]["payout_id"]]
    is_problem(app.get(f"/v1/payouts/batches/{uuid4()}"), 404, "not-found")
    assert desk.held() == 3_000
