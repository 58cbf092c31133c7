"""Real HTTP servers on loopback that stand in front of a real EVM node and misbehave. The node: evm_fixtures.py."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from chains.evm.reader import EvmReader
from local.http_server import Answer, Asked, HttpServer
from local.server import HOST

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

    def told(asked: Asked) -> Answer:
        body = json.loads(asked.body)
        batch = body if isinstance(body, list) else [body]
        node.bodies.append(batch)
        status, headers, content = node.answer(batch)
        return Answer(status, content if body is batch else _alone(content), headers)

    with HttpServer(told) as server:
        node.url = f"http://{HOST}:{server.port}/v3/SECRETKEY123"
        yield node


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
