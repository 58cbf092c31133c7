"""How long money takes that a webhook tells of: from its arrival to the journal that credits the payment.

The gateway is the double of Razorpay that tests have: real HTTP in the provider's wire format, in the benchmark's own
process. Payments are asked for at our API and get their orders there. Then payers pay at a steady rate, and each makes
the provider send two webhooks, as Razorpay does: both are kept, and for each the provider is asked for the order before
anything is credited, as nothing tells the worker to trust webhooks.
"""

import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import httpx
import psycopg

from bench import servers
from bench.figures import percentile
from core import db
from domain.access import service as access
from domain.fiat_payment import service
from providers.fiat import registry
from tests.support.gateways.base import Webhook
from tests.support.gateways.razorpay import KEY_ID, KEY_SECRET, RazorpayDouble

LIMITS = (100, 500_000_00)
TENANT, ACCOUNT = "bench", "user:42:available"
SENDERS = 8
"""Connections that the provider delivers over."""


@contextmanager
def gateway() -> Iterator[RazorpayDouble]:
    """The double, and an environment in which whatever is started next has it."""
    with RazorpayDouble() as double:
        os.environ.update(
            {
                "FIAT_RAZORPAY_KEY_ID": KEY_ID,
                "FIAT_RAZORPAY_KEY_SECRET": KEY_SECRET,
                "FIAT_RAZORPAY_BASE_URL": double.url,
                "FIAT_RAZORPAY_CURRENCIES": json.dumps({double.currency: LIMITS}),
                "WEBHOOK_SECRETS": json.dumps({double.name: [double.webhook_secret.decode()]}),
            }
        )
        yield double


def credited(double: RazorpayDouble, url: str, *, payments: int, rate: int) -> list[float]:
    """Milliseconds of each payment, so many a second. Every one is credited in full, or this fails."""
    references = _ordered(double, url, payments)
    webhooks = [_paid(double, reference) for reference in references]
    sent_at = _sent(url, webhooks, rate)
    servers.wait_until(lambda: len(_booked()) == payments, every=0.5)
    booked = _booked()
    assert booked.keys() == sent_at.keys()
    assert _balance() == payments * double.units
    return [(booked[each] - sent_at[each]) * 1_000 for each in references]


def told(double: RazorpayDouble, url: str, *, payments: int, rate: int) -> tuple[float, float]:
    """p99 and p50."""
    taken = credited(double, url, payments=payments, rate=rate)
    return percentile(taken, 99), percentile(taken, 50)


def _ordered(double: RazorpayDouble, url: str, payments: int) -> list[str]:
    """Payments whose order is at the provider. Returns our ids, which are the provider's references."""
    with db.transaction() as session:
        service.refresh_gateways(session, registry.gateways())
        access.create_tenant(session, TENANT, name="Benchmark")
        secret = access.create_key(session, TENANT, name="bench", scopes=list(access.Scope)).secret
    asked = {"account": ACCOUNT, "currency": double.currency, "units": str(double.units), "provider": double.name,
             "return_url": "https://shop.example/paid"}  # fmt: skip
    headers = {"Authorization": f"Bearer {secret}"}
    made = []
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
        for number in range(payments):
            reply = client.post("/v1/fiat-payments", json=asked, headers={"Idempotency-Key": f"bench-{number}"})
            assert reply.is_success, reply.text
            made.append(reply.json()["id"])
    pending = "SELECT count(*) FROM fiat_payments WHERE state = 'pending'"
    servers.wait_until(lambda: _rows(pending) == [(payments,)], every=0.5)
    return made


def _paid(double: RazorpayDouble, reference: str) -> Sequence[Webhook]:
    with double.lock:
        double.take()
        double.pay(reference)
        return double.take()


def _sent(url: str, webhooks: Sequence[Sequence[Webhook]], rate: int) -> dict[str, float]:
    """Deliver those of each payment at its time. Returns when the first was sent, by the clock of this machine."""
    due: SimpleQueue[Sequence[Webhook] | None] = SimpleQueue()
    sent_at: dict[str, float] = {}
    statuses: set[int] = set()

    def deliver() -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while (some := due.get()) is not None:
                for one in some:
                    sent_at.setdefault(some[0].reference, time.time())
                    reply = client.post(f"{url}/v1/webhooks/razorpay", content=one.body, headers=dict(one.headers))
                    statuses.add(reply.status_code)

    threads = [threading.Thread(target=deliver) for _ in range(SENDERS)]
    for thread in threads:
        thread.start()
    begin = time.monotonic()
    for n, some in enumerate(webhooks):
        time.sleep(max(0.0, begin + n / rate - time.monotonic()))
        due.put(some)
    for _ in threads:
        due.put(None)
    for thread in threads:
        thread.join()
    assert statuses == {200}, statuses
    return sent_at


def _booked() -> dict[str, float]:
    """When the journal that credits each payment was booked: by PostgreSQL's clock, just before its commit."""
    query = """
        SELECT split_part(reference, ':', 2), extract(epoch FROM booked_at)::float8 FROM ledger_journals
        WHERE category = 'fiat_payment.credit'
    """
    return dict(_rows(query))


def _balance() -> int:
    query = "SELECT sum(balance)::bigint FROM ledger_accounts WHERE code = 'user:42:available'"
    return int(_rows(query)[0][0])


def _rows(query: str) -> list[Any]:
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as connection:
        return connection.execute(query.encode()).fetchall()
