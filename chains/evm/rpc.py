"""One JSON-RPC endpoint: batches out, checked answers in. Whatever fails is a TransientError that names only the host.

We use web3's provider and not its formatters: on this path they would hide what we must see (a batch answered in part
is silently cut to fit) and refuse what is harmless (the long extra data of proof-of-authority headers).
"""

import itertools
import re
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests

from core.errors import TransientError

# web3 brings py_ecc, which sets the process's recursion limit to 100,000: from then on a reply of nested brackets, from
# anybody to any part of the process, overflows the C stack and kills it instead of raising RecursionError.
_recursion_limit = sys.getrecursionlimit()
from web3 import HTTPProvider  # noqa: E402
from web3.exceptions import Web3Exception  # noqa: E402
from web3.types import RPCEndpoint  # noqa: E402

sys.setrecursionlimit(_recursion_limit)

Call = tuple[str, Sequence[Any]]
"""A JSON-RPC method and its parameters."""

CALLS_MAX = 100
"""Calls in one HTTP request. Vendors refuse batches from some hundreds (BSC's own nodes) to 1,000 calls up."""

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 20

SECRET_MIN = 6
"""Characters from which a part of a URL may be a key, and is struck out of a node's error texts."""

_RATE_LIMIT = re.compile(r"rate.?limit|too many requests|(/|per )second|capacity|throughput", re.IGNORECASE)
_RATE_LIMIT_CODES = {429, -32029}


class RefusedError(TransientError):
    """The node answered this one call with an error object: it won't do this, as asked, now."""


@dataclass(frozen=True)
class _Failure:
    """Why a request failed. Raised only after the except block has ended: the original carries the URL in its text."""

    reason: str
    retry_after: timedelta | None = None


class Endpoint:
    """One node behind one URL. Its URL may hold an API key and appears in no message, log line or traceback."""

    def __init__(
        self, url: str, *, connect_timeout: float = CONNECT_TIMEOUT_S, read_timeout: float = READ_TIMEOUT_S
    ) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or "endpoint without a host"
        self._url = url
        self._timeout = (connect_timeout, read_timeout)
        # Vendors echo keys in their error texts ("project ID ... is over its limit").
        words = [*re.split(r"[/?&=]", f"{parts.path}?{parts.query}"), parts.username or "", parts.password or ""]
        self._secrets = sorted({word for word in words if len(word) >= SECRET_MIN}, key=len, reverse=True)
        self._threads = threading.local()

    def __repr__(self) -> str:
        return f"Endpoint({self.host})"

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
        for start in range(0, len(calls), CALLS_MAX):
            answers += self._batch(calls[start : start + CALLS_MAX])
        return answers

    def _batch(self, calls: Sequence[Call]) -> list[Any]:
        provider = self._provider()
        # Numbered from 0, so that an answer is matched by its id and not by its place.
        provider.request_counter = itertools.count()
        failure: _Failure | None = None
        replies: Any = None
        try:
            replies = provider.make_batch_request([(RPCEndpoint(method), list(params)) for method, params in calls])
        except requests.HTTPError as error:
            replies, failure = _of_http_error(error)
        except requests.Timeout:
            failure = _Failure("did not answer in time")
        except requests.ConnectionError:
            failure = _Failure("can't be reached")
        except (
            requests.RequestException,
            Web3Exception,
            ValueError,
            TypeError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            failure = _Failure(f"answered with something that is not JSON-RPC ({type(error).__name__})")
        except RuntimeWarning:  # web3 warns of answers without an id; under warnings-as-errors it raises
            failure = _Failure("answered without saying to which call")
        if failure is not None:
            raise TransientError(f"{self.host} {failure.reason}", retry_after=failure.retry_after)
        return self._matched(calls, replies)

    def _matched(self, calls: Sequence[Call], replies: Any) -> list[Any]:
        """Every call's answer, if each was answered exactly once."""
        if isinstance(replies, dict) and "error" in replies:  # one error for the whole batch
            replies = [replies | {"id": number} for number in range(len(calls))]
        if not isinstance(replies, list) or not all(isinstance(reply, dict) for reply in replies):
            raise TransientError(f"{self.host} answered a batch with something else")
        if [reply.get("id") for reply in replies] != list(range(len(calls))):
            raise TransientError(f"{self.host} answered {len(replies)} of {len(calls)} calls, or not the ones asked")
        return [self._result(method, reply) for (method, _), reply in zip(calls, replies, strict=True)]

    def _result(self, method: str, reply: dict[str, Any]) -> Any:
        error = reply.get("error")
        if error is None:
            if "result" not in reply:
                raise TransientError(f"{self.host} answered {method} with neither a result nor an error")
            return reply["result"]
        detail = error if isinstance(error, dict) else {"message": error}
        code, message = detail.get("code"), str(detail.get("message"))
        for secret in self._secrets:
            message = message.replace(secret, "***")
        sentence = f"{self.host} refused {method}: {message[:200]} ({code})"
        if code in _RATE_LIMIT_CODES or _RATE_LIMIT.search(message):
            raise TransientError(sentence)
        return RefusedError(sentence)

    def _provider(self) -> HTTPProvider:
        """The calling thread's own: neither a requests session nor the counter of ids can be shared."""
        provider: HTTPProvider | None = getattr(self._threads, "provider", None)
        if provider is None:
            provider = self._threads.provider = HTTPProvider(
                self._url,
                # Redirects would turn a POST into a GET of somebody else's page.
                request_kwargs={"timeout": self._timeout, "allow_redirects": False},
                session=requests.Session(),
                exception_retry_configuration=None,  # retrying is the job's business
            )
        return provider


def _of_http_error(error: requests.HTTPError) -> tuple[Any, _Failure | None]:
    """Some vendors send a JSON-RPC error with status 4xx: then it is the answer. Everything else is a failure."""
    response = error.response
    status = response.status_code
    if status == requests.codes.too_many_requests:
        wish = response.headers.get("Retry-After", "")
        seconds = timedelta(seconds=min(int(wish), 3600)) if wish.isascii() and wish.isdigit() else None
        return None, _Failure("limits our rate (HTTP 429)", seconds)
    if requests.codes.bad_request <= status < requests.codes.server_error:
        try:
            body = response.json()
        except ValueError:
            body = None
        if isinstance(body, list) or (isinstance(body, dict) and body.get("error")):
            return body, None
    return None, _Failure(f"answered HTTP {status}")
