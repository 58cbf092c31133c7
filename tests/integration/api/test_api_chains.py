"""What apps and dashboards read of chains, and rescans asked for over HTTP."""

import re
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from api import metrics
from core import clock, db
from core.jobs import SYSTEM_TENANT, Job
from domain.access.service import Scope
from domain.deposit import service as deposits
from domain.deposit.scan_models import ChainCoverage, ChainCursor
from tests.integration.api.conftest import CHAIN, NewKey, count, is_problem

RESCANS = f"/v1/chains/{CHAIN}/rescans"
BODY = {"first_block": 100, "last_block": 119, "reason": "a test"}


@pytest.fixture
def scanned(database_url: str) -> ChainCursor:
    """Blocks 100 to 199 but for 120 to 129, and a head at 204 that is nine seconds old."""
    now = clock.now()
    cursor = ChainCursor(
        chain=CHAIN, first_block=100, next_block=200, read_until=now, last_read_at=now, head_number=204,
        head_time=now - timedelta(seconds=9), head_at=now,
    )  # fmt: skip
    with db.transaction() as session:
        session.add(cursor)
        session.add_all(
            ChainCoverage(chain=CHAIN, first_block=first, last_block=last, by="scan", addresses=1)
            for first, last in ((100, 119), (130, 199))
        )
    return cursor


def keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_a_chain_is_read_with_its_gaps(client: httpx.Client, scanned: ChainCursor) -> None:
    [listed] = [each for each in client.get("/v1/chains").json()["chains"] if each["state"] != "unread"]
    assert (listed["id"], listed["state"], listed["lag_blocks"], listed["gap_blocks"]) == (CHAIN, "running", 5, 10)
    shown = client.get(f"/v1/chains/{CHAIN}").json()
    assert shown.pop("gaps") == [{"first_block": 120, "last_block": 129}]
    assert shown == listed
    assert shown["head"]["number"] == 204


def test_a_chain_that_was_never_read_is_listed_and_one_that_is_not_watched_is_not(client: httpx.Client) -> None:
    [listed] = client.get("/v1/chains").json()["chains"]
    assert (listed["id"], listed["state"], listed["next_block"], listed["gap_blocks"]) == (CHAIN, "unread", None, 0)
    assert client.get(f"/v1/chains/{CHAIN}").json()["gaps"] == []
    for other in ("eip155:56", "eip155:999"):
        is_problem(client.get(f"/v1/chains/{other}"), 404, "not-found")


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({"status": "stopped"}, "stopped"),
        ({"failing_since": timedelta(seconds=-5)}, "failing lately"),
        ({"failing_since": timedelta(minutes=-5)}, "failing"),
        ({"head_time": timedelta(hours=-1)}, "stalled"),
        ({"head_at": timedelta(hours=-1)}, "stalled"),
    ],
)
def test_the_states_of_a_chain(
    client: httpx.Client, scanned: ChainCursor, changed: dict[str, object], state: str
) -> None:
    with db.transaction() as session:
        row = session.get_one(ChainCursor, CHAIN)
        for name, value in changed.items():
            setattr(row, name, clock.now() + value if isinstance(value, timedelta) else value)
    assert client.get(f"/v1/chains/{CHAIN}").json()["state"] == state


def test_a_rescan_is_asked_for_once_and_read(client: httpx.Client, new_key: NewKey, scanned: ChainCursor) -> None:
    key = new_key(scopes=[Scope.CHAINS_READ, Scope.CHAINS_WRITE])
    client.headers["Authorization"] = f"Bearer {key.secret}"
    first = client.post(RESCANS, json=BODY, headers=keyed("r-1"))
    assert first.status_code == 202, first.text
    made = first.json()
    assert (made["first_block"], made["next_block"], made["status"], made["found"]) == (100, 100, "running", 0)
    with db.transaction() as session:
        [kept] = deposits.rescans(session, CHAIN, limit=2)
        assert (kept.actor, kept.reason) == (f"shop, key {key.key.id}", BODY["reason"])
    again = client.post(RESCANS, json=BODY, headers=keyed("r-1"))
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (made, "true")
    assert count("chain_rescans") == 1
    assert client.get(first.headers["Location"]).json() == made
    with db.transaction() as session:
        [job] = session.scalars(select(Job)).all()
    assert (job.task, job.tenant, job.args) == (
        "tx_monitor.rescan", SYSTEM_TENANT, {"rescan_id": made["id"], "part": 0},
    )  # fmt: skip
    is_problem(
        client.post(RESCANS, json=BODY | {"last_block": 118}, headers=keyed("r-1")), 422, "idempotency-key-reused"
    )
    is_problem(client.get(f"{RESCANS}/{uuid4()}"), 404, "not-found")
    is_problem(client.get(f"/v1/chains/eip155:56/rescans/{made['id']}"), 404, "not-found")


