"""Health says what is stale, by its exit status too."""

import json

import pytest
from sqlalchemy import text

from cli.health import PARTS
from core import db, redis
from core.jobs import NewJob, submit_many
from domain.health import service as heartbeats
from tests.integration.cli.conftest import Bury, Cli


@pytest.fixture
def beating(database_url: str) -> None:
    with db.transaction() as session:
        for name in PARTS:
            heartbeats.beat(session, name)


def test_all_well(cli: Cli, beating: None) -> None:
    shown = cli("health").stdout
    assert all(name in shown for name in PARTS)
    assert "Redis answers." in shown
    assert json.loads(cli("health", "--json").stdout)["well"] is True


def test_a_part_that_never_beat_or_no_longer_does_is_not_well(cli: Cli, beating: None) -> None:
    with db.transaction() as session:
        session.execute(text("UPDATE heartbeats SET beat_at = now() - interval '2 min' WHERE name = 'relay'"))
        session.execute(text("DELETE FROM heartbeats WHERE name = 'beat'"))
    found = json.loads(cli("health", "--json", status=1).stdout)
    states = {part["part"]: part["state"] for part in found["heartbeats"]}
    assert (states["relay"], states["beat"], states["maintenance"]) == ("stale", "never", "fresh")
    shown = cli("health", status=1).stdout
    assert "2m 0s ago" in shown
    assert "never" in shown
    cli("health", "--stale-after", "300", status=1)


def test_depths_are_counted(cli: Cli, beating: None, bury: Bury) -> None:
    bury(3)
    with db.transaction() as session:
        submit_many(session, [NewJob("maintenance.probe", {"label": "x"}) for _ in range(2)])
    queues = {queue["queue"]: queue for queue in json.loads(cli("health", "--json").stdout)["queues"]}
    assert (queues["maintenance"]["waiting"], queues["maintenance"]["dead"]) == (2, 3)


def test_redis_away_is_not_well_but_is_told(cli: Cli, beating: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    from config import settings

    settings.reload()
    redis.dispose()
    assert "Redis does not answer." in cli("health", status=1).stdout


def test_a_chain_that_stopped_or_fails_is_named(cli: Cli, beating: None) -> None:
    with db.transaction() as session:
        for chain, failing in (("eip155:1", "1 second"), ("eip155:56", "10 min")):
            session.execute(
                text(
                    "INSERT INTO chain_cursors (chain, next_block, failing_since, last_error, last_read_at)"
                    f" VALUES ('{chain}', 100, now() - interval '{failing}', 'answered 503', now())"
                )
            )
    shown = cli("health", status=1).stdout
    assert "failing lately" in shown
    assert "answered 503" in shown
    with db.transaction() as session:
        session.execute(text("UPDATE chain_cursors SET failing_since = NULL WHERE chain = 'eip155:56'"))
    cli("health")
    with db.transaction() as session:
        session.execute(text("UPDATE chain_cursors SET status = 'stopped' WHERE chain = 'eip155:56'"))
    chains = json.loads(cli("health", "--json", status=1).stdout)["chains"]
    assert [chain["state"] for chain in chains] == ["failing lately", "stopped"]
