"""Journals over the wire: once each, whole or not at all, by whoever may."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from config import settings
from core import db
from core.money import UNITS_MAX
from ledger import accounts, balances
from ledger.assets import sync_assets
from tests.integration.api.conftest import NewKey, count, is_problem
from tests.integration.ledger.books import ALICE, BOB, CUSTODY, ETH, FEES, USDT, assert_sound, book, move

FUNDS = 1_000


@pytest.fixture(autouse=True)
def _funded(database_url: str) -> None:
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "deposit:1:credit:0", move(CUSTODY, ALICE, FUNDS), move(CUSTODY, ALICE, FUNDS, USDT))


ODD: list[Any] = [
    10, 10.0, 1.5, 1e18, True, None, [], {}, "", "0", "000", "-1", "+1", " 1", "1 ", "1\n", "1_0", "0x1", "1.0", "1e3",
    "٣", "NaN", "9" * 39,
]  # fmt: skip
"""What units are not."""


def _move(source: str = ALICE, destination: str = BOB, units: str = "10", asset: str = ETH) -> dict[str, str]:
    return {"source": source, "destination": destination, "asset": asset, "units": units}


def _body(*moves: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"category": "order.paid", "postings": list(moves) or [_move()], **more}


def _post(client: httpx.Client, body: object, key: str = "k", path: str = "", **headers: str) -> httpx.Response:
    return client.post(f"/v1/journals{path}", json=body, headers={"Idempotency-Key": key, **headers})


def _reverse(client: httpx.Client, journal: str, key: str, body: object = None, **headers: str) -> httpx.Response:
    return _post(client, {} if body is None else body, key, f"/{journal}/reverse", **headers)


def _written() -> tuple[int, ...]:
    tables = ("ledger_journals", "ledger_entries", "ledger_accounts", "ledger_holds", "idempotency_keys")
    return tuple(count(table) for table in tables)


def _balance(client: httpx.Client, code: str, asset: str = ETH) -> str:
    found = client.get(f"/v1/accounts/{code}", params={"asset": asset}).json()["balances"]
    return str(found[0]["balance"]) if found else "0"


def _forget_keys() -> None:
    """As if the keys' rows were of another lifetime."""
    with db.transaction() as session:
        session.execute(text("DELETE FROM idempotency_keys"))


def test_a_journal_of_many_postings_is_booked_and_told_in_full(client: httpx.Client) -> None:
    body = _body(
        _move(units="300"),
        _move(ALICE, FEES, "7"),
        _move(units="50", asset=USDT),
        _move(BOB, FEES, "1"),
        subject="order:1001",
        effective_at="2026-01-31T12:00:00.25+02:00",
        metadata={"order": "1001", "n": 7},
    )
    reply = _post(client, body, "order-1001", **{"X-Correlation-Id": "trace-1"})
    assert reply.status_code == 201, reply.text
    made = reply.json()
    assert reply.headers["location"] == f"/v1/journals/{made['id']}"
    assert "idempotency-replayed" not in reply.headers
    assert made["postings"] == body["postings"]
    wanted = {
        "reference": "app:order-1001",
        "category": "order.paid",
        "subject": "order:1001",
        "effective_at": "2026-01-31T10:00:00.250000Z",
        "correlation_id": "trace-1",
        "metadata": {"order": "1001", "n": 7},
        "reverses": None,
        "reversed_by": None,
    }
    assert {name: made[name] for name in wanted} == wanted
    read = client.get(reply.headers["location"]).json()
    entries = read.pop("entries")
    assert read == made
    told = [(one["position"], one["account"], one["units"], one["balance"]) for one in entries if one["asset"] == ETH]
    assert told == [
        (0, ALICE, "-300", "700"), (1, BOB, "300", "300"),
        (2, ALICE, "-7", "693"), (3, FEES, "7", "7"),
        (6, BOB, "-1", "299"), (7, FEES, "1", "8"),
    ]  # fmt: skip
    for query in ({"subject": "order:1001"}, {"reference": "app:order-1001"}):
        assert client.get("/v1/journals", params=query).json() == {"journals": [made], "next_cursor": None}
    own = _post(client, _body(correlation_id="mine"), "k2", **{"X-Correlation-Id": "trace-1"}).json()
    assert own["correlation_id"] == "mine"
    assert (_balance(client, ALICE), _balance(client, BOB, USDT), _balance(client, FEES)) == ("683", "50", "8")
    assert_sound()


