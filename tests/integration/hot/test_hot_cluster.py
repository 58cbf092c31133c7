"""The hot store on a cluster of three real servers, of which one is killed."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from core.hot.wire import slot_of
from local.valkey import Valkey
from tests.integration.hot.conftest import hot_settings
from tests.support import hot_toy
from tests.support.fleet import Fleet, wait_until
from tests.support.hot_cluster import Cluster
from tests.support.hot_lab import Lab


@pytest.fixture
def cluster(tmp_path: Path, superuser_url: str) -> Iterator[Cluster]:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(hot_toy.TABLE)
    with Cluster(tmp_path) as made, hot_settings(made.url, HOT_REDIS_CLUSTER="true", HOT_SHARDS="6"):
        yield made


def test_a_cluster_decides_and_loses_a_server(cluster: Cluster, fleet: Fleet, tmp_path: Path) -> None:
    assert len({slot_of(f"h{shard}") * 3 // 16_384 for shard in range(6)}) == 3, "the shards lie on all servers"
    lab = Lab(Valkey(tmp_path / "none"), fleet, tmp_path)
    lab.sync()
    lab.sync("other")
    lab.loader()
    lab.await_open()
    lab.await_more(300)
    wait_until(lambda: len({row.shard for row in lab.rows()}) > 1)
    lab.check()
    before = lab.now().number
    cluster.kill(1)
    cluster.start(1)
    lab.await_open(after=before)
    lab.await_more(300)
    lab.check()
    fleet.kill("sync")
    lab.await_more(100)
    lab.check()
    assert lab.breaks()["hot.orphan"] == 0


def test_slots_are_those_of_the_specification() -> None:
    """https://valkey.io/topics/cluster-spec/: CRC16 of 123456789 is 31C3."""
    assert slot_of("123456789") == 0x31C3
