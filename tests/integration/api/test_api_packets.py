"""Packets over the wire: made once, read while they are claimed, and drawn again by anybody when they are over."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from core import db
from domain.claim.draw import shares
from domain.claim.states import Shares
from ledger import accounts
from ledger.assets import sync_assets
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.api.hot import HotStore
from tests.integration.ledger.books import ALICE, CUSTODY, EUR, assert_sound, book, move

FUNDS = 5_000


@pytest.fixture(autouse=True)
def _funded(database_url: str) -> None:
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "deposit:1:credit:0", move(CUSTODY, ALICE, FUNDS, EUR))


def body(**given: Any) -> dict[str, Any]:
    made = {
        "sender": ALICE,
        "asset": EUR,
        "units": "1000",
        "count": 4,
        "shares": "random",
        "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
    }
    return {name: value for name, value in (made | given).items() if value is not ...}


def post(client: httpx.Client, asked: dict[str, Any], key: str = "k", **headers: str) -> httpx.Response:
    return client.post("/v1/packets", json=asked, headers={"Idempotency-Key": key, **headers})


def test_a_packet_is_made_once_and_told_whole(client: httpx.Client) -> None:
    asked = body(units_min="100", group="chat-7", allowed=["a", "b"], metadata={"chat": "7"})
    reply = post(client, asked)
    assert reply.status_code == 201
    told = reply.json()
    assert reply.headers["location"] == f"/v1/packets/{told['id']}"
    assert (told["state"], told["claims"], told["units_claimed"], told["units_refunded"]) == ("open", 0, "0", None)
    assert (told["group"], told["has_allow_list"], told["metadata"]) == ("chat-7", True, {"chat": "7"})
    assert (told["seed"], len(told["seed_hash"])) == (None, 64)
    again = post(client, asked)
    assert again.json() == told
    assert again.headers["idempotency-replayed"] == "true"
    is_problem(post(client, asked | {"count": 5}), 422, "idempotency-key-reused")
    assert client.get(reply.headers["location"]).json() == told
    assert count("packets") == 1
    [balance] = client.get(f"/v1/accounts/{ALICE}", params={"asset": EUR}).json()["balances"]
    assert (balance["balance"], balance["held"]) == (str(FUNDS - 1_000), "0")
    assert_sound()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"count": 0}, "/count"),
    ({"count": 10_001}, "/count"),
    ({"count": "4"}, "/count"),
    ({"units": "0"}, "/units"),
    ({"units": 1_000}, "/units"),
    ({"units": "3"}, "/units"),
    ({"units_min": "251"}, "/units"),
    ({"asset": "iso4217:XXX"}, "/asset"),
    ({"sender": "house:fees"}, "/sender"),
    ({"sender": "user:alice:playing"}, "/sender"),
    ({"shares": "lucky"}, "/shares"),
    ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ({"expires_at": "2999-01-01T00:00:00Z"}, "/expires_at"),
    ({"expires_at": ...}, "/expires_at"),
    ({"group": "a b"}, "/group"),
    ({"allowed": []}, "/allowed"),
    ({"allowed": ["a b"]}, "/allowed/0"),
    ({"allowed": ["a"] * 10_001}, "/allowed"),
    ({"seed": "00"}, "/seed"),
]


def test_what_can_not_be_makes_no_packet(client: httpx.Client) -> None:
    for change, pointer in BAD:
        document = is_problem(post(client, body(**change)), 422, "invalid-request")
        errors: Any = document.get("errors", [])
        assert [error["pointer"] for error in errors][:1] == [pointer], (change, document)
    is_problem(client.post("/v1/packets", json=body()), 400, "idempotency-key-missing")
    poor = is_problem(post(client, body(units=str(FUNDS + 1))), 409, "insufficient-funds")
    assert poor["available"] == str(FUNDS)
    with db.transaction() as session:
        accounts.freeze(session, tenant="shop", code=ALICE, asset=EUR, reason="a test", actor="test")
    is_problem(post(client, body()), 409, "account-frozen")
    assert (count("packets"), count("idempotency_keys"), count("ledger_holds")) == (0, 0, 0)
    assert_sound()


def test_when_it_is_over_anybody_can_draw_its_shares(hot_store: HotStore, client: httpx.Client) -> None:
    made = post(client, body(units_min="10")).json()
    at = f"/v1/packets/{made['id']}"
    for user in "abcd":
        assert client.post(f"{at}/claims", json={"user": user}).json()["result"] == "won"
    hot_store.drain()
    told = client.get(at).json()
    assert (told["state"], told["reason"], told["claims"], told["units_claimed"]) == ("closed", "empty", 4, "1000")
    seed = bytes.fromhex(told["seed"])
    assert hashlib.sha256(seed).hexdigest() == made["seed_hash"]
    drawn = shares(Shares.RANDOM, seed, 1_000, 4, 10)
    listed = client.get(f"{at}/claims").json()
    assert [(each["user"], each["place"], int(each["units"])) for each in listed["claims"]] == [
        (user, place, drawn[place - 1]) for place, user in enumerate("abcd", 1)
    ]
    first = client.get(f"{at}/claims", params={"limit": 3}).json()
    rest = client.get(f"{at}/claims", params={"after": first["next_after"]}).json()
    assert first["claims"] + rest["claims"] == listed["claims"]
    assert rest["next_after"] is None
    ranking = client.get(f"{at}/ranking").json()["ranking"]
    assert ranking == sorted(listed["claims"], key=lambda each: (-int(each["units"]), each["place"]))
    assert client.get(f"{at}/ranking", params={"limit": 1}).json()["ranking"] == ranking[:1]
    is_problem(client.post(f"{at}/cancel"), 409, "conflict")


def test_packets_are_listed_page_by_page_and_those_of_others_are_not_there(
    client: httpx.Client, new_key: NewKey
) -> None:
    ids = [post(client, body(units="4"), key=f"k{n}").json()["id"] for n in range(3)]
    first = client.get("/v1/packets", params={"limit": 2}).json()
    assert [each["id"] for each in first["packets"]] == [ids[2], ids[1]]
    second = client.get("/v1/packets", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert ([each["id"] for each in second["packets"]], second["next_cursor"]) == ([ids[0]], None)
    assert client.get("/v1/packets", params={"state": "closed"}).json()["packets"] == []
    is_problem(client.get("/v1/packets", params={"cursor": "x"}), 400, "invalid-cursor")
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    assert client.get("/v1/packets", headers=casino).json()["packets"] == []
    for path in ("", "/ranking", "/claims"):
        is_problem(client.get(f"/v1/packets/{ids[0]}{path}", headers=casino), 404, "not-found")
        is_problem(client.get(f"/v1/packets/{uuid4()}{path}"), 404, "not-found")
    is_problem(client.post(f"/v1/packets/{ids[0]}/cancel", headers=casino), 404, "not-found")
