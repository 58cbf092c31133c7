"""Holds over the wire: bound before it moves, settled once."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from core import clock, db
from ledger import accounts
from ledger.assets import sync_assets
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, assert_sound, book, move

FUNDS = 1_000


@pytest.fixture(autouse=True)
def _funded(database_url: str) -> None:
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "deposit:1:credit:0", move(CUSTODY, ALICE, FUNDS), move(CUSTODY, ALICE, FUNDS, USDT))


def _body(units: str = "300", **more: Any) -> dict[str, Any]:
    return {"source": ALICE, "destination": BOB, "asset": ETH, "units": units, **more}


def _post(client: httpx.Client, body: object, key: str = "k", path: str = "", **headers: str) -> httpx.Response:
    return client.post(f"/v1/holds{path}", json=body, headers={"Idempotency-Key": key, **headers})


def _capture(client: httpx.Client, hold: str, key: str = "c", body: object = None, **headers: str) -> httpx.Response:
    return _post(client, {} if body is None else body, key, f"/{hold}/capture", **headers)


def _void(client: httpx.Client, hold: str, **headers: str) -> httpx.Response:
    return client.post(f"/v1/holds/{hold}/void", headers=headers)


def _written() -> tuple[int, ...]:
    tables = ("ledger_journals", "ledger_entries", "ledger_accounts", "ledger_holds", "idempotency_keys")
    return tuple(count(table) for table in tables)


def _funds(client: httpx.Client, code: str = ALICE) -> tuple[str, str, str]:
    """balance, held, available."""
    [found] = client.get(f"/v1/accounts/{code}", params={"asset": ETH}).json()["balances"]
    return found["balance"], found["held"], found["available"]


def _forget_keys() -> None:
    with db.transaction() as session:
        session.execute(text("DELETE FROM idempotency_keys"))


def _soon(**span: float) -> str:
    return (clock.now() + timedelta(**span)).isoformat()


def _expired(client: httpx.Client) -> str:
    """A hold whose deadline has passed, by the database's clock."""
    made = _post(client, _body(expires_at=_soon(milliseconds=300)), "expired")
    assert made.status_code == 201, made.text
    with db.transaction() as session:
        session.execute(text("SELECT pg_sleep(0.35)"))
    return str(made.json()["id"])


def test_a_hold_binds_what_it_holds_and_is_told_in_full(client: httpx.Client) -> None:
    body = _body(subject="order:1", metadata={"order": "1"}, expires_at="2099-01-31T12:00:00+02:00")
    reply = _post(client, body, "order-1", **{"X-Correlation-Id": "trace-1"})
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert reply.headers["location"] == f"/v1/holds/{made['id']}"
    wanted = {
        **body,
        "state": "pending",
        "reference": "app:order-1",
        "expires_at": "2099-01-31T10:00:00Z",
        "correlation_id": "trace-1",
        "posted_units": None,
        "journal_id": None,
        "settled_at": None,
    }
    assert {name: made[name] for name in wanted} == wanted
    assert client.get(reply.headers["location"]).json() == made
    assert _funds(client) == ("1000", "300", "700")
    document = is_problem(
        client.post(
            "/v1/journals",
            json={"category": "x", "postings": [_body("701")]},
            headers={"Idempotency-Key": "spend"},
        ),
        409,
        "insufficient-funds",
    )
    assert document["available"] == "700"


def test_a_hold_is_captured_whole_or_in_part_as_one_journal(client: httpx.Client) -> None:
    part = _post(client, _body(subject="order:1"), "h1").json()
    reply = _capture(client, part["id"], "c1", {"units": "100"})
    assert reply.status_code == 200, reply.text
    taken = reply.json()
    assert (taken["id"], taken["state"], taken["posted_units"]) == (part["id"], "posted", "100")
    journal = client.get(f"/v1/journals/{taken['journal_id']}").json()
    assert (journal["reference"], journal["subject"]) == ("app:c1", "order:1")
    assert journal["postings"] == [_body("100")]
    assert journal["metadata"]["hold_id"] == part["id"]
    assert _funds(client) == ("900", "0", "900")
    whole = _post(client, _body(), "h2").json()
    bare = client.post(f"/v1/holds/{whole['id']}/capture", headers={"Idempotency-Key": "c2"})
    assert (bare.status_code, bare.json()["posted_units"]) == (200, "300")
    assert _funds(client) == ("600", "0", "600")
    assert _funds(client, BOB)[0] == "400"
    assert_sound()


