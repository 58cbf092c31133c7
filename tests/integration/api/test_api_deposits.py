"""Asking for deposits: once each, whatever is repeated, broken or mixed."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import count as numbers
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from config import settings
from core import db
from domain.deposit import service as deposits
from tests.integration.api.conftest import CHAIN, NewKey, count, is_problem

ETH = "eip155:1/slip44:60"
_next = numbers(1)


@pytest.fixture
def body(hot_wallet: str) -> dict[str, Any]:
    """A deposit by hash to the shop's shared address."""
    return {
        "asset": ETH,
        "account": "user:42:available",
        "units": "1000000000000000000",
        "address": hot_wallet,
        "chain_tx": f"0x{next(_next):064x}",
    }


def _post(client: httpx.Client, body: object, key: str = "k", **headers: str) -> httpx.Response:
    return client.post("/v1/deposits", json=body, headers={"Idempotency-Key": key, **headers})


def _written() -> tuple[int, int, int]:
    return count("deposits"), count("jobs"), count("idempotency_keys")


def test_a_deposit_is_accepted_with_its_job(client: httpx.Client, body: dict[str, Any]) -> None:
    reply = _post(client, body | {"metadata": {"order": "1001"}}, **{"X-Correlation-Id": "order-1001"})
    assert reply.status_code == 202, reply.text
    made = reply.json()
    assert made["state"] == "watching"
    assert made["units"] == body["units"]
    assert made["metadata"] == {"order": "1001"}
    assert reply.headers["location"] == made["links"]["deposit"] == f"/v1/deposits/{made['id']}"
    job = client.get(made["links"]["job"]).json()
    assert job["id"] == made["job_id"]
    assert job["subject"] == f"deposit:{made['id']}"
    assert job["correlation_id"] == "order-1001"
    assert client.get(made["links"]["jobs"]).json()["jobs"] == [job]
    read = client.get(made["links"]["deposit"]).json()
    assert read["id"] == made["id"]
    assert read["history"][0]["state_after"] == "watching"
    listed = client.get("/v1/deposits", params={"state": "watching"}).json()
    assert [one["id"] for one in listed["deposits"]] == [made["id"]]
    assert client.get("/v1/deposits", params={"state": "credited"}).json()["deposits"] == []
    assert 'tallyrail_deposits{state="watching"} 1.0' in client.get("/metrics").text


def test_an_address_is_allotted_from_the_pool(client: httpx.Client, pool: list[str]) -> None:
    asked = {"asset": ETH, "account": "user:42:available"}
    made = _post(client, asked).json()
    assert made["address"] in pool
    assert _post(client, asked).json() == made
    other = _post(client, asked | {"account": "user:43:available"}, key="k2").json()
    assert other["address"] in pool
    assert other["address"] != made["address"]
    none_left = _post(client, asked | {"account": "user:44:available"}, key="k3")
    is_problem(none_left, 409, "conflict")
    with db.transaction() as session:
        deposits.register_addresses(session, "shop", CHAIN, ["0x" + "ab" * 20])
    assert _post(client, asked | {"account": "user:44:available"}, key="k3").status_code == 202


def test_the_same_key_gets_the_first_answer_even_after_everything_changed(
    client: httpx.Client, body: dict[str, Any]
) -> None:
    first = _post(client, body)
    assert "idempotency-replayed" not in first.headers
    with db.transaction() as session:
        session.execute(text("UPDATE deposits SET state = 'expired', final_at = now(), next_poll_at = NULL"))
    shuffled = json.dumps(dict(reversed(body.items())), indent=3)
    again = client.post(
        "/v1/deposits", content=shuffled, headers={"Idempotency-Key": "k", "Content-Type": "application/json"}
    )
    assert again.status_code == 202
    assert again.json() == first.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert client.get(first.headers["location"]).json()["state"] == "expired"
    assert _written()[0] == 1


def test_the_same_key_for_another_request_is_422(client: httpx.Client, body: dict[str, Any]) -> None:
    assert _post(client, body).status_code == 202
    before = _written()
    is_problem(_post(client, body | {"units": "1"}), 422, "idempotency-key-reused")
    assert _written() == before


def test_a_key_is_its_tenants_own(client: httpx.Client, body: dict[str, Any], new_key: NewKey) -> None:
    mine = _post(client, body).json()
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    assert _post(client, body | {"units": "1"}, **casino).status_code != 409
    is_problem(client.get(mine["links"]["deposit"], headers=casino), 404, "not-found")
    assert client.get("/v1/deposits", headers=casino).json()["deposits"] == []