def test_a_rescan_tells_nobody_who_asked_for_it(client: httpx.Client, new_key: NewKey, scanned: ChainCursor) -> None:
    key = new_key(scopes=[Scope.CHAINS_WRITE])
    asked = client.post(RESCANS, json=BODY, headers=keyed("r-1") | {"Authorization": f"Bearer {key.secret}"})
    assert asked.status_code == 202, asked.text
    rival = new_key("rival", scopes=[Scope.CHAINS_READ])
    told = client.get(asked.headers["Location"], headers={"Authorization": f"Bearer {rival.secret}"})
    assert told.status_code == 200 and told.json() == asked.json()
    for secret in ("shop", str(key.key.id), BODY["reason"]):
        assert str(secret) not in told.text
    assert told.json().keys() == {
        "id", "chain", "first_block", "last_block", "next_block", "status", "found", "created_at", "finished_at",
    }  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        BODY | {"last_block": 99},
        BODY | {"last_block": 200},  # still to be scanned
        BODY | {"first_block": -1},
        BODY | {"first_block": "100"},
        BODY | {"first_block": 2**70, "last_block": 2**70},
        BODY | {"reason": ""},
        BODY | {"reason": "  "},
        BODY | {"reason": "\x00"},
        BODY | {"more": 1},
    ],
)
def test_what_is_no_range_is_refused_and_leaves_nothing(
    client: httpx.Client, scanned: ChainCursor, body: dict[str, object]
) -> None:
    reply = client.post(RESCANS, json=body, headers=keyed("r-1"))
    assert reply.status_code == 422, reply.text
    assert (count("chain_rescans"), count("jobs"), count("idempotency_keys")) == (0, 0, 0)


def test_a_rescan_needs_a_key_a_chain_and_a_scan_that_runs(client: httpx.Client, scanned: ChainCursor) -> None:
    is_problem(client.post(RESCANS, json=BODY), 400, "idempotency-key-missing")
    is_problem(client.post("/v1/chains/eip155:56/rescans", json=BODY, headers=keyed("r-1")), 404, "not-found")
    with db.transaction() as session:
        session.get_one(ChainCursor, CHAIN).status = "stopped"
    reply = client.post(RESCANS, json=BODY, headers=keyed("r-1"))
    assert reply.status_code == 409, reply.text
    assert count("chain_rescans") == 0


def test_metrics_tell_of_gaps_and_of_heads_that_grow_old(
    client: httpx.Client, scanned: ChainCursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "READ_EVERY", 0.0)

    def told() -> dict[str, float]:
        lines = re.findall(
            r'^tallyrail_chain_(\w+)\{chain="eip155:1"\} (\S+)$', client.get("/metrics").text, re.MULTILINE
        )
        return {name: float(value) for name, value in lines}

    found = told()
    assert (found["gap_blocks"], found["lag_blocks"], found["stopped"]) == (10, 5, 0)
    assert 9 <= found["head_age_seconds"] < 60
    with db.transaction() as session:
        assert [(gap.first, gap.last) for gap in deposits.gaps(session)] == [(120, 129)]
        session.get_one(ChainCursor, CHAIN).status = "stopped"
        session.add(ChainCoverage(chain=CHAIN, first_block=120, last_block=129, by="rescan", addresses=1))
    found = told()
    assert (found["gap_blocks"], found["stopped"]) == (0, 1)
