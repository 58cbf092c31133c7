"""Thousands of webhooks in a burst, while PostgreSQL restarts and the API is killed: what was answered 200 is kept
once, what wasn't is sent again by the provider, as providers do, and kept once.
"""

import asyncio
import hmac
import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Self

import pytest
from sqlalchemy import text

from core import db
from local.postgres import Postgres
from local.processes import answers
from local.server import free_port
from tests.support.fleet import Fleet, wait_until

SECRET = b"razorpay-no-secret"
CONNECTIONS = 64
LATER = 90.0
"""Seconds that the provider tries before it is held against us."""
OK, UNAVAILABLE, LOST = 200, 503, 0


class Webhook(NamedTuple):
    event_id: str
    body: bytes

    @property
    def request(self) -> bytes:
        signature = hmac.new(SECRET, self.body, "sha256").hexdigest()
        return (
            f"POST /v1/webhooks/razorpay HTTP/1.1\r\nHost: x\r\nContent-Length: {len(self.body)}\r\n"
            f"X-Razorpay-Event-Id: {self.event_id}\r\nX-Razorpay-Signature: {signature}\r\n\r\n"
        ).encode() + self.body


class Provider:
    """Sends every webhook until it is answered 200, and some once more: the double of all providers."""

    def __init__(self, port: int, webhooks: list[Webhook], chance: random.Random) -> None:
        self._port = port
        self._chance = chance
        twice = chance.sample(webhooks, len(webhooks) // 20)
        self._left = [*webhooks, *twice]
        chance.shuffle(self._left)
        self.sent = len(self._left)
        self.statuses: Counter[int] = Counter()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()

    @property
    def taken(self) -> int:
        return self.statuses[OK]

    def wait_until_taken(self, count: int) -> None:
        wait_until(lambda: self.taken >= count or self.error, timeout=LATER, every=0.002)

    def _run(self) -> None:
        try:
            asyncio.run(self._burst())
        except BaseException as error:  # noqa: BLE001  # told by the test
            self.error = error

    async def _burst(self) -> None:
        async with asyncio.timeout(LATER):
            async with asyncio.TaskGroup() as lines:
                for _ in range(CONNECTIONS):
                    lines.create_task(self._line())

    async def _line(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while self._left:
            webhook = self._left.pop()
            while True:
                try:
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", self._port)
                    status = await _ask(*streams, webhook.request)
                except (OSError, asyncio.IncompleteReadError):
                    if streams is not None:
                        streams[1].close()
                    status, streams = LOST, None
                self.statuses[status] += 1
                if status == OK:
                    break
                assert status in {UNAVAILABLE, LOST}, status
                await asyncio.sleep(self._chance.uniform(0.05, 0.3))
        if streams is not None:
            streams[1].close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    await reader.readexactly(length)
    return int(head[9:12])


@pytest.fixture
def port(database_url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("WEBHOOK_SECRETS", json.dumps({"razorpay": [SECRET.decode()]}))
    return free_port()


Start = Callable[[], None]


@pytest.fixture
def start(fleet: Fleet, port: int) -> Iterator[Start]:
    """Starts the API, or starts it again."""
    fleet.environment["LOG_FORMAT"] = "json"

    def started() -> None:
        fleet.start(
            "api",
            ["-m", "uvicorn", "api.main:app", "--port", str(port), "--no-access-log", "--no-server-header",
             "--no-proxy-headers"],
        )  # fmt: skip
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), timeout=60)

    started()
    yield started
    if "api" in fleet.processes:
        fleet.kill("api", signal.SIGTERM)


def restart(postgres: Postgres, pause: float) -> None:
    """As by a crash: it ends at once, and finds its way back by its log."""
    assert postgres.process is not None
    postgres.process.signal(signal.SIGQUIT)
    wait_until(lambda: not postgres.alive())
    postgres.stop()
    time.sleep(pause)
    postgres.start()
    db.dispose()


def webhooks(count: int, chance: random.Random) -> list[Webhook]:
    return [
        Webhook(f"evt_{number}", b'{"number":%d,"padding":"%s"}' % (number, b"x" * chance.randrange(0, 2_000)))
        for number in range(count)
    ]


def check(sent: list[Webhook], provider: Provider) -> None:
    """Each is there once, byte for byte, with one job; and each time that it was answered 200 is counted."""
    if provider.error is not None:
        raise provider.error
    assert provider.taken == provider.sent
    with db.transaction() as session:
        rows = session.execute(text("SELECT id::text, body, repeats FROM webhook_receipts")).all()
        asked = session.scalars(text("SELECT args ->> 'receipt_id' FROM jobs WHERE task = 'fiat_webhook.handle'")).all()
    assert sorted(row.body for row in rows) == sorted(each.body for each in sent)
    assert sorted(asked) == sorted(row.id for row in rows)
    # More only where something was committed and its answer lost: then it was sent again.
    assert provider.taken <= len(rows) + sum(row.repeats for row in rows) <= sum(provider.statuses.values())


def burst(count: int, port: int, *faults: Callable[[], None]) -> Provider:
    """Send so many, and let each of the faults happen in its part of the burst."""
    chance = random.Random(count)
    sent = webhooks(count, chance)
    with Provider(port, sent, chance) as provider:
        for place, fault in enumerate(faults, start=1):
            provider.wait_until_taken(count * place // (len(faults) + 1))
            fault()
    check(sent, provider)
    return provider


def test_a_burst_with_postgresql_restarted_in_its_middle_loses_none(
    postgres: Postgres, start: Start, port: int
) -> None:
    provider = burst(1_000, port, lambda: restart(postgres, 0.3))
    assert provider.statuses[UNAVAILABLE] > 0, "the restart was noticed"


@pytest.mark.faults
def test_five_thousand_with_postgresql_restarted_and_the_api_killed(
    postgres: Postgres, start: Start, port: int, fleet: Fleet, tmp_path: Path
) -> None:
    def api_is_killed() -> None:
        fleet.kill("api")
        start()

    provider = burst(
        5_000, port, lambda: restart(postgres, 0.5), api_is_killed, lambda: restart(postgres, 0.0), api_is_killed
    )
    assert provider.statuses[UNAVAILABLE] > 0 and provider.statuses[LOST] > 0


@pytest.mark.faults
def test_five_thousand_undisturbed_are_each_answered_once(start: Start, port: int) -> None:
    assert set(burst(5_000, port).statuses) == {OK}
