"""Money by card through all that is real: API, relay and workers as processes, and a provider that sends webhooks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from core import db, jobs
from core.jobs import NewJob
from domain.access import service as access
from ledger import invariants
from ledger.assets import sync_assets
from local.processes import answers
from local.server import free_port
from tests.integration.fiat_payment.truths import truth
from tests.support.fleet import Fleet, wait_until
from tests.support.gateways.base import Webhook, before_reply
from tests.support.gateways.serve import environment
from tests.support.gateways.stripe import StripeDouble

USER = "user:42:available"
UNITS, FEE_BPS = 125_00, 200
FEE = UNITS * FEE_BPS // 10_000
RETURNED = 50_00
FEE_RETURNED = RETURNED * FEE_BPS // 10_000


@dataclass
class App:
    """An app over HTTP, and its payers at the double."""

    http: httpx.Client
    double: StripeDouble

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(path).raise_for_status().json()
        return found

    def post(self, path: str, body: dict[str, str], **headers: str) -> dict[str, Any]:
        reply = self.http.post(path, json=body, headers=headers | {"Idempotency-Key": str(uuid4())})
        assert reply.status_code == 202, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def asks(self) -> dict[str, Any]:
        """For a payment, and waits for its page."""
        body = {"account": USER, "currency": StripeDouble.currency, "units": str(UNITS),
                "return_url": "https://shop.example/paid"}  # fmt: skip
        return self.post("/v1/fiat-payments", body, Prefer="wait=15")

    def sends_twice(self) -> list[Webhook]:
        """The provider does, all that it has to say."""
        sent = self.double.take()
        assert [one.post(f"{self.http.base_url}/v1/webhooks/stripe") for one in sent * 2] == [200] * 2 * len(sent)
        return sent

    def until(self, payment: str, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        path = f"/v1/fiat-payments/{payment}"
        wait_until(lambda: true(self.get(path)))
        return self.get(path)

    def balance(self, account: str = USER) -> int:
        rows = self.get(f"/v1/accounts/{account}")["balances"]
        return {row["asset"]: int(row["balance"]) for row in rows}.get(StripeDouble.currency, 0)


@pytest.fixture
def app(fleet: Fleet, database_url: str) -> Iterator[App]:
    port = free_port()
    with StripeDouble() as double:
        fleet.environment |= environment(double) | {"FIAT_FEE_BPS": str(FEE_BPS)}
        fleet.start(
            "api",
            ["-m", "uvicorn", "api.main:app", "--port", str(port), "--no-access-log", "--no-server-header",
             "--no-proxy-headers"],
        )  # fmt: skip
        fleet.relay()
        with db.transaction() as session:
            sync_assets(session)
            access.create_tenant(session, "shop", name="Shop")
            key = access.create_key(session, "shop", name="test").secret
            refreshed = jobs.submit(session, NewJob("fiat_webhook.refresh_gateways", {}))
        fleet.worker(queues="fiat_webhook", app="workers.main")

        def is_refreshed() -> bool:
            with db.transaction() as session:
                job = jobs.get(session, refreshed)
            return job is not None and job.status == "succeeded"

        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/health"), timeout=60)
        wait_until(is_refreshed, timeout=60)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=20) as http:
            yield App(http, double)


def test_what_was_paid_less_the_fee_is_there_once_and_what_goes_back_is_gone_once(app: App) -> None:
    # Paid, told twice and credited, all before the provider answers our own call for the order.
    early: list[str] = []

    def paid_before_the_answer() -> None:
        (reference,) = (row["client_reference_id"] for row in app.double.objects.values() if "success_url" in row)
        app.double.pay(reference)
        app.sends_twice()
        early.append(app.until(reference, lambda found: found["state"] == "credited")["state"])

    app.double.upset(before_reply(paid_before_the_answer))
    first = app.asks()["id"]
    wait_until(lambda: early == ["credited"])
    assert app.balance() == UNITS - FEE

    second = app.asks()
    assert (second["state"], second["provider"]) == ("pending", "stripe")
    assert second["page_url"].startswith("https://checkout.stripe.com/")
    app.double.pay(second["id"])
    app.sends_twice()
    app.until(second["id"], lambda found: found["state"] == "credited")
    assert app.balance() == 2 * (UNITS - FEE)

    app.post(f"/v1/fiat-payments/{first}/refunds", {"units": str(RETURNED), "reason": "one too many"})
    app.until(first, lambda found: found["refunds"][0]["state"] == "pending")
    app.double.finish_refunds()
    app.sends_twice()
    app.until(first, lambda found: found["refunded_units"] == str(RETURNED))
    assert app.balance() == 2 * (UNITS - FEE) - (RETURNED - FEE_RETURNED)

    app.double.charge_back(second["id"])
    app.sends_twice()
    lost = app.until(second["id"], lambda found: found["state"] == "charged_back")
    assert (lost["charged_back_units"], lost["credited_units"]) == (str(UNITS), "0")
    assert app.balance() == UNITS - FEE - (RETURNED - FEE_RETURNED)

    assert app.balance("gateway:stripe") == sum(truth(app.double, each).owed for each in (first, second["id"]))
    assert app.balance("house:fees") == FEE - FEE_RETURNED
    settled = "SELECT count(*) FROM webhook_receipts WHERE settled_at IS NULL"
    wait_until(lambda: _scalar(settled) == 0)
    with db.transaction() as session:
        assert invariants.verify(session) == []
    assert _scalar("SELECT count(*) FROM jobs WHERE status = 'dead'") == 0


def _scalar(statement: str) -> int:
    with db.transaction() as session:
        return int(session.scalar(text(statement)) or 0)
