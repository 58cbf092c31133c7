"""What surrounds every request, as plain ASGI: correlation, headers, access log, metrics, the limit of a body's size.

Not Starlette's BaseHTTPMiddleware, which runs the app in a task of its own: context variables bound in there would not
reach the log line out here, and every request would pay for a stream it doesn't need.
"""

import re
import time
from collections.abc import Callable
from importlib import metadata

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import Problem, body_too_large
from core.ids import new_id

log = structlog.stdlib.get_logger(__name__)

CORRELATION = "X-Correlation-Id"
# Goes into logs, rows and headers: nothing but what is harmless in all three.
CORRELATION_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
QUIET = frozenset({"/health", "/ready", "/metrics"})
"""Asked all the time by machines: logged only when they fail."""
FAILED = 500
GONE = 499
"""The caller went away before there was an answer."""


def _version() -> str:
    try:
        return metadata.version("tallyrail")
    except metadata.PackageNotFoundError:  # an image that copies the source and installs only what it needs
        return "unknown"


VERSION = _version()
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Tallyrail-Version": VERSION,
}
"""For answers that don't set their own. Strict-Transport-Security belongs to whatever ends TLS in front."""

Observe = Callable[[str, str, int, float], None]
"""Told method, route template, status and seconds of each request."""


class Envelope:
    """Outermost: nothing leaves without a correlation id, and no error leaves as anything but a problem."""

    def __init__(self, app: ASGIApp, *, observe: Observe) -> None:
        self._app = app
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = Headers(scope=scope).get(CORRELATION, "")
        correlation = given if CORRELATION_ID.fullmatch(given) else str(new_id())
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers[CORRELATION] = correlation
            await send(message)

        with structlog.contextvars.bound_contextvars(correlation_id=correlation):
            try:
                await self._app(scope, receive, send_with_headers)
            except Exception:
                log.exception("request.failed", method=scope["method"], path=scope["path"])
                if status:  # the answer has begun: cut it off rather than end it as if it were whole
                    raise
                problem = Problem("internal", "the error is recorded under the correlation id")
                await problem.response()(scope, receive, send_with_headers)
            finally:
                self._record(scope, status or GONE, time.perf_counter() - began)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._observe(scope["method"], route, status, seconds)
        if scope["path"] not in QUIET or status >= FAILED:
            log.info(
                "request",
                method=scope["method"],
                path=scope["path"],
                route=route,
                status=status,
                ms=round(seconds * 1_000, 2),
                tenant=scope.get("state", {}).get("tenant"),
            )


class BodyLimit:
    """No body grows beyond the limit in memory, whether or not it said how long it would be."""

    def __init__(self, app: ASGIApp, *, bytes_max: int) -> None:
        self._app = app
        self._bytes_max = bytes_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = Headers(scope=scope).get("content-length", "")
        if said.isdecimal() and int(said) > self._bytes_max:
            await body_too_large(self._bytes_max).response()(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._bytes_max:
                raise body_too_large(self._bytes_max)
            return message

        await self._app(scope, counted, send)
