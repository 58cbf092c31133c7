"""`make bench-webhooks`: what it costs to have webhooks checked, kept once, and asked for, before they are answered.

The API under uvicorn with one process, 64 connections, bodies of about 800 bytes, PostgreSQL that waits for the disk.

- webhooks.accept: webhooks answered 200 a second, each new, each with its job. Baseline: a bare ASGI app on the same
  server that stores the body and nothing else (bench.bare_webhooks). Sides take turns, the medians count. `.p99`: of
  the latency, in milliseconds.
- webhooks.repeat: the same ones once more.
- webhooks.settled.p99, .burst.p99: milliseconds from a webhook's arrival to the end of its handling, at 100 a second,
  and in a burst of 5,000. Baseline: the median of the same. With the relay and a worker of two processes. The gateway
  says that it is about nothing, so a provider's time is not in it.
- webhooks.ledger.p99: milliseconds from the moment at which the provider sends the first webhook of a payment to the
  journal that credits it, at 50 webhooks a second of 25 payments (bench.webhook_credits). Baseline: the median.
"""

import hmac
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psycopg

from bench import servers, webhook_credits
from bench.bare_webhooks import TABLE
from bench.figures import figure
from bench.load import Outcome, Plan, run, written
from local.server import free_port
from tests.support.gateways.razorpay import RazorpayDouble

ROUNDS = 3
BURST = 5_000
CONNECTIONS = 64
PACED_RATE, PACED = 100, 1_000
PAYMENTS, PAYMENTS_RATE = 500, 25
LEDGER_MS_MAX = 500
"""Less than a payer's browser takes to come back from the gateway's page: he finds his money there."""
SECRET = RazorpayDouble.webhook_secret.decode()
PATH = "/v1/webhooks/razorpay"
KEPT = '"success"'
_numbers = count()


@dataclass(frozen=True)
class Lab:
    folder: Path
    api: int
    bare: int
    """Ports."""

    def bodies(self, wanted: int) -> str:
        """A file of requests that were never sent."""
        lines = [
            (PATH, {"event": "payment.captured", "id": next(_numbers), "payload": "x" * 740}) for _ in range(wanted)
        ]
        return written(self.folder / f"requests-{next(_numbers)}", lines)

    def load(self, port: int, requests: str, *, connections: int = CONNECTIONS) -> Outcome:
        outcome = run(Plan(port, "none", requests, connections, KEPT, SECRET))
        assert set(outcome.statuses) == {"200"}, outcome.statuses
        assert outcome.results[KEPT] == outcome.requests, outcome.results
        return outcome


def one(query: str) -> Any:
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _median(outcomes: list[Outcome]) -> float:
    return statistics.median(outcome.rate for outcome in outcomes)


def accept(lab: Lab) -> None:
    ours: list[Outcome] = []
    bare: list[Outcome] = []
    again: list[Outcome] = []
    for port in (lab.api, lab.bare):  # each warms up
        lab.load(port, lab.bodies(500))
    for _ in range(ROUNDS):
        requests = lab.bodies(BURST)
        ours.append(lab.load(lab.api, requests))
        bare.append(lab.load(lab.bare, requests))
        again.append(lab.load(lab.api, requests))
    mine, theirs = _median(ours), _median(bare)
    figure("webhooks.accept", ours=mine, baseline=theirs, goal=">= 0.6", met=mine >= 0.6 * theirs)
    latencies = [statistics.median(outcome.p99_ms for outcome in side) for side in (ours, bare)]
    figure("webhooks.accept.p99", ours=latencies[0], baseline=latencies[1], goal="none")
    figure("webhooks.repeat", ours=_median(again), baseline=theirs, goal="none")
    kept = ROUNDS * BURST + 500
    assert one("SELECT count(*) FROM bench_bodies") == kept
    assert one("SELECT count(*) FROM webhook_receipts") == kept
    assert one("SELECT sum(repeats) FROM webhook_receipts") == ROUNDS * BURST
    assert one("SELECT count(*) FROM jobs WHERE task = 'fiat_webhook.handle'") == kept


