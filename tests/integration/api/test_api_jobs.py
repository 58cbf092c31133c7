"""Reading and cancelling jobs."""

import httpx
from sqlalchemy import text

from core import db, jobs
from core.jobs import NewJob
from tests.integration.api.conftest import is_problem


def _submit(*tasks: str, **options: str) -> list[str]:
    with db.transaction() as session:
        return [str(jobs.submit(session, NewJob(task, {}, tenant="shop", **options))) for task in tasks]  # type: ignore[arg-type]


def test_a_queued_job_is_cancelled_once_and_a_begun_one_not(client: httpx.Client) -> None:
    [first, second] = _submit("maintenance.a", "maintenance.b")
    for _ in range(2):
        reply = client.post(f"/v1/jobs/{first}/cancel")
        assert reply.status_code == 200
        assert reply.json()["status"] == "cancelled" and reply.json()["finished_at"]
    with db.transaction() as session:
        session.execute(text("UPDATE jobs SET status = 'running', lease_until = now() WHERE id = :id"), {"id": second})
    is_problem(client.post(f"/v1/jobs/{second}/cancel"), 409, "conflict")
    assert client.get(f"/v1/jobs/{second}").json()["status"] == "running"


def test_pages_stay_put_while_jobs_are_added(client: httpx.Client) -> None:
    before = _submit(*["maintenance.a"] * 7)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = client.get("/v1/jobs", params={"limit": 3} | ({"cursor": cursor} if cursor else {})).json()
        seen += [job["id"] for job in page["jobs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        _submit("maintenance.a")
    assert seen == before[::-1]


def test_jobs_are_found_by_status_task_and_subject(client: httpx.Client) -> None:
    [first] = _submit("maintenance.a", subject="deposit:1")
    [second] = _submit("tx_monitor.b")
    client.post(f"/v1/jobs/{second}/cancel")
    for query, found in (
        ({"status": "queued"}, [first]),
        ({"status": "cancelled"}, [second]),
        ({"task": "tx_monitor.b"}, [second]),
        ({"subject": "deposit:1"}, [first]),
        ({"subject": "deposit:2"}, []),
    ):
        assert [job["id"] for job in client.get("/v1/jobs", params=query).json()["jobs"]] == found


CURSORS = ["", "x", "====", "am9iczo", "\x00", "ä", "A" * 4_000, "ZGVwb3NpdHM6AAAAAAAAAAAAAAAAAAAAAA"]


def test_a_cursor_that_we_did_not_make_is_400(client: httpx.Client) -> None:
    for cursor in CURSORS:
        document = is_problem(client.get("/v1/jobs", params={"cursor": cursor}), 400, "invalid-cursor")
        assert document["errors"] == [{"parameter": "cursor", "detail": document["detail"]}]


def test_a_bad_parameter_is_named(client: httpx.Client) -> None:
    for query in ("status=lost", "limit=0", "limit=201", "limit=x", "task=%00", "subject=a%20b"):
        document = is_problem(client.get(f"/v1/jobs?{query}"), 422, "invalid-request")
        assert document["errors"][0]["parameter"] == query.partition("=")[0]  # type: ignore[index]


def test_errors_of_ours_are_told_and_others_only_named(client: httpx.Client) -> None:
    [first, second] = _submit("maintenance.a", "maintenance.b")
    with db.transaction() as session:
        for job_id, kind in ((first, "permanent"), (second, "unexpected")):
            session.execute(
                text("UPDATE jobs SET last_error = jsonb_build_object('kind', cast(:kind AS text),"
                     " 'message', 'why', 'traceback', 'Traceback (most recent call last)') WHERE id = :id"),
                {"id": job_id, "kind": kind},
            )  # fmt: skip
    assert client.get(f"/v1/jobs/{first}").json()["error"] == {"kind": "permanent", "message": "why"}
    assert client.get(f"/v1/jobs/{second}").json()["error"] == {"kind": "unexpected", "message": None}
    assert "Traceback" not in client.get("/v1/jobs").text