def test_the_same_request_gets_the_first_answer(client: httpx.Client) -> None:
    placed = _post(client, _body())
    captured = _capture(client, placed.json()["id"])
    before = _written()
    for again, first in ((_post(client, _body()), placed), (_capture(client, placed.json()["id"]), captured)):
        assert (again.status_code, again.json()) == (first.status_code, first.json())
        assert again.headers["idempotency-replayed"] == "true"
    is_problem(_post(client, _body("301")), 422, "idempotency-key-reused")
    is_problem(_post(client, _body(metadata={"n": 1})), 422, "idempotency-key-reused")
    is_problem(_capture(client, placed.json()["id"], "c", {"units": "1"}), 422, "idempotency-key-reused")
    is_problem(_capture(client, placed.json()["id"], "k"), 422, "idempotency-key-reused")
    is_problem(_capture(client, str(uuid4()), "c"), 422, "idempotency-key-reused")
    assert _written() == before


def test_the_ledgers_reference_is_the_last_guard(client: httpx.Client) -> None:
    placed = _post(client, _body()).json()
    captured = _capture(client, placed["id"], "c", {"units": "100"}).json()
    books = _written()[:4]
    _forget_keys()
    again = _post(client, _body())
    assert (again.status_code, again.json()) == (201, captured)  # as it is by now
    assert again.headers["idempotency-replayed"] == "true"
    once_more = _capture(client, placed["id"], "c", {"units": "100"})
    assert (once_more.status_code, once_more.json()) == (200, captured)
    assert once_more.headers["idempotency-replayed"] == "true"
    _forget_keys()
    is_problem(_post(client, _body("299")), 422, "idempotency-key-reused")
    is_problem(_capture(client, placed["id"], "c", {"units": "99"}), 422, "idempotency-key-reused")
    assert _written() == (*books, 0)
    # The reference of a journal that is no capture of this hold.
    other = _post(client, _body(), "h2").json()
    _forget_keys()
    is_problem(_capture(client, other["id"], "c", {"units": "100"}), 422, "idempotency-key-reused")
    assert client.get(f"/v1/holds/{other['id']}").json()["state"] == "pending"


ODD: list[Any] = [
    10, 10.0, 1.5, True, None, "", "0", "-1", "+1", " 1", "1\n", "0x1", "1.0", "1e3", "٣", "9" * 39, [],
]  # fmt: skip
"""What units are not."""
BAD: list[tuple[str, dict[str, Any]]] = [
    *(("/units", {"units": units}) for units in ODD),
    ("/source", {"source": "user:42"}),
    ("/source", {"source": None}),
    ("/source", {"source": CUSTODY}),
    ("/source", {"source": FEES}),
    ("/source", {"source": "user:alice:owed"}),
    ("/destination", {"destination": "house:gold"}),
    ("", {"destination": ALICE}),
    ("/asset", {"asset": "iso4217:XXX"}),
    ("/asset", {"asset": "a b"}),
    ("/asset", {"asset": "no{asset}"}),
    ("/expires_at", {"expires_at": "2001-01-01T00:00:00Z"}),
    ("/expires_at", {"expires_at": "tomorrow"}),
    ("/expires_at", {"expires_at": "2099-01-01T00:00:00"}),
    ("/expires_at", {"expires_at": "0001-01-01T00:00:00+01:00"}),
    ("/subject", {"subject": "a b"}),
    ("/metadata", {"metadata": {"n": "x" * 4_096}}),
    ("/reference", {"reference": "x"}),
]  # fmt: skip


def test_what_is_wrong_is_pointed_at_and_nothing_written(client: httpx.Client) -> None:
    made = _post(client, _body("1"), "before").json()
    before = _written()
    for at, wrong in BAD:
        document = is_problem(_post(client, _body() | wrong), 422, "invalid-request")
        assert str(document["errors"][0]["pointer"]) == at, (wrong, document)  # type: ignore[index]
    for units in ("0", "-1", 1, 1.0, "", "9" * 39):
        document = is_problem(_capture(client, made["id"], "c", {"units": units}), 422, "invalid-request")
        assert document["errors"][0]["pointer"] == "/units"  # type: ignore[index]
    is_problem(_capture(client, made["id"], "c", {"reference": "x"}), 422, "invalid-request")
    is_problem(client.post("/v1/holds", json=_body()), 400, "idempotency-key-missing")
    is_problem(client.post(f"/v1/holds/{made['id']}/capture", json={}), 400, "idempotency-key-missing")
    for path in (f"/v1/holds/{uuid4()}", "/v1/holds/7"):
        is_problem(client.get(path), 404, "not-found")
        is_problem(client.post(f"{path}/void"), 404, "not-found")
        is_problem(client.post(f"{path}/capture", headers={"Idempotency-Key": "c"}), 404, "not-found")
    assert _written() == before


