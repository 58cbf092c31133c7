"""Claims over the wire: decided at once, the same whoever decides, and in the books afterwards."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from core import db
from core.hot.store import StoreMode
from ledger.assets import sync_assets
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.api.hot import HotStore
from tests.integration.ledger.books import ALICE, CUSTODY, EUR, assert_sound, book, move

FUNDS = 1_000_000


@pytest.fixture(autouse=True)
def _funded(database_url: str) -> None:
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "deposit:1:credit:0", move(CUSTODY, ALICE, FUNDS, EUR))


def packet(client: httpx.Client, **given: Any) -> str:
    body = {
        "sender": ALICE,
        "asset": EUR,
        "units": "1000",
        "count": 10,
        "shares": "random",
        "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }
    reply = client.post("/v1/packets", json=body | given, headers={"Idempotency-Key": str(uuid4())})
    assert reply.status_code == 201, reply.text
    made: str = reply.json()["id"]
    return made


def claim(client: httpx.Client, packet_id: str, user: str, **more: str) -> httpx.Response:
    return client.post(f"/v1/packets/{packet_id}/claims", json={"user": user, **more})


def balance(client: httpx.Client, account: str) -> int:
    found = client.get(f"/v1/accounts/{account}", params={"asset": EUR})
    return sum(int(each["balance"]) for each in found.json()["balances"]) if found.status_code == 200 else 0


def test_many_at_once_win_each_share_once_and_the_books_say_the_same(hot_store: HotStore, client: httpx.Client) -> None:
    packet_id = packet(client, count=7)
    users = [f"u{number}" for number in range(30)]
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda user: claim(client, packet_id, user), users * 2))
    first: dict[str, dict[str, Any]] = {}
    for reply in replies:
        assert reply.status_code == 200
        told = reply.json()
        assert told["packet_id"] == packet_id
        if told["result"] == "won":
            assert told["user"] not in first
            first[told["user"]] = told
    assert sorted(told["place"] for told in first.values()) == list(range(1, 8))
    assert sum(int(told["units"]) for told in first.values()) == 1_000
    for reply in replies:
        told = reply.json()
        if told["user"] in first:
            assert {**told, "result": "won"} == first[told["user"]]
        else:
            assert told == {"packet_id": packet_id, "user": told["user"], "result": "empty"}
    hot_store.drain()
    for user, told in first.items():
        assert balance(client, f"user:{user}:available") == int(told["units"])
    assert balance(client, ALICE) == FUNDS - 1_000
    assert_sound()


def test_a_batch_answers_each_claim_in_its_order(hot_store: HotStore, client: httpx.Client) -> None:
    ours, grouped = packet(client, count=2), packet(client, group="chat-7")
    unknown = str(uuid4())
    asked = [(ours, "a"), (unknown, "a"), (ours, "b"), (ours, "a"), (ours, "c"), (grouped, "a")]
    claims: list[dict[str, str]] = [{"packet_id": packet_id, "user": user} for packet_id, user in asked]
    claims += [
        {"packet_id": grouped, "user": "b", "group": "chat-7"},
        {"packet_id": grouped, "user": "c", "group": "x"},
    ]
    reply = client.post("/v1/claims:batch", json={"claims": claims})
    assert reply.status_code == 200
    results = reply.json()["results"]
    assert [(told["packet_id"], told["user"]) for told in results] == [(c["packet_id"], c["user"]) for c in claims]
    assert [told["result"] for told in results] == [
        "won", "unknown", "won", "already_claimed", "empty", "not_eligible", "won", "not_eligible",
    ]  # fmt: skip
    assert results[3] == {**results[0], "result": "already_claimed"}
    again = client.post("/v1/claims:batch", json={"claims": claims}).json()["results"]
    expected = [{**told, "result": "already_claimed"} if told["result"] == "won" else told for told in results]
    assert again == expected


def test_postgresql_answers_the_same_while_redis_is_away(hot_store: HotStore, client: httpx.Client) -> None:
    packet_id = packet(client, count=3)
    before = claim(client, packet_id, "a").json()
    hot_store.turn(StoreMode.POSTGRES)
    assert claim(client, packet_id, "a").json() == {**before, "result": "already_claimed"}
    there = claim(client, packet_id, "b").json()
    assert (there["result"], there["place"]) == ("won", 2)
    hot_store.turn()
    assert claim(client, packet_id, "b").json() == {**there, "result": "already_claimed"}
    last = claim(client, packet_id, "c").json()
    assert (last["result"], last["place"]) == ("won", 3)
    assert claim(client, packet_id, "d").json()["result"] == "empty"
    assert sum(int(each["units"]) for each in (before, there, last)) == 1_000
    hot_store.drain()
    assert balance(client, "user:b:available") == int(there["units"])
    assert_sound()


def test_between_two_generations_nothing_is_decided(hot_store: HotStore, client: httpx.Client) -> None:
    packet_id = packet(client)
    hot_store.close()
    for path, body in (
        (f"/v1/packets/{packet_id}/claims", {"user": "a"}),
        ("/v1/claims:batch", {"claims": [{"packet_id": packet_id, "user": "a"}]}),
    ):
        reply = client.post(path, json=body)
        is_problem(reply, 503, "unavailable")
        assert reply.headers["retry-after"] == "1"
    hot_store.turn()
    assert claim(client, packet_id, "a").json()["result"] == "won"


def test_packets_of_others_do_not_exist(hot_store: HotStore, client: httpx.Client, new_key: NewKey) -> None:
    packet_id = packet(client)
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    body = {"user": "a"}
    for at, headers in ((packet_id, casino), (str(uuid4()), {}), ("x", {}), (f"{packet_id}0", {})):
        reply = client.post(f"/v1/packets/{at}/claims", json=body, headers=headers)
        is_problem(reply, 404, "not-found")
    assert claim(client, packet_id, "a").json()["place"] == 1
    theirs = client.post(f"/v1/packets/{packet_id}/claims", json=body, headers=casino)
    is_problem(theirs, 404, "not-found")


BAD: list[tuple[bytes, int, str]] = [
    (b"", 400, "bad-request"),
    (b"{", 400, "bad-request"),
    (b'{"user":"a"} x', 400, "bad-request"),
    (b'{"user":"\xff"}', 400, "bad-request"),
    (b"[]", 400, "bad-request"),
    (b"{}", 422, "invalid-request"),
    (b'{"user":7}', 422, "invalid-request"),
    (b'{"user":""}', 422, "invalid-request"),
    (b'{"user":"a b"}', 422, "invalid-request"),
    (b'{"user":"a\\n"}', 422, "invalid-request"),
    (b'{"user":"a:b"}', 422, "invalid-request"),
    (b'{"user":"' + b"a" * 65 + b'"}', 422, "invalid-request"),
    (b'{"user":"a","units":"7"}', 422, "invalid-request"),
    (b'{"user":"a","group":""}', 422, "invalid-request"),
]


def test_what_can_not_be_read_decides_nothing(hot_store: HotStore, client: httpx.Client) -> None:
    packet_id = packet(client)
    path = f"/v1/packets/{packet_id}/claims"
    for body, status, kind in BAD:
        reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
        is_problem(reply, status, kind)
    is_problem(
        client.post(path, content=b'{"user":"a"}', headers={"Content-Type": "text/plain"}),
        415,
        "unsupported-media-type",
    )
    large = client.post(path, content=b" " * 1_048_577, headers={"Content-Type": "application/json"})
    is_problem(large, 413, "body-too-large")

    def parts() -> Any:
        for _ in range(20):
            yield b" " * 65_536

    chunked = client.post(path, content=parts(), headers={"Content-Type": "application/json"})
    is_problem(chunked, 413, "body-too-large")
    good, bad = {"packet_id": packet_id, "user": "a"}, {"packet_id": packet_id, "user": "a b"}
    for claims, pointer in (
        ([], "/claims"), ([good] * 1_001, "/claims"), ([good, bad], "/claims/1/user"),
        ([good, {"user": "a"}], "/claims/1/packet_id"),
        ([{**good, "packet_id": "x"}], "/claims/0/packet_id"), ("x", "/claims"),
    ):  # fmt: skip
        document = is_problem(client.post("/v1/claims:batch", json={"claims": claims}), 422, "invalid-request")
        errors: Any = document["errors"]
        assert errors[0]["pointer"] == pointer
    assert claim(client, packet_id, "a").json()["place"] == 1  # all the shares were still there


def test_answers_have_the_headers_of_all_answers(hot_store: HotStore, client: httpx.Client) -> None:
    packet_id = packet(client)
    plain = client.get(f"/v1/packets/{packet_id}")
    told = client.post(f"/v1/packets/{packet_id}/claims", json={"user": "a"}, headers={"X-Correlation-Id": "order:7"})
    assert told.headers["x-correlation-id"] == "order:7"
    varying = {"date", "server", "content-length", "x-correlation-id"}
    assert {name: text for name, text in told.headers.items() if name not in varying} == {
        name: text for name, text in plain.headers.items() if name not in varying
    }
    ours = claim(client, packet_id, "b").headers["x-correlation-id"]
    assert UUID(ours).version == 7
    spoilt = client.post(f"/v1/packets/{packet_id}/claims", json={"user": "a"}, headers={"X-Correlation-Id": "a b"})
    assert UUID(spoilt.headers["x-correlation-id"]).version == 7
    metrics = client.get("/metrics").text
    labels = 'method="POST",route="/v1/packets/{packet_id}/claims",status="200"'
    assert f"tallyrail_http_request_seconds_count{{{labels}}} 3.0" in metrics


def test_only_post_decides(hot_store: HotStore, client: httpx.Client) -> None:
    for method, path in (("GET", "/v1/claims:batch"), ("DELETE", f"/v1/packets/{uuid4()}/claims")):
        is_problem(client.request(method, path), 405, "method-not-allowed")
    is_problem(client.post("/v1/packets//claims", json={}), 404, "not-found")


def test_a_sender_gets_back_what_nobody_claimed(hot_store: HotStore, client: httpx.Client) -> None:
    packet_id = packet(client, count=4, shares="equal")
    assert claim(client, packet_id, "a").json()["units"] == "250"
    reply = client.post(f"/v1/packets/{packet_id}/cancel")
    assert reply.status_code == 202
    assert claim(client, packet_id, "b").json() == {"packet_id": packet_id, "user": "b", "result": "cancelled"}
    hot_store.drain()
    told = client.get(f"/v1/packets/{packet_id}").json()
    assert (told["state"], told["reason"], told["claims"], told["units_refunded"]) == ("closed", "cancelled", 1, "750")
    assert balance(client, ALICE) == FUNDS - 250
    results = Counter(claim(client, packet_id, user).json()["result"] for user in "abc")
    assert results == {"already_claimed": 1, "cancelled": 2}
    assert count("packet_claims") == 1
    assert_sound()
