"""What Prometheus reads: generation and mode, how far the books are behind, and open breaks."""

import pytest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import text

from api import hot_metrics
from core import db
from core.hot import hand, status, store
from core.hot.client import client
from core.hot.hand import Hand
from core.hot.presence import note_conflict
from core.hot.store import StoreMode
from local.valkey import Valkey
from tests.support.hot_toy import ADD, item

pytestmark = pytest.mark.usefixtures("toy")


def read() -> dict[str, dict[str, float]]:
    """By name and label."""
    with db.transaction() as session:
        now = status.read(session)
        families: list[GaugeMetricFamily] = hot_metrics.families(session, now)
    families += hot_metrics.waiting(now)
    return {
        each.name.removeprefix("tallyrail_"): {"".join(sample.labels.values()): sample.value for sample in each.samples}
        for each in families
    }


def test_figures(server: Valkey) -> None:
    first = read()
    assert first["hot_generation"] == {"": 1}
    assert first["hot_open"] == {"redis": 0, "postgres": 0}  # closing
    hand.prepare(client(), 2, 3, [ADD])
    with db.transaction() as session:
        store.open_next(session, 1, mode=StoreMode.REDIS, shards=3, reason="test")
        note_conflict(session, 2, 0, 1, kept="a.b", other="a.c")
        session.execute(text("UPDATE hot_shards SET applied_at = now() - interval '90 s'"))
    shard = item("a").shard
    Hand(client(), 2).decide(ADD, [item("a") for _ in range(5)])
    then = read()
    assert then["hot_generation"] == {"": 2}
    assert then["hot_open"] == {"redis": 1, "postgres": 0}
    assert then["hot_turn_age_seconds"][""] < 60
    assert then["hot_deciders"] == {"": 0}
    assert then["breaks"] == {"hot.gap": 0, "hot.orphan": 0, "hot.conflict": 1}
    others = {f"{each}" for each in range(3)} - {f"{shard}"}
    assert then["hot_waiting_events"] == {f"{shard}": 5} | dict.fromkeys(others, 0)
    assert 90 <= then["hot_lag_seconds"][f"{shard}"] < 150
    assert {then["hot_lag_seconds"][each] for each in others} == {0}
    server.stop()
    gone = read()
    assert gone["hot_waiting_events"] == gone["hot_lag_seconds"] == {}
