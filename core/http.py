"""Asking providers over HTTP. Here alone is decided what a failure proves about the outside world:

connect errors, full pools, 429                          TransientError            proven not done
read and write errors and timeouts, 5xx, 408, 409, 3xx   OutcomeUnknownError       may have been done
401, 403 of a read                                       CredentialsRefusedError   proven not answered
other 4xx                                                RefusedError              proven refused

A read can't have done anything, so where a write would be unknown a read is transient. Where they don't take our key
(401, 403) a read stays a good question, so it is transient too: a person puts the key right, and it is asked again. A
write was refused. An address that is none, or a header that can't be sent, is a PermanentError.

One request is one try: retries are a job's. Nothing of a URL's query, a header or a body gets into a message.
"""

import json
import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

from core.deadline import Deadline
from core.errors import OutcomeUnknownError, PermanentError, TransientError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
"""Of each read: providers that ask a bank take their time."""
ANSWER_TIMEOUT_S = 40.0
"""Of the whole request, however slowly its bytes come."""
BYTES_MAX = 8 * 1024 * 1024
RETRY_AFTER_MAX = timedelta(hours=1)

# At INFO it writes each URL with its query, which at some providers holds a key.
logging.getLogger("httpx").setLevel(logging.WARNING)

_OK, _REDIRECT, _CLIENT_ERROR, _SERVER_ERROR = 200, 300, 400, 500
_PORT_MAX = 65_535
_UNKNOWN = {httpx.codes.REQUEST_TIMEOUT, httpx.codes.CONFLICT}
CREDENTIALS_REFUSED = frozenset({401, 403})
"""Statuses that say nothing of what was asked, only that it was not to be asked by us."""


class RefusedError(PermanentError):
    """The provider understood and said no. Adapters look at what it said; its words are not for logs as they stand."""

    def __init__(self, message: str, reply: "Reply") -> None:
        super().__init__(message)
        self.reply = reply


class UnclearError(OutcomeUnknownError):
    """There was an answer, of a status that proves nothing in general. An adapter may know better what it says."""

    def __init__(self, message: str, reply: "Reply") -> None:
        super().__init__(message)
        self.reply = reply


class CredentialsRefusedError(TransientError):
    """Of a read: the provider doesn't take our key, or doesn't let it ask this. Nothing was said of what was asked."""

    def __init__(self, message: str, reply: "Reply") -> None:
        super().__init__(message)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    place: str
    """Method, host and path, for messages."""
    of_read: bool = False
    """Asking again is safe, whatever is wrong with it."""

    def json(self) -> Any:
        """Numbers with a point come as their text, so that no amount ever is a float.

        Raises OutcomeUnknownError if it is no JSON, TransientError if it was read.
        """
        try:
            return json.loads(self.body, parse_float=str, parse_constant=_no_number)
        except (ValueError, RecursionError):
            kind = TransientError if self.of_read else OutcomeUnknownError
            raise kind(f"{self.place} answered {self.status} with something that is no JSON") from None


def _no_number(word: str) -> Any:
    raise ValueError(word)


