"""Bets over the wire: bound, settled and voided at once, each once, and in the books afterwards."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from core import db
from core.hot.store import StoreMode
from core.ids import new_id
from ledger.assets import sync_assets
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.api.hot import HotStore
from tests.integration.ledger.books import ALICE, CUSTODY, EUR, assert_sound, book, move

FUNDS = 1_000
WHO = {"user": "alice", "asset": EUR}


@pytest.fixture(autouse=True)
def _funded(database_url: str) -> None:
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "deposit:1:credit:0", move(CUSTODY, ALICE, FUNDS, EUR))


@pytest.fixture
def loaded(hot_store: HotStore, client: httpx.Client) -> httpx.Client:
    """A client of a shop where Alice has 600 in her hands."""
    assert load(client, "600").status_code == 202
    return client


def load(client: httpx.Client, units: str, key: str = "load-1") -> httpx.Response:
    body = {"asset": EUR, "units": units}
    return client.post("/v1/players/alice/loads", json=body, headers={"Idempotency-Key": key})


def bet(stake: str = "100", bet_id: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": bet_id or str(new_id()), **WHO, "stake": stake, "game": "crash", **more}


def hand(client: httpx.Client) -> tuple[str, str]:
    """free and locked."""
    now = client.get("/v1/players/alice", params={"asset": EUR}).json()["now"]
    return now["free"], now["locked"]


def balance(client: httpx.Client, account: str) -> int:
    found = client.get(f"/v1/accounts/{account}", params={"asset": EUR})
    return sum(int(each["balance"]) for each in found.json()["balances"]) if found.status_code == 200 else 0


def test_a_bet_from_the_load_to_the_books(loaded: httpx.Client, hot_store: HotStore) -> None:
    asked = bet(edge_bps=300, agent="agent-7")
    reply = loaded.post("/v1/bets", json=asked)
    assert reply.status_code == 200
    told = reply.json()
    assert {**told, "decided_at": ""} == {
        "id": asked["id"], **WHO, "result": "reserved", "free": "500", "locked": "100", "decided_at": "",
    }  # fmt: skip
    assert loaded.post("/v1/bets", json=asked).json() == told
    settled = loaded.post(f"/v1/bets/{asked['id']}/settle", json={**WHO, "payout": "250"})
    assert settled.status_code == 200
    assert {**settled.json(), "decided_at": ""} == {
        "id": asked["id"], **WHO, "result": "settled", "payout": "250", "free": "750", "decided_at": "",
    }  # fmt: skip
    assert loaded.post(f"/v1/bets/{asked['id']}/settle", json={**WHO, "payout": "250"}).json() == settled.json()
    other = bet("50")
    assert loaded.post("/v1/bets", json=other).json()["free"] == "700"
    voided = loaded.post(f"/v1/bets/{other['id']}/void", json=WHO).json()
    assert (voided["result"], voided["stake"], voided["free"]) == ("voided", "50", "750")
    assert hand(loaded) == ("750", "0")
    hot_store.drain()
    assert balance(loaded, "user:alice:playing") == 750
    assert balance(loaded, ALICE) == 400
    assert balance(loaded, "house:bets") == -150
    kept = loaded.get(f"/v1/bets/{asked['id']}").json()
    assert (kept["state"], kept["payout"], kept["agent"], kept["edge_bps"]) == ("settled", "250", "agent-7", 300)
    listed = loaded.get("/v1/players/alice/bets", params={"asset": EUR}).json()["bets"]
    assert [(each["id"], each["state"]) for each in listed] == [(other["id"], "voided"), (asked["id"], "settled")]
    page = loaded.get("/v1/bets").json()
    assert [each["id"] for each in page["bets"]] == [asked["id"]]
    assert loaded.get("/v1/bets", params={"after": page["next_after"]}).json() == {
        "bets": [], "next_after": page["next_after"],
    }  # fmt: skip
    assert_sound()


def test_a_refusal_names_what_there_is(loaded: httpx.Client) -> None:
    document = is_problem(loaded.post("/v1/bets", json=bet("601")), 409, "insufficient-funds")
    assert (document["available"], document["needed"]) == ("600", "601")
    assert document["account"] == "user:alice:playing"
    nobody = is_problem(loaded.post("/v1/bets", json={**bet("1"), "user": "bob"}), 409, "insufficient-funds")
    assert nobody["available"] == "0"
    asked = bet()
    assert loaded.post("/v1/bets", json=asked).status_code == 200
    is_problem(loaded.post("/v1/bets", json={**asked, "stake": "99"}), 422, "idempotency-key-reused")
    path = f"/v1/bets/{asked['id']}"
    assert loaded.post(f"{path}/settle", json={**WHO, "payout": "0"}).json()["free"] == "500"
    again = is_problem(loaded.post(f"{path}/settle", json={**WHO, "payout": "1"}), 409, "conflict")
    assert again["state"] == "settled"
    is_problem(loaded.post(f"{path}/void", json=WHO), 409, "conflict")
    is_problem(loaded.post(f"/v1/bets/{new_id()}/void", json=WHO), 404, "not-found")
    is_problem(loaded.post(f"/v1/bets/{uuid4()}/void", json=WHO), 404, "not-found")
    is_problem(loaded.post("/v1/bets/x/void", json=WHO), 404, "not-found")
    old = str(UUID(int=new_id().int - (400_000 << 80)))
    is_problem(loaded.post("/v1/bets", json=bet(bet_id=old)), 422, "invalid-request")
    assert hand(loaded) == ("500", "0")


def test_a_user_who_bets_too_often_must_wait(
    hot_store: HotStore, monkeypatch: pytest.MonkeyPatch, client: httpx.Client
) -> None:
    load(client, "600")
    statuses = Counter(
        result["status"]
        for result in client.post("/v1/bets:batch", json={"bets": [bet("1") for _ in range(150)]}).json()["results"]
    )
    assert statuses == {200: 100, 429: 50}
    reply = client.post("/v1/bets", json=bet("1"))
    if reply.status_code == 429:  # unless a second has passed
        assert int(reply.headers["retry-after"]) == 1
    time.sleep(1.1)
    assert client.post("/v1/bets", json=bet("1")).status_code == 200


def test_bets_at_once_never_stake_more_than_there_is(loaded: httpx.Client, hot_store: HotStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: loaded.post("/v1/bets", json=bet("70")), range(20)))
    assert Counter(reply.status_code for reply in replies) == {200: 8, 409: 12}
    assert hand(loaded) == ("40", "560")
    hot_store.drain()
    assert (balance(loaded, "user:alice:playing"), balance(loaded, "user:alice:staked")) == (40, 560)
    assert_sound()


def test_batches_answer_each_bet_in_its_order(loaded: httpx.Client, hot_store: HotStore) -> None:
    bets = [bet("300"), bet("400"), bet("300"), bet("1")]
    reply = loaded.post("/v1/bets:batch", json={"bets": bets})
    assert reply.status_code == 207
    results = reply.json()["results"]
    assert [result["status"] for result in results] == [200, 409, 200, 409]
    assert [results[place]["body"]["id"] for place in (0, 2)] == [bets[0]["id"], bets[2]["id"]]
    assert results[1]["problem"]["available"] == "300"
    ends = [{"id": bets[0]["id"], **WHO, "payout": "7"}, {"id": bets[1]["id"], **WHO, "payout": "7"}]
    settled = loaded.post("/v1/bets:settle", json={"bets": ends}).json()["results"]
    assert [result["status"] for result in settled] == [200, 404]
    voided = loaded.post("/v1/bets:void", json={"bets": [{"id": bets[2]["id"], **WHO}]})
    assert voided.status_code == 200
    assert voided.json()["results"][0]["body"]["stake"] == "300"
    assert hand(loaded) == ("307", "0")
    hot_store.drain()
    assert balance(loaded, "user:alice:playing") == 307
    assert_sound()


def test_without_redis_bets_are_refused_at_once_and_go_on_afterwards(loaded: httpx.Client, hot_store: HotStore) -> None:
    asked = bet()
    told = loaded.post("/v1/bets", json=asked).json()
    hot_store.turn(StoreMode.POSTGRES)
    began = time.monotonic()
    for path, body in (("/v1/bets", bet()), (f"/v1/bets/{asked['id']}/settle", {**WHO, "payout": "1"})):
        is_problem(loaded.post(path, json=body), 503, "unavailable")
    batch = loaded.post("/v1/bets:batch", json={"bets": [bet()]})
    assert batch.json()["results"][0]["status"] == 503
    assert time.monotonic() - began < 1
    view = loaded.get("/v1/players/alice", params={"asset": EUR}).json()
    assert (view["now"], view["free"], view["locked"]) == (None, "500", "100")
    hot_store.turn()
    assert loaded.post("/v1/bets", json=asked).json() == told
    assert loaded.post(f"/v1/bets/{asked['id']}/settle", json={**WHO, "payout": "1"}).json()["free"] == "501"
    assert hand(loaded) == ("501", "0")


def test_loads_and_unloads_move_money_once(loaded: httpx.Client, hot_store: HotStore) -> None:
    first = load(loaded, "600")
    assert first.headers["idempotency-replayed"] == "true"
    assert hand(loaded) == ("600", "0")
    is_problem(load(loaded, "601"), 422, "idempotency-key-reused")
    document = is_problem(load(loaded, "401", "load-2"), 409, "insufficient-funds")
    assert document["available"] == "400"
    at = first.headers["location"]
    assert loaded.get(at).json()["state"] == "held"
    hot_store.drain()
    assert loaded.get(at).json()["state"] == "loaded"
    loaded.post("/v1/bets", json=bet("100"))
    headers = {"Idempotency-Key": "back-1"}
    asked = loaded.post("/v1/players/alice/unloads", json={"asset": EUR}, headers=headers)
    assert asked.status_code == 202
    assert hand(loaded) == ("0", "100")
    hot_store.drain()
    told = loaded.get(asked.headers["location"]).json()
    assert (told["state"], told["units"], told["moved"]) == ("unloaded", None, "500")
    assert balance(loaded, ALICE) == 900
    is_problem(loaded.get(at.replace("alice", "bob")), 404, "not-found")
    is_problem(
        loaded.post("/v1/players/bob/unloads", json={"asset": EUR}, headers={"Idempotency-Key": "k"}), 404, "not-found"
    )
    assert_sound()


def test_bets_of_others_do_not_exist(loaded: httpx.Client, hot_store: HotStore, new_key: NewKey) -> None:
    asked = bet()
    loaded.post("/v1/bets", json=asked)
    location = load(loaded, "600").headers["location"]
    hot_store.drain()
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    is_problem(loaded.post(f"/v1/bets/{asked['id']}/void", json=WHO, headers=casino), 404, "not-found")
    for path in (f"/v1/bets/{asked['id']}", "/v1/players/alice?asset=iso4217:EUR", location):
        is_problem(loaded.get(path, headers=casino), 404, "not-found")
    assert loaded.get("/v1/bets", headers=casino).json()["bets"] == []
    assert loaded.get("/v1/players/alice/bets?asset=iso4217:EUR", headers=casino).json()["bets"] == []
    is_problem(loaded.post("/v1/bets", json=bet(), headers=casino), 409, "insufficient-funds")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"id": "x"}, "/id"),
    ({"id": str(uuid4())}, "/id"),
    ({"user": "a b"}, "/user"),
    ({"asset": "E R"}, "/asset"),
    ({"stake": "0"}, "/stake"),
    ({"stake": "-1"}, "/stake"),
    ({"stake": "01"}, "/stake"),
    ({"stake": 5}, "/stake"),
    ({"stake": "9" * 39}, "/stake"),
    ({"game": "a b"}, "/game"),
    ({"edge_bps": -1}, "/edge_bps"),
    ({"edge_bps": 10_001}, "/edge_bps"),
    ({"edge_bps": 1.5}, "/edge_bps"),
    ({"edge_bps": True}, "/edge_bps"),
    ({"agent": ""}, "/agent"),
    ({"more": 1}, "/more"),
]


def test_what_can_not_be_stakes_nothing(loaded: httpx.Client) -> None:
    for change, pointer in BAD:
        document = is_problem(loaded.post("/v1/bets", json=bet() | change), 422, "invalid-request")
        errors: Any = document["errors"]
        assert errors[0]["pointer"] == pointer
        batch = loaded.post("/v1/bets:batch", json={"bets": [bet(), bet() | change]})
        errors = is_problem(batch, 422, "invalid-request")["errors"]
        assert errors[0]["pointer"] == f"/bets/1{pointer}"
    asked = bet()
    loaded.post("/v1/bets", json=asked)
    for payout in ("-1", "x", 5, "", "9" * 39, None):
        reply = loaded.post(f"/v1/bets/{asked['id']}/settle", json={**WHO, "payout": payout})
        is_problem(reply, 422, "invalid-request")
    assert hand(loaded) == ("500", "100")
    assert count("bets") == 0  # nothing is in the books yet
