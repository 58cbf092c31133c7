"""What load balancers, Prometheus and people read."""

import httpx
import pytest
from sqlalchemy import text

from config.queues import QUEUES
from core import db, jobs
from core.hot.store import StoreMode
from core.jobs import NewJob
from domain.health import service as health
from tests.integration.api.hot import HotStore


def test_ready_names_what_fails(hot_store: HotStore, client: httpx.Client, superuser_url: str) -> None:
    checks = client.get("/ready").json()["checks"]
    assert checks["database"] == checks["redis"] == checks["migrations"] == checks["hot_store"] == "ok"
    names = [*QUEUES, "relay", "sync", "beat"]
    assert {name for name, told in checks.items() if told != "ok"} == {f"heartbeat:{name}" for name in names}
    with db.transaction() as session:
        for name in names:
            health.beat(session, name)
    reply = client.get("/ready")
    assert reply.status_code == 200
    assert reply.json()["status"] == "ready"
    with db.transaction() as session:
        session.execute(text("UPDATE heartbeats SET beat_at = now() - interval '2 minutes' WHERE name = 'relay'"))
    reply = client.get("/ready")
    assert reply.status_code == 503
    assert [name for name, told in reply.json()["checks"].items() if told != "ok"] == ["heartbeat:relay"]
    hot_store.close()
    assert "nothing is decided" in client.get("/ready").json()["checks"]["hot_store"]
    hot_store.turn(StoreMode.POSTGRES)  # which decides claims
    assert client.get("/ready").json()["checks"]["hot_store"] == "ok"


def test_ready_sees_a_database_that_is_not_at_head(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.routes.health.head", lambda: "9999")
    reply = client.get("/ready")
    assert reply.status_code == 503
    assert "9999" in reply.json()["checks"]["migrations"]


def test_metrics_count_requests_by_route_and_jobs_by_queue(client: httpx.Client) -> None:
    with db.transaction() as session:
        job_id = jobs.submit(session, NewJob("maintenance.a", {}, tenant="shop"))
    for _ in range(3):
        client.get(f"/v1/jobs/{job_id}")
    client.get("/wp-admin")
    client.patch("/coffee")
    told = client.get("/metrics").text
    assert 'tallyrail_http_request_seconds_count{method="GET",route="/v1/jobs/{job_id}",status="200"} 3.0' in told
    assert 'tallyrail_http_request_seconds_count{method="OTHER",route="unmatched",status="404"} 2.0' in told
    assert 'tallyrail_jobs{queue="maintenance",status="waiting"} 1.0' in told
    assert 'tallyrail_jobs{queue="tx_monitor",status="dead"} 0.0' in told
    assert 'tallyrail_jobs_oldest_due_seconds{queue="maintenance"}' in told
    assert "tallyrail_database_up 1.0" in told
    assert "wp-admin" not in told


def test_the_page_of_the_api_loads_nothing(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "POST /v1/deposits" in page.text
    assert "<script" not in page.text and "src=" not in page.text and "http://" not in page.text