class HttpClient:
    """One provider's interface. Safe to use from several threads, not to be taken along into a forked process.

    Args:
        base_url: what paths are appended to.
        headers: sent with each request, such as a key.
        connect_timeout, read_timeout, answer_timeout: seconds. A free one of the pool is waited for as a new one.
        on_credentials_refused: told of each answer 401 or 403, of reads and writes, before the error is raised.

    Raises:
        PermanentError: `base_url` is no address.

    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        read_timeout: float = READ_TIMEOUT_S,
        answer_timeout: float = ANSWER_TIMEOUT_S,
        on_credentials_refused: Callable[[Reply], None] | None = None,
    ) -> None:
        self._base = base_url.rstrip("/")
        self._host = _host(base_url)
        self._answer_timeout = answer_timeout
        self._on_credentials_refused = on_credentials_refused
        self._client = httpx.Client(
            timeout=httpx.Timeout(read_timeout, connect=connect_timeout, pool=connect_timeout),
            headers=headers,
            auth=auth,
            # Redirects would turn a POST into a GET of somebody else's page, with our key.
            follow_redirects=False,
        )
        self._client.headers["User-Agent"] = "tallyrail"
        weakref.finalize(self, self._client.close)
        self._deadline = Deadline()
        self._deadline.bind(self._client)

    def send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | None = None,
        form: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request that may change something there. `content` goes out byte for byte, as it may be signed.

        Raises TransientError, OutcomeUnknownError, RefusedError.
        """
        place = f"{method} {self._host}{path.partition('?')[0]}"
        try:
            request = self._client.build_request(
                method, self._base + path, params=params, content=content, data=form, headers=headers
            )
        except (httpx.InvalidURL, ValueError, TypeError) as error:  # UnicodeError is a ValueError, and quotes a header
            raise PermanentError(f"{place} can't be asked: {type(error).__name__}") from None
        try:
            with self._deadline.within(self._answer_timeout):
                response = self._client.send(request, stream=True)
                try:
                    body = _read(response)
                finally:
                    response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as error:
            raise TransientError(f"{place} can't be reached: {type(error).__name__}") from None
        except httpx.UnsupportedProtocol as error:
            raise PermanentError(f"{place} is no address: {type(error).__name__}") from None
        except (httpx.HTTPError, httpx.StreamError, _TooLongError) as error:
            raise OutcomeUnknownError(f"{place} gave no whole answer: {type(error).__name__}") from None
        reply = Reply(response.status_code, response.headers, body, place)
        if reply.status in CREDENTIALS_REFUSED and self._on_credentials_refused is not None:
            self._on_credentials_refused(reply)
        return _judged(reply)

    def read(
        self, path: str, *, params: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """A GET that changes nothing, so that asking again is always safe. Raises TransientError, RefusedError."""
        try:
            return replace(self.send("GET", path, params=params, headers=headers), of_read=True)
        except OutcomeUnknownError as error:
            raise TransientError(str(error)) from None
        except RefusedError as error:
            if error.reply.status not in CREDENTIALS_REFUSED:
                raise
            raise CredentialsRefusedError(str(error), error.reply) from None


class _TooLongError(Exception):
    pass


def _host(address: str) -> str:
    """An address may hold a password, so that what is wrong with it is not said."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL:
        raise PermanentError("the address of a provider can't be read") from None
    if url.scheme not in {"http", "https"} or not url.host or not 0 < (url.port or 1) <= _PORT_MAX:
        raise PermanentError("the address of a provider is none of HTTP")
    return url.host


def _read(response: httpx.Response) -> bytes:
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > BYTES_MAX:
            raise _TooLongError
    return bytes(body)


def _judged(reply: Reply) -> Reply:
    status = reply.status
    if _OK <= status < _REDIRECT:
        return reply
    if status == httpx.codes.TOO_MANY_REQUESTS:
        raise TransientError(f"{reply.place} asks for a pause", retry_after=_retry_after(reply))
    if _CLIENT_ERROR <= status < _SERVER_ERROR and status not in _UNKNOWN:
        raise RefusedError(f"{reply.place} was refused with {status}", reply)
    raise UnclearError(f"{reply.place} answered {status}", reply)


def _retry_after(reply: Reply) -> timedelta | None:
    """Seconds or an HTTP date (RFC 9110, 10.2.3)."""
    said = reply.headers.get("Retry-After", "")
    if said.isascii() and said.isdigit():
        return min(timedelta(seconds=int(said[:9])), RETRY_AFTER_MAX)
    try:
        wished = parsedate_to_datetime(said) - datetime.now(UTC)
    except (TypeError, ValueError):
        return None
    return min(max(wished, timedelta(0)), RETRY_AFTER_MAX)
