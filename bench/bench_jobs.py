"""`make bench-jobs`: what durable jobs cost, beside Celery without them, in the same run.

- jobs.throughput: 10,000 jobs of one small local step in a backlog, per second. Baseline: bare Celery tasks of one
  small PostgreSQL transaction. Both prefork with the same number of children; each side is timed from its first row to
  its last, three times in turn, and the medians are compared.
- jobs.start_latency: at 100 jobs a second, from the moment the client has its HTTP 202 to the start of the task's
  function, in milliseconds. Baseline: from the call of apply_async to the start of the task's function.
- jobs.ingest: deposits a second over POST /v1/jobs:batch, 500 a body. Baseline: multi-row INSERTs of the same rows
  into the same tables, 500 requests' worth a transaction, with no API, no validation and no idempotency.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import psycopg

from bench import servers
from bench.figures import figure, percentile

JOBS = 10_000
ROUNDS = 3
CHILDREN = 2
LATENCY_RATE = 100
LATENCY_SECONDS = 15
WARM_UP = 200
BATCH = 500
BATCHES = 20


def _connect() -> psycopg.Connection[Any]:
    return psycopg.connect(os.environ["DATABASE_OWNER_URL"], autocommit=True)


def _rate(connection: psycopg.Connection[Any]) -> float:
    """Rows a second from the first to the last. Empties the table."""

    def done() -> bool:
        row = connection.execute("SELECT count(*) FROM bench_work").fetchone()
        return row is not None and row[0] >= JOBS

    servers.wait_until(done, every=0.1)
    row = connection.execute(
        "SELECT count(*), extract(epoch FROM max(at) - min(at))::float8 FROM bench_work"
    ).fetchone()
    assert row is not None
    assert row[0] == JOBS, f"{row[0]} rows of {JOBS} jobs: something was done twice"
    connection.execute("TRUNCATE bench_work")
    return float(row[0] / row[1])


def _throughput_ours(connection: psycopg.Connection[Any]) -> float:
    from core import db, jobs
    from core.jobs import NewJob

    for start in range(0, JOBS, 1_000):
        with db.transaction() as session:
            jobs.submit_many(
                session,
                [NewJob("maintenance.bench_step", {"label": f"job {n}"}) for n in range(start, start + 1_000)],
            )
    with (
        servers.process(["-m", "workers.relay"]),
        servers.process(servers.worker("bench.worker", "maintenance", concurrency=CHILDREN)),
    ):
        return _rate(connection)


def _throughput_bare(connection: psycopg.Connection[Any]) -> float:
    from bench.bare import step

    for n in range(JOBS):
        step.apply_async((f"job {n}",))
    with servers.process(servers.worker("bench.bare", "bare", concurrency=CHILDREN)):
        return _rate(connection)


def throughput() -> None:
    ours, bare = [], []
    with _connect() as connection:
        for _ in range(ROUNDS):
            ours.append(_throughput_ours(connection))
            bare.append(_throughput_bare(connection))
    figure("jobs.throughput", ours=statistics.median(ours), baseline=statistics.median(bare), goal=">= 1.0")


@contextmanager
def _api() -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """The API under uvicorn, with a tenant, a key and an address to pay."""
    from core import db
    from domain.access import service as access
    from domain.deposit import service as deposits
    from local.server import free_port

    with db.transaction() as session:
        access.create_tenant(session, "bench", name="Benchmark")
        secret = access.create_key(session, "bench", name="bench", scopes=list(access.Scope)).secret
        deposits.register_addresses(session, tenant="bench", chain=CHAIN, addresses=[ADDRESS], shared=True)
    port = free_port()
    arguments = ["-m", "uvicorn", "api.main:app", "--port", str(port), "--log-level", "warning"]
    with servers.process(arguments), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {secret}"

        def up() -> bool:
            try:
                return client.get("/health").status_code == 200
            except httpx.TransportError:
                return False

        servers.wait_until(up)
        yield client, {}


CHAIN = "eip155:1"
ADDRESS = "0x" + "ab" * 20
_numbers = count(1)


def _deposit() -> dict[str, Any]:
    return {
        "asset": f"{CHAIN}/slip44:60",
        "address": ADDRESS,
        "chain_tx": f"0x{next(_numbers):064x}",
        "units": "1000000000000000000",
        "account": "user:42:available",
    }


def _starts(expected: int) -> dict[str, float]:
    from core import redis

    servers.wait_until(lambda: int(redis.client().llen("bench:starts")) >= expected, timeout=60)
    lines = [str(line) for line in redis.client().lrange("bench:starts", 0, -1)]
    redis.client().delete("bench:starts")
    return {stamp: float(at) for stamp, at in (line.rsplit(" ", 1) for line in lines)}


Send = Callable[[int], tuple[str, float]]
"""Asks for job n. Returns its name and the time from which to count."""


def _paced(send: Send) -> dict[str, float]:
    """Ask for jobs at the rate."""
    sent = {}
    begin = time.monotonic() + 0.5
    for n in range(LATENCY_RATE * LATENCY_SECONDS):
        pause = begin + n / LATENCY_RATE - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        name, at = send(n)
        sent[name] = at
    return sent


def _latencies(send: Send) -> list[float]:
    """Milliseconds, each job's, once both sides run and are warm."""
    for n in range(WARM_UP):
        send(-1 - n)
    _starts(WARM_UP)
    sent = _paced(send)
    started = _starts(len(sent))
    return [(started[name] - at) * 1_000 for name, at in sent.items()]