def test_38_digits_are_exact(client: httpx.Client) -> None:
    most = str(UNITS_MAX)
    assert _post(client, _body(_move(FEES, BOB, most))).json()["postings"][0]["units"] == most
    assert _balance(client, BOB) == most
    assert _balance(client, FEES) == f"-{most}"
    before = _written()
    document = is_problem(_post(client, _body(_move(FEES, BOB, "1")), "k2"), 422, "invalid-request")
    assert document["errors"][0]["pointer"] == "/postings"  # type: ignore[index]
    assert _written() == before


def test_the_same_request_gets_the_first_journal_as_it_was_told(client: httpx.Client) -> None:
    body = _body(subject="order:1")
    first = _post(client, body)
    assert _reverse(client, first.json()["id"], "undo").status_code == 201
    before = _written()
    shuffled = json.dumps(dict(reversed(body.items())), indent=2)
    again = client.post(
        "/v1/journals", content=shuffled, headers={"Idempotency-Key": "k", "Content-Type": "application/json"}
    )
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert _written() == before


def test_a_key_stands_for_one_request_of_one_kind(client: httpx.Client) -> None:
    first = _post(client, _body(metadata={"n": 1})).json()
    before = _written()
    for body in (_body(_move(units="11"), metadata={"n": 1}), _body(metadata={"n": 2}), _body()):
        is_problem(_post(client, body), 422, "idempotency-key-reused")
    is_problem(_reverse(client, first["id"], "k"), 422, "idempotency-key-reused")
    hold = client.post("/v1/holds", json=_move(), headers={"Idempotency-Key": "k"})
    is_problem(hold, 422, "idempotency-key-reused")
    assert _written() == before


def test_the_ledgers_reference_is_the_last_guard(client: httpx.Client) -> None:
    first = _post(client, _body())
    undone = _reverse(client, first.json()["id"], "undo")
    books = _written()[:4]
    _forget_keys()
    repeats = (_post(client, _body()), first), (_reverse(client, first.json()["id"], "undo"), undone)
    for again, told in repeats:
        assert again.status_code == 201
        assert again.json()["id"] == told.json()["id"]
        assert again.headers["idempotency-replayed"] == "true"
    _forget_keys()
    is_problem(_post(client, _body(_move(units="11"))), 422, "idempotency-key-reused")
    is_problem(_reverse(client, first.json()["id"], "undo", {"category": "other"}), 422, "idempotency-key-reused")
    is_problem(_post(client, _body(), "undo"), 422, "idempotency-key-reused")
    assert _written() == (*books, 0)


def test_no_key_is_the_reference_of_an_event_of_ours(client: httpx.Client) -> None:
    made = _post(client, _body(_move(CUSTODY, BOB, "5")), "deposit:1:credit:0")
    assert made.status_code == 201
    assert made.json()["reference"] == "app:deposit:1:credit:0"
    ours = client.get("/v1/journals", params={"reference": "deposit:1:credit:0"}).json()["journals"]
    assert [one["category"] for one in ours] == ["test"]


