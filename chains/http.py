"""Asking a node over HTTP: JSON in, JSON out, bounded in time and size. For adapters whose library brings no transport.

Every failure is a `TransientError` that names the host only: reading changes nothing, so asking again is always safe.
"""

import itertools
import json
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx

from chains.endpoint import ANSWER_BYTES_MAX, ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, Endpoint
from chains.errors import RefusedError, TooLongError
from chains.fit import Fit
from config.assets import Node
from core.deadline import Deadline
from core.errors import TransientError

Call = tuple[str, Sequence[Any]]
"""A JSON-RPC method and its parameters."""

CALLS_MAX = 100
"""Calls in one HTTP request, unless the node's configuration says otherwise, or the node when it is asked."""
RETRY_AFTER_MAX_S = 3_600

_RATE_LIMIT = re.compile(r"rate.?limit|too many requests|(/|per )second|capacity|throughput", re.IGNORECASE)
_RATE_LIMIT_CODES = {429, -32029}
_REVERTED = 3
"""An error with the words of whoever wrote the contract (eth_call)."""
_NOT_US = {httpx.codes.UNAUTHORIZED, httpx.codes.PAYMENT_REQUIRED, httpx.codes.FORBIDDEN}
"""HTTP statuses of a key that is wrong or used up: no refusal of what was asked, whatever the body says."""
_TOO_MUCH = {httpx.codes.BAD_REQUEST, httpx.codes.REQUEST_ENTITY_TOO_LARGE, httpx.codes.UNPROCESSABLE_ENTITY}
"""HTTP statuses by which servers refuse a request that is too long."""


