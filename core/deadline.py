"""The end in time of one whole HTTP request: connecting, headers, body.

httpx bounds each read alone, so a server that sends a byte every few seconds would never be over its time. Below it
lies httpcore, whose connections take their sockets from a backend: this one gives each wait no longer than is left.
"""

import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx


class Deadline:
    """Of the request that the calling thread has under way: httpcore waits for a request's bytes in its own thread."""

    def __init__(self) -> None:
        self._threads = threading.local()

    def bind(self, client: httpx.Client) -> None:
        """To all that the client asks, also through the proxies of the environment."""
        # httpx has no public way to hand its pools a backend; test_chain_nodes.py says so if this one ends.
        for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
            if isinstance(transport, httpx.HTTPTransport):
                transport._pool._network_backend = _Backend(self)  # noqa: SLF001

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Whatever waits in this block raises httpx.TimeoutException after so many seconds."""
        self._threads.ends = time.monotonic() + seconds
        try:
            yield
        finally:
            self._threads.ends = None

    def left(self, timeout: float | None, error: type[httpcore.TimeoutException]) -> float | None:
        """Seconds to wait, of a wait that may take `timeout`. Raises the error if there are none."""
        ends = getattr(self._threads, "ends", None)
        if ends is None:
            return timeout
        left: float = ends - time.monotonic()
        if left <= 0:
            raise error("the whole request took too long")
        return left if timeout is None else min(left, timeout)


class _Backend(httpcore.SyncBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(super().connect_tcp(host, port, timeout, local_address, socket_options), self._deadline)


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        timeout = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