BAD: list[tuple[str, dict[str, Any]]] = [
    *(("/postings/0/units", {"postings": [{**_move(), "units": units}]}) for units in ODD),
    *(("/postings/0/source", {"postings": [_move(code)]}) for code in (
        "", "user:42", "bank:eur", "user:4 2:available", "user::available", "user:42:available\n", "x" * 201, "a\x00",
    )),
    ("/postings/0/destination", {"postings": [_move(destination="house:gold")]}),
    ("/postings/1/destination", {"postings": [_move(), {k: v for k, v in _move().items() if k != "destination"}]}),
    ("/postings/0", {"postings": [_move(BOB, BOB)]}),
    ("/postings/0/asset", {"postings": [_move(asset="")]}),
    ("/postings/0/asset", {"postings": [{**_move(), "asset": 1}]}),
    ("/postings", {"postings": [_move(asset="iso4217:XXX")]}),
    ("/postings", {"postings": [_move(), _move(FEES, "user:carol:available", asset="eip155:1/slip44:61")]}),
    ("/postings", {"postings": [_move(asset="no{asset}")]}),
    ("/postings/0/surprise", {"postings": [_move() | {"surprise": "x"}]}),
    ("/postings", {"postings": []}),
    ("/postings", {"postings": {}}),
    ("/postings", {"postings": [_move(units="1")] * 501}),
    ("/category", {"category": "Paid"}),
    ("/category", {"category": "x" * 65}),
    ("/category", {"category": "paid\n"}),
    ("/subject", {"subject": "a b"}),
    ("/subject", {"subject": "x" * 201}),
    ("/effective_at", {"effective_at": "2026-01-31"}),
    ("/effective_at", {"effective_at": "2026-01-31T12:00:00"}),
    ("/effective_at", {"effective_at": 1_900_000_000}),
    ("/effective_at", {"effective_at": "0001-01-01T00:00:00+14:00"}),
    ("/effective_at", {"effective_at": "9999-12-31T23:59:59-14:00"}),
    ("/metadata", {"metadata": []}),
    ("/metadata", {"metadata": {"n": "x" * 4_096}}),
    ("/metadata", {"metadata": {str(n): "" for n in range(51)}}),
    ("/correlation_id", {"correlation_id": "a b"}),
    ("/reference", {"reference": "deposit:1:credit:0"}),
    ("/reverses", {"reverses": str(uuid4())}),
]  # fmt: skip


def test_what_is_wrong_is_pointed_at_and_nothing_written(client: httpx.Client) -> None:
    before = _written()
    for at, wrong in BAD:
        document = is_problem(_post(client, _body() | wrong), 422, "invalid-request")
        assert str(document["errors"][0]["pointer"]).startswith(at), (wrong, document)  # type: ignore[index]
    for missing in ("category", "postings"):
        is_problem(_post(client, {k: v for k, v in _body().items() if k != missing}), 422, "invalid-request")
    is_problem(client.post("/v1/journals", json=_body()), 400, "idempotency-key-missing")
    is_problem(_post(client, _body(), "a b"), 400, "idempotency-key-malformed")
    is_problem(_post(client, [_body()]), 400, "bad-request")
    assert _written() == before
    assert _post(client, _body(*[_move(units="1")] * 500)).status_code == 201


def test_a_refusal_says_what_was_lacking_and_leaves_the_key_free(client: httpx.Client) -> None:
    before = _written()
    body = _body(_move(units="900"), _move(BOB, FEES, "1"), _move(units="101"))
    document = is_problem(_post(client, body), 409, "insufficient-funds")
    assert {name: document[name] for name in ("account", "asset", "available", "needed")} == {
        "account": ALICE, "asset": ETH, "available": "100", "needed": "101",
    }  # fmt: skip
    is_problem(
        _post(client, _body(_move("user:new:available", "user:newer:available")), "k2"), 409, "insufficient-funds"
    )
    assert _written() == before
    book("shop", "deposit:2:credit:0", move(CUSTODY, ALICE, 1))
    assert _post(client, body).status_code == 201


def test_frozen_closed_and_full_accounts_refuse_each_in_their_own_words(client: httpx.Client) -> None:
    why: dict[str, Any] = {"tenant": "shop", "reason": "test", "actor": "somebody"}
    with db.transaction() as session:
        accounts.freeze(session, code=ALICE, asset=ETH, **why)
        accounts.limit(session, code=BOB, asset=USDT, ceiling=99, **why)
        accounts.limit(session, code="user:gone:available", asset=ETH, ceiling=1, **why)
        accounts.close(session, code="user:gone:available", asset=ETH, **why)
    before = _written()
    frozen = is_problem(_post(client, _body()), 409, "account-frozen")
    assert (frozen["account"], frozen["asset"]) == (ALICE, ETH)
    closed = is_problem(_post(client, _body(_move(FEES, "user:gone:available"))), 409, "account-closed")
    assert (closed["account"], closed["asset"]) == ("user:gone:available", ETH)
    full = is_problem(_post(client, _body(_move(units="100", asset=USDT))), 409, "ceiling-exceeded")
    assert (full["account"], full["room"], full["offered"]) == (BOB, "99", "100")
    assert _written() == before
    assert _post(client, _body(_move(units="99", asset=USDT))).status_code == 201


