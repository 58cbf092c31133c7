"""The books, read over the wire."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from core import clock, db
from ledger import accounts, freezes, holds
from ledger.assets import sync_assets
from ledger.holds import NewHold
from ledger.paging import opened, sealed
from tests.integration.api.conftest import NewKey, is_problem
from tests.integration.ledger.books import ALICE, BOB, ETH, FEES, USDT, book, move

CUSTODY = "custody:eip155:1"
HUGE = 10**36 + 1


def _fill() -> None:
    with db.transaction() as session:
        sync_assets(session)
    for n in range(5):
        book("shop", f"j{n}", move(CUSTODY, ALICE, 10 + n), move(CUSTODY, ALICE, HUGE, USDT))
    book("casino", "j0", move(CUSTODY, ALICE, 7))


def test_balances_are_exact_and_by_asset(client: httpx.Client, new_key: NewKey) -> None:
    _fill()
    account = client.get(f"/v1/accounts/{ALICE}").json()
    assert account["code"] == ALICE
    assert {one["asset"]: (one["balance"], one["entries"]) for one in account["balances"]} == {
        ETH: ("60", 5),
        USDT: (str(5 * HUGE), 5),
    }
    only = client.get(f"/v1/accounts/{ALICE}", params={"asset": ETH}).json()
    assert [(one["balance"], one["kind"], one["normal_side"]) for one in only["balances"]] == [
        ("60", "liability", "credit")
    ]
    assert client.get("/v1/accounts/user:nobody:available").json()["balances"] == []
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    assert client.get(f"/v1/accounts/{ALICE}", headers=casino).json()["balances"][0]["balance"] == "7"
    entries = client.get(f"/v1/accounts/{ALICE}/entries", headers=casino).json()["entries"]
    assert [entry["units"] for entry in entries] == ["7"]


def test_entries_page_without_gaps_while_money_moves(client: httpx.Client) -> None:
    _fill()
    seen: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 3}
    while True:
        page = client.get(f"/v1/accounts/{ALICE}/entries", params=query).json()
        seen += page["entries"]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
        book("shop", f"later-{len(seen)}", move(CUSTODY, ALICE, 1))
    assert [(entry["asset"], entry["version"]) for entry in seen if entry["asset"] == ETH] == [
        (ETH, version) for version in (5, 4, 3, 2, 1)
    ]
    assert len(seen) == 10
    assert [entry["balance"] for entry in seen if entry["asset"] == ETH] == ["60", "46", "33", "21", "10"]
    for bad in ("x", "e30", "!", "W1tb"):
        is_problem(client.get(f"/v1/accounts/{ALICE}/entries", params={"cursor": bad}), 400, "invalid-cursor")


def _hold(units: int, **more: Any) -> None:
    with db.transaction() as session:
        new = NewHold(
            tenant="shop", reference=f"h{units}", source=ALICE, destination=BOB, asset=ETH, units=units, **more
        )
        holds.place(session, new)


def test_an_account_tells_what_is_held_available_and_allowed(client: httpx.Client) -> None:
    _fill()
    _hold(25)
    why = {"tenant": "shop", "code": ALICE, "asset": ETH, "reason": "test", "actor": "somebody"}
    with db.transaction() as session:
        accounts.limit(session, floor=-5, ceiling=10**20, **why)
        accounts.annotate(session, metadata={"tier": "gold"}, **why)
        accounts.freeze(session, **why)
        freezes.place(session, holder="deposit:7", **why)
    [told] = client.get(f"/v1/accounts/{ALICE}", params={"asset": ETH}).json()["balances"]
    assert told == {
        "asset": ETH,
        "balance": "60",
        "held": "25",
        "available": "40",
        "floor": "-5",
        "ceiling": str(10**20),
        "state": "frozen",
        "frozen_by": ["deposit:7", "person"],
        "kind": "liability",
        "normal_side": "credit",
        "entries": 5,
        "metadata": {"tier": "gold"},
    }
    [custody] = client.get(f"/v1/accounts/{CUSTODY}", params={"asset": ETH}).json()["balances"]
    assert (custody["balance"], custody["available"], custody["floor"], custody["entries"]) == ("60", None, None, 5)


def test_balances_of_a_moment_by_both_clocks(client: httpx.Client) -> None:
    with db.transaction() as session:
        sync_assets(session)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    book("shop", "late", move(CUSTODY, ALICE, 10), effective_at=long_ago)
    between = clock.now()
    book("shop", "now", move(CUSTODY, ALICE, 5), move(CUSTODY, ALICE, 3, USDT))

    def told(at: datetime, **query: str) -> dict[str, str]:
        reply = client.get(f"/v1/accounts/{ALICE}", params={"as_of": at.isoformat(), **query})
        assert reply.status_code == 200, reply.text
        document = reply.json()
        assert datetime.fromisoformat(document["as_of"]) == at
        assert document["clock"] == query.get("clock", "booked")
        assert {(one["held"], one["available"], one["entries"]) for one in document["balances"]} == {(None, None, None)}
        return {one["asset"]: one["balance"] for one in document["balances"]}

    assert told(between) == {ETH: "10", USDT: "0"}
    assert told(clock.now() + timedelta(hours=1)) == {ETH: "15", USDT: "3"}
    assert told(long_ago) == {ETH: "0", USDT: "0"}
    assert told(long_ago, clock="effective") == {ETH: "10", USDT: "0"}
    assert told(long_ago - timedelta(microseconds=1), clock="effective", asset=ETH) == {ETH: "0"}
    now = client.get(f"/v1/accounts/{ALICE}").json()
    assert (now["as_of"], now["clock"]) == (None, None)


@pytest.mark.parametrize(
    "query",
    [
        {"as_of": "2026-01-31"}, {"as_of": "2026-01-31T12:00:00"}, {"as_of": "1769860800"}, {"as_of": "now"},
        {"as_of": ""}, {"as_of": "2026-02-30T12:00:00Z"}, {"as_of": "0001-01-01T00:00:00+01:00"}, {"clock": "wall"},
        {"as_of": "2026-01-31T12:00:00+1"}, {"asset": "a b"},
    ],
)  # fmt: skip
def test_a_moment_that_is_none_is_refused(client: httpx.Client, query: dict[str, str]) -> None:
    document = is_problem(client.get(f"/v1/accounts/{ALICE}", params=query), 422, "invalid-request")
    assert document["errors"][0]["parameter"] in query  # type: ignore[index]


def test_accounts_are_listed_by_code_and_asset_with_the_totals_of_a_prefix(
    client: httpx.Client, new_key: NewKey
) -> None:
    _fill()
    book("shop", "spread", move(ALICE, BOB, 20), move(ALICE, FEES, 1))
    _hold(9)
    seen: list[dict[str, Any]] = []
    query: dict[str, Any] = {"prefix": "user:", "limit": 2}
    totals = []
    while True:
        page = client.get("/v1/accounts", params=query).json()
        seen += page["accounts"]
        totals.append(page["totals"])
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert [(one["code"], one["asset"], one["balance"]) for one in seen] == [
        (ALICE, USDT, str(5 * HUGE)), (ALICE, ETH, "39"), (BOB, ETH, "20"),
    ]  # fmt: skip
    assert seen[1]["held"] == "9" and seen[1]["available"] == "30"
    first, second = totals
    assert [(one["asset"], one["kind"], one["accounts"], one["balance"], one["held"]) for one in first] == [
        (USDT, "liability", 1, str(5 * HUGE), "0"),
        (ETH, "liability", 2, "59", "9"),
    ]
    assert [one["scale"] for one in first] == [6, 18]
    assert second is None
    whole = client.get("/v1/accounts").json()
    assert {one["code"] for one in whole["accounts"]} == {ALICE, BOB, CUSTODY, FEES}
    assert len(whole["accounts"]) == 6  # a striped account is one
    assert whole["totals"] is None
    nothing = client.get("/v1/accounts", params={"prefix": "user:nobody"}).json()
    assert nothing == {"accounts": [], "totals": [], "next_cursor": None}
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    theirs = client.get("/v1/accounts", params={"prefix": "user:"}, headers=casino).json()
    assert [one["balance"] for one in theirs["accounts"]] == ["7"]
    assert [one["balance"] for one in theirs["totals"]] == ["7"]
    for bad in ("x", "W10", "WyJhIl0", "WyJcdTAwMDAiLCJhIl0", "WyJcdWQ4MDAiLCJhIl0"):
        is_problem(client.get("/v1/accounts", params={"cursor": bad}), 400, "invalid-cursor")
    for wrong in ("a b", "", "user%", "x" * 201, "\x00"):
        is_problem(client.get("/v1/accounts", params={"prefix": wrong}), 422, "invalid-request")


def test_a_statement_opens_lists_and_closes_while_money_moves(client: httpx.Client, new_key: NewKey) -> None:
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "before", move(CUSTODY, ALICE, 100))
    since = clock.now()
    for n in range(4):
        book("shop", f"in-{n}", move(CUSTODY, ALICE, 10), move(ALICE, FEES, 1))
    until = clock.now()
    book("shop", "after", move(CUSTODY, ALICE, 1_000))
    query: dict[str, Any] = {"asset": ETH, "since": since.isoformat(), "until": until.isoformat(), "limit": 3}
    pages = []
    while True:
        reply = client.get(f"/v1/accounts/{ALICE}/statement", params=query)
        assert reply.status_code == 200, reply.text
        pages.append(reply.json())
        if pages[-1]["next_cursor"] is None:
            break
        query["cursor"] = pages[-1]["next_cursor"]
        book("shop", f"later-{len(pages)}", move(CUSTODY, ALICE, 1))
    assert {(one["opening"], one["closing"], one["entries"]) for one in pages} == {("100", "136", 8)}
    lines = [line for page in pages for line in page["lines"]]
    assert [line["units"] for line in lines] == ["10", "-1"] * 4
    assert [line["balance"] for line in lines] == ["110", "109", "119", "118", "128", "127", "137", "136"]
    assert (pages[-1]["debits"], pages[-1]["credits"]) == ("4", "40")
    assert (pages[-1]["code"], pages[-1]["asset"], pages[-1]["normal_side"]) == (ALICE, ETH, "credit")
    whole = client.get(f"/v1/accounts/{ALICE}/statement", params={"asset": ETH}).json()
    assert (whole["opening"], whole["since"], whole["until"]) == ("0", None, None)
    casino = {"Authorization": f"Bearer {new_key('casino').secret}"}
    theirs = client.get(f"/v1/accounts/{ALICE}/statement", params={"asset": ETH}, headers=casino).json()
    assert (theirs["opening"], theirs["closing"], theirs["lines"]) == ("0", "0", [])
    taken = client.get(f"/v1/accounts/{ALICE}/statement", params=query, headers=casino)
    is_problem(taken, 400, "invalid-cursor")  # the cursor is of another tenant's account


def test_what_makes_no_statement_is_refused(client: httpx.Client) -> None:
    path = f"/v1/accounts/{ALICE}/statement"
    for wrong in (
        {},
        {"asset": ETH, "since": "2026-01-31"},
        {"asset": ETH, "since": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"asset": ETH, "limit": "0"},
        {"asset": "a b"},
    ):
        is_problem(client.get(path, params=wrong), 422, "invalid-request")
    for bad in ("x", "e30", "W1tb", "bnVsbA"):
        is_problem(client.get(path, params={"asset": ETH, "cursor": bad}), 400, "invalid-cursor")
    with db.transaction() as session:
        sync_assets(session)
    book("shop", "in", move(CUSTODY, ALICE, 10), move(ALICE, FEES, 1))
    first = client.get(path, params={"asset": ETH, "limit": 1}).json()["next_cursor"]
    for place, forged in ((5, 10**4_300 - 1), (5, -1), (2, [[1, 10**30]]), (0, "yesterday")):
        content = opened(first)
        content[place] = forged
        reply = client.get(path, params={"asset": ETH, "cursor": sealed(content)})
        assert reply.status_code == 400, (place, reply.text)
    is_problem(client.get("/v1/accounts/nobody:knows/statement", params={"asset": ETH}), 404, "not-found")
