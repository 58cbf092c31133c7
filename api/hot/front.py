"""What is decided in the hot store is answered here, before the framework: no thread, nothing parsed twice.

The promises are those of every address: a correlation id on each answer, the headers of api.middleware, problems by
RFC 9457, a limit of the body's size, metrics by route. Only the log is shorter: what was answered with 2xx has no line,
since the decision itself is kept in the books, and a line would cost more than it. Refusals and faults have theirs.
"""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
import uuid_utils
from pydantic import BaseModel
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as AsgiScope

from api import problems
from api.body import need_json
from api.hot.callers import Callers, secret_of
from api.hot.engine import Engine
from api.middleware import CORRELATION, CORRELATION_ID, FAILED, GONE, HEADERS, Observe
from api.problems import Problem
from core.hot.errors import StoreAwayError, UndecidedError
from domain.access.service import Principal, Scope, remembered

log = structlog.stdlib.get_logger(__name__)

OK, REFUSED = 200, 400
MIXED = 207
"""Some of a batch were refused: each result says whether it is one of them."""
Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Call:
    """One request of somebody who may make it."""

    caller: Principal
    parameter: str
    """What stands in the braces of the route."""
    body: bytes
    engine: Engine


Answering = Callable[[Call], Awaitable[tuple[int, bytes]]]
"""Status and JSON. Raises what api.problems knows."""


@dataclass(frozen=True)
class Endpoint:
    """POST of `route`, which has at most one parameter, in its last part but one: /v1/bets/{bet_id}/settle."""

    route: str
    scope: Scope
    answer: Answering
    tag: str
    summary: str
    request: type[BaseModel]
    response: type[BaseModel]
    may_be_mixed: bool = False
    """A batch of which some may be refused and others not."""


class GoneError(Exception):
    """The caller went away before the end of his body: there is nobody to answer, and nothing was done."""


class Front:
    """`engine` gives what the lifespan has made, or None outside of it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        endpoints: Sequence[Endpoint],
        engine: Callable[[], Engine | None],
        observe: Observe,
        bytes_max: int,
    ) -> None:
        self._app = app
        self._engine = engine
        self._observe = observe
        self._bytes_max = bytes_max
        self._callers = Callers()
        self._plain = {each.route: each for each in endpoints if "{" not in each.route}
        self._around = {_around(each.route): each for each in endpoints if "{" in each.route}

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            found = self.find(scope["path"])
            if found is not None:
                await self._serve(*found, scope, receive, send)
                return
        await self._app(scope, receive, send)

    def find(self, path: str) -> tuple[Endpoint, str] | None:
        """The endpoint at this path, and its parameter."""
        endpoint = self._plain.get(path)
        if endpoint is not None:
            return endpoint, ""
        rest, _, last = path.rpartition("/")
        first, _, parameter = rest.rpartition("/")
        endpoint = self._around.get((first, last))
        return None if endpoint is None or not parameter else (endpoint, parameter)

    async def _serve(self, endpoint: Endpoint, parameter: str, scope: AsgiScope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        headers: Mapping[bytes, bytes] = dict(reversed(scope["headers"]))  # of several of one name the first counts
        correlation = correlation_of(headers)
        # Not taken back: the server runs each request in a context of its own.
        structlog.contextvars.bind_contextvars(correlation_id=correlation)
        status, tenant = GONE, None
        try:
            secret = secret_of(headers.get(b"authorization", b""))
            caller = remembered(secret) or await self._callers.caller(secret)
            tenant = caller.tenant
            status, content = await self._answered(endpoint, caller, parameter, headers, receive)
            sent = HEADERS_OF_JSON
        except GoneError:
            return
        except Exception as error:  # noqa: BLE001  # each is answered; what isn't foreseen is logged with its trace
            problem = problem_of(error, scope)
            status, content = problem.status, problem.content()
            sent = headers_of(problem)
        finally:
            self._record(endpoint, scope, status, time.perf_counter() - began, tenant)
        await answer(send, status, sent, content, correlation)

    async def _answered(
        self, endpoint: Endpoint, caller: Principal, parameter: str, headers: Mapping[bytes, bytes], receive: Receive
    ) -> tuple[int, bytes]:
        if endpoint.scope not in caller.scopes:
            raise Problem("forbidden", f"the API key lacks the scope {endpoint.scope}")
        engine = self._engine()
        if engine is None:
            raise StoreAwayError("this process decides nothing at the moment")
        engine.limiter.admit(caller.tenant, 1)
        need_json(headers.get(b"content-type", b"").decode("latin-1"))
        body = await read_body(headers, receive, self._bytes_max)
        return await endpoint.answer(Call(caller, parameter, body, engine))

    def _record(self, endpoint: Endpoint, scope: AsgiScope, status: int, seconds: float, tenant: str | None) -> None:
        self._observe("POST", endpoint.route, status, seconds)
        if status >= REFUSED:
            log.info(
                "request",
                method="POST",
                path=scope["path"],
                route=endpoint.route,
                status=status,
                ms=round(seconds * 1_000, 2),
                tenant=tenant,
            )


def _around(route: str) -> tuple[str, str]:
    """What stands before the parameter and behind it."""
    first, _, rest = route.partition("/{")
    return first, rest.partition("}/")[2]


async def read_body(headers: Mapping[bytes, bytes], receive: Receive, bytes_max: int) -> bytes:
    """The whole of it. Raises Problem (413) as soon as it is too large, GoneError if it doesn't end."""
    said = headers.get(b"content-length", b"")
    if said.isdigit() and int(said) > bytes_max:
        raise problems.body_too_large(bytes_max)
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise GoneError
        part = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise problems.body_too_large(bytes_max)
        if not message.get("more_body", False):
            return b"".join((*parts, part)) if parts else part
        parts.append(part)


async def answer(send: Send, status: int, headers: Sequence[Header], content: bytes, correlation: str) -> None:
    sent = [*headers, (b"content-length", b"%d" % len(content)), (_CORRELATION, correlation.encode())]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": content})


def problem_of(error: Exception, scope: AsgiScope) -> Problem:
    problem = problems.of_error(error)
    if problem.status == FAILED:
        log.error("request.failed", method="POST", path=scope["path"], exc_info=error)
    elif isinstance(error, StoreAwayError | UndecidedError):
        log.warning("request.unavailable", error=str(error))
    return problem


def headers_of(problem: Problem) -> list[Header]:
    return [*_PROBLEM_HEADERS, *((name.lower().encode(), text.encode()) for name, text in problem.headers.items())]


def correlation_of(headers: Mapping[bytes, bytes]) -> str:
    given = headers.get(_CORRELATION)
    if given is not None and CORRELATION_ID.fullmatch(text := given.decode("latin-1")):
        return text
    return str(uuid_utils.uuid7())  # the standard library's class for ids costs ten times as much


_CORRELATION = CORRELATION.lower().encode()
_SHARED: list[Header] = [(name.lower().encode(), text.encode()) for name, text in HEADERS.items()]
HEADERS_OF_JSON: list[Header] = [(b"content-type", b"application/json"), *_SHARED]
_PROBLEM_HEADERS: list[Header] = [(b"content-type", problems.MEDIA_TYPE.encode()), *_SHARED]