def test_the_same_request_from_eight_at_once_books_once(client: httpx.Client) -> None:
    journals = count("ledger_journals")
    start = threading.Barrier(8)

    def ask(n: int) -> httpx.Response:
        start.wait()
        return _post(client, _body(_move("user:a:x", "user:b:x", "3")), f"k{n}")

    with ThreadPoolExecutor(8) as threads:
        for n in range(5):  # accounts are opened in the first round
            replies = list(threads.map(ask, [n] * 8))
            assert Counter(reply.status_code for reply in replies) == {201: 8}
            assert all(reply.json() == replies[0].json() for reply in replies)
            assert sum("idempotency-replayed" not in reply.headers for reply in replies) == 1
    assert count("ledger_journals") == journals + 5
    assert _balance(client, "user:b:x") == "15"
    assert_sound()


def test_of_two_requests_under_one_key_at_once_one_is_booked(client: httpx.Client) -> None:
    journals = count("ledger_journals")
    start = threading.Barrier(8)

    def ask(n: int) -> httpx.Response:
        start.wait()
        return _post(client, _body(_move(units=str(n + 1))))

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(ask, range(8)))
    assert Counter(reply.status_code for reply in replies) == {201: 1, 422: 7}
    assert count("ledger_journals") == journals + 1


def test_requests_over_the_same_accounts_at_once_all_pass_and_never_overdraw(client: httpx.Client) -> None:
    def ask(n: int) -> httpx.Response:
        moves = [_move(ALICE, BOB, "50"), _move(ALICE, BOB, "50", USDT)]
        return _post(client, _body(*moves[:: 1 if n % 2 else -1]), f"k{n}")

    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(ask, range(30)))
    assert Counter(reply.status_code for reply in replies) == {201: 20, 409: 10}
    assert {reply.json().get("type") for reply in replies if reply.status_code == 409} == {
        "/problems/insufficient-funds"
    }
    assert _balance(client, ALICE) == _balance(client, ALICE, USDT) == "0"
    assert_sound()


