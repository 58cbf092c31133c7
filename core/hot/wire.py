"""One connection to a server of the hot store, as deciders need it: pipelines of script calls, and little else.

RESP2, https://valkey.io/topics/protocol/: requests are arrays of bulk strings; of replies all five kinds are read. A
client of general use spends several times as long on a call as the call takes, and can't say whether a request was
sent before it was lost, which is all that matters here.
"""

import asyncio
import binascii
import contextlib
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from redis.connection import parse_url

from core.hot.client import TIMEOUT_S

CRLF = b"\r\n"
GRACE_S = 0.05
"""For an answer that is there already, and not read because this process was busy."""
SLOTS = 16_384


class Failure(str):
    """An error that the server answered."""

    __slots__ = ()


Done = Callable[[list[Any] | None], None]
"""What is told of a pipeline: its replies, or None if the connection was lost before all of them had come."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int


class Door:
    """How to come in: address, credentials and TLS, as the URL says them."""

    def __init__(self, url: str) -> None:
        options = cast("dict[str, Any]", parse_url(url))  # type: ignore[no-untyped-call]
        self.address = Address(options.get("host") or "localhost", int(options.get("port") or 6379))
        self._database = int(options.get("db") or 0)
        self._user, self._password = options.get("username"), options.get("password")
        self._tls = ssl.create_default_context(cafile=options.get("ssl_ca_certs")) if url.startswith("rediss") else None

    async def enter(self, address: Address | None = None) -> "Wire":
        """A connection that has answered. Raises OSError if there is none."""
        to = address or self.address
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(TIMEOUT_S):
                _, wire = await loop.create_connection(Wire, to.host, to.port, ssl=self._tls)
        except (TimeoutError, ssl.SSLError) as error:
            raise ConnectionError(f"no connection: {type(error).__name__}") from error
        words: list[list[str]] = []
        if self._password:
            words.append(["AUTH", *([self._user] if self._user else []), self._password])
        if self._database:
            words.append(["SELECT", str(self._database)])
        words.append(["PING"])  # LOADING, while it reads its file, is not PONG
        try:
            answers = [await wire.ask(*each) for each in words]
        except BaseException:  # also when this process ends meanwhile
            wire.abort()
            raise
        for answer in answers:
            if isinstance(answer, Failure):
                wire.abort()
                raise ConnectionError(answer.partition(" ")[0])
        return wire


class Wire(asyncio.Protocol):
    """Pipelines go out in order and come back in order. The first that takes longer than TIMEOUT_S ends it all."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._sent = 0
        self._waiting: deque[tuple[int, list[Any], Done, asyncio.TimerHandle]] = deque()
        self.lost: asyncio.Future[None] = self._loop.create_future()

    @property
    def is_up(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, data: bytes, replies: int, done: Done) -> None:
        """Only while it is up. From here on it isn't known whether the server has read it, until it answers."""
        transport = cast("asyncio.Transport", self._transport)
        self._sent += 1
        timer = self._loop.call_later(TIMEOUT_S, self._look_once_more, self._sent)
        self._waiting.append((replies, [], done, timer))
        transport.write(data)

    async def ask(self, *words: str) -> Any:
        """One request. Raises ConnectionError if no answer comes."""
        answered: asyncio.Future[list[Any] | None] = self._loop.create_future()

        def done(replies: list[Any] | None) -> None:
            if not answered.done():
                answered.set_result(replies)

        if not self.is_up:
            raise ConnectionError("the connection is lost")
        self.send(pack(words), 1, done)
        replies = await answered
        if replies is None:
            raise ConnectionError("the connection was lost")
        return replies[0]

    def _look_once_more(self, number: int) -> None:
        # It may be this loop that was late, with the answer there and not read yet.
        self._loop.call_later(GRACE_S, self._give_up, number)

    def _give_up(self, number: int) -> None:
        if self._sent - len(self._waiting) < number:
            self.abort()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio names it
        waiting, self._waiting = self._waiting, deque()
        self._transport = None
        for _, _, done, timer in waiting:
            timer.cancel()
            done(None)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        self._data = self._data + data if self._data else data
        at = 0
        try:
            while self._waiting:
                found = parse(self._data, at)
                if found is None:
                    break
                value, at = found
                wanted, replies, done, timer = self._waiting[0]
                replies.append(value)
                if len(replies) == wanted:
                    self._waiting.popleft()
                    timer.cancel()
                    done(replies)
        except ValueError:  # not RESP: whatever it is, it is not our server
            self.abort()
        self._data = self._data[at:]


def parse(data: bytes, at: int) -> tuple[Any, int] | None:
    """The reply that begins there and where it ends, or None if it isn't all there yet. Raises ValueError."""
    end = data.find(CRLF, at)
    if end < 0:
        return None
    kind, head, at = data[at : at + 1], data[at + 1 : end], end + 2
    if kind == b"$":
        size = int(head)
        if size >= 0:
            after = at + size + 2
            return (data[at : at + size].decode(), after) if len(data) >= after else None
        return None, at
    if kind == b"*":
        values: list[Any] = []
        for _ in range(int(head)):
            if (found := parse(data, at)) is None:
                return None
            value, at = found
            values.append(value)
        return values, at
    if (read := _LINES.get(kind)) is None:
        raise ValueError(f"no RESP: {kind!r}")
    return read(head), at


_LINES: Mapping[bytes, Callable[[bytes], Any]] = {
    b":": int,
    b"+": lambda head: head.decode(),
    b"-": lambda head: Failure(head.decode(errors="replace")),
}


def pack(words: Sequence[str]) -> bytes:
    parts = [f"*{len(words)}\r\n".encode()]
    for word in words:
        raw = word.encode()
        parts += [f"${len(raw)}\r\n".encode(), raw, CRLF]
    return b"".join(parts)


def slot_of(tag: str) -> int:
    """Of Redis Cluster: CRC16 (XMODEM) of the hash tag. https://valkey.io/topics/cluster-spec/"""
    return binascii.crc_hqx(tag.encode(), 0) % SLOTS


async def locate(door: Door, known: Sequence[Address], tags: Sequence[str]) -> list[Address]:
    """Which server of a cluster has each hash tag now. Raises ConnectionError if none can say."""
    for address in dict.fromkeys([*known, door.address]):
        with contextlib.suppress(OSError):
            wire = await door.enter(address)
            try:
                ranges = await wire.ask("CLUSTER", "SLOTS")
            finally:
                wire.abort()
            if isinstance(ranges, Failure):
                continue
            found = []
            for slot in map(slot_of, tags):
                servers = [each[2] for each in ranges if each[0] <= slot <= each[1]]
                if servers:
                    # An empty name stands for the host that was asked.
                    found.append(Address(servers[0][0] or address.host, int(servers[0][1])))
            if len(found) == len(tags):
                return found
    raise ConnectionError("no server of the cluster knows where everything is")