def start_latency(client: httpx.Client) -> None:
    from bench.bare import start

    def ours(n: int) -> tuple[str, float]:
        reply = client.post("/v1/deposits", json=_deposit(), headers={"Idempotency-Key": f"latency-{n}"})
        at = time.time()
        assert reply.status_code == 202, reply.text
        return reply.json()["id"], at

    def bare(n: int) -> tuple[str, float]:
        at = time.time()
        start.apply_async((str(n),))
        return str(n), at

    with (
        servers.process(["-m", "workers.relay"]),
        servers.process(servers.worker("bench.worker", "tx_monitor", concurrency=CHILDREN)),
    ):
        mine = _latencies(ours)
    with servers.process(servers.worker("bench.bare", "bare", concurrency=CHILDREN)):
        theirs = _latencies(bare)
    for percent, goal in ((50, "<= 3"), (99, "<= 5")):
        figure(
            f"jobs.start_latency.p{percent}",
            ours=percentile(mine, percent),
            baseline=percentile(theirs, percent),
            goal=goal,
        )


def _columns(connection: psycopg.Connection[Any], table: str) -> list[str]:
    rows = connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        " AND attidentity = '' ORDER BY attnum",
        [table],
    )
    return [row[0] for row in rows]


def ingest(client: httpx.Client) -> None:
    """Ours first; then the very rows it wrote are deleted and inserted again by plain multi-row INSERTs."""
    bodies = [
        json.dumps({"requests": [{"kind": "deposit", "key": f"b{n}-{i}", "body": _deposit()} for i in range(BATCH)]})
        for n in range(BATCHES + 1)
    ]
    tables = ("deposits", "deposit_events", "jobs", "idempotency_keys")
    with _connect() as connection:
        connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        begin = 0.0
        for n, body in enumerate(bodies):
            if n == 1:  # the first warms up
                begin = time.monotonic()
            reply = client.post("/v1/jobs:batch", content=body, headers={"Content-Type": "application/json"})
            assert reply.status_code < 300, reply.text
            assert all(result["status"] == 202 for result in reply.json()["results"]), reply.text[:1_000]
        ours = BATCH * BATCHES / (time.monotonic() - begin)
    figure("jobs.ingest", ours=ours, baseline=_bare_inserts(tables), goal=">= 0.5")


def _bare_inserts(tables: tuple[str, ...]) -> float:
    """The same rows again, by `INSERT INTO ... VALUES (...), (...)`. The faster of psycopg's two ways to bind them."""
    from psycopg import ClientCursor, Cursor, sql
    from psycopg.types.json import Jsonb

    batches: list[list[tuple[str, list[Any]]]] = [[] for _ in range(BATCHES)]
    with _connect() as connection:
        for table in tables:
            names = _columns(connection, table)
            columns = sql.SQL(", ").join(map(sql.Identifier, names))
            query = sql.SQL("SELECT {} FROM {} ORDER BY ctid").format(columns, sql.Identifier(table))
            rows = [
                tuple(Jsonb(value) if isinstance(value, dict) else value for value in row)
                for row in connection.execute(query)
            ][-BATCH * BATCHES :]
            one = sql.SQL("({})").format(sql.SQL(", ").join([sql.Placeholder()] * len(names)))
            statement = sql.SQL("INSERT INTO {} ({}) VALUES {}").format(
                sql.Identifier(table), columns, sql.SQL(", ").join([one] * BATCH)
            )
            for n, batch in enumerate(batches):
                part = rows[n * BATCH : (n + 1) * BATCH]
                batch.append((statement.as_string(connection), [value for row in part for value in row]))
    rates = []
    for cursor_type in (Cursor, ClientCursor):
        with _connect() as connection:
            connection.execute(f"TRUNCATE {', '.join(tables)} CASCADE")
        with psycopg.connect(os.environ["DATABASE_OWNER_URL"], cursor_factory=cursor_type) as connection:
            begin = time.monotonic()
            for batch in batches:
                for text, values in batch:
                    connection.execute(text, values)
                connection.commit()
            rates.append(BATCH * BATCHES / (time.monotonic() - begin))
    return max(rates)


def main() -> None:
    with servers.servers():
        with _connect() as connection:
            connection.execute(
                "CREATE TABLE bench_work"
                " (id bigserial PRIMARY KEY, label text, at timestamptz DEFAULT clock_timestamp())"
            )
            connection.execute("GRANT ALL ON bench_work, bench_work_id_seq TO tallyrail_app, tallyrail_login")
        throughput()
        with _api() as (client, _):
            start_latency(client)
            ingest(client)


if __name__ == "__main__":
    main()