def test_an_account_that_is_busy_for_long_is_503_and_the_same_request_is_booked_later(
    client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_IDEMPOTENCY_WAIT", "0.2")
    settings.reload()
    before = _written()
    with db.transaction() as other:
        balances.balance(other, "shop", ALICE, ETH, for_update=True)
        reply = _post(client, _body())
        is_problem(reply, 503, "unavailable")
        assert reply.headers["retry-after"] == "1"
    assert _written() == before
    assert _post(client, _body()).status_code == 201


def test_a_journal_is_reversed_once_and_names_its_reversal(client: httpx.Client) -> None:
    made = _post(client, _body(_move(units="300"), _move(BOB, FEES, "20"), subject="order:1")).json()
    undone = _reverse(client, made["id"], "undo", {"metadata": {"why": "cancelled"}})
    assert undone.status_code == 201, undone.text
    mirror = undone.json()
    assert undone.headers["location"] == f"/v1/journals/{mirror['id']}"
    assert mirror["postings"] == [_move(FEES, BOB, "20"), _move(BOB, ALICE, "300")]
    assert (mirror["category"], mirror["subject"], mirror["reverses"]) == ("reversal", "order:1", made["id"])
    assert (mirror["reference"], mirror["metadata"]) == ("app:undo", {"why": "cancelled"})
    assert client.get(f"/v1/journals/{made['id']}").json()["reversed_by"] == mirror["id"]
    before = _written()
    again = _reverse(client, made["id"], "undo", {"metadata": {"why": "cancelled"}})
    assert (again.status_code, again.json(), again.headers["idempotency-replayed"]) == (201, mirror, "true")
    document = is_problem(_reverse(client, made["id"], "undo-2"), 409, "already-reversed")
    assert (document["journal_id"], document["reversed_by"]) == (made["id"], mirror["id"])
    assert _written() == before
    # Of the mirror a mirror may be made: what was undone by mistake is done again.
    bare = client.post(f"/v1/journals/{mirror['id']}/reverse", headers={"Idempotency-Key": "redo"})
    assert bare.status_code == 201, bare.text
    assert _balance(client, BOB) == "280"
    assert_sound()


def test_a_reversal_is_refused_where_the_money_has_moved_on(client: httpx.Client) -> None:
    made = _post(client, _body(_move(units="300"))).json()
    assert _post(client, _body(_move(BOB, FEES, "1")), "spent").status_code == 201
    before = _written()
    document = is_problem(_reverse(client, made["id"], "undo"), 409, "insufficient-funds")
    assert (document["account"], document["available"], document["needed"]) == (BOB, "299", "300")
    assert "errors" not in document  # nothing in the body is at fault
    for body in ({"category": "No"}, {"effective_at": "now"}, {"units": "1"}, {"metadata": {"": "x"}}):
        is_problem(_reverse(client, made["id"], "undo", body), 422, "invalid-request")
    is_problem(_reverse(client, str(uuid4()), "undo"), 404, "not-found")
    is_problem(_reverse(client, "7", "undo"), 404, "not-found")
    is_problem(client.post(f"/v1/journals/{made['id']}/reverse", json={}), 400, "idempotency-key-missing")
    assert _written() == before


def test_reversals_under_many_keys_at_once_are_one(client: httpx.Client) -> None:
    made = _post(client, _body(_move(units="300"))).json()
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda n: _reverse(client, made["id"], f"undo-{n}"), range(8)))
    assert Counter(reply.status_code for reply in replies) == {201: 1, 409: 7}
    assert {reply.json()["type"] for reply in replies if reply.status_code == 409} == {"/problems/already-reversed"}
    assert _balance(client, ALICE) == str(FUNDS)
    assert_sound()


def test_what_a_flow_of_ours_booked_an_app_does_not_reverse(client: httpx.Client) -> None:
    [ours] = client.get("/v1/journals", params={"reference": "deposit:1:credit:0"}).json()["journals"]
    before = _written()
    is_problem(_reverse(client, ours["id"], "undo"), 409, "conflict")
    assert _written() == before


def test_journals_of_another_tenant_do_not_exist(client: httpx.Client, new_key: NewKey) -> None:
    mine = _post(client, _body(subject="order:1")).json()
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    before = _written()
    is_problem(client.get(f"/v1/journals/{mine['id']}", headers=casino), 404, "not-found")
    is_problem(_reverse(client, mine["id"], "undo", **casino), 404, "not-found")
    for query in ({"subject": "order:1"}, {"reference": "app:k"}):
        assert client.get("/v1/journals", params=query, headers=casino).json()["journals"] == []
    # Nor is its money: the same code is an account of the casino's own, without a coin.
    document = is_problem(_post(client, _body(), **casino), 409, "insufficient-funds")
    assert document["available"] == "0"
    assert _written() == before
    # And the same key is another key.
    theirs = _post(client, _body(_move(CUSTODY, ALICE)), **casino)
    assert theirs.status_code == 201
    assert theirs.json()["reference"] == "app:k"


def test_journals_are_listed_in_pages(client: httpx.Client) -> None:
    made = [_post(client, _body(_move(units="1"), subject="order:9"), f"k{n}").json() for n in range(5)]
    seen: list[Any] = []
    query: dict[str, Any] = {"subject": "order:9", "limit": 2}
    while True:
        page = client.get("/v1/journals", params=query).json()
        seen += page["journals"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == made
    for bad in ("x", "e30", "W1tb", "WyIxIl0", "W3RydWVd"):
        is_problem(client.get("/v1/journals", params=query | {"cursor": bad}), 400, "invalid-cursor")
    for wrong in ({}, {"subject": "a", "reference": "b"}, {"subject": "a b"}, {"subject": ""}, {"reference": "\x00"}):
        is_problem(client.get("/v1/journals", params=wrong), 422, "invalid-request")
    is_problem(client.get(f"/v1/journals/{uuid4()}"), 404, "not-found")