def test_a_refused_request_leaves_its_key_free(client: httpx.Client, body: dict[str, Any]) -> None:
    is_problem(_post(client, body | {"asset": "eip155:1/erc20:0x" + "00" * 20}), 422, "invalid-request")
    assert _written() == (0, 0, 0)
    assert _post(client, body).status_code == 202


def test_the_key_is_needed_and_checked(client: httpx.Client, body: dict[str, Any]) -> None:
    is_problem(client.post("/v1/deposits", json=body), 400, "idempotency-key-missing")
    for key in ("", "a b", "x" * 256, "\xff"):
        reply = client.post("/v1/deposits", json=body, headers={b"Idempotency-Key": key.encode("latin-1")})
        is_problem(reply, 400, "idempotency-key-malformed")
    assert _written() == (0, 0, 0)


BAD: list[tuple[str, dict[str, Any]]] = [
    ("asset", {"asset": "eip155:1/slip44:61"}),
    ("asset", {"asset": "iso4217:USD"}),
    ("chain", {"chain": "eip155:56"}),
    ("account", {"account": "user:42"}),
    ("account", {"account": "house:fees"}),
    ("account", {"account": "custody:eip155:1"}),
    ("address", {"address": "0x52908400098527886E0F7030069857D2E4169Ee7"}),
    ("address", {"address": "0x12"}),
    ("chain_tx", {"chain_tx": "0x12"}),
    ("units", {"units": "-1"}),
    ("units", {"units": 1.5}),
    ("units", {"units": "9" * 40}),
    ("deadline", {"deadline": "2001-01-01T00:00:00Z"}),
    ("surprise", {"surprise": True}),
]


def test_what_is_wrong_is_pointed_at_and_nothing_written(client: httpx.Client, body: dict[str, Any]) -> None:
    for field, wrong in BAD:
        document = is_problem(_post(client, body | wrong), 422, "invalid-request")
        assert document["errors"][0]["pointer"] == f"/{field}", (wrong, document)  # type: ignore[index]
    assert _written() == (0, 0, 0)


def test_units_beyond_2_to_the_53_keep_every_digit(client: httpx.Client, body: dict[str, Any]) -> None:
    content = json.dumps(body | {"units": 123456789012345678901234567890123})
    reply = client.post(
        "/v1/deposits", content=content, headers={"Idempotency-Key": "k", "Content-Type": "application/json"}
    )
    assert reply.json()["units"] == "123456789012345678901234567890123"


def test_a_hundred_at_once_under_one_key_are_one_deposit(client: httpx.Client, body: dict[str, Any]) -> None:
    start = threading.Barrier(20)

    def ask(n: int) -> httpx.Response:
        if n < 20:
            start.wait()
        return _post(client, body)

    with ThreadPoolExecutor(20) as threads:
        replies = list(threads.map(ask, range(100)))
    assert Counter(reply.status_code for reply in replies) == {202: 100}
    assert len({reply.text for reply in replies if "idempotency-replayed" in reply.headers}) == 1
    assert len({reply.json()["id"] for reply in replies}) == 1
    assert all(reply.json() == replies[0].json() for reply in replies)
    assert _written() == (1, 1, 1)


