"""Asking a node over HTTP: JSON in, JSON out, bounded in time and size. For adapters whose library brings no transport.

Every failure is a `TransientError` that names the host only: reading changes nothing, so asking again is always safe.
"""

import itertools
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import httpx

from chains.endpoint import ANSWER_BYTES_MAX, ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, Endpoint
from chains.errors import RefusedError
from config.assets import Node
from core.errors import TransientError

Call = tuple[str, Sequence[Any]]
"""A JSON-RPC method and its parameters."""

CALLS_MAX = 100
"""Calls in one HTTP request, unless the node's configuration says otherwise."""
RETRY_AFTER_MAX_S = 3_600

_RATE_LIMIT = re.compile(r"rate.?limit|too many requests|(/|per )second|capacity|throughput", re.IGNORECASE)
_RATE_LIMIT_CODES = {429, -32029}


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
        self._answer_timeout = max(ANSWER_TIMEOUT_S, 2 * read_timeout)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """The JSON behind this path. Raises RefusedError for HTTP 4xx with a JSON body, `refusal` saying which."""
        return self._json(self._send("GET", self._base + path, params=params), path)

    def post(self, path: str, body: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._json(self._send("POST", self._base + path, params=params, body=body), path)

    # JSON-RPC

    def ask(self, calls: Sequence[Call]) -> list[Any]:
        """The result of every call, in order. Raises RefusedError if the node answered any of them with an error."""
        answers = self.try_all(calls)
        for answer in answers:
            if isinstance(answer, RefusedError):
                raise answer
        return answers

    def try_all(self, calls: Sequence[Call]) -> list[Any]:
        """As `ask`, but a call's refusal stands in its place."""
        answers: list[Any] = []
        step = self.node.calls_max or CALLS_MAX
        for start in range(0, len(calls), step):
            answers += self._batch(calls[start : start + step])
        return answers

    def _batch(self, calls: Sequence[Call]) -> list[Any]:
        with self._lock:
            ids = [next(self._ids) for _ in calls]
        body = [
            {"jsonrpc": "2.0", "id": id_, "method": method, "params": list(params)}
            for id_, (method, params) in zip(ids, calls, strict=True)
        ]
        status, replies = self._send("POST", self._base, body=body if len(body) > 1 else body[0])
        if len(body) == 1 and isinstance(replies, dict):
            replies = [replies]
        if isinstance(replies, dict) and replies.get("error"):  # one error for the whole batch
            replies = [replies | {"id": id_} for id_ in ids]
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise TransientError(f"{self.label} answered HTTP {status} with something that is not JSON-RPC")
        by_id = {id_: reply for reply in replies if isinstance(id_ := reply.get("id"), int)}
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
        sentence = f"{self.label} refused {what}: {self.struck(message)[:200]} ({code})"
        if code in _RATE_LIMIT_CODES or _RATE_LIMIT.search(message):
            raise TransientError(sentence)
        refused = RefusedError(sentence)
        refused.code = code if isinstance(code, int) else None
        return refused

    # HTTP

    def _json(self, answer: tuple[int, Any], path: str) -> Any:
        status, content = answer
        if status < httpx.codes.BAD_REQUEST:
            return content
        message = content.get("message") if isinstance(content, dict) else content
        raise self._refused(path, status, str(message))

    def _send(
        self, method: str, url: str, *, params: Mapping[str, Any] | None = None, body: Any = None
    ) -> tuple[int, Any]:
        """Status and JSON of the answer; a status of 4xx only if JSON came with it."""
        failure: str | None = None
        ends = time.monotonic() + self._answer_timeout
        try:
            with self._client.stream(method, url, params=params, json=body) as response:
                status = response.status_code
                if status == httpx.codes.TOO_MANY_REQUESTS:
                    raise TransientError(f"{self.label} limits our rate (HTTP 429)", retry_after=_wish(response))
                if httpx.codes.MULTIPLE_CHOICES <= status < httpx.codes.BAD_REQUEST:
                    raise TransientError(f"{self.label} answered HTTP {status}")
                content = bytearray()
                for part in response.iter_bytes():
                    content += part
                    if len(content) > ANSWER_BYTES_MAX:
                        raise TransientError(f"{self.label} answered with more than {ANSWER_BYTES_MAX} bytes")
                    if time.monotonic() > ends:
                        raise TransientError(f"{self.label} took more than {self._answer_timeout:.0f} s to answer")
            return status, json.loads(content)
        except httpx.TimeoutException:
            failure = "did not answer in time"
        except httpx.TransportError:
            failure = "can't be reached"
        except (httpx.HTTPError, httpx.InvalidURL):
            failure = "can't be asked"
        except (ValueError, RecursionError):
            failure = f"answered HTTP {status} with something that is not JSON"
        # Raised outside the except block: the original carries the URL in its text.
        raise TransientError(f"{self.label} {failure}")


def _wish(response: httpx.Response) -> timedelta | None:
    wish = response.headers.get("Retry-After", "")
    return timedelta(seconds=min(int(wish), RETRY_AFTER_MAX_S)) if wish.isascii() and wish.isdigit() else None
