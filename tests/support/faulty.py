"""An HTTP server on loopback in front of a real node, that misbehaves when told to. It speaks what the node speaks.

What it does wrong is a `Fault`: it gets each request and the way on to the node, and returns the answer. Faults that
understand the node (it lags, or lies) are in faulty_nodes.py.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

HOP = frozenset({"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"})
"""Headers that belong to one connection."""


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    """With its query."""
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """So many bytes of the body are sent, and then the connection is closed; -1: not even a status."""


Forward = Callable[[Asked], Answer]
Fault = Callable[[Asked, Forward], Answer]


@dataclass
class FaultyNode:
    """Behaves as the node at `target` as long as `fault` is None."""

    target: str
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
    node = FaultyNode(target)
    with httpx.Client(trust_env=False, timeout=30) as http, _serving(node, http) as port:
        parts = urlsplit(target)
        user = parts.netloc.rpartition("@")[0]
        node.url = parts._replace(netloc=f"{user}@127.0.0.1:{port}" if user else f"127.0.0.1:{port}").geturl()
        yield node


@contextmanager
def _serving(node: FaultyNode, http: httpx.Client) -> Iterator[int]:
    def forward(asked: Asked) -> Answer:
        parts = urlsplit(node.target)
        url = f"{parts.scheme}://{parts.hostname}:{parts.port}{asked.path}"
        got = http.request(asked.method, url, headers=asked.headers, content=asked.body)
        return Answer(got.status_code, got.content, {"Content-Type": got.headers.get("Content-Type", "text/plain")})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms: its head and its body go out apart

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
            answer = node.answer(Asked(self.command, self.path, headers, body), forward)
            with suppress(OSError):  # the caller did not wait
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            cut = answer.cut_after
            if cut != -1:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[:cut])
            self.close_connection = self.close_connection or cut is not None

        def log_message(self, *_: Any) -> None:
            pass

    class Http(ThreadingHTTPServer):
        daemon_threads = True

    server = Http(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