def test_a_request_still_in_progress_is_409_and_then_replayed(
    client: httpx.Client, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_IDEMPOTENCY_WAIT", "0.2")
    settings.reload()
    with db.engine().connect() as other, other.begin():
        other.execute(
            text("INSERT INTO idempotency_keys (tenant, key, request_hash, answer) VALUES ('shop', 'k', '', '{}')")
        )
        for reply in (
            _post(client, body),
            client.post("/v1/jobs:batch", json={"requests": [{"kind": "deposit", "key": "k", "body": body}]}),
        ):
            is_problem(reply, 409, "request-in-progress")
            assert reply.headers["retry-after"] == "1"
        other.rollback()
    assert _post(client, body).status_code == 202


def _batch(client: httpx.Client, *items: object) -> httpx.Response:
    return client.post("/v1/jobs:batch", json={"requests": list(items)})


def _item(key: object, body: object, kind: object = "deposit") -> dict[str, object]:
    return {"kind": kind, "key": key, "body": body}


def test_a_mixed_batch_writes_the_good_ones_and_names_the_bad(client: httpx.Client, body: dict[str, Any]) -> None:
    before = _post(client, body, key="before").json()
    second = body | {"chain_tx": f"0x{next(_next):064x}"}
    reply = _batch(
        client,
        _item("a", second),
        _item("bad-units", second | {"units": 1.5}),
        _item("before", body),
        _item("before", second),
        _item("a", dict(reversed(second.items()))),
        _item("a", second | {"units": "7"}),
        _item("bad-asset", second | {"asset": "x"}),
        _item("x y", second),
        _item(7, second),
        _item("k", second, kind="payout"),
        _item("k", second) | {"surprise": 1},
        "nonsense",
        _item("none", None),
        _item("b", body | {"chain_tx": f"0x{next(_next):064x}"}),
    )
    assert reply.status_code == 207
    results = reply.json()["results"]
    assert [result["status"] for result in results] == [
        202, 422, 202, 422, 202, 422, 422, 400, 400, 422, 422, 422, 422, 202,
    ]  # fmt: skip
    assert results[2] == {"status": 202, "replayed": True, "body": before}
    assert results[4] == {"status": 202, "replayed": True, "body": results[0]["body"]}
    assert "replayed" not in results[0]
    assert results[1]["problem"]["errors"][0]["pointer"] == "/units"
    assert {results[n]["problem"]["type"] for n in (3, 5)} == {"/problems/idempotency-key-reused"}
    assert all(result.keys() >= {"status", "problem"} for result in results if result["status"] != 202)
    assert _written() == (3, 3, 3)
    # Sent again as a whole, everything that was accepted is answered as it was.
    again = _batch(client, _item("a", second), _item("before", body))
    assert again.status_code == 200
    assert [result["body"]["id"] for result in again.json()["results"]] == [results[0]["body"]["id"], before["id"]]
    # The same key and body at the item's own endpoint is the same request.
    assert _post(client, second, key="a").json() == results[0]["body"]
    assert _written() == (3, 3, 3)


def test_a_batch_has_one_to_batch_max_requests(
    client: httpx.Client, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_BATCH_MAX", "2")
    settings.reload()
    is_problem(_batch(client), 422, "invalid-request")
    is_problem(_batch(client, *[_item(f"k{n}", body) for n in range(3)]), 422, "invalid-request")
    others: list[object] = [{"requests": {}}, {}, {"requests": [_item("k", body)], "more": 1}]
    for content in others:
        is_problem(client.post("/v1/jobs:batch", json=content), 422, "invalid-request")
    assert _written() == (0, 0, 0)


def test_a_batch_needs_the_scope_of_each_kind(client: httpx.Client, body: dict[str, Any], new_key: NewKey) -> None:
    only_jobs = new_key(scopes=["jobs:write"]).secret
    reply = client.post(
        "/v1/jobs:batch",
        json={"requests": [_item("k", body)]},
        headers={"Authorization": f"Bearer {only_jobs}"},
    )
    assert reply.status_code == 207
    assert reply.json()["results"][0]["problem"]["type"] == "/problems/forbidden"


def test_overlapping_batches_at_once_write_each_request_once(client: httpx.Client, body: dict[str, Any]) -> None:
    items = [_item(f"k{n}", body | {"chain_tx": f"0x{next(_next):064x}"}) for n in range(60)]
    orders = [items, items[::-1], items[30:] + items[:30], items[10:50], items[::2], items[1::2]]
    with ThreadPoolExecutor(6) as threads:
        replies = list(threads.map(lambda order: _batch(client, *order), orders))
    assert {reply.status_code for reply in replies} == {200}
    by_key: dict[str, set[str]] = {}
    for order, reply in zip(orders, replies, strict=True):
        for item, result in zip(order, reply.json()["results"], strict=True):
            by_key.setdefault(str(item["key"]), set()).add(result["body"]["id"])
    assert {len(ids) for ids in by_key.values()} == {1}
    assert _written() == (60, 60, 60)


def test_pages_of_deposits_stay_put(client: httpx.Client, body: dict[str, Any]) -> None:
    def add() -> str:
        n = next(_next)
        return str(_post(client, body | {"chain_tx": f"0x{n:064x}"}, key=f"p{n}").json()["id"])

    made = [add() for _ in range(5)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = client.get("/v1/deposits", params=query).json()
        seen += [one["id"] for one in page["deposits"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
        add()
    assert seen == made[::-1]


def test_without_redis_deposits_are_accepted(
    client: httpx.Client, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from api.rate_limit import limiter
    from core import redis

    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    settings.reload()
    redis.dispose()
    limiter.cache_clear()
    try:
        assert _post(client, body).status_code == 202
        assert _written() == (1, 1, 1)
        assert client.get("/ready").json()["checks"]["redis"] == "it doesn't answer"
    finally:
        redis.dispose()
