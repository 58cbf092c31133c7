"""`python -m bench.load`: HTTP requests at full speed over so many connections, in a process of their own.

Of the load generators that a bare machine with python3 can have, autocannon 9 (through the wheel of Node.js) took
31 microseconds of CPU a request here, this one 15: on two cores, what the load takes the server hasn't. Requests are
made before the clock starts, one is under way on each connection, and nothing of an answer is read but its status, its
length and, at the end, what it says.

Reads a plan from standard input: JSON of `Plan`. Writes one line of JSON: `Outcome`.
"""

import hmac
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.figures import percentile

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass
class Plan:
    port: int
    key: str
    requests: str
    """A file with a line for each: path, space, body."""
    connections: int
    results: str
    """How often each of these, joined by |, stands in the answers is counted."""
    secret: str = ""
    """Each body is signed with it, as Razorpay signs webhooks."""


@dataclass
class Outcome:
    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    statuses: dict[str, int]
    results: dict[str, int]
    cpu_us: float
    """Of this process, a request."""

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def run(plan: Plan) -> Outcome:
    """In a new process, so that neither its memory nor its interpreter is the benchmark's."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(plan)),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Outcome(**json.loads(done.stdout))


def written(path: Path, lines: Sequence[tuple[str, Any]]) -> str:
    """The file of requests that a plan names."""
    path.write_text("".join(f"{where} {json.dumps(body, separators=(',', ':'))}\n" for where, body in lines))
    return str(path)


def _requests(plan: Plan) -> list[bytes]:
    made = []
    for line in Path(plan.requests).read_bytes().splitlines():
        path, _, body = line.partition(b" ")
        made.append(
            b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n"
            b"%sContent-Length: %d\r\n\r\n%s" % (path, plan.key.encode(), _signed(body, plan.secret), len(body), body)
        )
    return made


def _signed(body: bytes, secret: str) -> bytes:
    if not secret:
        return b""
    return b"X-Razorpay-Signature: %s\r\n" % hmac.new(secret.encode(), body, "sha256").hexdigest().encode()


class Load:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._requests = _requests(plan)
        self._next = 0
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._sent: dict[int, float] = {}
        self._partial: dict[int, bytes] = {}
        self.latencies: list[float] = []
        self.answers: list[bytes] = []

    def connect(self) -> None:
        for _ in range(self._plan.connections):
            made = socket.create_connection(("127.0.0.1", self._plan.port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets[made.fileno()] = made
            self._poll.register(made.fileno(), select.EPOLLIN)

    def run(self) -> float:
        """Seconds from the first request to the last answer."""
        began = time.perf_counter()
        for number in self._sockets:
            self._send(number)
        wanted = len(self._requests)
        while len(self.answers) < wanted:
            for number, _ in self._poll.poll(30):
                self._read(number)
        return time.perf_counter() - began

    def _send(self, number: int) -> None:
        if self._next == len(self._requests):
            return
        request = self._requests[self._next]
        self._next += 1
        self._sent[number] = time.perf_counter()
        self._sockets[number].sendall(request)

    def _read(self, number: int) -> None:
        data = self._sockets[number].recv(262_144)
        if not data:
            raise ConnectionError("the server hung up")
        data = self._partial.pop(number, b"") + data
        head = data.find(_END)
        if head < 0 or len(data) < head + 4 + _length(data[:head]):
            self._partial[number] = data
            return
        self.latencies.append(time.perf_counter() - self._sent[number])
        self.answers.append(data)
        self._send(number)


def _length(head: bytes) -> int:
    at = head.lower().index(_LENGTH) + len(_LENGTH)
    return int(head[at:].partition(b"\r\n")[0])


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.read()))
    load = Load(plan)
    load.connect()
    before = resource.getrusage(resource.RUSAGE_SELF)
    seconds = load.run()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    milliseconds = [latency * 1_000 for latency in load.latencies]
    results: Counter[str] = Counter()
    for answer in load.answers:
        for result in plan.results.split("|"):
            results[result] += answer.count(result.encode())
    outcome = Outcome(
        requests=len(load.answers),
        seconds=seconds,
        p50_ms=percentile(milliseconds, 50),
        p99_ms=percentile(milliseconds, 99),
        statuses=dict(Counter(answer[9:12].decode() for answer in load.answers)),
        results=dict(results),
        cpu_us=cpu / len(load.answers) * 1e6,
    )
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