def test_refusals_say_what_was_lacking_and_leave_the_key_free(client: httpx.Client) -> None:
    assert _post(client, _body("700"), "first").status_code == 201
    before = _written()
    document = is_problem(_post(client, _body("301")), 409, "insufficient-funds")
    assert {name: document[name] for name in ("account", "asset", "available", "needed")} == {
        "account": ALICE, "asset": ETH, "available": "300", "needed": "301",
    }  # fmt: skip
    is_problem(_post(client, _body(source="user:new:available"), "k2"), 409, "insufficient-funds")
    assert _written() == before
    book("shop", "deposit:2:credit:0", move(CUSTODY, ALICE, 1))
    assert _post(client, _body("301")).status_code == 201
    assert _funds(client) == ("1001", "1001", "0")


def test_frozen_closed_and_full_accounts_refuse_each_in_their_own_words(client: httpx.Client) -> None:
    why: dict[str, Any] = {"tenant": "shop", "reason": "test", "actor": "somebody", "asset": ETH}
    held = _post(client, _body(), "before").json()["id"]
    gone = "user:gone:available"
    with db.transaction() as session:
        accounts.limit(session, code=BOB, ceiling=299, **why)
        accounts.limit(session, code=gone, ceiling=1, **why)
        accounts.close(session, code=gone, **why)
    before = _written()
    full = is_problem(_capture(client, held), 409, "ceiling-exceeded")
    assert (full["account"], full["room"], full["offered"]) == (BOB, "299", "300")
    for at, body in (("destination", _body(destination=gone)), ("source", _body(source=gone))):
        closed = is_problem(_post(client, body), 409, "account-closed")
        assert (closed["account"], closed["errors"][0]["pointer"]) == (gone, f"/{at}")  # type: ignore[index]
    with db.transaction() as session:
        accounts.freeze(session, code=ALICE, **why)
    for reply in (_capture(client, held), _post(client, _body())):
        assert is_problem(reply, 409, "account-frozen")["account"] == ALICE
    assert _written() == before
    assert _void(client, held).json()["state"] == "voided"


def test_a_settled_hold_says_how_and_changes_no_more(client: httpx.Client) -> None:
    posted = _post(client, _body(), "posted").json()["id"]
    assert _capture(client, posted, "c-posted").status_code == 200
    voided = _post(client, _body(), "voided").json()["id"]
    assert _void(client, voided).json()["state"] == "voided"
    settled = {"posted": posted, "voided": voided, "expired": _expired(client)}
    before = _written()
    for state, hold in settled.items():
        document = is_problem(_capture(client, hold, "again"), 409, "hold-settled")
        assert (document["hold_id"], document["state"]) == (hold, state)
        assert ("expires_at" in document) == (state == "expired")
        if state == "voided":
            assert _void(client, hold).json()["state"] == "voided"  # twice is once
        else:
            assert is_problem(_void(client, hold), 409, "hold-settled")["state"] == state
    assert _written() == before
    # What is past its deadline is let go when somebody needs it.
    assert _post(client, _body("700"), "all").status_code == 201
    assert client.get(f"/v1/holds/{settled['expired']}").json()["state"] == "expired"
    assert_sound()


def test_more_than_is_held_is_refused_and_the_hold_stays(client: httpx.Client) -> None:
    hold = _post(client, _body()).json()
    before = _written()
    document = is_problem(_capture(client, hold["id"], "c", {"units": "301"}), 409, "hold-exceeded")
    assert (document["hold_id"], document["held"], document["asked"]) == (hold["id"], "300", "301")
    assert document["errors"][0]["pointer"] == "/units"  # type: ignore[index]
    assert _written() == before
    assert client.get(f"/v1/holds/{hold['id']}").json() == hold