def settled(lab: Lab) -> None:
    with _working("bench.webhook_worker"):
        servers.wait_until(_is_quiet, every=0.5)
        _forget()
        _paced(lab)
        servers.wait_until(_is_quiet, every=0.2)
        _tell("webhooks.settled.p99")
        _forget()
        lab.load(lab.api, lab.bodies(BURST))
        servers.wait_until(_is_quiet, every=0.2)
        _tell("webhooks.settled.burst.p99")


def ledger(lab: Lab, double: RazorpayDouble) -> None:
    _forget()
    with _working("workers.main"):
        p99, p50 = webhook_credits.told(double, f"http://127.0.0.1:{lab.api}", payments=PAYMENTS, rate=PAYMENTS_RATE)
    figure("webhooks.ledger.p99", ours=p99, baseline=p50, goal=f"<= {LEDGER_MS_MAX} ms", met=p99 <= LEDGER_MS_MAX)


@contextmanager
def _working(app: str) -> Iterator[None]:
    with (
        servers.process(["-m", "workers.relay"]),
        servers.process(servers.worker(app, "fiat_webhook", concurrency=2)),
    ):
        yield


def _is_quiet() -> bool:
    return bool(one("SELECT count(*) = 0 FROM webhook_receipts WHERE settled_at IS NULL"))


def _forget() -> None:
    one("WITH gone AS (DELETE FROM webhook_receipts RETURNING 1) SELECT count(*) FROM gone")


def _paced(lab: Lab) -> None:
    with httpx.Client(base_url=f"http://127.0.0.1:{lab.api}", timeout=30) as client:
        begin = time.monotonic()
        for n in range(PACED):
            time.sleep(max(0.0, begin + n / PACED_RATE - time.monotonic()))
            body = b'{"id":%d,"payload":"%s"}' % (next(_numbers), b"x" * 780)
            headers = {"X-Razorpay-Signature": hmac.new(SECRET.encode(), body, "sha256").hexdigest()}
            assert client.post(PATH, content=body, headers=headers).status_code == 200


def _tell(name: str) -> None:
    took = "extract(epoch FROM settled_at - received_at) * 1000"
    p99, p50 = (
        float(one(f"SELECT percentile_cont({share}) WITHIN GROUP (ORDER BY {took}) FROM webhook_receipts"))
        for share in (0.99, 0.5)
    )
    figure(name, ours=p99, baseline=p50, goal="none")


@contextmanager
def lab(folder: Path) -> Iterator[Lab]:
    with psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True) as connection:
        connection.execute(TABLE.encode())
    made = Lab(folder, free_port(), free_port())
    with _server("api.main:app", made.api, "/health"), _server("bench.bare_webhooks:app", made.bare, None):
        yield made


@contextmanager
def _server(app: str, port: int, health: str | None) -> Iterator[None]:
    """As local.processes runs the API."""
    arguments = ["-m", "uvicorn", app, "--port", str(port), "--no-access-log", "--no-server-header",
                 "--no-proxy-headers", "--log-level", "warning"]  # fmt: skip
    with servers.process(arguments):
        servers.wait_until(lambda: _answers(port, health))
        yield


def _answers(port: int, health: str | None) -> bool:
    try:
        if health is None:
            return httpx.post(f"http://127.0.0.1:{port}/", content=b"first").status_code == 200
        return httpx.get(f"http://127.0.0.1:{port}{health}").status_code == 200
    except httpx.TransportError:
        return False


def main() -> None:
    with (
        servers.servers(),
        tempfile.TemporaryDirectory(prefix="tallyrail-bench-load-") as folder,
        webhook_credits.gateway() as double,
        lab(Path(folder)) as made,
    ):
        one("WITH gone AS (DELETE FROM bench_bodies RETURNING 1) SELECT count(*) FROM gone")
        accept(made)
        settled(made)
        ledger(made, double)


if __name__ == "__main__":
    main()
