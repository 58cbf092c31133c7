"""A destination is nowhere in clear: not in a row, a log, a job, an error, a kept answer or Redis."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus
from uuid import UUID

import httpx
import pytest
import structlog
from sqlalchemy import text
from structlog.testing import LogCapture

from config import assets
from core import redis
from core.db import transaction
from core.errors import TransientError
from domain.access.idempotency import request_hash
from domain.beneficiary import service
from providers.payout.base import Destination
from tasks import beneficiaries as tasks
from tasks.base import TASKS, run_jobs
from tests.integration.api.conftest import api_url, client, hot_environment, new_key
from tests.integration.beneficiary.desk import enquiries
from tests.integration.beneficiary.scripted import ScriptedProvider

__all__ = ["api_url", "client", "hot_environment", "new_key"]
NUMBER, VPA, HOLDER, TAG = "9182736455", "canary.9182@okaxis", "Canary Serinus Domestica", "memo-918273645"
FORBIDDEN = [NUMBER, "canary.9182", "Serinus", "Domestica", TAG, "canary.9182%40okaxis", "SERINUS"]
TRON_CHAIN = next(chain for chain in assets.registry().chains if chain.startswith("tron:"))
TRON = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"


@pytest.fixture
def captured() -> Iterator[LogCapture]:
    before = structlog.get_config()
    capture = LogCapture()
    structlog.configure(processors=[structlog.processors.format_exc_info, capture])
    yield capture
    structlog.configure(**before)


def everything() -> dict[str, str]:
    """What stands in every table, as text, and in Redis."""
    found: dict[str, str] = {}
    with transaction() as session:
        tables = session.scalars(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
        ).all()
    for table in tables:
        with transaction() as session:
            rows = session.execute(text(f"SELECT to_jsonb(t)::text FROM {table} AS t")).scalars().all()
        # A bytea is hexadecimal there.
        found[table] = "\n".join(rows)
    store = redis.client()
    for key in store.scan_iter("*"):
        found[f"redis {key!r}"] = repr(key) + repr(store.dump(key))
    return found


def seen_in(places: dict[str, str]) -> list[tuple[str, str]]:
    spelled = [*FORBIDDEN, *(each.encode().hex() for each in FORBIDDEN)]
    return [(place, secret) for place, words in places.items() for secret in spelled if secret in words]


class Wild(ScriptedProvider):
    """Breaks its contract: what it was asked stands in its errors."""

    def holder(self, destination: Destination) -> str | None:
        if [each.number for each in self.asked].count(destination.number) == 0:
            name = quote_plus(destination.holder or "")
            words = (
                f"GET /resolve?vpa={quote(destination.number)}&n={name.upper()}: {destination!s} {destination.number}"
            )
            self.fails.append(TransientError(words))
        return super().holder(destination)


def requests() -> list[dict[str, Any]]:
    account = {"account": "user:42:available"}
    return [
        {**account, "kind": "bank_ng", "bank_code": "305", "number": NUMBER, "holder": HOLDER, "label": "Mum"},
        {**account, "kind": "upi", "number": VPA, "holder": HOLDER},
        {**account, "kind": "chain", "chain": TRON_CHAIN, "number": TRON, "tag": TAG},
        {**account, "kind": "bank_ng", "bank_code": "058", "number": NUMBER, "holder": HOLDER},  # refused: check digit
        {**account, "kind": "iban", "number": f"DE00{NUMBER}", "holder": HOLDER},
        {**account, "kind": "chain", "chain": "eip155:1", "number": f"0x{NUMBER}", "holder": HOLDER},
        {**account, "kind": "upi", "number": VPA, "holder": HOLDER, "label": f"it is {VPA}"},
        {**account, "kind": "bank_ng", "bank_code": "305", "number": NUMBER, "holder": HOLDER, "extra": NUMBER},
        {**account, "kind": "bank_ng", "bank_code": "305", "number": [NUMBER], "holder": HOLDER},
    ]


@pytest.mark.usefixtures("vault_keys")
def test_a_canary_is_nowhere_in_clear(
    captured: LogCapture, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: dict[str, str] = {}
    for number, body in enumerate(requests()):
        reply = client.post("/v1/beneficiaries", json=body, headers={"Idempotency-Key": f"k{number}"})
        assert reply.status_code == (201 if number < 3 else 422), reply.text
        places[f"answer {number}"] = reply.text
    # Whoever is asked fails at first with a URL that has it all, then tells another's name, which is a canary, too.
    wild = Wild()
    wild.holders = {NUMBER: "SERINUS CANARIA", VPA: HOLDER}
    monkeypatch.setattr(tasks, "providers", lambda: {"acme": wild})
    for _ in range(2):
        with transaction() as session:
            session.execute(text("UPDATE jobs SET run_at = now() WHERE status = 'queued'"))
        run_jobs(TASKS[service.VERIFY], [job.id for job in enquiries()])
    assert sorted(job.status for job in enquiries()) == ["succeeded", "succeeded"]
    for row in json.loads(places["answer 0"]), json.loads(places["answer 1"]):
        places[f"read {row['kind']}"] = client.get(f"/v1/beneficiaries/{row['id']}").text
    assert "holder_differs" in places["read bank_ng"] and '"verified"' in places["read upi"]
    places["list"] = client.get("/v1/beneficiaries").text
    places |= everything()
    assert {"jobs", "idempotency_keys", "beneficiaries", "beneficiary_events"} <= set(places)
    assert "******6455" in places["beneficiaries"] and "acme did not tell" in json.dumps(captured.entries, default=repr)
    places["logs"] = json.dumps(captured.entries, default=repr)
    assert seen_in(places) == []
    with transaction() as session:  # and it is there
        first = service.take(session, UUID(json.loads(places["answer 0"])["id"]), tenant="shop")
    assert first.destination.number == NUMBER
    # The hash of a request can't be found by trying: no plain hash of it stands there.
    with transaction() as session:
        kept = session.scalars(text("SELECT request_hash FROM idempotency_keys")).all()
    assert len(kept) == 3 and request_hash("beneficiary", requests()[0]) not in [bytes(each) for each in kept]
