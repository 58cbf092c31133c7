"""Provably fair draws over HTTP, as an app and as a player see them."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from config import settings
from core import db
from domain.fairness import sealing
from domain.fairness.sealing import Sealed
from domain.fairness.service import seed as read_seed
from tests.integration.api.conftest import NewKey, count, is_problem

KEY = "0c" * 32


@pytest.fixture(autouse=True)
def _key(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FAIRNESS_KEYS", json.dumps([KEY]))
    settings.reload()
    yield
    monkeypatch.undo()
    settings.reload()


def commit(client: httpx.Client, owner: str = "42") -> dict[str, Any]:
    reply = client.post("/v1/fairness/seeds", json={"owner": owner})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def rotate(
    client: httpx.Client, body: dict[str, Any] | None = None, *, key: str = "", owner: str = "42"
) -> httpx.Response:
    headers = {"Idempotency-Key": key or str(uuid4())}
    return client.post(f"/v1/fairness/seeds/{owner}/rotate", json=body or {}, headers=headers)


def draw(client: httpx.Client, body: dict[str, Any], *, key: str = "") -> httpx.Response:
    return client.post(
        "/v1/fairness/draws", json={"owner": "42"} | body, headers={"Idempotency-Key": key or str(uuid4())}
    )


@pytest.fixture
def player(client: httpx.Client) -> httpx.Client:
    """A client whose player 42 has an active seed."""
    commit(client)
    assert rotate(client, {"client_seed": "luck"}).status_code == 200
    return client


def hidden(client: httpx.Client) -> list[str]:
    """The texts of the seeds that nobody may know yet."""
    seeds = client.get("/v1/fairness/seeds/42").json()
    texts = []
    with db.transaction() as session:
        for view in (seeds["active"], seeds["next"]):
            row = read_seed(session, "shop", view["id"])
            texts.append(sealing.opened(row.id, row.tenant, Sealed(row.sealed, row.sealed_by), row.seed_hash))
    return texts


# --- the whole way ----------------------------------------------------------------------------------------------------


def test_a_player_can_verify_everything_that_he_was_told(client: httpx.Client, api_url: str) -> None:
    shown = commit(client)["next"]
    assert (shown["state"], shown["server_seed"], shown["client_seed"]) == ("committed", None, None)
    begun = rotate(client, {"client_seed": "my-luck", "seed_hash": shown["seed_hash"]}).json()
    assert begun["revealed"] is None
    assert (begun["active"]["seed_hash"], begun["active"]["server_seed"]) == (shown["seed_hash"], None)
    games: list[dict[str, Any]] = [
        {"game": "dice"},
        {"game": "crash", "count": 3},
        {"game": "crash", "params": {"edge_bps": 100}},
        {"game": "mines", "params": {"mines": 24}, "count": 2},
        {"game": "plinko", "params": {"rows": 16}},
    ]
    told = [draw(client, game) for game in games]
    assert [reply.status_code for reply in told] == [201] * 5
    assert [reply.json()["first_nonce"] for reply in told] == [0, 1, 4, 5, 7]

    revealed = rotate(client).json()["revealed"]
    assert (revealed["state"], revealed["nonces"], revealed["client_seed"]) == ("revealed", 8, "my-luck")
    assert sha256(revealed["server_seed"].encode()).hexdigest() == shown["seed_hash"]
    with httpx.Client(base_url=api_url) as anybody:  # without an API key
        for reply in told:
            made = reply.json()
            assert made["seed_hash"] == shown["seed_hash"] and made["client_seed"] == "my-luck"
            for place, outcome in enumerate(made["outcomes"]):
                asked = {
                    "server_seed": revealed["server_seed"],
                    "client_seed": "my-luck",
                    "nonce": made["first_nonce"] + place,
                    "game": made["game"],
                    "params": made["params"],
                    "seed_hash": shown["seed_hash"],
                    "outcome": outcome,
                }
                verdict = anybody.post("/v1/fairness/verify", json=asked).json()
                assert verdict == {
                    "outcome": outcome, "seed_hash": shown["seed_hash"], "hash_fits": True, "outcome_fits": True,
                }  # fmt: skip
    listed = client.get("/v1/fairness/seeds", params={"owner": "42", "state": "revealed"}).json()["seeds"]
    assert [seed["server_seed"] for seed in listed] == [revealed["server_seed"]]


def test_what_does_not_fit_is_said_and_not_an_error(client: httpx.Client) -> None:
    asked = {"server_seed": "ab" * 32, "client_seed": "luck", "nonce": 0, "game": "dice"}
    plain = client.post("/v1/fairness/verify", json=asked).json()
    assert (plain["hash_fits"], plain["outcome_fits"]) == (None, None)
    other = asked | {"seed_hash": "00" * 32, "outcome": {"roll": plain["outcome"]["roll"] ^ 1}}
    assert client.post("/v1/fairness/verify", json=other).json() == plain | {"hash_fits": False, "outcome_fits": False}


# --- once for ever ----------------------------------------------------------------------------------------------------


def test_a_draw_under_one_key_is_one_draw_also_after_the_seed_was_revealed(player: httpx.Client) -> None:
    body = {"game": "plinko", "params": {"rows": 8}, "count": 4}
    first = draw(player, body, key="bet-1")
    assert first.headers["location"] == f"/v1/fairness/draws/{first.json()['id']}"
    again = draw(player, body, key="bet-1")
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, first.json(), "true")
    is_problem(draw(player, body | {"count": 5}, key="bet-1"), 422, "idempotency-key-reused")
    rotate(player)
    assert draw(player, body, key="bet-1").json() == first.json()
    assert player.get(first.headers["location"]).json() == first.json()
    assert draw(player, body, key="bet-2").json()["first_nonce"] == 0, "of the seed that came next"
    assert count("fairness_draws") == 2


def test_a_rotation_under_one_key_is_one_rotation(player: httpx.Client) -> None:
    first = rotate(player, {"client_seed": "other"}, key="turn-1")
    again = rotate(player, {"client_seed": "other"}, key="turn-1")
    assert (again.json(), again.headers["idempotency-replayed"]) == (first.json(), "true")
    assert again.json()["revealed"]["server_seed"]
    is_problem(rotate(player, {"client_seed": "more"}, key="turn-1"), 422, "idempotency-key-reused")
    is_problem(rotate(player, {"client_seed": "other"}, key="turn-1", owner="43"), 422, "idempotency-key-reused")
    assert count("fairness_seeds") == 3


def test_many_who_draw_at_once_share_no_nonce(player: httpx.Client) -> None:
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: draw(player, {"game": "dice", "count": 2}).json(), range(50)))
    assert sorted(each["first_nonce"] for each in made) == list(range(0, 100, 2))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_draws_and_seeds_are_listed_in_pages(player: httpx.Client) -> None:
    seed_id = player.get("/v1/fairness/seeds/42").json()["active"]["id"]
    for _ in range(5):
        draw(player, {"game": "dice", "count": 10})
    seen, cursor = [], ""
    while True:
        page = player.get(
            "/v1/fairness/draws", params={"seed_id": seed_id, "limit": 2} | ({"cursor": cursor} if cursor else {})
        ).json()
        seen += [each["first_nonce"] for each in page["draws"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [40, 30, 20, 10, 0]
    first = player.get("/v1/fairness/seeds", params={"limit": 1}).json()
    second = player.get("/v1/fairness/seeds", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [first["seeds"][0]["state"], second["seeds"][0]["state"]] == ["committed", "active"]
    assert second["next_cursor"] is None
    is_problem(player.get("/v1/fairness/seeds", params={"cursor": "x"}), 400, "invalid-cursor")


def test_what_is_another_tenants_does_not_exist(player: httpx.Client, new_key: NewKey) -> None:
    made = draw(player, {"game": "dice"}).json()
    other = {"Authorization": f"Bearer {new_key('casino').secret}"}
    for path in (
        "/v1/fairness/seeds/42",
        f"/v1/fairness/draws/{made['id']}",
        f"/v1/fairness/draws?seed_id={made['seed_id']}",
    ):
        assert player.get(path).status_code == 200
        is_problem(player.get(path, headers=other), 404, "not-found")
    assert player.get("/v1/fairness/seeds", headers=other).json()["seeds"] == []


# --- refusals ---------------------------------------------------------------------------------------------------------

BAD_DRAWS: list[tuple[dict[str, Any], str]] = [
    ({"game": "roulette"}, "/game"),
    ({"game": "dice", "count": 0}, "/count"),
    ({"game": "dice", "count": 1_001}, "/count"),
    ({"game": "dice", "count": True}, "/count"),
    ({"game": "dice", "count": 1.0}, "/count"),
    ({"game": "mines"}, "/params"),
    ({"game": "mines", "params": {"mines": 25}}, "/params"),
    ({"game": "mines", "params": {"mines": 10**40}}, "/params"),
    ({"game": "plinko", "params": {"rows": "16"}}, "/params/rows"),
    ({"game": "dice", "params": {"rows": 8}}, "/params"),
    ({"game": "dice", "nonce": 7}, "/nonce"),
    ({}, "/game"),
]


@pytest.mark.parametrize(("body", "pointer"), BAD_DRAWS)
def test_a_draw_that_can_not_be_takes_no_nonce(player: httpx.Client, body: dict[str, Any], pointer: str) -> None:
    document: Any = is_problem(draw(player, body), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == pointer
    assert player.get("/v1/fairness/seeds/42").json()["active"]["nonces"] == 0


BAD_CHECKS: list[tuple[dict[str, Any], str]] = [
    ({"server_seed": "AB" * 32}, "/server_seed"),
    ({"server_seed": "ab"}, "/server_seed"),
    ({"seed_hash": "x"}, "/seed_hash"),
    ({"client_seed": "a:b"}, "/client_seed"),
    ({"client_seed": ""}, "/client_seed"),
    ({"nonce": -1}, "/nonce"),
    ({"nonce": 2**63}, "/nonce"),
    ({"nonce": "1"}, "/nonce"),
    ({"game": "mines", "params": {}}, "/params"),
    ({"params": {f"{n}": 1 for n in range(11)}}, "/params"),
]


@pytest.mark.parametrize(("change", "pointer"), BAD_CHECKS)
def test_what_can_not_be_verified_is_pointed_at(client: httpx.Client, change: dict[str, Any], pointer: str) -> None:
    asked = {"server_seed": "ab" * 32, "client_seed": "luck", "nonce": 0, "game": "dice"} | change
    document: Any = is_problem(client.post("/v1/fairness/verify", json=asked), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == pointer
    assert "ab" * 32 not in json.dumps(document)


def test_verifying_costs_little_however_much_is_sent(api_url: str) -> None:
    with httpx.Client(base_url=api_url) as anybody:
        asked = {"server_seed": "ab" * 32, "client_seed": "luck", "nonce": 0, "game": "dice", "seed_hash": "x" * 5_000}
        is_problem(anybody.post("/v1/fairness/verify", json=asked), 413, "body-too-large")


def test_refusals_that_depend_on_the_owner(client: httpx.Client) -> None:
    is_problem(client.post("/v1/fairness/draws", json={"owner": "42", "game": "dice"}), 400, "idempotency-key-missing")
    is_problem(draw(client, {"game": "dice"}), 409, "conflict")
    for owner in ("42", "a%20b", "%00", "x" * 200):
        is_problem(client.get(f"/v1/fairness/seeds/{owner}"), 404, "not-found")
        is_problem(rotate(client, {"client_seed": "luck"}, owner=owner), 404, "not-found")
    document: Any = is_problem(client.post("/v1/fairness/seeds", json={"owner": "a:b"}), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == "/owner"
    shown = commit(client)["next"]["seed_hash"]
    document = is_problem(rotate(client), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == "/client_seed"
    rotate(client, {"client_seed": "luck"}, key="turn")
    document = is_problem(rotate(client, {"seed_hash": shown}), 409, "conflict")
    assert document["errors"][0]["pointer"] == "/seed_hash"


def test_without_a_key_it_is_said_and_the_rest_works(
    player: httpx.Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("FAIRNESS_KEYS")
    settings.reload()
    for reply in (
        player.post("/v1/fairness/seeds", json={"owner": "7"}),
        rotate(player),
        draw(player, {"game": "dice"}),
    ):
        assert "FAIRNESS_KEYS" in str(is_problem(reply, 409, "conflict")["detail"])
    assert player.get("/v1/fairness/seeds/42").status_code == 200, "hashes are no secret"
    assert player.get("/v1/jobs").status_code == 200
    asked = {"server_seed": "ab" * 32, "client_seed": "luck", "nonce": 0, "game": "dice"}
    assert player.post("/v1/fairness/verify", json=asked).status_code == 200


# --- secrecy ----------------------------------------------------------------------------------------------------------


def test_no_answer_no_log_and_no_kept_answer_tells_a_seed_before_its_time(
    player: httpx.Client, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    secrets = hidden(player)
    told = [
        draw(player, {"game": "mines", "params": {"mines": 3}, "count": 1_000}).text,
        draw(player, {"game": "roulette"}).text,
        player.get("/v1/fairness/seeds").text,
        player.get("/v1/fairness/seeds/42").text,
        json.dumps(commit(player)),
    ]
    with db.transaction() as session:  # a row that is not as it was written
        session.execute(text("UPDATE fairness_seeds SET sealed = set_byte(sealed, 40, 255 - get_byte(sealed, 40))"))
    told += [
        json.dumps(is_problem(draw(player, {"game": "dice"}), 500, "internal")),
        json.dumps(is_problem(rotate(player), 500, "internal")),
    ]
    assert player.get("/v1/fairness/seeds/42").json()["active"]["nonces"] == 1_000
    with db.transaction() as session:
        kept = "".join(str(row) for row in session.execute(text("SELECT answer::text FROM idempotency_keys")))
    output = capfd.readouterr()
    everything = "".join([*told, kept, caplog.text, output.out, output.err])
    assert "fairness seed" in everything or "can't be opened" in everything, "the fault itself is told to operators"
    assert [secret for secret in secrets if secret in everything] == []
    assert KEY not in everything


def test_the_kept_answer_of_a_rotation_has_no_seed(player: httpx.Client) -> None:
    revealed = rotate(player).json()["revealed"]["server_seed"]
    with db.transaction() as session:
        kept = "".join(str(row) for row in session.execute(text("SELECT answer::text FROM idempotency_keys")))
    assert revealed not in kept and len(revealed) == 64