class HttpEndpoint(Endpoint):
    """A node's HTTP interface. Safe to use from several threads, not to be taken along into a forked process."""

    def __init__(
        self, node: Node, *, connect_timeout: float = CONNECT_TIMEOUT_S, read_timeout: float = READ_TIMEOUT_S
    ) -> None:
        super().__init__(node)
        self._base = node.url.rstrip("/")
        self._client = httpx.Client(
            timeout=httpx.Timeout(read_timeout, connect=connect_timeout),
            headers=node.headers,
            # Redirects would turn a POST into a GET of somebody else's page.
            follow_redirects=False,
        )
        weakref.finalize(self, self._client.close)  # readers are forgotten, not closed
        self._deadline = Deadline()
        self._deadline.bind(self._client)
        self._answer_timeout = max(ANSWER_TIMEOUT_S, 2 * read_timeout)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._sizes = Fit(node.calls_max or CALLS_MAX)

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON behind this path. Raises RefusedError for HTTP 4xx with a JSON body, its `code` saying which."""
        return self._json(self._send("GET", self._base + path, params=params), path)

    def post(self, path: str, body: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._json(self._send("POST", self._base + path, params=params, body=body), path)

    # JSON-RPC

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The result of every call, in order. Raises RefusedError if the node answered any of them with an error.

        What was refused in company is asked again in halves and at last alone: a node may refuse because an answer
        became too long, and anybody can make one long.
        """
        answers = self._all(calls, strict=True)
        refused = [place for place, answer in enumerate(answers) if isinstance(answer, RefusedError)]
        if refused and len(calls) == 1:
            raise answers[0]
        middle = (len(refused) + 1) // 2
        for part in filter(None, (refused[:middle], refused[middle:])):
            for place, answer in zip(part, self.ask([calls[place] for place in part]), strict=True):
                answers[place] = answer
        return answers

    def ask_together(self, calls: Sequence[Call]) -> list[Any]:
        """As `ask`, in one HTTP request or not at all: so that one answer can vouch for another.

        Raises RefusedError if the node takes no batch of that size.
        """
        if len(calls) > self.calls_max:
            raise RefusedError(f"{self.label} takes no {len(calls)} calls at once")
        answers = self._batch(calls)
        for answer in answers:
            if isinstance(answer, RefusedError):
                raise answer
        return answers

    def try_all(self, calls: Sequence[Call]) -> list[Any]:
        """As `ask`, but a call's refusal stands in its place."""
        return self._all(calls, strict=False)

    def _all(self, calls: Sequence[Call], *, strict: bool) -> list[Any]:
        """In as many requests as it takes. `strict` raises the refusal of a request with but one call."""
        answers: list[Any] = []
        while len(answers) < len(calls):
            answers += self._some(calls[len(answers) : len(answers) + self.calls_max], strict=strict)
        return answers

    def _some(self, calls: Sequence[Call], *, strict: bool) -> list[Any]:
        """In one request, or in several if the node refuses so many calls in one."""
        try:
            answers = self._batch(calls)
        except RefusedError as refusal:
            if len(calls) == 1:
                if strict:
                    raise
                return [refusal]
            half = len(calls) // 2
            answers = self._some(calls[:half], strict=strict)
            answers += self._all(calls[half:], strict=strict)  # by what has been learned from the first half
            # Only if each part was answered was it the number of calls that the node minded.
            if not any(isinstance(answer, RefusedError) for answer in answers):
                self._sizes.refused(len(calls))
        else:
            self._sizes.taken(len(calls))
        return answers

    @property
    def calls_max(self) -> int:
        """Calls that this node takes in one HTTP request, as far as is known."""
        return self._sizes.now

    def _batch(self, calls: Sequence[Call]) -> list[Any]:
        """Raises RefusedError for a refusal of the whole request; one call's refusal stands in its place."""
        with self._lock:
            ids = [next(self._ids) for _ in calls]
        body = [
            {"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}
            for id_, (method, params) in zip(ids, calls, strict=True)
        ]
        # A single call is sent as such: there are nodes that take no batch, not even of one.
        status, replies = self._send("POST", self.node.url, body=body if len(body) > 1 else body[0])
        if isinstance(replies, dict) and (error := _error_for_all(status, replies)):
            what = calls[0][0] if len(calls) == 1 else f"{len(calls)} calls"
            raise self._refused(what, error.get("code", status), str(error.get("message")))
        if len(body) == 1 and isinstance(replies, dict) and status < httpx.codes.BAD_REQUEST:
            replies = [replies]
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise TransientError(f"{self.label} answered HTTP {status} with something that is not JSON-RPC")
        by_id = {id_: reply for reply in replies if type(id_ := reply.get("id")) is int}
        if len(replies) != len(ids) or by_id.keys() != set(ids):
            raise TransientError(f"{self.label} answered {len(replies)} of {len(ids)} calls, or not the ones asked")
        return [self._result(method, by_id[id_]) for id_, (method, _) in zip(ids, calls, strict=True)]

    def _result(self, method: str, reply: dict[str, Any]) -> Any:
        error = reply.get("error")
        if error is None:
            if "result" not in reply:
                raise TransientError(f"{self.label} answered {method} with neither a result nor an error")
            return reply["result"]
        detail = error if isinstance(error, dict) else {"message": error}
        return self._refused(method, detail.get("code"), str(detail.get("message")))

    def _refused(self, what: str, code: object, message: str) -> RefusedError:
        sentence = f"{self.label} refused {what}: {self.struck(message)[:200]} ({self.struck(str(code))[:40]})"
        code = code if isinstance(code, int) else None
        if code in _RATE_LIMIT_CODES or (code != _REVERTED and _RATE_LIMIT.search(message)):
            raise TransientError(sentence)
        refused = RefusedError(sentence)
        refused.code = code
        refused.words = message
        return refused

    # HTTP

    def _json(self, answer: tuple[int, Any], path: str) -> Any:
        status, content = answer
        if status < httpx.codes.BAD_REQUEST:
            return content
        if status >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise TransientError(f"{self.label} answered HTTP {status}")
        message = content.get("message") if isinstance(content, dict) else content
        raise self._refused(path, status, str(message))

    def _send(
        self, method: str, url: str, *, params: Mapping[str, Any] | None = None, body: Any = None
    ) -> tuple[int, Any]:
        """Status and JSON of the answer; a status of 4xx only if JSON came with it."""
        self.admit()
        failure: str | None = None
        try:
            with (
                self._deadline.within(self._answer_timeout),
                self._client.stream(method, url, params=params, json=body) as response,
            ):
                self._check(response)
                return response.status_code, json.loads(self._content(response))
        except httpx.TimeoutException:
            failure = "did not answer in time"
        except httpx.TransportError:
            failure = "can't be reached"
        except (httpx.HTTPError, httpx.InvalidURL):
            failure = "can't be asked"
        except (ValueError, RecursionError):
            failure = f"answered HTTP {response.status_code} with something that is not JSON"
        # Raised outside the except block: the original carries the URL in its text.
        raise TransientError(f"{self.label} {failure}")

    def _check(self, response: httpx.Response) -> None:
        """Whether the body is worth reading."""
        status, wish = response.status_code, _wish(response)
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise TransientError(f"{self.label} limits our rate (HTTP 429)", retry_after=wish)
        if status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:  # often with a page of HTML, by a server in front
            raise self._refused("the request", status, "it is too long")
        if status == httpx.codes.SERVICE_UNAVAILABLE and wish:
            raise TransientError(f"{self.label} answered HTTP {status}", retry_after=wish)
        if httpx.codes.MULTIPLE_CHOICES <= status < httpx.codes.BAD_REQUEST or status in _NOT_US:
            raise TransientError(f"{self.label} answered HTTP {status}")

    def _content(self, response: httpx.Response) -> bytearray:
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > ANSWER_BYTES_MAX:
                raise TooLongError(f"{self.label} answered with more than {ANSWER_BYTES_MAX} bytes")
        return content


def _error_for_all(status: int, reply: dict[str, Any]) -> dict[str, Any] | None:
    """The error that stands for a whole request, or None if this is not one that the node itself gave."""
    if status >= httpx.codes.INTERNAL_SERVER_ERROR and "id" not in reply:
        return None  # a gateway's words, not the node's (Bitcoin Core sends its errors with status 500)
    if error := reply.get("error"):
        return error if isinstance(error, dict) else {"message": error}
    return {"message": reply.get("message")} if status in _TOO_MUCH else None


def _wish(response: httpx.Response) -> timedelta | None:
    wish = response.headers.get("Retry-After", "")
    return timedelta(seconds=min(int(wish), RETRY_AFTER_MAX_S)) if wish.isascii() and wish.isdigit() else None
