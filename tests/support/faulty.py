"""An HTTP server on loopback in front of a real node, that misbehaves when told to. It speaks what the node speaks.

What it does wrong is a `Fault`: it gets each request and the way on to the node, and returns the answer. Faults that
understand the node (it lags, or lies) are in faulty_nodes.py.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from local.http_server import Answer, Asked, HttpServer
from local.server import HOST

HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"})
"""Headers that belong to one connection."""

Forward = Callable[[Asked], Answer]
Fault = Callable[[Asked, Forward], Answer]


@dataclass
class FaultyNode:
    """Behaves as the node behind it as long as `fault` is None."""

    url: str = ""
    fault: Fault | None = None
    every: int = 1
    """Only every so many requests go wrong."""
    asked: int = 0
    wronged: int = 0
    """Requests that a fault answered."""

    def answer(self, asked: Asked, forward: Forward) -> Answer:
        self.asked += 1
        fault = self.fault
        if fault is None or self.asked % self.every:
            return forward(asked)
        self.wronged += 1
        return fault(asked, forward)


@contextmanager
def faulty(target: str) -> Iterator[FaultyNode]:
    """`target` may have a user and a path; so has the URL of the node that is handed out."""
    node = FaultyNode()
    parts = urlsplit(target)

    def forward(asked: Asked) -> Answer:
        url = f"{parts.scheme}://{parts.hostname}:{parts.port}{asked.path}"
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in HOP}
        got = http.request(asked.method, url, headers=headers, content=asked.body)
        return Answer(got.status_code, got.content, {"Content-Type": got.headers.get("Content-Type", "text/plain")})

    with (
        httpx.Client(trust_env=False, timeout=30) as http,
        HttpServer(lambda asked: node.answer(asked, forward)) as server,
    ):
        user, at, _ = parts.netloc.rpartition("@")
        node.url = parts._replace(netloc=f"{user}{at}{HOST}:{server.port}").geturl()
        yield node


# --- what goes wrong with any server ---------------------------------------------------------------------------------


def dies(asked: Asked, forward: Forward) -> Answer:
    """In the middle of its answer."""
    answer = forward(asked)
    return replace(answer, cut_after=len(answer.body) // 2)


def hangs_up(_asked: Asked, _forward: Forward) -> Answer:
    return Answer(200, b"", cut_after=-1)


def truncates(asked: Asked, forward: Forward) -> Answer:
    """A whole answer by its length, and half of one by what it says."""
    answer = forward(asked)
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def garbage(_asked: Asked, _forward: Forward) -> Answer:
    return Answer(200, bytes(range(256)) * 4, {"Content-Type": "application/json"})


def html(_asked: Asked, _forward: Forward) -> Answer:
    """What a server in front of a node says when it thinks that it has to say something."""
    return Answer(200, b"<!doctype html><title>Be right back</title>", {"Content-Type": "text/html"})


def other_json(_asked: Asked, _forward: Forward) -> Answer:
    return Answer(200, b'{"status": "ok", "result": []}', {"Content-Type": "application/json"})


def saying(status: int, *, retry_after: int | None = None) -> Fault:
    """This HTTP status."""
    headers = {"Content-Type": "text/plain"} | ({} if retry_after is None else {"Retry-After": str(retry_after)})
    return lambda _asked, _forward: Answer(status, b"not now", headers)


def hanging(seconds: float) -> Fault:
    """Says nothing for so long, and then hangs up."""

    def fault(_asked: Asked, _forward: Forward) -> Answer:
        threading.Event().wait(seconds)
        return Answer(200, b"", cut_after=-1)

    return fault


def slow(seconds: float) -> Fault:
    """Right, and later."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        threading.Event().wait(seconds)
        return forward(asked)

    return fault


def respelling(words: Mapping[str, str]) -> Fault:
    """A lie that is kept up: wherever the node says the one it says the other, and it knows itself what is meant."""
    there = [(true.encode(), false.encode()) for true, false in words.items()]

    def fault(asked: Asked, forward: Forward) -> Answer:
        body, path = asked.body, asked.path.encode()
        for true, false in there:
            body, path = body.replace(false, true), path.replace(false, true)
        answer = forward(replace(asked, body=body, path=path.decode()))
        said = answer.body
        for true, false in there:
            said = said.replace(true, false)
        return replace(answer, body=said)

    return fault


# --- what goes wrong with a node that speaks JSON-RPC ----------------------------------------------------------------


@dataclass(frozen=True)
class RpcError:
    code: int
    message: str


@dataclass(frozen=True)
class Said:
    """In place of what the node would say."""

    result: Any


class View(Protocol):
    """Another idea of the chain than the node's."""

    def before(self, method: str, params: list[Any]) -> list[Any] | Said | RpcError:
        """What the node is asked, or what is said without asking it."""
        ...

    def after(self, method: str, params: list[Any], result: Any) -> Any:
        """What is said of it; an RpcError too."""
        ...


def seeing(view: View) -> Fault:
    """Answers as a node that sees the chain like this. One request to the node for each."""

    def fault(asked: Asked, forward: Forward) -> Answer:
        body = json.loads(asked.body)
        calls = body if isinstance(body, list) else [body]
        made = [view.before(call["method"], list(call.get("params", []))) for call in calls]
        passed = [
            call | {"params": params} for call, params in zip(calls, made, strict=True) if isinstance(params, list)
        ]
        told = {}
        if passed:
            answer = forward(replace(asked, body=json.dumps(passed).encode()))
            told = {reply["id"]: reply for reply in json.loads(answer.body)}
        replies = [_reply(view, call, params, told) for call, params in zip(calls, made, strict=True)]
        said = json.dumps(replies if isinstance(body, list) else replies[0]).encode()
        return Answer(200, said, {"Content-Type": "application/json"})

    return fault


def _reply(view: View, call: dict[str, Any], made: Any, told: Mapping[Any, dict[str, Any]]) -> dict[str, Any]:
    if isinstance(made, list):
        reply = told[call["id"]]
        if reply.get("error") is not None:
            return reply
        said = view.after(call["method"], made, reply["result"])
    else:
        said = made.result if isinstance(made, Said) else made
    if isinstance(said, RpcError):
        return {"jsonrpc": "2.0", "id": call["id"], "error": {"code": said.code, "message": said.message}}
    return {"jsonrpc": "2.0", "id": call["id"], "result": said}
