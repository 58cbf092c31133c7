"""The books, read over the wire."""

from typing import Any

import httpx

from core import db
from ledger.assets import sync_assets
from tests.integration.api.conftest import NewKey, is_problem
from tests.integration.ledger.books import ALICE, ETH, USDT, book, move

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
