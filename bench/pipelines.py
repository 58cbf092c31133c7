"""`python -m bench.pipelines`: EVALSHA at full speed, so many to a pipeline, over a few connections.

What redis-benchmark does with `-P 100 EVALSHA ...`, for a machine that has no redis-benchmark: raw sockets in a process
of their own, requests packed before the clock starts, of the answers only the ends counted. Reads a plan from standard
input: JSON of `Plan`. Writes the requests a second.
"""

import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from redis import ConnectionPool

from core.hot.wire import pack

PIPELINE = 100
CONNECTIONS = 4
LINES = 5
"""Ends of lines in an answer: three of RESP (`*1`, `$<length>` and the bulk string), two between its three parts."""


@dataclass
class Plan:
    url: str
    calls: str
    """A file with a line for each: JSON of the words of one request."""


def run(plan: Plan) -> float:
    """Requests a second, measured in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.pipelines"],
        input=json.dumps(asdict(plan)),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return float(done.stdout)


def main() -> None:
    plan = Plan(**json.loads(sys.stdin.read()))
    packed = [pack(json.loads(line)) for line in Path(plan.calls).read_bytes().splitlines()]
    pipelines = [packed[first : first + PIPELINE] for first in range(0, len(packed), PIPELINE)]
    ready = [(b"".join(each), LINES * len(each)) for each in pipelines]
    door = ConnectionPool.from_url(plan.url).connection_kwargs
    poll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    for _ in range(CONNECTIONS):
        made = socket.create_connection((door["host"], door["port"]))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sendall(pack(["AUTH", door["password"]]))
        if not made.recv(1_000).startswith(b"+OK"):
            raise ConnectionError("the server does not let us in")
        sockets[made.fileno()] = made
        poll.register(made.fileno(), select.EPOLLIN)
    print(len(packed) / _seconds(ready, sockets, poll))


def _seconds(ready: list[tuple[bytes, int]], sockets: dict[int, socket.socket], poll: select.epoll) -> float:
    left = dict.fromkeys(sockets, 0)
    rest = iter(ready)
    began = time.perf_counter()
    done = 0
    for number, each in zip(list(sockets), rest, strict=False):
        sockets[number].sendall(each[0])
        left[number] = each[1]
    while done < len(ready):
        for number, _ in poll.poll(30):
            left[number] -= sockets[number].recv(1_048_576).count(b"\n")
            if left[number]:
                continue
            done += 1
            following = next(rest, None)
            if following is not None:
                sockets[number].sendall(following[0])
                left[number] = following[1]
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
