"""Real HTTP servers on loopback that stand in front of a real EVM node and misbehave. The node: evm_fixtures.py."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from chains.evm.reader import EvmReader

CHAIN = "eip155:31337"
COIN = f"{CHAIN}/slip44:60"

Reply = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Token:
    address: str
    asset: str


MakeReader = Callable[..., EvmReader]


@dataclass
class FakeNode:
    """An HTTP server that answers each body as it was told, and counts. A single call is shown as a batch of one."""

    answer: Callable[[Any], Reply]
    url: str = ""
    bodies: list[list[Any]] = field(default_factory=list)

    @property
    def methods(self) -> list[str]:
        """Every call of every request."""
        return [call["method"] for body in self.bodies for call in body]


@contextmanager
def fake_node(answer: Callable[[Any], Reply]) -> Iterator[FakeNode]:
    node = FakeNode(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms: its head and its body go out apart

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            body = asked if isinstance(asked, list) else [asked]
            node.bodies.append(body)
            status, headers, content = node.answer(body)
            if asked is not body:
                content = _alone(content)
            try:
                self.send_response(status)
                for name, value in ({"Content-Type": "application/json"} | headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                pass  # the caller did not wait

        def log_message(self, *_: Any) -> None:
            pass

    class Http(ThreadingHTTPServer):
        daemon_threads = True

    server = Http(("127.0.0.1", 0), Handler)
    node.url = f"http://127.0.0.1:{server.server_port}/v3/SECRETKEY123"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield node
    finally:
        server.shutdown()
        server.server_close()


def _alone(content: bytes) -> bytes:
    """The answer to a single call, out of the answer to a batch of one."""
    with suppress(ValueError, RecursionError):
        match json.loads(content):
            case [only]:
                return json.dumps(only).encode()
    return content


def reply(value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    return status, headers or {}, json.dumps(value).encode()


@contextmanager
def proxy(url: str, change: Callable[[Any, Any], Any] = lambda _body, answers: answers) -> Iterator[FakeNode]:
    """A node in front of a real one. `change(body, answers)` returns what is passed on: JSON, or a whole Reply."""

    def answer(body: Any) -> Reply:
        answers = http.post(url, json=body).json()
        changed = change(body, answers)
        return changed if isinstance(changed, tuple) else reply(changed)

    with httpx.Client(trust_env=False, timeout=30) as http, fake_node(answer) as node:
        yield node


def changing(method: str, change: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    """For `proxy`: every answer to this method goes through `change`, which gets and returns a result."""

    def apply(body: Any, answers: Any) -> Any:
        asked = {call["id"]: call["method"] for call in body}
        return [
            answer | {"result": change(answer["result"])} if asked[answer["id"]] == method else answer
            for answer in answers
        ]

    return apply
