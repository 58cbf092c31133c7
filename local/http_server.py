"""A small HTTP server on the loopback interface, for nodes and doubles that are programs of ours."""

import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from local.server import HOST

POLL_S = 0.02
"""How long a stop may take to be noticed."""


@dataclass(frozen=True)
class Asked:
    """A request, of GET or POST."""

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
    """Without a Content-Type it is JSON."""
    cut_after: int | None = None
    """So many bytes of the body are sent, and then the connection is closed; -1: not even a status."""


class HttpServer:
    """Serves from `start` until `stop`. `answer` is called by a thread of each connection."""

    def __init__(self, answer: Callable[[Asked], Answer], *, host: str = HOST, port: int = 0) -> None:
        """`port` 0: any that is free."""
        self._answer = answer
        self._address = (host, port)

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._server = _Server(self._address, _handler(self._answer))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client may leave at any time; anything else is a mistake of whoever answers."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def _handler(answer: Callable[[Asked], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else each answer waits 40 ms: its head and its body go out apart

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            told = answer(Asked(self.command, self.path, dict(self.headers.items()), body))
            with suppress(OSError):  # the caller did not wait
                self._send(told)

        def _send(self, told: Answer) -> None:
            cut = told.cut_after
            if cut != -1:
                self.send_response(told.status)
                for name, value in ({"Content-Type": "application/json"} | dict(told.headers)).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(told.body)))
                self.end_headers()
                self.wfile.write(told.body[:cut])
            self.close_connection = self.close_connection or cut is not None

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