def test_the_same_request_from_eight_at_once_holds_and_captures_once(client: httpx.Client) -> None:
    start = threading.Barrier(8)

    def at_once(ask: Callable[[], httpx.Response]) -> list[httpx.Response]:
        def waiting(_n: int) -> httpx.Response:
            start.wait()
            return ask()

        with ThreadPoolExecutor(8) as threads:
            return list(threads.map(waiting, range(8)))

    placed = at_once(lambda: _post(client, _body()))
    assert Counter(reply.status_code for reply in placed) == {201: 8}
    [hold] = {reply.json()["id"] for reply in placed}
    assert _funds(client) == ("1000", "300", "700")
    captured = at_once(lambda: _capture(client, hold))
    assert Counter(reply.status_code for reply in captured) == {200: 8}
    assert all(reply.json() == placed[0].json() for reply in placed)
    assert all(reply.json() == captured[0].json() for reply in captured)
    assert _funds(client) == ("700", "0", "700")
    assert _written()[3:] == (1, 2)
    assert_sound()


def test_captures_and_voids_of_one_hold_at_once_settle_it_once(client: httpx.Client) -> None:
    hold = _post(client, _body()).json()["id"]

    def ask(n: int) -> httpx.Response:
        return _void(client, hold) if n % 2 else _capture(client, hold, f"c{n}")

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(ask, range(8)))
    state = client.get(f"/v1/holds/{hold}").json()["state"]
    # Voiding what is voided is no refusal; capturing what is posted under another key is one.
    assert Counter(reply.status_code for reply in replies) == (
        {200: 1, 409: 7} if state == "posted" else {200: 4, 409: 4}
    )
    assert {reply.json()["type"] for reply in replies if reply.status_code == 409} == {"/problems/hold-settled"}
    assert _funds(client)[:2] == (("700", "0") if state == "posted" else ("1000", "0"))
    assert_sound()


def test_holds_of_another_tenant_do_not_exist(client: httpx.Client, new_key: NewKey) -> None:
    mine = _post(client, _body(subject="order:1")).json()["id"]
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    before = _written()
    is_problem(client.get(f"/v1/holds/{mine}", headers=casino), 404, "not-found")
    is_problem(_capture(client, mine, **casino), 404, "not-found")
    is_problem(_void(client, mine, **casino), 404, "not-found")
    for query in ({}, {"account": ALICE}, {"subject": "order:1"}):
        assert client.get("/v1/holds", params=query, headers=casino).json()["holds"] == []
    is_problem(_post(client, _body(), **casino), 409, "insufficient-funds")
    assert _written() == before
    assert client.get(f"/v1/holds/{mine}").json()["state"] == "pending"


def test_holds_are_listed_newest_first_by_account_state_and_subject(client: httpx.Client) -> None:
    def add(n: int, **more: Any) -> str:
        return str(_post(client, _body("10", **more), f"h{n}").json()["id"])

    made = [add(n) for n in range(5)]
    other = add(5, source=ALICE, asset=USDT, subject="order:5")
    assert _void(client, made[0]).status_code == 200
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2, "account": ALICE, "state": "pending"}
    while True:
        page = client.get("/v1/holds", params=query).json()
        seen += [one["id"] for one in page["holds"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
        add(10 + len(seen))
    assert seen == [other, *made[:0:-1]]
    assert [one["id"] for one in client.get("/v1/holds", params={"state": "voided"}).json()["holds"]] == [made[0]]
    assert [one["id"] for one in client.get("/v1/holds", params={"subject": "order:5"}).json()["holds"]] == [other]
    assert client.get("/v1/holds", params={"account": BOB}).json()["holds"] == []
    for bad in ("x", "e30", "W1tb", "MQ", "bnVsbA"):
        is_problem(client.get("/v1/holds", params={"cursor": bad}), 400, "invalid-cursor")
    for wrong in ({"state": "lost"}, {"account": "a b"}, {"limit": 0}, {"limit": 201}):
        is_problem(client.get("/v1/holds", params=wrong), 422, "invalid-request")


def test_what_claims_and_bets_keep_can_not_be_moved_by_holds_or_journals(client: httpx.Client) -> None:
    for kept in ("user:alice:playing", "user:alice:staked", f"packet:{uuid4()}"):
        for source, destination, field in ((kept, BOB, "source"), (ALICE, kept, "destination")):
            posting = {"source": source, "destination": destination, "asset": ETH, "units": "1"}
            before = _written()
            document = is_problem(_post(client, posting), 422, "invalid-request")
            assert f"/{field}: " in str(document["detail"])
            journal = {"category": "x", "postings": [posting]}
            refused = client.post("/v1/journals", json=journal, headers={"Idempotency-Key": "j"})
            assert f"/postings/0/{field}: " in str(is_problem(refused, 422, "invalid-request")["detail"])
            assert _written() == before
